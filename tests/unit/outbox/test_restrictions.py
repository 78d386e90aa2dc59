"""A number that WhatsApp restricts: first contacts wait, everybody else goes on, and a trial ends it."""

from __future__ import annotations

import msgspec
import pytest
from tests.harness.outbox import OutboxHarness, open_outbox
from tests.sentences import english

from kurir.inbox.tables import incoming
from kurir.messages.channel_reports import InDoubt, Refused, Restricted, Sent, StatusChanged
from kurir.messages.content import Image, Text
from kurir.numbers import numbers
from kurir.outbox import restrictions
from kurir.outbox.message_rows import Claimed, Snapshot
from kurir.outbox.restrictions import next_length
from kurir.reasons import as_written

REFUSAL = Restricted("restricted", as_written("WhatsApp refused the message (error 463)"))
SHORTEST = 600.0
STRANGER, OTHER, THIRD, FRIEND, GROUP = "628111", "628222", "628333", "628777", "12036300000000@g.us"


@pytest.fixture
def shop(harness: OutboxHarness) -> OutboxHarness:
    harness.outbox = open_outbox(harness.database, harness.time, harness.number_due, restriction=SHORTEST)
    return harness


async def claim(harness: OutboxHarness, limit: int = 10) -> list[Claimed]:
    return await harness.claim(limit)


async def restricted(harness: OutboxHarness) -> numbers.Restriction | None:
    return await harness.database.read(lambda c: numbers.restriction(c, harness.number.account_id, harness.number.id))


async def refused(harness: OutboxHarness, recipient: str = STRANGER) -> Claimed:
    """A first contact is refused: from now on the number is restricted."""
    await harness.outbox.accept([harness.draft(recipient, "first")])
    (claimed,) = await claim(harness)
    await harness.outbox.record(claimed, REFUSAL)
    return claimed


async def writes(harness: OutboxHarness, person: str) -> None:
    """A message of `person` comes in, as the inbox stores it."""

    def work(connection):
        values = {
            "account_id": harness.number.account_id,
            "number_id": harness.number.id,
            "chat": person,
            "sender": person,
        }
        connection.execute(
            incoming.insert().values(**values, remote_id=f"in-{person}", at=1.0, stored_at=1.0, kind="text")
        )
        restrictions.release(connection, harness.number.id, person, harness.time.now)

    await harness.database.write(work)


async def reach(harness: OutboxHarness, recipient: str) -> None:
    """A message of ours is delivered to `recipient`."""
    await harness.outbox.accept([harness.draft(recipient, "earlier")])
    (claimed,) = await claim(harness)
    await harness.outbox.record(claimed, Sent(f"wire-{recipient}"))
    number = harness.number
    receipt = StatusChanged(number.account_id, number.id, f"wire-{recipient}", "delivered", harness.time.now)
    await harness.database.write(lambda c: harness.outbox.receipt(c, receipt, harness.time.now))


async def snapshot(harness: OutboxHarness, message_id: int) -> Snapshot:
    found = await harness.outbox.snapshot(harness.number.account_id, message_id)
    assert found is not None
    return found


async def test_a_refused_first_contact_waits_uncounted_and_says_why(shop: OutboxHarness) -> None:
    claimed = await refused(shop)
    found = await snapshot(shop, claimed.id)
    assert (found.state, found.attempts, found.error_code) == ("queued", 0, "restricted")
    assert "463" in english(found.error_reason)
    assert await restricted(shop) == numbers.Restriction(shop.time.now + SHORTEST, SHORTEST)
    assert await claim(shop) == []
    claims = await shop.outbox.claim(shop.number.account_id, shop.number.id, 1)
    assert claims.due_at == shop.time.now + SHORTEST


@pytest.mark.parametrize("how", ["wrote", "was reached", "is a group"])
async def test_whoever_is_no_first_contact_overtakes_those_who_are(shop: OutboxHarness, how: str) -> None:
    known = GROUP if how == "is a group" else FRIEND
    if how == "wrote":
        await writes(shop, FRIEND)
    if how == "was reached":
        await reach(shop, FRIEND)
    await refused(shop)
    await shop.outbox.accept([shop.draft(OTHER, "cold"), shop.draft(known, "1"), shop.draft(known, "2")])
    first = await claim(shop)
    assert [(one.recipient, one.content, one.first_contact) for one in first] == [(known, Text("1"), False)]
    await shop.outbox.record(first[0], Sent("a"))
    assert [one.content for one in await claim(shop)] == [Text("2")]
    (message,) = [one for one in await waiting(shop) if one.recipient == OTHER]
    assert (message.state, message.error_code, message.attempts) == ("queued", "restricted", 0)


async def waiting(harness: OutboxHarness) -> list[Snapshot]:
    ids = await harness.database.read(
        lambda c: c.exec_driver_sql("SELECT id FROM messages WHERE state = 'queued'").all()
    )
    return [await snapshot(harness, row[0]) for row in ids]


async def test_a_person_who_writes_releases_nobody_else(shop: OutboxHarness) -> None:
    cold = await refused(shop, STRANGER)
    await shop.outbox.accept([shop.draft(OTHER, "cold too")])
    assert await claim(shop) == []
    await writes(shop, OTHER)
    assert (await snapshot(shop, cold.id)).error_code == "restricted"
    assert [one.recipient for one in await claim(shop)] == [OTHER]


async def test_a_person_who_writes_gets_what_waited_for_them_in_order(shop: OutboxHarness) -> None:
    await refused(shop, STRANGER)
    await shop.outbox.accept([shop.draft(OTHER, "1"), shop.draft(OTHER, "2")])
    assert await claim(shop) == []
    await writes(shop, OTHER)
    (first,) = await claim(shop)
    assert (first.recipient, first.content) == (OTHER, Text("1"))
    await shop.outbox.record(first, Sent("a"))
    assert [one.content for one in await claim(shop)] == [Text("2")]


async def test_when_the_time_is_over_one_is_tried_and_its_success_ends_the_restriction(shop: OutboxHarness) -> None:
    await refused(shop)
    await shop.outbox.accept([shop.draft(OTHER), shop.draft(THIRD)])
    assert await claim(shop) == []
    shop.time.now += SHORTEST
    (trial,) = await claim(shop)
    assert (trial.recipient, trial.first_contact) == (STRANGER, True)
    assert await claim(shop) == []  # the others wait for what comes of it
    await shop.outbox.record(trial, Sent("a"))
    assert await restricted(shop) is None
    assert {one.recipient for one in await claim(shop)} == {OTHER, THIRD}


async def test_a_refused_trial_doubles_the_time(shop: OutboxHarness) -> None:
    await refused(shop)
    for length in (2 * SHORTEST, 4 * SHORTEST):
        current = await restricted(shop)
        assert current is not None
        shop.time.now = current.until
        (trial,) = await claim(shop)
        await shop.outbox.record(trial, REFUSAL)
        assert await restricted(shop) == numbers.Restriction(shop.time.now + length, length)


async def test_a_trial_that_ends_otherwise_is_followed_by_another(shop: OutboxHarness) -> None:
    await refused(shop)
    await shop.outbox.accept([shop.draft(OTHER)])
    assert await claim(shop) == []
    shop.time.now += SHORTEST
    (trial,) = await claim(shop)
    await shop.outbox.record(trial, Refused("not_on_whatsapp", as_written("…")))
    assert await claim(shop) == []
    shop.time.now += SHORTEST
    (next_trial,) = await claim(shop)
    assert (next_trial.recipient, next_trial.first_contact) == (OTHER, True)
    await shop.outbox.record(next_trial, InDoubt(as_written("…")))
    assert await restricted(shop) is not None


async def test_several_in_flight_restrict_once(shop: OutboxHarness) -> None:
    await shop.outbox.accept([shop.draft(one) for one in (STRANGER, OTHER, THIRD)])
    claimed = await claim(shop)
    for one in claimed:
        await shop.outbox.record(one, REFUSAL)
    assert await restricted(shop) == numbers.Restriction(shop.time.now + SHORTEST, SHORTEST)
    shop.time.now += SHORTEST
    assert len(await claim(shop)) == 1


async def test_of_somebody_known_the_refusal_is_about_that_person(shop: OutboxHarness) -> None:
    await writes(shop, FRIEND)
    (message_id,) = (await shop.outbox.accept([shop.draft(FRIEND)])).ids
    for attempt in range(1, 4):
        (claimed,) = await claim(shop)
        assert claimed.attempt == attempt
        after = await shop.outbox.record(claimed, REFUSAL)
        shop.time.now += 400
    assert await restricted(shop) is None
    assert (after.id, after.state, after.error_code) == (message_id, "failed", "exhausted")
    assert "463" in english(after.error_reason)


async def test_a_message_that_expires_first_ends_as_expired_and_names_the_restriction(shop: OutboxHarness) -> None:
    await shop.outbox.accept([shop.draft(STRANGER, lifetime=60.0)])
    (claimed,) = await claim(shop)
    after = await shop.outbox.record(claimed, REFUSAL)
    assert after.state == "queued"
    shop.time.now += 60
    assert await claim(shop) == []
    assert await shop.outbox.expire() in (0, 1)
    found = await snapshot(shop, claimed.id)
    assert (found.state, found.error_code) == ("expired", "restricted")


async def test_a_long_queue_of_first_contacts_is_passed_over_whole(
    shop: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restrictions, "_AT_ONCE", 7)
    await refused(shop)
    await writes(shop, FRIEND)
    await shop.outbox.accept([shop.draft(f"6285{n:04d}") for n in range(30)] + [shop.draft(FRIEND, "reply")])
    assert [one.content for one in await claim(shop, limit=4)] == [Text("reply")]
    assert await claim(shop) == []
    shop.time.now += SHORTEST
    assert len(await claim(shop, limit=4)) == 1


async def test_other_numbers_are_not_concerned(shop: OutboxHarness) -> None:
    await refused(shop)
    await shop.outbox.accept([shop.draft(OTHER, number_id=shop.other.id)])
    assert len(await shop.claim(number=shop.other)) == 1


@pytest.mark.parametrize(
    ("last", "trial", "length"),
    [(None, False, 600.0), (600.0, False, 600.0), (600.0, True, 1200.0), (80_000.0, True, 86_400.0)],
)
def test_how_long_a_restriction_lasts(last: float | None, trial: bool, length: float) -> None:
    assert next_length(600.0, last, trial=trial) == length


async def test_a_file_that_cannot_be_had_uses_up_no_trial(shop: OutboxHarness) -> None:
    await refused(shop)
    picture = shop.draft(OTHER, "")
    picture = msgspec.structs.replace(picture, content=Image("http://files.test/a.png"))
    (pictured,) = (await shop.outbox.accept([picture])).ids
    assert await claim(shop) == []
    shop.time.now += SHORTEST
    number = shop.number
    # a text is tried before a picture, whichever came first
    (trial,) = await claim(shop)
    assert (trial.recipient, trial.content) == (STRANGER, Text("first"))
    await shop.outbox.record(trial, REFUSAL)
    await shop.outbox.cancel(number.account_id, trial.id)
    before = await restricted(shop)
    assert before is not None
    shop.time.now = before.until
    # only the picture is left, and its file cannot be fetched: that asks WhatsApp nothing
    claims = await shop.outbox.claim(number.account_id, number.id, 10, ready=[pictured], failed=[pictured])
    (failed,) = claims.messages
    assert (failed.id, failed.first_contact) == (pictured, False)
    assert await restricted(shop) == before
    await shop.outbox.record(failed, Refused("media_url_refused", as_written("no")))
    await shop.outbox.accept([shop.draft(THIRD)])
    (trial,) = await claim(shop)
    assert (trial.recipient, trial.first_contact) == (THIRD, True)


async def test_what_waits_while_the_trial_waits_for_its_file_is_looked_at_again_soon(shop: OutboxHarness) -> None:
    await refused(shop)
    picture = msgspec.structs.replace(shop.draft(OTHER, ""), content=Image("http://files.test/a.png"))
    later = msgspec.structs.replace(shop.draft(THIRD, ""), content=Image("http://files.test/b.png"))
    await shop.outbox.accept([picture, later])
    assert await claim(shop) == []
    (trial,) = [one for one in await waiting(shop) if one.recipient == STRANGER]
    await shop.outbox.cancel(shop.number.account_id, trial.id)
    shop.time.now += SHORTEST
    assert await claim(shop) == []  # the first picture's file is not there
    await shop.outbox.accept([shop.draft(FRIEND, "a first contact without a file")])
    shop.time.now += 31.0
    assert [one.recipient for one in await claim(shop)] == [FRIEND]

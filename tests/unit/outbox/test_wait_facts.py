"""What a message waits for, read from the database: each fact from its row, and the reason an expired one ends with."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.harness.outbox import OutboxHarness

from kurir.messages.channel_reports import InDoubt, Outcome, Restricted, Sent, TryLater
from kurir.messages.content import Document, Image
from kurir.numbers import numbers
from kurir.outbox import wait_facts
from kurir.outbox.tables import media, messages
from kurir.outbox.wait_reasons import Facts, Waiting, reason_of
from kurir.reasons import NOTHING, as_written
from kurir.reasons.waiting import ENDED

AFTER = 60.0
PERSON, OTHER = "628111", "628222"


async def accepted(harness: OutboxHarness, *changes: dict[str, Any]) -> list[int]:
    drafts = [harness.draft(**change) for change in changes]
    return [(await harness.outbox.accept([draft])).ids[0] for draft in drafts]


async def facts(harness: OutboxHarness, message_id: int) -> Facts | None:
    return await harness.outbox.waiting_facts(harness.number.account_id, message_id)


async def tried(harness: OutboxHarness, outcome: Outcome) -> None:
    (claimed,) = await harness.claim(1)
    await harness.outbox.record(claimed, outcome, AFTER)


async def resends(harness: OutboxHarness) -> None:
    await harness.database.write(lambda c: c.exec_driver_sql("UPDATE accounts SET doubt = 'resend'") and None)


async def test_of_a_queued_message_all_facts_are_the_rows(harness: OutboxHarness) -> None:
    (message_id,) = await accepted(harness, {})
    assert await facts(harness, message_id) == Facts(number=harness.number, due_at=harness.time.now)
    await tried(harness, TryLater("131056", as_written("too fast"), after=AFTER))
    assert await facts(harness, message_id) == Facts(
        number=harness.number, due_at=harness.time.now + AFTER, code="131056", last=as_written("too fast")
    )


async def test_what_is_in_flight_or_in_doubt_says_so_and_what_has_ended_is_left_out(harness: OutboxHarness) -> None:
    (message_id,) = await accepted(harness, {})
    (claimed,) = await harness.claim()
    assert await facts(harness, message_id) == Facts(number=harness.number, message="sending", due_at=harness.time.now)
    await harness.outbox.record(claimed, InDoubt(as_written("no answer")), AFTER)
    doubted = Facts(
        number=harness.number,
        message="unconfirmed",
        due_at=harness.time.now,
        code="in_doubt",
        last=as_written("no answer"),
    )
    assert await facts(harness, message_id) == doubted
    await harness.outbox.record(claimed, Sent("w1"))
    assert await facts(harness, message_id) is None


async def test_doubt_that_may_be_sent_again_is_distinguished(harness: OutboxHarness) -> None:
    await resends(harness)
    (message_id,) = await accepted(harness, {})
    await tried(harness, InDoubt(as_written("no answer")))
    found = await facts(harness, message_id)
    assert found is not None
    assert found.may_resend


async def test_a_removed_number_is_none_and_another_account_sees_nothing(harness: OutboxHarness) -> None:
    (message_id,) = await accepted(harness, {})
    assert await harness.outbox.waiting_facts(harness.number.account_id + 1, message_id) is None
    number = harness.number
    await harness.database.write(lambda c: numbers.remove(c, number.account_id, number.id, harness.time.now))
    assert await facts(harness, message_id) == Facts(number=None, due_at=harness.time.now)


@pytest.mark.parametrize(
    ("earlier", "mine", "ahead"),
    [
        ({}, {}, "message"),
        ({"priority": 8}, {"priority": 5}, ""),
        ({"priority": 0}, {"priority": 5}, "message"),
        ({"recipient": OTHER}, {}, ""),
    ],
    ids=["before it", "less urgent", "more urgent", "to another person"],
)
@pytest.mark.parametrize("state", ["queued", "sending", "unconfirmed"])
async def test_what_is_ahead_of_a_message(
    harness: OutboxHarness, earlier: dict[str, Any], mine: dict[str, Any], ahead: str, state: str
) -> None:
    await resends(harness)
    first, second = await accepted(harness, earlier, mine)
    if state != "queued":
        move = messages.update().where(messages.c.id == first).values(state=state)
        doubt = {"doubt_until": harness.time.now + AFTER} if state == "unconfirmed" else {}
        await harness.database.write(lambda c: c.execute(move.values(**doubt)) and None)
    found = await facts(harness, second)
    assert found is not None
    if state == "sending" and "priority" in earlier:
        ahead = "message"  # whatever is in flight goes first
    assert found.ahead == (ahead if state != "unconfirmed" or not ahead else "doubt")


@pytest.mark.parametrize("content", [Image("http://files.test/a.png"), Document("http://files.test/a.pdf")])
async def test_a_file_is_missing_until_it_is_fetched(harness: OutboxHarness, content: Image | Document) -> None:
    text, picture = (
        await harness.outbox.accept([harness.draft(OTHER), msgspec.structs.replace(harness.draft(), content=content)])
    ).ids
    assert [(await facts(harness, one)).file_missing for one in (text, picture)] == [False, True]  # type: ignore[union-attr]
    row = {"account_id": harness.number.account_id, "message_id": picture, "size": 1, "created_at": 1.0}
    await harness.database.write(lambda c: c.execute(media.insert().values(**row)) and None)
    found = await facts(harness, picture)
    assert found is not None
    assert not found.file_missing


async def test_many_messages_of_several_numbers_are_explained_at_once(
    harness: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_facts, "_AT_ONCE", 3)
    ids = await accepted(
        harness, *({"recipient": f"6281{n}", "number_id": (harness.number, harness.other)[n % 2].id} for n in range(8))
    )
    ended = ids.pop()
    await harness.outbox.cancel(harness.number.account_id, ended)
    explained = await harness.database.read(
        lambda c: wait_facts.reasons(c, harness.number.account_id, [*ids, ended], harness.time.now)
    )
    # neither device was paired
    expected = {
        one: Waiting(cause="unpaired", number=(harness.number, harness.other)[n % 2].key) for n, one in enumerate(ids)
    }
    assert explained == expected


async def test_an_expired_message_ends_with_what_it_waited_for(harness: OutboxHarness) -> None:
    """Unless a try has left a reason: that says more."""
    ids = await accepted(
        harness,
        {"recipient": "6281", "lifetime": 3 * AFTER},
        {"recipient": "6282", "lifetime": 3 * AFTER, "number_id": harness.other.id},
        {"recipient": "6283", "lifetime": 3 * AFTER},
    )
    move = messages.update().where(messages.c.id == ids[2]).values(error_reason="busy", error_code="busy")
    await harness.database.write(lambda c: c.execute(move) and None)
    remove = numbers.remove
    account_id = harness.number.account_id
    await harness.database.write(lambda c: remove(c, account_id, harness.number.id, harness.time.now))
    harness.time.now += 3 * AFTER
    assert await harness.outbox.expire() == 3
    ended = [await harness.outbox.snapshot(account_id, one) for one in ids]
    assert [(one.error_code, one.error_reason) for one in ended if one is not None] == [
        ("expired", ENDED(cause=reason_of(Waiting(cause="removed")))),
        ("expired", ENDED(cause=reason_of(Waiting(cause="unpaired", number=harness.other.key)))),
        ("busy", as_written("busy")),
    ]


async def test_what_expires_at_the_claim_is_explained_alike(harness: OutboxHarness) -> None:
    (message_id,) = await accepted(harness, {"lifetime": AFTER})
    harness.time.now += AFTER
    assert await harness.claim() == []
    ended = await harness.outbox.snapshot(harness.number.account_id, message_id)
    assert ended is not None
    assert ended.error_reason == ENDED(cause=reason_of(Waiting(cause="unpaired", number=harness.number.key)))
    assert ended.ended_at == harness.time.now


async def test_a_restricted_first_contact_waits_with_the_words_of_its_refusal(harness: OutboxHarness) -> None:
    (message_id,) = await accepted(harness, {})
    await tried(harness, Restricted("463", as_written("nobody new")))
    found = await facts(harness, message_id)
    assert found is not None
    assert (found.code, found.last, found.due_at) == ("restricted", as_written("nobody new"), harness.time.now + 3600)
    assert found.number is not None
    assert found.number.restricted_until == harness.time.now + 3600
    assert found.reason == NOTHING

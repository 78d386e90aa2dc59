"""What the event log has of a message's moves: which are published, for whom, and every field of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness

from kurir.events.tables import events
from kurir.kit.ids import public_message_id
from kurir.kit.sealing import Sealing
from kurir.messages.channel_reports import InDoubt, NotConnected, Outcome, Refused, Sent, StatusChanged, TryLater
from kurir.messages.content import Image
from kurir.numbers import numbers
from kurir.outbox.message_rows import Claimed
from kurir.outbox.tables import media
from kurir.reasons import NOTHING, Reason, as_written, sentence
from kurir.reasons.messages import CUT_OFF

LATER, BY_THE_NETWORK = 10.0, 5.75
GROUP = "120363000000000001@g.us"


async def published(harness: OutboxHarness) -> list[dict[str, Any]]:
    """The log's rows, oldest first, with their bodies decoded."""

    def work(connection: sa.Connection) -> list[dict[str, Any]]:
        columns = [events.c[name] for name in ("account_id", "number_id", "type", "chat", "created_at", "body")]
        rows = connection.execute(sa.select(*columns).order_by(events.c.id))
        return [dict(row._mapping) | {"body": json.loads(row.body)["data"]} for row in rows]

    return await harness.database.read(work)


async def claimed(harness: OutboxHarness, **draft: Any) -> Claimed:
    await harness.outbox.accept([harness.draft(**draft)])
    (found,) = await harness.claim()
    harness.time.now += LATER
    return found


async def receipt(harness: OutboxHarness, status: str, **more: Any) -> None:
    number = harness.number
    at = harness.time.now - BY_THE_NETWORK
    event = StatusChanged(number.account_id, number.id, "w1", status, at, **more)  # type: ignore[arg-type]
    await harness.database.write(lambda c: harness.outbox.receipt(c, event, harness.time.now))


def status_of(harness: OutboxHarness, message: Claimed, status: str, **changes: Any) -> dict[str, Any]:
    body = {
        "message_id": public_message_id(message.id),
        "remote_id": "w1",
        "number_id": harness.number.key,
        "chat_id": "628111@c.us",
        "status": status,
        "error_code": "",
        "error_reason": "",
        "reason_code": "",
        "timestamp": int(harness.time.now),
    }
    return logged(harness, "message_status", body | changes)


def logged(harness: OutboxHarness, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    number = harness.number
    return {
        "account_id": number.account_id,
        "number_id": number.id,
        "type": kind,
        "chat": "628111",
        "created_at": harness.time.now,
        "body": body,
    }


def own(harness: OutboxHarness, **changes: Any) -> dict[str, Any]:
    body = {
        "chat_id": "628111@c.us",
        "message_id": "w1",
        "id": "w1",
        "name": "",
        "profile_picture": "",
        "timestamp": int(harness.time.now),
        "message_body": "halo",
        "message_ack": "SENT",
        "has_media": False,
        "media_mime": "",
        "media_name": "",
        "location_attached": None,
        "is_forwading": False,
        "is_from_me": True,
    }
    return logged(harness, "incoming_chat", body | changes)


async def test_a_sent_message_is_the_devices_own_and_its_receipts_come_by_the_networks_clock(
    harness: OutboxHarness,
) -> None:
    message = await claimed(harness)
    await harness.outbox.record(message, Sent("w1"))
    expected = [own(harness), status_of(harness, message, "sent")]
    assert await published(harness) == expected
    for status in ("delivered", "read"):
        harness.time.now += 1
        await receipt(harness, status)
        await receipt(harness, status)
        expected.append(status_of(harness, message, status, timestamp=int(harness.time.now - BY_THE_NETWORK)))
    assert await published(harness) == expected


@pytest.mark.parametrize(
    ("outcome", "status", "code", "reason"),
    [
        (Refused("131026", as_written("no such person")), "failed", "131026", as_written("no such person")),
        (InDoubt(CUT_OFF(), "w1"), "unconfirmed", "in_doubt", CUT_OFF()),
    ],
)
async def test_an_end_and_a_doubt_say_why_in_the_accounts_language(
    harness: OutboxHarness, outcome: Outcome, status: str, code: str, reason: Reason
) -> None:
    message = await claimed(harness)
    await harness.outbox.record(message, outcome)
    why = {"error_code": code, "error_reason": sentence(reason, "id"), "reason_code": reason.code}
    remote = {"remote_id": "w1" if isinstance(outcome, InDoubt) else ""}
    assert await published(harness) == [status_of(harness, message, status, **why, **remote)]


@pytest.mark.parametrize("outcome", [TryLater("429", as_written("later")), NotConnected(as_written("away"))])
async def test_what_is_queued_again_is_no_news(harness: OutboxHarness, outcome: Outcome) -> None:
    await harness.outbox.record(await claimed(harness), outcome)
    assert await published(harness) == []


@pytest.mark.parametrize("status", ["sent", "delivered", "read"])
async def test_a_receipt_that_ends_a_doubt_makes_the_message_the_devices_own(
    harness: OutboxHarness, status: str
) -> None:
    message = await claimed(harness)
    await harness.outbox.record(message, InDoubt(as_written("cut"), "w1"))
    harness.time.now += LATER
    await receipt(harness, status)
    by_network = {"timestamp": int(harness.time.now - BY_THE_NETWORK)}
    assert (await published(harness))[1:] == [
        own(harness, **by_network),
        status_of(harness, message, status, **by_network),
    ]


async def test_a_success_heard_of_after_a_doubt_is_news_too(harness: OutboxHarness) -> None:
    """From a gateway that was frozen, and taken for dead."""
    message = await claimed(harness)
    await harness.outbox.record(message, InDoubt(as_written("cut")))
    harness.time.now += LATER
    await harness.outbox.record(message, Sent("w1"))
    assert (await published(harness))[1:] == [own(harness), status_of(harness, message, "sent")]
    await harness.outbox.record(message, Sent("w1"))
    assert len(await published(harness)) == 3, "once"


async def test_a_failed_receipt_has_the_words_of_the_network(harness: OutboxHarness) -> None:
    message = await claimed(harness)
    await harness.outbox.record(message, Sent("w1"))
    harness.time.now += LATER
    await receipt(harness, "failed", code="131026", reason="undeliverable")
    why = {"error_code": "131026", "error_reason": "undeliverable", "reason_code": as_written("undeliverable").code}
    at = {"timestamp": int(harness.time.now - BY_THE_NETWORK)}
    assert (await published(harness))[2:] == [status_of(harness, message, "failed", **why, **at)]


@pytest.mark.parametrize("fetched", [True, False])
async def test_a_picture_is_shown_with_its_file_and_a_secret_without_its_text(
    harness: OutboxHarness, fetched: bool
) -> None:
    draft = msgspec.structs.replace(harness.draft(), content=Image("http://files.test/a.png", "Katalog"))
    (picture,) = (await harness.outbox.accept([draft])).ids
    number = harness.number
    row = {"account_id": number.account_id, "message_id": picture, "size": 1, "created_at": 1.0}
    if fetched:
        stored = media.insert().values(**row, mime="image/png", name="a.png")
        await harness.database.write(lambda c: c.execute(stored) and None)
    (message,) = (await harness.outbox.claim(number.account_id, number.id, 1, ready=[picture])).messages
    await harness.outbox.record(message, Sent("w1"))
    file = {"media_mime": "image/png", "media_name": "a.png"} if fetched else {}
    assert (await published(harness))[0] == own(harness, message_body="Katalog", has_media=True, **file)
    secret = await claimed(harness, sealed=True)
    await harness.outbox.record(secret, Sent("w1"))
    assert (await published(harness))[2] == own(harness, message_body="")


async def test_a_group_and_an_official_number_have_their_own_form(harness: OutboxHarness) -> None:
    message = await claimed(harness, recipient=GROUP)
    await harness.outbox.record(message, Sent("w1"))
    assert [(row["chat"], row["body"]["chat_id"]) for row in await published(harness)] == [(GROUP, GROUP)] * 2
    official = await harness.database.write(
        lambda c: numbers.add_official(
            c,
            Sealing(bytes(32)),
            harness.number.account_id,
            phone="62811",
            phone_number_id="1",
            waba_id="2",
            app_id="3",
            access_token="a",
            app_secret="b",
            verify_token="c",
        )
    )
    await harness.outbox.accept([harness.draft(number_id=official.id)])
    (message,) = await harness.claim(number=official)
    await harness.outbox.record(message, Sent("w2"))
    rows = (await published(harness))[2:]
    assert [(row["type"], row["number_id"], row["body"]["number_id"]) for row in rows] == [
        ("message_status", official.id, official.key)
    ], "Meta sends no copy of what it was asked to send"


async def test_a_cancel_and_an_expiry_are_published_with_their_reason(harness: OutboxHarness) -> None:
    canceled, expired = (await harness.outbox.accept([harness.draft(), harness.draft("628222", lifetime=LATER)])).ids
    await harness.outbox.cancel(harness.number.account_id, canceled)
    first = (await published(harness))[0]["body"]
    assert (first["status"], first["error_code"], first["error_reason"]) == ("canceled", "", sentence(NOTHING, "id"))
    harness.time.now += LATER
    assert await harness.outbox.expire() == 1
    second = (await published(harness))[1]
    found = await harness.outbox.snapshot(harness.number.account_id, expired)
    assert found is not None
    assert second["created_at"] == harness.time.now
    assert second["body"]["error_reason"] == sentence(found.error_reason, "id") != ""
    assert (second["body"]["status"], second["body"]["error_code"]) == ("expired", "expired")
    assert second["body"]["reason_code"] == found.error_reason.code

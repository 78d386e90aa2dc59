"""send_meta_personal_message: the answer for every verdict, with a channel that says what the test wants."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.harness.gateway import Harness, open_harness

from kurir.inbox.tables import windows
from kurir.kit.ids import parse_message_id
from kurir.messages.channel_reports import InDoubt, Outcome, Refused, Sent, TryLater
from kurir.messages.content import Location, Text
from kurir.reasons import as_written

SITI = "6281234567801"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, meta_answer_timeout=0.2, sync_timeout=0.3) as harness:
        await open_window(harness, time.time())
        yield harness


async def open_window(harness: Harness, at: float) -> None:
    owner = {"account_id": harness.ours.account.id, "number_id": harness.ours.official.id, "person": SITI}
    await harness.gateway.database.write(lambda c: c.execute(windows.delete()))
    await harness.gateway.database.write(lambda c: c.execute(windows.insert().values(**owner, last_incoming_at=at)))


async def write(harness: Harness, outcome: Callable[[Any], Outcome] | None = None, **fields: Any) -> tuple[int, Any]:
    if outcome is not None:
        harness.cloud.outcome = outcome
    answer = await harness.send("send_meta_personal_message", **{"reciptient": SITI, "message": "Halo"} | fields)
    return answer.status_code, answer.json()


async def test_sent(harness: Harness) -> None:
    status, body = await write(harness, lambda _: Sent("wamid.x"))
    assert status == 200
    assert body == {
        "code": "200",
        "message": {
            "state": "successfully",
            "message_id": "wamid.x",
            "to": SITI,
            "type": "text",
            "detail": "Message queued to be sent.",
        },
        "type": "successfully",
        "template": None,
    }


async def test_refused_by_meta(harness: Harness) -> None:
    status, body = await write(harness, lambda _: Refused("131009", as_written("Parameter value is not valid")))
    assert status == 400
    assert body == {
        "code": "400",
        "message": {"state": "failed", "detail": "Parameter value is not valid", "to": SITI},
        "type": "failed",
    }


async def test_no_answer_in_time_says_queued_with_our_id(harness: Harness) -> None:
    status, body = await write(harness, lambda _: TryLater("130429", as_written("slow down")))
    assert (status, body["message"]["state"], body["type"]) == (200, "queued", "successfully")
    assert parse_message_id(body["message"]["message_id"]) is not None
    status, body = await write(
        harness, lambda _: TryLater("130429", as_written("slow down")), method_send="sync", message="Hai"
    )
    assert (status, body["code"], body["type"], body["message"]["state"]) == (408, "408", "timeout", "queued")


async def test_doubt_is_reported(harness: Harness) -> None:
    status, body = await write(harness, lambda _: InDoubt(as_written("cut")))
    assert (status, body["code"], body["message"]["state"]) == (408, "408", "unconfirmed")
    assert "do not send it again" in body["message"]["detail"]


@pytest.mark.parametrize("age", [86_401, 86_400 * 30])
async def test_a_closed_window_stores_nothing(harness: Harness, age: float) -> None:
    await open_window(harness, time.time() - age)
    status, body = await write(harness)
    assert (status, body["code"], body["type"]) == (400, "400", "failed")
    assert body["message"]["detail"].startswith("Re-engagement message")
    assert (await harness.rows())["messages"] == 0


async def test_the_window_is_of_one_number_and_one_person(harness: Harness) -> None:
    assert (await write(harness, reciptient="6281234567802"))[0] == 400
    theirs = harness.theirs.credentials() | {"reciptient": SITI, "message": "Halo"}
    assert (await harness.post("send_meta_personal_message", theirs)).status_code == 400
    assert (await harness.rows())["messages"] == 0


async def test_kinds_by_fields(harness: Harness) -> None:
    status, body = await write(harness, message="", latitude="-6.20", longitude=106.8, nameLocation="Monas")
    assert status == 200
    assert body["message"]["latitude"] == "-6.20"
    assert body["message"]["longitude"] == "106.8"
    assert harness.cloud.sent[-1].content == Location(-6.2, 106.8, "Monas")
    await write(harness, messageType="text", message="Hai")
    assert harness.cloud.sent[-1].content == Text("Hai")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reciptient": ""}, "reciptient"),
        ({"reciptient": "abc"}, "reciptient"),
        ({"reciptient": [SITI, "6281234567802"]}, "reciptient"),
        ({"reciptient": {"a": 1}}, "reciptient"),
        ({"message": ""}, "message"),
        ({"message": "x" * 4097}, "message"),
        ({"messageType": "location"}, "latitude"),
        ({"messageType": "location", "latitude": 91, "longitude": 0}, "latitude"),
        ({"latitude": 1, "longitude": "x"}, "longitude"),
        ({"messageType": "document"}, "file_url"),
        ({"messageType": "sticker"}, "messageType"),
        ({"image_url": "http://127.0.0.1/a.png"}, "image_url"),
        ({"file_url": "file:///etc/passwd"}, "file_url"),
        ({"platform": "telegram"}, "platform"),
        ({"method_send": "later"}, "method_send"),
        ({"country_code": "xx", "reciptient": "0812345678"}, "country_code"),
        ({"reciptient": "{evil}"}, "reciptient"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_stored(harness: Harness, fields: dict[str, Any], named: str) -> None:
    status, body = await write(harness, **fields)
    assert (status, body["code"]) == (405, "405")
    assert f"`{named}`" in body["message"]
    assert (await harness.rows())["messages"] == 0
    assert harness.surprises() == 0

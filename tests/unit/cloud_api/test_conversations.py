"""send_meta_personal_message: the answer for every verdict, with a channel that says what the test wants."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.gateway_fixture import Front, open_front

from kurir.inbox.tables import windows
from kurir.kit.ids import parse_message_id
from kurir.messages.content import Location, Text
from kurir.messages.reports import InDoubt, Outcome, Refused, Sent, TryLater
from kurir.reasons import as_written

SITI = "6281234567801"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with open_front(tmp_path, meta_answer_timeout=0.2, sync_timeout=0.3) as front:
        await open_window(front, time.time())
        yield front


async def open_window(front: Front, at: float) -> None:
    owner = {"account_id": front.ours.account.id, "number_id": front.ours.official.id, "person": SITI}
    await front.gateway.database.write(lambda c: c.execute(windows.delete()))
    await front.gateway.database.write(lambda c: c.execute(windows.insert().values(**owner, last_incoming_at=at)))


async def write(front: Front, outcome: Callable[[Any], Outcome] | None = None, **fields: Any) -> tuple[int, Any]:
    if outcome is not None:
        front.cloud.outcome = outcome
    answer = await front.send("send_meta_personal_message", **{"reciptient": SITI, "message": "Halo"} | fields)
    return answer.status_code, answer.json()


async def test_sent(front: Front) -> None:
    status, body = await write(front, lambda _: Sent("wamid.x"))
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


async def test_refused_by_meta(front: Front) -> None:
    status, body = await write(front, lambda _: Refused("131009", as_written("Parameter value is not valid")))
    assert status == 400
    assert body == {
        "code": "400",
        "message": {"state": "failed", "detail": "Parameter value is not valid", "to": SITI},
        "type": "failed",
    }


async def test_no_answer_in_time_says_queued_with_our_id(front: Front) -> None:
    status, body = await write(front, lambda _: TryLater("130429", as_written("slow down")))
    assert (status, body["message"]["state"], body["type"]) == (200, "queued", "successfully")
    assert parse_message_id(body["message"]["message_id"]) is not None
    status, body = await write(
        front, lambda _: TryLater("130429", as_written("slow down")), method_send="sync", message="Hai"
    )
    assert (status, body["code"], body["type"], body["message"]["state"]) == (408, "408", "timeout", "queued")


async def test_doubt_is_reported(front: Front) -> None:
    status, body = await write(front, lambda _: InDoubt(as_written("cut")))
    assert (status, body["code"], body["message"]["state"]) == (408, "408", "unconfirmed")
    assert "do not send it again" in body["message"]["detail"]


@pytest.mark.parametrize("age", [86_401, 86_400 * 30])
async def test_a_closed_window_stores_nothing(front: Front, age: float) -> None:
    await open_window(front, time.time() - age)
    status, body = await write(front)
    assert (status, body["code"], body["type"]) == (400, "400", "failed")
    assert body["message"]["detail"].startswith("Re-engagement message")
    assert (await front.rows())["messages"] == 0


async def test_the_window_is_of_one_number_and_one_person(front: Front) -> None:
    assert (await write(front, reciptient="6281234567802"))[0] == 400
    theirs = front.theirs.credentials() | {"reciptient": SITI, "message": "Halo"}
    assert (await front.post("send_meta_personal_message", theirs)).status_code == 400
    assert (await front.rows())["messages"] == 0


async def test_kinds_by_fields(front: Front) -> None:
    status, body = await write(front, message="", latitude="-6.20", longitude=106.8, nameLocation="Monas")
    assert status == 200
    assert body["message"]["latitude"] == "-6.20"
    assert body["message"]["longitude"] == "106.8"
    assert front.cloud.sent[-1].content == Location(-6.2, 106.8, "Monas")
    await write(front, messageType="text", message="Hai")
    assert front.cloud.sent[-1].content == Text("Hai")


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
async def test_a_wrong_field_is_named_and_nothing_stored(front: Front, fields: dict[str, Any], named: str) -> None:
    status, body = await write(front, **fields)
    assert (status, body["code"]) == (405, "405")
    assert f"`{named}`" in body["message"]
    assert (await front.rows())["messages"] == 0
    assert front.surprises() == 0

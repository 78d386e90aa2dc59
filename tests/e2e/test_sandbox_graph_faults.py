"""The faults of the Graph API and its callbacks, as a client on the wire meets them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.e2e.callback_receiver import Receiver
from tests.e2e.graph_client import Client, Program
from tests.e2e.sandbox_network import SandboxNetwork

pytestmark = pytest.mark.e2e

SITI, BUDI = "6281234567801", "6281234567802"


class Caller(Client):
    """A client that plans faults."""

    async def fault(self, effect: str, **values: Any) -> int:
        """Plans a fault; returns its id."""
        status, answer = await self.control("POST", "/faults", {"effect": effect, **values})
        assert status == 201, answer
        assert answer["effect"] == effect
        return answer["id"]

    async def hits(self, fault_id: int) -> int:
        """How often a fault struck."""
        _, answer = await self.control("GET", "/faults")
        return next(fault["hits"] for fault in answer["faults"] if fault["id"] == fault_id)

    async def post(self, words: str, to: str = SITI) -> tuple[int, dict[str, str], bytes]:
        """Sends a text; returns status, headers and body as they came."""
        url = f"{self.program.facts['graph_url']}/v25.0/{self.number}/messages"
        headers = {"Authorization": f"Bearer {self.program.business['access_token']}"}
        body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": words}}
        async with self.http.post(url, json=body, headers=headers) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def on_phone(self, words: str) -> list[dict[str, Any]]:
        """The rows of the ledger with these words."""
        return (await self.control("GET", "/ledger", text=words))[1]["entries"]

    async def reached(self, words: str, phone: str = SITI) -> None:
        """Waits until a message with these words is on the phone."""
        after = 0
        async with asyncio.timeout(10):
            while True:
                for message in await self.inbox(phone, after):
                    after = message["id"]
                    if message["text"] == words:
                        return


@pytest.fixture
async def caller(sandbox: SandboxNetwork, tmp_path: Path) -> AsyncIterator[Caller]:
    program = Program(tmp_path)
    program.facts = sandbox.info
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        caller = Caller(program, http)
        await caller.control("POST", "/policy", {"window": "off"})
        yield caller
        await caller.control("DELETE", "/faults")
    assert "Traceback" not in sandbox.log.read_text()


@pytest.fixture
async def receiver(caller: Caller) -> AsyncIterator[Receiver]:
    receiver = Receiver(caller.program.business["app_secret"])
    await receiver.open()
    assert await caller.subscribe(receiver.url, "rahasia") == (200, {"success": True})
    yield receiver
    await caller.graph("DELETE", f"{caller.waba}/subscribed_apps")
    await receiver.close()


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"code": 130429, "status": 429, "retry_after": 7}, 429, 130429),
        ({"code": 131056}, 400, 131056),
        ({"code": 131000}, 500, 131000),
        ({"code": 190}, 401, 190),
        ({"code": 2, "status": 503}, 503, 2),
    ],
    ids=lambda value: str(value.get("code")) if isinstance(value, dict) else "",
)
async def test_graph_errors(caller: Caller, values: dict[str, int], status: int, code: int) -> None:
    await caller.fault("error", kind="send", count=1, **values)
    words = f"galat {code} {status}"
    found, headers, body = await caller.post(words)
    assert found == status
    assert headers["Content-Type"].startswith("application/json")
    assert headers.get("Retry-After") == ("7" if "retry_after" in values else None)
    assert f'"code": {code}'.encode() in body
    assert b"fbtrace_id" in body
    assert (await caller.post(words))[0] == 200
    await caller.reached(words)
    assert len(await caller.on_phone(words)) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 504])
async def test_bare_errors(caller: Caller, status: int) -> None:
    await caller.fault("http", status=status, count=1, retry_after=3)
    words = f"polos {status}"
    found, headers, body = await caller.post(words)
    assert (found, headers["Retry-After"], headers["Content-Type"]) == (status, "3", "text/html; charset=utf-8")
    assert body.startswith(b"<html>")
    assert (await caller.post(words))[0] == 200
    await caller.reached(words)
    assert len(await caller.on_phone(words)) == 1


async def test_a_reset_comes_before_the_body_is_read(caller: Caller) -> None:
    await caller.fault("reset", kind="send", number=caller.program.business["phone"], count=1)
    host = caller.program.facts["url"].removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = f"POST /graph/v25.0/{caller.number}/messages HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode())
    with pytest.raises(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(1), 10) == b"x", "the connection was closed, not reset"
    writer.close()
    assert (await caller.post("sesudah putus"))[0] == 200


async def test_a_reset_comes_once_the_whole_body_was_read(caller: Caller) -> None:
    fault = await caller.fault("reset_after_body", kind="send", phone=SITI, count=1)
    host = caller.program.facts["url"].removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    words = "dibaca lalu putus"
    content = {"messaging_product": "whatsapp", "to": SITI, "type": "text", "text": {"body": words}}
    body = json.dumps(content).encode()
    token = caller.program.business["access_token"]
    head = f"POST /graph/v25.0/{caller.number}/messages HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\r\n".encode() + body[:-1])
    end = asyncio.create_task(reader.read(1))
    for _ in range(20):
        assert await caller.hits(fault) == 0
    assert not end.done()
    writer.write(body[-1:])
    with pytest.raises(ConnectionResetError):
        assert await end == b"x", "the connection was closed, not reset"
    writer.close()
    assert await caller.hits(fault) == 1
    assert (await caller.post("sesudah dibaca"))[0] == 200
    await caller.reached("sesudah dibaca")
    assert await caller.on_phone(words) == []


async def test_an_upload_is_reset_once_it_was_read(caller: Caller) -> None:
    fault = await caller.fault("reset_after_body", kind="upload", number=caller.number, count=1)
    handed = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal handed
        for _ in range(30):  # more than all buffers on the way hold
            yield bytes(1_000_000)
            handed += 1

    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await caller.graph("POST", f"{caller.number}/media", data=body())
    assert handed == 30
    assert await caller.hits(fault) == 1
    form = aiohttp.FormData({"messaging_product": "whatsapp", "type": "text/plain"})
    form.add_field("file", b"halo", filename="a.txt", content_type="text/plain")
    assert (await caller.graph("POST", f"{caller.number}/media", data=form))[0] == 200


async def test_a_hanging_request_gets_no_answer(caller: Caller) -> None:
    fault = await caller.fault("hang", seconds=0.3, kind="send", phone=SITI)
    started = time.monotonic()
    with pytest.raises(aiohttp.ClientError):
        await caller.post("menggantung")
    assert time.monotonic() - started >= 0.3
    assert (await caller.post("jalan terus", to=BUDI))[0] == 200
    assert await caller.hits(fault) == 1
    assert await caller.on_phone("menggantung") == []


async def test_delays_before_and_after_the_work(caller: Caller) -> None:
    await caller.fault("delay", seconds=0.3, count=1, kind="send")
    started = time.monotonic()
    assert (await caller.post("pelan"))[0] == 200
    assert time.monotonic() - started >= 0.3

    await caller.fault("late_answer", seconds=30, count=1, kind="send")
    sending = asyncio.create_task(caller.post("jawaban lambat"))
    await caller.reached("jawaban lambat")
    assert not sending.done()
    sending.cancel()


async def test_accepted_but_the_answer_is_lost(caller: Caller) -> None:
    await caller.fault("drop_answer", kind="send", count=1)
    with pytest.raises(aiohttp.ClientOSError):
        await caller.post("jawaban hilang")
    await caller.fault("truncate_answer", kind="send", count=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.post("jawaban terpotong")
    for words in ("jawaban hilang", "jawaban terpotong"):
        await caller.reached(words)


async def test_accepted_but_it_never_reaches_the_phone(caller: Caller, receiver: Receiver) -> None:
    lost = await caller.fault("lose", count=1, kind="text")
    silent = await caller.send(SITI, "text", {"body": "lenyap"})
    await caller.fault("fail", count=1, code=131049)
    failed = await caller.send(SITI, "text", {"body": "gagal"})
    failure = await receiver.wait_status(failed, "failed")
    assert failure["errors"][0]["code"] == 131049
    await receiver.wait_status(await caller.send(SITI, "text", {"body": "sampai"}), "delivered")
    assert await caller.hits(lost) == 1
    assert receiver.statuses(silent) == []
    assert await caller.on_phone("lenyap") == await caller.on_phone("gagal") == []


async def test_magic_numbers_return_their_error(caller: Caller, receiver: Receiver) -> None:
    status, _, body = await caller.post("Halo", to="62819991131056")
    assert (status, json.loads(body)["error"]["code"]) == (400, 131056)
    wire_id = await caller.send("62819990131049", "text", {"body": "Halo"})
    assert (await receiver.wait_status(wire_id, "failed"))["errors"][0]["code"] == 131049


async def test_callbacks_withheld_and_doubled(caller: Caller, receiver: Receiver) -> None:
    await caller.fault("withhold_callback", kind="sent", count=1)
    await caller.fault("duplicate_callback", kind="delivered", count=1)
    wire_id = await caller.send(SITI, "text", {"body": "Halo"})
    await receiver.until(lambda: len(receiver.statuses(wire_id)) == 2)
    assert [status["status"] for status in receiver.statuses(wire_id)] == ["delivered", "delivered"]
    await caller.fault("withhold_callback", kind="message", phone=BUDI, count=1)
    unheard = await caller.person_writes(BUDI, text="tak terdengar")
    heard = await caller.person_writes(BUDI, text="terdengar")
    await receiver.wait_inbound(heard)
    assert unheard not in str(receiver.changes)


async def test_callbacks_late_and_swapped(caller: Caller, receiver: Receiver) -> None:
    await caller.fault("late_callback", kind="sent", seconds=0.4, count=1)
    late = await caller.send(SITI, "text", {"body": "Halo"})
    await receiver.wait_status(late, "sent")
    assert [status["status"] for status in receiver.statuses(late)] == ["delivered", "sent"]

    await caller.fault("swap_callback", kind="sent", count=1)
    swapped = await caller.send(SITI, "text", {"body": "Halo"})
    await receiver.wait_status(swapped, "sent")
    assert [status["status"] for status in receiver.statuses(swapped)] == ["delivered", "sent"]

    await caller.fault("swap_callback", kind="delivered", seconds=0.1, count=1)
    alone = await caller.send(SITI, "text", {"body": "Halo"})
    await receiver.wait_status(alone, "delivered")


async def test_the_webhook_hears_before_the_send_is_answered(caller: Caller, receiver: Receiver) -> None:
    await caller.fault("callbacks_first", phone=SITI, count=1)
    wire_id = await caller.send(SITI, "text", {"body": "Halo"})
    assert [status["status"] for status in receiver.statuses(wire_id)] == ["sent", "delivered"]


async def test_media_requests_fail_too(caller: Caller) -> None:
    def form() -> aiohttp.FormData:
        fields = aiohttp.FormData({"messaging_product": "whatsapp", "type": "text/plain"})
        fields.add_field("file", b"halo", filename="a.txt", content_type="text/plain")
        return fields

    path = f"{caller.number}/media"
    await caller.fault("error", kind="upload", code=131000, count=1)
    status, answer = await caller.graph("POST", path, data=form())
    assert (status, answer["error"]["code"]) == (500, 131000)
    status, uploaded = await caller.graph("POST", path, data=form())
    assert status == 200

    _, media = await caller.graph("GET", uploaded["id"])
    bearer = {"Authorization": f"Bearer {caller.program.business['access_token']}"}
    await caller.fault("http", kind="download", status=502, count=1)
    await caller.fault("delay", kind="download", seconds=0.2, skip=1, count=1)
    await caller.fault("truncate_answer", kind="download", skip=1, count=1)
    async with caller.http.get(media["url"], headers=bearer) as answer:
        assert answer.status == 502
    started = time.monotonic()
    async with caller.http.get(media["url"], headers=bearer) as answer:
        assert await answer.read() == b"halo"
    assert time.monotonic() - started >= 0.2
    async with caller.http.get(media["url"], headers=bearer) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_the_plan_is_kept_shown_and_ended(caller: Caller) -> None:
    first = await caller.fault(
        "error", code=4, phone="+62 812-3456-7801", number=caller.number, seed=3, probability=0.5
    )
    _, answer = await caller.control("GET", "/faults")
    assert {**answer["faults"][0], "id": 0} == {
        "id": 0,
        "effect": "error",
        "code": 4,
        "phone": SITI,
        "number": caller.program.business["phone"],
        "seed": 3,
        "probability": 0.5,
        "skip": 0,
        "seen": 0,
        "hits": 0,
    }
    assert answer["effects"]["hang"]["needs"] == ["seconds"]
    refused = [(await caller.post(f"undian {n}"))[0] != 200 for n in range(20)]
    assert 0 < sum(refused) < 20
    assert await caller.hits(first) == sum(refused)
    await caller.control("DELETE", f"/faults/{first}")
    await caller.fault("error", code=4, phone=SITI, seed=3, probability=0.5)
    assert [(await caller.post(f"undian lagi {n}"))[0] != 200 for n in range(20)] == refused
    assert await caller.control("DELETE", "/faults") == (200, {"ended": 1})
    status, answer = await caller.control("DELETE", f"/faults/{first}")
    assert (status, answer["error"]["field"]) == (404, "id")


async def test_a_full_reset_ends_every_fault(caller: Caller) -> None:
    await caller.fault("error", code=1)
    await caller.control("POST", "/reset", {})
    assert len((await caller.control("GET", "/faults"))[1]["faults"]) == 1
    await caller.control("POST", "/reset", {"all": True})
    assert (await caller.control("GET", "/faults"))[1]["faults"] == []


async def test_logins_is_short_for_a_fault(caller: Caller) -> None:
    await caller.control("POST", "/logins", {"reason": 402, "code": "101"})
    await caller.control("POST", "/logins", {"reason": 503})
    faults = (await caller.control("GET", "/faults"))[1]["faults"]
    assert [(fault["effect"], fault["reason"]) for fault in faults] == [("refuse_login", 503)]
    await caller.control("POST", "/logins", {"reason": None})
    assert (await caller.control("GET", "/faults"))[1]["faults"] == []


async def test_the_whole_ledger_can_be_read_in_pieces(caller: Caller) -> None:
    await caller.control("POST", "/reset", {})
    sent = [await caller.send(SITI, "text", {"body": f"#baca-{n}"}) for n in range(7)]
    await caller.bubble(SITI, sent[-1])
    rows: list[dict[str, Any]] = []
    since = 0
    while piece := (await caller.control("GET", "/ledger", since_id=since, limit=3))[1]["entries"]:
        assert len(piece) <= 3
        rows += piece
        since = piece[-1]["id"]
    assert [row["wire_id"] for row in rows] == sent
    assert [row["text"] for row in rows] == [f"#baca-{n}" for n in range(7)]
    assert set(rows[0]) == {"id", "channel", "from", "phone", "wire_id", "kind", "text", "content_hash"}
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "effect"),
        ({"effect": "rain"}, "effect"),
        ({"effect": "lose", "weather": 1}, "weather"),
        ({"effect": "lose", "seconds": 1}, "seconds"),
        ({"effect": "hang"}, "seconds"),
        ({"effect": "hang", "seconds": -1}, "seconds"),
        ({"effect": "hang", "seconds": 1e400}, "body"),
        ({"effect": "http", "status": 200}, "status"),
        ({"effect": "error", "code": "4"}, "code"),
        ({"effect": "error", "code": 4, "channel": "linked_device"}, "channel"),
        ({"effect": "error", "code": 4, "channel": {}}, "channel"),
        ({"effect": "error", "code": 4, "kind": []}, "kind"),
        ({"effect": "error", "code": 4, "kind": "sms"}, "kind"),
        ({"effect": "withhold_ack", "kind": "text"}, "kind"),
        ({"effect": "reset", "phone": SITI}, "phone"),
        ({"effect": "reset", "number": 1}, "number"),
        ({"effect": "lose", "phone": []}, "phone"),
        ({"effect": "lose", "count": 0}, "count"),
        ({"effect": "lose", "skip": True}, "skip"),
        ({"effect": "lose", "probability": 2}, "probability"),
        ({"effect": "lose", "seed": 1.5}, "seed"),
        ({"effect": "refuse_login", "reason": True}, "reason"),
        ({"effect": "refuse_login", "reason": 402, "attributes": {"code": 101}}, "code"),
        ({"effect": "refuse_login", "reason": 402, "attributes": {"reason": "1"}}, "attributes"),
        ({"effect": "refuse_login", "reason": 402, "attributes": "x"}, "attributes"),
    ],
    ids=str,
)
async def test_a_bad_fault_names_the_field(caller: Caller, body: Any, field: str) -> None:
    url = caller.program.facts["url"] + "/faults"
    raw = str(body).replace("'", '"').replace("inf", "1e400").replace("True", "true")
    async with caller.http.post(url, data=raw) as answer:
        assert answer.status == 400, await answer.text()
        assert (await answer.json())["error"]["field"] == field
    assert (await caller.control("GET", "/faults"))[1]["faults"] == []

"""The faults of the WhatsApp Web wire, as the real engine meets them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.sandbox_engine.driver import Engine, EngineError
from tests.e2e.sandbox_engine.stage import ALICE, BOB, OTHER, OWNER, Sandbox, conversation, stage, text, until

from kurir_sandbox.faults import Fault
from kurir_sandbox.ledger import Search

pytestmark = pytest.mark.e2e


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with stage(tmp_path) as sandbox:
        yield sandbox


def plan(sandbox: Sandbox, effect: str, **values: Any) -> Fault:
    """A fault that strikes once, unless said otherwise."""
    return sandbox.web.faults.add(Fault(effect, **{"count": 1, **values}))


def say(engine: Engine, words: str, to: str = ALICE) -> asyncio.Task[str]:
    """The engine starts to send a text."""
    return asyncio.create_task(engine.call("send", to=to, kind="text", text=words))


def on_phones(sandbox: Sandbox) -> list[str]:
    return [record.content["text"] for record in sandbox.ledger.records(Search())]


def receipts(engine: Engine, wire_id: str, kind: str = "DELIVERED") -> list[Any]:
    reported = [data for name, data in engine.events if name == "Receipt"]
    return [receipt for receipt in reported if wire_id in receipt["MessageIDs"] and receipt["Type"] == kind]


async def test_messages_are_lost_refused_or_acknowledged_late(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    plan(sandbox, "lose", kind="text")
    lost = await say(engine, "lenyap")

    plan(sandbox, "refuse_message", phone=BOB, code=463)
    await say(engine, "untuk Alice")
    with pytest.raises(EngineError, match="463"):
        await say(engine, "untuk Bob", to=BOB)

    plan(sandbox, "slow_ack", seconds=1)
    slow = say(engine, "pelan")
    await sandbox.arrived(ALICE, "pelan")
    assert not slow.done()
    await slow
    assert on_phones(sandbox) == ["untuk Alice", "pelan"]
    assert receipts(engine, lost) == []


async def test_receipts_are_withheld_late_or_doubled(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    plan(sandbox, "withhold_receipt", kind="delivered", number=OWNER, phone=ALICE)
    silent = await say(engine, "satu")
    plan(sandbox, "duplicate_receipt", kind="delivered", skip=1)
    once, twice = await say(engine, "dua"), await say(engine, "tiga")
    await until(lambda: len(receipts(engine, twice)) == 2)
    assert (len(receipts(engine, silent)), len(receipts(engine, once))) == (0, 1)

    plan(sandbox, "late_receipt", kind="delivered", seconds=0.7)
    late = await say(engine, "empat")
    prompt = await say(engine, "lima")
    await until(lambda: receipts(engine, late))
    reported = [receipt["MessageIDs"][0] for name, receipt in engine.events if name == "Receipt"]
    assert reported.index(prompt) < reported.index(late)

    assert await sandbox.phones.read(ALICE) == 5
    await until(lambda: receipts(engine, silent, "READ"))


async def test_a_swallowed_message_is_sent_again_on_the_next_connection(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    fault = plan(sandbox, "swallow_message")
    sending = say(engine, "tertelan")
    await until(lambda: fault.hits == 1)
    assert not sending.done()
    assert on_phones(sandbox) == []
    await sandbox.web.drop(sandbox.web.linked_devices()[0].jid)
    wire_id = await sending
    assert (await sandbox.arrived(ALICE, "tertelan")).arrival.wire_id == wire_id


@pytest.mark.parametrize(("effect", "reached"), [("cut", []), ("cut_before_ack", ["putus"])])
async def test_a_line_that_breaks_off_at_a_message(sandbox: Sandbox, effect: str, reached: list[str]) -> None:
    engine = await sandbox.linked("one", OWNER)
    fault = plan(sandbox, effect, skip=1, kind="message" if effect == "cut" else "")
    await say(engine, "lewat")
    away = plan(sandbox, "reset", kind="connect", count=None)
    seen = len(engine.events)
    sending = say(engine, "putus")
    await engine.event("Disconnected", after=seen)
    await until(lambda: away.hits > 0)
    assert on_phones(sandbox) == ["lewat", *reached]
    sandbox.web.faults.end(away.id)

    wire_id = await sending
    assert (await sandbox.arrived(ALICE, "putus")).arrival.wire_id == wire_id
    await say(engine, "sambung")
    assert fault.hits == 1
    assert on_phones(sandbox) == ["lewat", "putus", "sambung"]


async def test_a_silent_line_is_open_but_dead(sandbox: Sandbox) -> None:
    engine, other = await asyncio.gather(sandbox.linked("one", OWNER), sandbox.linked("other", OTHER))
    device = next(device for device in sandbox.web.linked_devices() if device.phone == OWNER).jid
    await until(lambda: sandbox.web.queued(device) == 0)
    fault = plan(sandbox, "silence", number=OWNER)
    seen = len(engine.events)
    await sandbox.web.write(ALICE, OWNER, text("ada orang?"))
    assert fault.hits == 1
    sending, asking = say(engine, "halo?"), asyncio.create_task(engine.call("on_whatsapp", numbers=[ALICE]))
    for words in ("satu", "dua", "tiga"):
        await say(other, words)
        await sandbox.arrived(ALICE, words)
    assert not sending.done()
    assert not asking.done()
    assert all(device.connected for device in sandbox.web.linked_devices())
    assert sandbox.web.queued(device) == 1
    assert engine.events[seen:] == []

    await sandbox.web.drop(device)
    await engine.event("Message", conversation("ada orang?"), after=seen)
    await sandbox.arrived(ALICE, "halo?")
    assert await asking == {ALICE: True}


async def test_logged_out_or_replaced_at_a_stanza(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    plan(sandbox, "replace", kind="chatstate")
    await engine.call("type", to=ALICE)
    await engine.event("StreamReplaced")
    await engine.kill()

    engine = await sandbox.engine("one")
    await engine.event("Connected")
    plan(sandbox, "logout", kind="message", phone=ALICE)
    sending = say(engine, "terakhir")
    await engine.event("LoggedOut")
    sending.cancel()
    assert sandbox.web.linked_devices() == []
    assert on_phones(sandbox) == []


async def test_logins_of_one_number_are_refused(sandbox: Sandbox) -> None:
    engine, other = await asyncio.gather(sandbox.linked("one", OWNER), sandbox.linked("other", OTHER))
    for reason, attributes, reported in (
        (503, {}, "Connected"),
        (402, {"code": "101", "expire": "3600"}, "TemporaryBan"),
    ):
        fault = plan(sandbox, "refuse_login", number=OWNER, reason=reason, attributes=attributes)
        seen = len(engine.events), len(other.events)
        for device in sandbox.web.linked_devices():
            await sandbox.web.drop(device.jid)
        await other.event("Connected", after=seen[1])
        await engine.event(reported, after=seen[0], within=30)
        assert fault.hits == 1


async def test_media_and_connections_fail(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    paper = {"kind": "document", "data": base64.b64encode(b"%PDF-1.4 faktur").decode(), "caption": "", "name": "a.pdf"}
    plan(sandbox, "http", kind="upload", number=OWNER, status=500)
    with pytest.raises(EngineError, match="500"):
        await engine.call("send", to=ALICE, **paper)
    read = plan(sandbox, "reset_after_body", kind="upload", number=OWNER, count=None)
    with pytest.raises(EngineError):
        await engine.call("send", to=ALICE, **paper)
    assert read.hits >= 1
    assert sandbox.web.faults.end(read.id)
    slow = plan(sandbox, "delay", kind="upload", seconds=0.5)
    await engine.call("send", to=ALICE, **paper)
    assert slow.hits == 1
    await sandbox.entry(ALICE, lambda e: e.arrival.content.kind == "document")
    assert len(sandbox.ledger.records(Search())) == 1

    refused = plan(sandbox, "http", kind="connect", status=503)
    reset = plan(sandbox, "reset", kind="connect")
    seen = len(engine.events)
    await sandbox.web.drop(sandbox.web.linked_devices()[0].jid)
    await engine.event("Connected", after=seen, within=30)
    assert (refused.hits, reset.hits) == (1, 1)

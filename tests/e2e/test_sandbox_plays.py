"""Receipts of any type, and any stanza of WhatsApp's server, as the real engine meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.sandbox_engine.control import BUDI, OWNER, SITI, Control, control
from tests.e2e.sandbox_network import SandboxNetwork

pytestmark = pytest.mark.e2e


@pytest.fixture
async def rig(sandbox: SandboxNetwork, tmp_path: Path) -> AsyncIterator[Control]:
    async with control(sandbox, tmp_path) as rig:
        yield rig


async def sent_by_device(
    rig: Control, tag: str, matches: Callable[[dict[str, Any]], bool], within: float = 15.0
) -> dict[str, Any]:
    """The first stanza of the device that `matches`, waiting for it."""
    jid, after = await rig.device(), 0
    deadline = asyncio.get_running_loop().time() + within
    while True:
        for row in await rig.network.get(f"/devices/{jid}/stanzas?tag={tag}&after={after}"):
            if matches(row["stanza"]):
                return row["stanza"]
            after = row["id"]
        assert asyncio.get_running_loop().time() < deadline, f"the device sent no such {tag}"
        await asyncio.sleep(0.05)


async def test_receipts_of_any_type_at_any_time(rig: Control) -> None:
    engine = await rig.linked("one")
    first = await engine.call("send", to=SITI, kind="text", text="satu")
    group = next(
        g["id"] for g in await rig.network.get("/groups") if {OWNER, SITI} <= {m["phone"] for m in g["members"]}
    )
    for kind in ("read", "played", "inactive", "sender", "read-self", "played-self", "peer_msg", "hist_sync"):
        await rig.network.post(f"/people/{SITI}/receipts", {"to": OWNER, "type": kind, "ids": [first, kind]})
        reported = await engine.event("Receipt", lambda r, kind=kind: kind in r["MessageIDs"])
        assert reported["MessageIDs"] == [first, kind]

    body = {"to": OWNER, "type": "delivered", "ids": ["X"], "group": group, "delay": 0.3}
    await rig.network.post(f"/people/{BUDI}/receipts", body)
    reported = await engine.event("Receipt", lambda r: r["MessageIDs"] == ["X"])
    assert reported["MessageSource"]["Chat"]["User"] == group and reported["Type"] == "DELIVERED"

    # again after a while: the message is sent again, in a new session, and comes to the phone a second time
    await rig.network.post(f"/people/{SITI}/receipts", {"to": OWNER, "type": "retry", "ids": [first], "delay": 0.3})
    await sent_by_device(
        rig, "message", lambda s: s["attributes"]["id"] == first and "device_fanout" in s["attributes"]
    )
    second = await engine.call("send", to=SITI, kind="text", text="dua")
    await rig.network.arrival(SITI, lambda row: row["wire_id"] == second)

    for kind in ("server-error", "no-such-type"):
        await rig.network.post(f"/people/{SITI}/receipts", {"to": OWNER, "type": kind, "ids": [first]})
        await sent_by_device(rig, "ack", lambda s, kind=kind: s["attributes"].get("type") == kind)


async def test_a_phone_that_asks_again_later_than_the_send(rig: Control) -> None:
    engine = await rig.linked("one")
    await rig.network.post("/faults", {"effect": "ask_again", "phone": SITI, "seconds": 0.5, "count": 1})
    wire_id = await engine.call("send", to=SITI, kind="text", text="nanti")
    assert await rig.network.get(f"/people/{SITI}/inbox") == []
    shown = await rig.network.arrival(SITI, lambda row: row["wire_id"] == wire_id)
    assert shown["text"] == "nanti"


async def test_stanzas_of_the_server(rig: Control) -> None:
    engine = await rig.linked("one")
    jid = await rig.device()
    gid = next(g["id"] for g in await rig.network.get("/groups") if OWNER in {m["phone"] for m in g["members"]})
    for kind, attributes, children in (
        ("picture", {}, [{"tag": "set", "attributes": {"jid": f"{SITI}@s.whatsapp.net", "id": "1"}}]),
        ("w:gp2", {"from": f"{gid}@g.us"}, [{"tag": "no_such_change", "attributes": {"a": "b"}}]),
        ("account_sync", {}, [{"tag": "privacy"}]),
        ("mediaretry", {}, []),
        ("newsletter", {}, []),
        ("no_such_type", {"from": "s.whatsapp.net"}, [{"tag": "x", "content": "AAE="}]),
    ):
        body = {"type": kind, "attributes": {"id": f"N-{kind}", **attributes}, "children": children}
        await rig.network.post(f"/devices/{jid}/notifications", body)
        await sent_by_device(rig, "ack", lambda s, kind=kind: s["attributes"]["id"] == f"N-{kind}")

    answer = await rig.network.post(f"/people/{SITI}/calls", {"to": OWNER, "event": "offer", "video": True})
    await sent_by_device(rig, "ack", lambda s: s["attributes"].get("class") == "call")
    await rig.network.post(f"/people/{SITI}/calls", {"to": OWNER, "event": "terminate", "call_id": answer["call_id"]})

    presence = {"tag": "chatstate", "attributes": {"from": f"{SITI}@s.whatsapp.net"}, "children": [{"tag": "paused"}]}
    await rig.network.post(f"/devices/{jid}/stanzas", presence)
    await engine.event("ChatPresence")

    seen = len(engine.events)
    await rig.network.post(f"/devices/{jid}/stream_error", {"code": 503})
    await engine.event("Connected", after=seen, within=30)
    seen = len(engine.events)
    await rig.network.post(f"/devices/{jid}/stream_error", {"code": "999", "child": "no-such-error"})
    await engine.event("StreamError", after=seen)
    await engine.event("Connected", after=seen, within=30)
    await rig.network.post(f"/devices/{jid}/stream_error", {"conflict": "replaced"})
    await engine.event("StreamReplaced", after=seen)


async def test_every_reason_of_a_failure(rig: Control) -> None:
    engine = await rig.linked("one")
    jid, seen = await rig.device(), len(engine.events)
    await rig.network.post("/logins", {"reason": 402, "code": "101", "expire": "60"})
    await rig.network.post(f"/devices/{jid}/failure", {"reason": 503})
    await engine.event("TemporaryBan", after=seen)
    await engine.kill()
    await rig.network.post("/logins", {"reason": None})
    for reason in (401, 409, 411, 418, 463, 500, 599, "not a number"):
        fault = await rig.network.post("/faults", {"effect": "refuse_login", "reason": reason, "count": 1})
        assert fault["reason"] == reason
    await rig.network.delete("/faults")


INVALID: list[tuple[str, dict[str, Any], int, str]] = [
    (f"/people/{SITI}/receipts", {"to": OWNER, "ids": []}, 400, "ids"),
    (f"/people/{SITI}/receipts", {"to": OWNER, "ids": [1]}, 400, "ids"),
    (f"/people/{SITI}/receipts", {"to": OWNER, "ids": ["a"], "type": 5}, 400, "type"),
    (f"/people/{SITI}/receipts", {"to": BUDI, "ids": ["a"]}, 404, "to"),
    (f"/people/{SITI}/receipts", {"to": OWNER, "ids": ["a"], "device": "x"}, 404, "device"),
    (f"/people/{SITI}/receipts", {"to": OWNER, "ids": ["a"], "group": "1"}, 404, "group"),
    (f"/people/{SITI}/receipts", {"to": OWNER, "ids": ["a"], "delay": -1}, 400, "delay"),
    (f"/people/{SITI}/receipts", {"to": OWNER, "ids": ["a"], "nonsense": 1}, 400, "nonsense"),
    (f"/people/{SITI}/calls", {"to": OWNER, "video": 1}, 400, "video"),
    ("/devices/JID/stanzas", {}, 400, "stanza.tag"),
    ("/devices/JID/stanzas", {"tag": "a", "children": [{}]}, 400, "stanza.children.0.tag"),
    ("/devices/JID/stanzas", {"tag": "a", "close": "yes"}, 400, "close"),
    ("/devices/1@lid/stanzas", {"tag": "a"}, 404, "jid"),
    ("/devices/JID/notifications", {}, 400, "type"),
    ("/devices/JID/failure", {"reason": True}, 400, "reason"),
    ("/devices/JID/failure", {"reason": ""}, 400, "reason"),
    ("/devices/JID/stream_error", {"code": [1]}, 400, "code"),
    ("/logins", {"reason": [503]}, 400, "reason"),
    ("/logins", {"reason": "x" * 500}, 400, "reason"),
]


async def test_invalid_input_names_its_field(rig: Control) -> None:
    engine = await rig.linked("one")
    jid = await rig.device()
    for path, body, status, field in INVALID:
        assert await rig.refused(path.replace("JID", jid), body) == (status, field), (path, body)
    await engine.kill()
    deadline = asyncio.get_running_loop().time() + 10
    while (await rig.network.get("/devices"))[0]["connected"]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert await rig.refused(f"/devices/{jid}/stanzas", {"tag": "a"}) == (409, "jid")

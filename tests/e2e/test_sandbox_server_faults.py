"""Faults on the way from a device: keys, addresses, refusals, queries and downloads, as the real engine meets them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.sandbox_engine.control import BUDI, OTHER, OWNER, SITI, Control, control
from tests.e2e.sandbox_engine.driver import Engine, EngineError
from tests.e2e.sandbox_network import SandboxNetwork

pytestmark = pytest.mark.e2e

NEWCOMER = "6281234567899"


@pytest.fixture
async def rig(sandbox: SandboxNetwork, tmp_path: Path) -> AsyncIterator[Control]:
    async with control(sandbox, tmp_path) as rig:
        yield rig


async def plan(rig: Control, effect: str, **values: Any) -> int:
    return (await rig.network.post("/faults", {"effect": effect, **values}))["id"]


async def hits(rig: Control, fault: int) -> int:
    faults = (await rig.network.get("/faults"))["faults"]
    return next(each["hits"] for each in faults if each["id"] == fault)


async def on_phone(rig: Control, phone: str) -> list[str]:
    return [row["text"] for row in await rig.network.get(f"/people/{phone}/inbox")]


async def say(engine: Engine, words: str, to: str) -> str:
    return await engine.call("send", to=to, kind="text", text=words)


async def test_devices_without_keys(rig: Control) -> None:
    engine, companion = await rig.linked("one"), await rig.linked("two", OTHER)
    missing = await plan(rig, "no_keys", phone=OTHER, device=0)
    await say(engine, "hanya pendamping", OTHER)
    await companion.event("Message", lambda e: e["Message"].get("conversation") == "hanya pendamping")
    assert await on_phone(rig, OTHER) == []
    assert await hits(rig, missing) >= 1
    await rig.network.delete("/faults")

    missing = await plan(rig, "omit_keys", phone=SITI)
    with contextlib.suppress(EngineError):  # the engine may say it or not; the phone is the judge
        await say(engine, "tidak sampai", SITI)
    assert await hits(rig, missing) >= 1
    assert await on_phone(rig, SITI) == []
    await rig.network.delete("/faults")

    group = await rig.network.post("/groups", {"subject": "Sebagian", "owner": OWNER, "members": [SITI, BUDI]})
    missing = await plan(rig, "no_keys", phone=BUDI, code=500)
    dead = await plan(rig, "withhold_receipt", phone=BUDI, kind="retry")  # else it would ask and bring its keys along
    await say(engine, "untuk sebagian", group["id"])
    assert (await rig.network.arrival(SITI, lambda row: row["chat"] == group["id"]))["text"] == "untuk sebagian"
    assert await on_phone(rig, BUDI) == []
    assert (await hits(rig, missing), await hits(rig, dead)) == (1, 1)


async def test_numbers_without_a_lid_and_numbers_of_two_forms(rig: Control) -> None:
    engine = await rig.linked("one")
    await plan(rig, "hide_lid", phone=SITI)
    assert await engine.call("on_whatsapp", numbers=[f"+{SITI}"]) == {f"+{SITI}": True}
    with pytest.raises(EngineError, match="LID"):
        await say(engine, "alamat tak diketahui", SITI)
    await rig.network.delete("/faults")
    await say(engine, "alamat diketahui", SITI)

    short, typed = "551187654321", "5511987654321"
    await rig.network.post("/people", {"phone": short, "name": "Ana"})
    assert await rig.network.post(f"/people/{short}/aliases", {"alias": f"+{typed}"}) == [typed]
    found = await engine.call("canonical", number=f"+{typed}")
    assert (found["in"], found["jid"]) == (True, (await engine.call("canonical", number=f"+{short}"))["jid"])
    await rig.network.post(f"/people/{short}/aliases", {"alias": typed, "remove": True})
    assert await engine.call("on_whatsapp", numbers=[f"+{typed}"]) == {f"+{typed}": False}
    assert await rig.network.get(f"/people/{short}/aliases") == []


async def test_refusals_of_first_contacts_only(rig: Control) -> None:
    engine = await rig.linked("one")
    await rig.write(SITI, text="saya pernah menulis")
    await rig.network.post("/people", {"phone": NEWCOMER, "name": "Baru"})
    strict = await plan(rig, "refuse_message", code=463, first_contact=True)
    await say(engine, "kenal", SITI)
    for _ in range(2):
        with pytest.raises(EngineError, match="463"):
            await say(engine, "tidak kenal", NEWCOMER)
    await rig.write(NEWCOMER, text="halo juga")
    await say(engine, "kenal", NEWCOMER)
    assert await hits(rig, strict) == 2
    await rig.network.delete("/faults")
    for code in (400, 404, 420, 421, 429, 479, 500, 503):
        await plan(rig, "refuse_message", code=code, count=1)
        with pytest.raises(EngineError, match=str(code)):
            await say(engine, "ditolak", SITI)
    await say(engine, "lagi", SITI)
    assert await on_phone(rig, SITI) == ["kenal", "lagi"]
    assert await on_phone(rig, NEWCOMER) == ["kenal"]


async def test_queries_are_refused_late_or_not_answered(rig: Control) -> None:
    engine = await rig.linked("one")
    await plan(rig, "refuse_query", kind="w:g2/participating", code=429, attributes={"backoff": "60"}, count=1)
    with pytest.raises(EngineError, match=r"429|rate-overlimit"):
        await engine.call("groups")
    assert len(await engine.call("groups")) > 0

    await plan(rig, "refuse_query", kind="usync", code=503, text="try later", count=1)
    with pytest.raises(EngineError, match=r"503|try later"):
        await engine.call("on_whatsapp", numbers=[SITI])

    slow = await plan(rig, "slow_query", kind="usync", seconds=0.5, count=1)
    assert await engine.call("on_whatsapp", numbers=[SITI]) == {SITI: True}
    assert await hits(rig, slow) == 1

    silent = await plan(rig, "ignore_query", kind="usync", count=1)
    asking = asyncio.create_task(engine.call("on_whatsapp", numbers=[SITI]))
    while await hits(rig, silent) == 0:
        await asyncio.sleep(0.02)
    assert await engine.call("on_whatsapp", numbers=[BUDI]) == {BUDI: True}
    assert not asking.done()
    asking.cancel()


async def test_downloads_that_fail_file_by_file(rig: Control) -> None:
    engine = await rig.linked("one")
    url = f"{rig.network.url}/files/invoice.pdf"
    body = {"to": OWNER, "document": {"url": url}}
    good = (await rig.network.post(f"/people/{SITI}/messages", body))["wire_id"]
    bad = await rig.network.post(f"/people/{SITI}/messages", body)
    for wire_id in (good, bad["wire_id"]):
        await engine.event("Message", lambda e, wire_id=wire_id: e["Info"]["ID"] == wire_id)
    path = bad["media_path"].partition("?")[0]
    for effect, values in (
        ("http", {"status": 403}),
        ("http", {"status": 404}),
        ("http", {"status": 410}),
        ("short_answer", {}),
        ("corrupt_answer", {}),
    ):
        fault = await plan(rig, effect, kind="download", path=path, **values)
        with pytest.raises(EngineError):
            await engine.call("download", message=bad["wire_id"])
        assert len(base64.b64decode(await engine.call("download", message=good))) > 0
        assert await hits(rig, fault) >= 1
        await rig.network.delete("/faults")
    slow = await plan(rig, "trickle_answer", kind="download", path=path, seconds=0.5)
    assert await engine.call("download", message=bad["wire_id"]) == await engine.call("download", message=good)
    assert await hits(rig, slow) == 1


async def test_the_engine_asks_nothing_that_is_not_played(rig: Control) -> None:
    engine = await rig.linked("one")
    async with asyncio.timeout(15):
        while not await engine.call("contacts"):
            await asyncio.sleep(0.05)
    await engine.call("rename", name="Toko Baru")
    await engine.call("available")
    await say(engine, "halo", SITI)
    wire_id = await rig.write(SITI, text="baca ini")
    await engine.event("Message", lambda e: e["Info"]["ID"] == wire_id)
    await engine.call("read", chat=SITI, message=wire_id)
    await engine.call("groups")
    await engine.call("contacts")
    asked = {
        row["stanza"]["attributes"].get("xmlns")
        for row in await rig.network.get(f"/devices/{await rig.device()}/stanzas?tag=iq")
    }
    assert {"encrypt", "usync", "w:g2"} <= asked
    assert "query_unsupported" not in rig.network.log.read_text()


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"effect": "no_keys", "device": 256}, "device"),
    ({"effect": "no_keys", "kind": "x"}, "kind"),
    ({"effect": "refuse_message", "code": 463, "first_contact": 1}, "first_contact"),
    ({"effect": "refuse_message", "code": 463, "attributes": {"a": 1}}, "a"),
    ({"effect": "lose", "first_contact": True}, "first_contact"),
    ({"effect": "lose", "path": "x"}, "path"),
    ({"effect": "refuse_query", "kind": 5, "code": 429}, "kind"),
    ({"effect": "refuse_query", "kind": "usync"}, "code"),
    ({"effect": "slow_query"}, "seconds"),
    ({"effect": "trickle_answer"}, "seconds"),
]


async def test_invalid_input_names_its_field(rig: Control) -> None:
    for body, field in INVALID:
        assert await rig.refused("/faults", body) == (400, field), body
    assert await rig.refused(f"/people/{SITI}/aliases", {"alias": "x"}) == (400, "alias")
    assert await rig.refused(f"/people/{SITI}/aliases", {"alias": SITI}) == (400, "alias")
    for body, field in (({"kind": "x"}, "kind"), ({"kind": "audio"}, "file"), ({"kind": "audio", "file": 1}, "file")):
        assert await rig.refused("/encrypted_media", body) == (400, field)

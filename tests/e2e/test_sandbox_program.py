"""The whole sandbox as a process: a real engine is linked, written to and driven over the control API alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from tests.e2e.graph_client import Client, Program
from tests.e2e.sandbox_engine.driver import Engine

from kurir_sandbox.web_protocol.server import WebNetwork

pytestmark = pytest.mark.e2e

OWNER, SITI, BUDI, STRANGER = "6281100000001", "6281234567801", "6281234567802", "6287834567810"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    program = Program(tmp_path)
    await program.start()
    async with aiohttp.ClientSession() as http:
        yield Client(program, http)
    assert await program.end() == 0


@pytest.fixture
async def engine(client: Client, tmp_path: Path) -> AsyncIterator[Engine]:
    facts = client.program.facts
    network = SimpleNamespace(
        ca_file=facts["ca_file"], proxy_url=facts["proxy_url"], noise_root=bytes.fromhex(facts["noise_root"])
    )
    engine = await Engine(cast(WebNetwork, network), tmp_path / "engine.db").start()
    yield engine
    await engine.kill()


async def link(client: Client, engine: Engine) -> dict[str, Any]:
    after = len(engine.events)
    status, device = await client.control("POST", "/scan", {"phone": OWNER, "qr": await engine.event("qr")})
    assert status == 201, device
    await engine.event("Connected", after=after)
    return device


async def test_a_device_lives_through_the_control_api(client: Client, engine: Engine) -> None:
    status, refused = await client.control("POST", "/scan", {"phone": OWNER, "qr": "nonsense"})
    assert (status, refused["error"]["field"]) == (400, "qr")
    device = await link(client, engine)
    assert device["phone"] == OWNER
    _, people = await client.control("GET", "/people")
    assert [person["devices"] for person in people if person["phone"] == OWNER] == [[device["jid"]]]

    wire_id = await engine.call("send", to=SITI, kind="text", text="Halo Siti")
    message = await client.bubble(SITI, wire_id)
    assert (message["channel"], message["from"], message["chat"]) == ("linked_device", OWNER, OWNER)
    assert (message["kind"], message["text"]) == ("text", "Halo Siti")
    assert await client.control("POST", f"/people/{SITI}/read", {}) == (200, {"read": 1})
    await engine.event("Receipt", lambda receipt: receipt["MessageIDs"] == [wire_id] and receipt["Type"] == "READ")

    picture = {"to": OWNER, "image": {"url": "/files/promo.png"}, "caption": "Ini"}
    status, written = await client.control("POST", f"/people/{SITI}/messages", picture)
    assert status == 201
    heard = await engine.event("Message", lambda event: event["Info"]["ID"] == written["wire_id"])
    assert heard["Message"]["imageMessage"]["caption"] == "Ini"

    _, groups = await client.control("GET", "/groups")
    loyal = next(group for group in groups if group["subject"] == "Pelanggan Setia")
    words = {"group": loyal["id"], "text": "Selamat pagi"}
    status, written = await client.control("POST", f"/people/{BUDI}/messages", words)
    assert status == 201
    await engine.event("Message", lambda event: event["Info"]["ID"] == written["wire_id"])
    status, refused = await client.control("POST", f"/people/{STRANGER}/messages", words)
    assert (status, refused["error"]["field"]) == (400, "group")
    change = {"phone": STRANGER, "role": "admin"}
    status, changed = await client.control("POST", f"/groups/{loyal['id']}/members", change)
    assert (status, changed["members"][-1]) == (200, change)
    assert (await client.control("POST", f"/people/{STRANGER}/messages", words))[0] == 201
    removal = {"phone": STRANGER, "remove": True}
    assert len((await client.control("POST", f"/groups/{loyal['id']}/members", removal))[1]["members"]) == 5
    assert (await client.control("POST", f"/groups/{loyal['id']}", {"subject": "Langganan"}))[1][
        "subject"
    ] == "Langganan"

    assert (await client.control("POST", f"/people/{SITI}/typing", {"to": OWNER, "on": True}))[0] == 200
    contact = {"phone": SITI, "name": "Bu Siti"}
    assert (await client.control("POST", f"/people/{OWNER}/contacts", contact))[1][SITI] == "Bu Siti"


async def test_a_restart_keeps_addresses_and_devices(client: Client, engine: Engine) -> None:
    await link(client, engine)
    before = client.program.facts
    after = len(engine.events)
    assert await client.program.end() == 0
    await client.program.start()
    now = client.program.facts
    assert [now[key] for key in ("url", "proxy_url", "noise_root", "businesses")] == [
        before[key] for key in ("url", "proxy_url", "noise_root", "businesses")
    ]
    await engine.event("Connected", after=after)
    wire_id = await engine.call("send", to=BUDI, kind="text", text="Masih ada?")
    assert (await client.bubble(BUDI, wire_id))["text"] == "Masih ada?"


async def test_reset_unlinks_everybody(client: Client, engine: Engine) -> None:
    device = await link(client, engine)
    after = len(engine.events)
    assert (await client.control("POST", f"/devices/{device['jid']}/drop", {}))[0] == 200
    await engine.event("Connected", after=after)
    wire_id = await engine.call("send", to=BUDI, kind="text", text="Halo")
    await client.bubble(BUDI, wire_id)
    assert await client.control("POST", "/reset", {"all": True}) == (200, {"reset": "all"})
    assert await client.control("GET", "/devices") == (200, [])
    assert await client.control("GET", "/ledger") == (200, {"count": 0, "duplicates": 0, "entries": []})
    await asyncio.wait_for(engine.event("LoggedOut"), 30)

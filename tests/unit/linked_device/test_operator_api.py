"""The operator API for numbers, over HTTP, on a real database and scripted hosts."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from tests.sqlite import new_database

from kurir.accounts import accounts
from kurir.channels.linked_device.pairing import Pairing
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.services.accounts import Accounts
from kurir.services.devices import Devices
from kurir.services.numbers import Numbers
from kurir.store.database import Database
from kurir.web.gateway import Gateway
from kurir.web.operator.numbers import routes


@pytest.fixture
async def office(make_harness: Callable[..., Awaitable[Any]]) -> AsyncIterator[Any]:
    """A client with the token, the number's key, and the data folder."""
    harness = await make_harness(0)
    database = Database(new_database(harness.folder / "kurir.db"))
    await database.start()

    def plant(connection: Any) -> Number:
        account = accounts.create(connection, name="Toko", email="toko@example.test")
        return numbers.add_linked_device(connection, account.id, "Kasir")

    number = await database.write(plant)
    service = Numbers(database, Sealing(bytes(32)), time.time)
    owners = Accounts(database, Sealing(bytes(32)), time.time)
    pairing = Pairing(harness.channel, time.time)
    gateway = SimpleNamespace(
        settings=harness.settings,
        services=SimpleNamespace(
            accounts=owners, numbers=service, devices=Devices(harness.channel, pairing, None, service)
        ),
    )
    app = Starlette(routes=routes(cast("Gateway", gateway)))
    token = (harness.folder / "operator.token").read_text().strip()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield SimpleNamespace(
            client=client, key=number.key, harness=harness, token=token, number=number, database=database
        )
    await database.close()


def test_the_token_is_the_operators_alone(office: Any) -> None:
    assert stat.S_IMODE((office.harness.folder / "operator.token").stat().st_mode) == 0o600
    assert len(office.token) >= 40


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/numbers"),
        ("GET", "/api/v1/numbers/{key}/pairing"),
        ("POST", "/api/v1/numbers/{key}/pairing"),
        ("DELETE", "/api/v1/numbers/{key}/pairing"),
        ("POST", "/api/v1/numbers/{key}/logout"),
        ("GET", "/api/v1/numbers/{key}/contacts"),
        ("GET", "/api/v1/numbers/{key}/groups"),
    ],
)
async def test_nothing_is_answered_without_the_token(office: Any, method: str, path: str) -> None:
    for header in (None, "", "Bearer", "Bearer wrong", f"Basic {office.token}", f"Bearer {office.token}x", "Bearer é"):
        headers = {} if header is None else {"Authorization": header.encode("latin-1")}
        client = httpx.AsyncClient(transport=office.client._transport, base_url="http://gateway")
        answer = await client.request(method, path.format(key=office.key), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthorized"
    assert office.harness.channel.pairing(office.number) is None


async def test_lists_numbers_with_their_live_state(office: Any) -> None:
    (shown,) = (await office.client.get("/api/v1/numbers")).json()["numbers"]
    assert shown["key"] == office.key
    assert (shown["channel"], shown["state"], shown["name"]) == ("linked_device", "disconnected", "Kasir")
    await office.client.post(f"/api/v1/numbers/{office.key}/pairing")
    (shown,) = (await office.client.get("/api/v1/numbers")).json()["numbers"]
    assert (shown["state"], shown["state_reason"]) == ("pairing", "menunggu ponsel")
    asked = await office.client.get("/api/v1/numbers", headers={"Accept-Language": "en"})
    (shown,) = asked.json()["numbers"]
    assert (shown["reason_code"], shown["state_reason"]) == ("waiting_for_phone", "waiting for the phone")


async def test_pairs_by_qr_by_code_and_cancels(office: Any) -> None:
    path = f"/api/v1/numbers/{office.key}/pairing"
    assert (await office.client.get(path)).json()["state"] == "none"
    started = await office.client.post(path)
    assert started.status_code == 201
    assert started.json()["qr"] == "qr-text"
    by_code = (await office.client.post(path, json={"phone": "+62 812-3456-7890"})).json()
    assert (by_code["state"], by_code["code"], by_code["qr"]) == ("code", "ABCD-1234", "")
    waited = await office.client.get(path, params={"wait": "0.05"})
    assert waited.json() == by_code
    assert (await office.client.delete(path)).json()["state"] == "failed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b'"x"', ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b'{"phone": 6281}', "phone"),
        (b'{"phone": "abc"}', "phone"),
        (b'{"phone": ""}', "phone"),
        (b'{"phone": "1"}', "phone"),
        (b'{"phone": "\\ud800"}', ""),
    ],
)
async def test_bad_bodies_are_refused_by_name(office: Any, body: bytes, field: str) -> None:
    answer = await office.client.post(f"/api/v1/numbers/{office.key}/pairing", content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["field"] == field
    assert error["message"]
    assert office.harness.channel.pairing(office.number) is None


async def test_limits_unknown_keys_and_disconnected_devices(office: Any) -> None:
    path = f"/api/v1/numbers/{office.key}"
    answer = await office.client.post(f"{path}/pairing", content=b" " * 300_000)
    assert answer.status_code == 413
    for wait in ("x", "-1", "31", "nan", "inf"):
        answer = await office.client.get(f"{path}/pairing", params={"wait": wait})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "wait")
    for call in (("POST", "logout"), ("GET", "contacts"), ("GET", "groups")):
        answer = await office.client.request(call[0], f"{path}/{call[1]}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "device_unavailable")
        answer = await office.client.request(call[0], f"/api/v1/numbers/BO-nobody/{call[1]}")
        assert (answer.status_code, answer.json()["error"]["field"]) == (404, "key")


async def test_a_removed_device_leaves_no_session_and_is_gone(office: Any) -> None:
    """Also one whose pairing is under way. What is asked of it afterwards is a 404."""
    harness, database = office.harness, office.database
    path = f"/api/v1/numbers/{office.key}"
    session = harness.folder / "devices" / f"{office.key}.db"
    session.parent.mkdir(exist_ok=True)
    session.write_bytes(b"what is left of a pairing")
    await office.client.post(f"{path}/pairing")
    assert (await office.client.delete(path)).json() == {
        "key": office.key,
        "account_id": office.number.account_id,
        "removed": True,
    }
    assert not session.exists()
    assert office.number.id not in [one.number.id for one in harness.channel._connections.all()]
    for method, call in (("DELETE", ""), ("POST", "/pairing"), ("POST", "/logout"), ("GET", "/groups")):
        assert (await office.client.request(method, path + call)).status_code == 404
    assert await database.read(lambda c: numbers.of_account(c, office.number.account_id)) == []


async def test_a_connected_device_is_removed_by_its_phone(make_harness: Callable[..., Awaitable[Any]]) -> None:
    harness = await make_harness()
    number = harness.numbers[0]
    removed: list[tuple[int, str, bool]] = []

    class Stored:
        async def remove(self, account_id: int, key: str, *, left: bool) -> Number:
            removed.append((account_id, key, left))
            return number

    devices = Devices(harness.channel, Pairing(harness.channel, time.time), None, cast("Numbers", Stored()))
    session = harness.folder / "devices" / f"{number.key}.db"
    assert session.exists()
    assert (harness.channel.ready(number), devices.live(number).state) == (True, "connected")
    assert await devices.remove(number) == number
    assert removed == [(number.account_id, number.key, True)]
    assert not session.exists()
    assert harness.channel.state(number)[0] != "connected"

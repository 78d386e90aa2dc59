"""Webhooks end to end: people in the sandbox write to a device and to an official number, a customer's server hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.e2e.sandbox_network import SandboxNetwork, eventually
from tests.e2e.test_cloud_api import Shop, open_shop
from tests.harness.webhooks import Receiver, WebhookCall, receiving, verified

from kurir.kit.ids import public_message_id
from kurir.kit.url_rules import Allowed
from kurir.messages.content import Text
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.message_rows import Draft
from kurir.webhooks import endpoints
from kurir.webhooks.tables import webhook_deliveries

pytestmark = pytest.mark.e2e

SITI, BUDI = "6281234567801", "6281234567802"
EVERYTHING = ["incoming_chat", "message_status", "device_status"]


async def listen(shop: Shop, receiver: Receiver, path: str, events: list[str], number: Number | None = None) -> str:
    """A new endpoint of the shop; returns its secret."""
    gateway = shop.gateway
    allowed = Allowed.parse(gateway.settings.allowed_networks)

    def work(connection: sa.Connection) -> str:
        _, secret = endpoints.add(
            connection,
            gateway.sealing,
            shop.number.account_id,
            receiver.url(path),
            allowed=allowed,
            now=gateway.clock(),
            number_id=number.id if number else None,
            events=events,
        )
        return secret

    return await gateway.database.write(work)


async def pair(shop: Shop, owner: str) -> Number:
    """A linked device of the shop's account, paired with the owner's phone."""
    gateway = shop.gateway
    device = await gateway.database.write(lambda c: numbers.add_linked_device(c, shop.number.account_id, "Kasir"))
    progress = await gateway.linked_devices.start_pairing(device)
    await eventually(lambda: bool(progress.qr), what="a QR code")
    await shop.sandbox.post("/scan", {"phone": owner, "qr": progress.qr})
    await eventually(lambda: gateway.linked_devices.ready(device), 30, what="connected")
    return device


async def hears(receiver: Receiver, path: str, **wanted: Any) -> WebhookCall:
    """The first letter at a path whose data hold `wanted`, waiting for it."""

    def matching() -> list[WebhookCall]:
        return [
            webhook_call for webhook_call in receiver.at(path) if wanted.items() <= webhook_call.json["data"].items()
        ]

    await eventually(lambda: bool(matching()), 20, what=f"{wanted} at {path}: {[m.json for m in receiver.at(path)]}")
    return matching()[0]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def shop(sandbox: SandboxNetwork, receiver: Receiver, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(sandbox, tmp_path, allowed=(receiver.url("").removeprefix("http://"),)) as shop:
        yield shop


async def test_both_channels_report_in_the_same_shape(sandbox: SandboxNetwork, shop: Shop, receiver: Receiver) -> None:
    owner = await sandbox.person("Toko Kabar")
    device = await pair(shop, owner)
    secret = await listen(shop, receiver, "/old", ["incoming_chat"])
    all_secret = await listen(shop, receiver, "/all", EVERYTHING)
    await listen(shop, receiver, "/device", ["incoming_chat"], device)

    await sandbox.post(f"/people/{SITI}/messages", {"to": owner, "text": "Halo kasir 👋"})
    await sandbox.post(f"/people/{SITI}/messages", {"to": shop.number.phone, "text": "Halo toko 👋"})
    to_device = await hears(receiver, "/old", message_body="Halo kasir 👋")
    to_official = await hears(receiver, "/old", message_body="Halo toko 👋")
    assert to_device.headers["bls-oto-numberid"] == device.key
    assert to_official.headers["bls-oto-numberid"] == shop.number.key
    heard = [verified(to_device, secret), verified(to_official, secret)]
    assert [event["type"] for event in heard] == ["incoming_chat", "incoming_chat"]
    assert list(heard[0]["data"]) == list(heard[1]["data"])
    for event in heard:
        data = event["data"]
        assert (data["chat_id"], data["is_from_me"], data["id"]) == (f"{SITI}@c.us", False, data["message_id"])
        assert data["name"]
        assert data["has_media"] is False
    assert heard[1]["data"]["message_id"].startswith("wamid.")
    # an endpoint for one number hears of that number only
    await hears(receiver, "/device", message_body="Halo kasir 👋")

    place = {"location": {"latitude": -6.175392, "longitude": 106.827153, "name": "Monas"}}
    await sandbox.post(f"/people/{SITI}/messages", {"to": owner, **place})
    await sandbox.post(f"/people/{SITI}/messages", {"to": shop.number.phone, **place})
    for number in (device, shop.number):

        def located(number: Number = number) -> bool:
            return any(
                webhook_call.json["data"]["location_attached"] == {"lat": -6.175392, "lng": 106.827153}
                for webhook_call in receiver.at("/old")
                if webhook_call.headers["bls-oto-numberid"] == number.key
            )

        await eventually(located, 20, what=f"the place, through {number.channel}")

    picture = {"image": {"url": "/files/promo.png"}, "caption": "Ini"}
    for phone in (owner, shop.number.phone):
        await sandbox.post(f"/people/{SITI}/messages", {"to": phone, **picture})
    await eventually(lambda: sum(m.json["data"]["has_media"] for m in receiver.at("/old")) == 2, 20, what="pictures")
    shown = [m.json["data"] for m in receiver.at("/old") if m.json["data"]["has_media"]]
    assert {data["media_mime"] for data in shown} == {"image/png"}

    # what Kurir sends through the device is the device's own; its way is told to who asked for it
    draft = Draft(account_id=device.account_id, number_id=device.id, recipient=BUDI, content=Text("dari Kurir"))
    accepted = await shop.gateway.outbox.accept([draft])
    sent = verified(await hears(receiver, "/old", message_body="dari Kurir"), secret)
    assert sent["data"]["is_from_me"] is True
    delivered = await hears(receiver, "/all", status="delivered")
    data = verified(delivered, all_secret)["data"]
    assert data["message_id"] == public_message_id(accepted.ids[0])
    assert (data["remote_id"], data["number_id"]) == (sent["data"]["message_id"], device.key)
    statuses = [
        webhook_call.json["data"]["status"]
        for webhook_call in receiver.at("/all")
        if "status" in webhook_call.json["data"]
    ]
    assert statuses == ["sent", "delivered"]

    await shop.gateway.linked_devices.logout(device)
    await hears(receiver, "/all", state="logged_out", number_id=device.key)
    assert {webhook_call.json["type"] for webhook_call in receiver.at("/old")} == {"incoming_chat"}
    assert {webhook_call.headers["bls-oto-numberid"] for webhook_call in receiver.at("/device")} == {device.key}
    d = webhook_deliveries.c
    await shop.until(webhook_deliveries, d.state == "delivered", count=len(receiver.webhook_calls))
    assert len({(webhook_call.path, webhook_call.id) for webhook_call in receiver.webhook_calls}) == len(
        receiver.webhook_calls
    )


async def test_files_groups_and_the_owners_own_words(sandbox: SandboxNetwork, shop: Shop, receiver: Receiver) -> None:
    owner = await sandbox.person("Toko Bentuk")
    device = await pair(shop, owner)
    secret = await listen(shop, receiver, "/all", ["incoming_chat"])

    document = {"data": "aGFsbw==", "mime": "text/plain", "name": "harga baru.txt"}
    for phone in (owner, shop.number.phone):
        await sandbox.post(f"/people/{SITI}/messages", {"to": phone, "document": document, "caption": phone})
    files = [
        verified(await hears(receiver, "/all", message_body=phone), secret)["data"]
        for phone in (owner, shop.number.phone)
    ]
    reported = {
        "has_media": True,
        "media_mime": "text/plain",
        "media_name": "harga baru.txt",
        "location_attached": None,
    }
    for data in files:
        assert reported.items() <= data.items()
    assert list(files[0]) == list(files[1])

    group = await sandbox.post("/groups", {"subject": "Tanya Jawab", "owner": SITI, "members": [owner]})
    await sandbox.post(f"/people/{SITI}/messages", {"group": group["id"], "text": "Halo semua"})
    in_group = await hears(receiver, "/all", message_body="Halo semua")
    data = verified(in_group, secret)["data"]
    assert data["chat_id"].endswith("@g.us")
    assert (data["is_from_me"], in_group.headers["bls-oto-numberid"]) == (False, device.key)

    # what the owner writes on the phone comes to the device too
    await sandbox.post(f"/people/{owner}/messages", {"group": group["id"], "text": "Ditulis di ponsel"})
    data = verified(await hears(receiver, "/all", message_body="Ditulis di ponsel"), secret)["data"]
    assert (data["chat_id"], data["is_from_me"]) == (in_group.json["data"]["chat_id"], True)

"""The official channel end to end: the whole gateway against the sandbox's Graph API, callbacks included."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import sqlalchemy as sa
from aiohttp import web
from tests.e2e.sandbox_network import SandboxNetwork
from tests.harness.http import served
from tests.harness.sandboxed import add_official, subscribe

from kurir.accounts import accounts, api_keys
from kurir.app import RunningGateway, running
from kurir.broadcasts.tables import broadcasts
from kurir.inbox import window_open_until
from kurir.inbox.tables import callbacks, incoming
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.tables import messages
from kurir.templates.tables import templates
from kurir.web import meta_callbacks
from kurir.web.compat_v1.endpoints import conversations
from kurir.web.compat_v1.endpoints import templates as template_endpoints
from kurir.web.server import build

pytestmark = pytest.mark.e2e

SITI, BUDI, DEWI, NOT_ON_WHATSAPP = "6281234567801", "6281234567802", "6281234567803", "6281999999901"
TIMEOUT = 20.0


class Shop:
    """A business with an official number: its gateway, its key, and the people's phones."""

    def __init__(self, gateway: RunningGateway, url: str, sandbox: SandboxNetwork, number: Number, key: str) -> None:
        self.gateway = gateway
        self.url = url
        self.sandbox = sandbox
        self.number = number
        self.key = key
        self.http = aiohttp.ClientSession()

    async def ask(self, path: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """A request of the public API; its status and JSON."""
        body = {"secret_key": self.key, "licenses_key": self.number.key, **fields}
        async with self.http.post(f"{self.url}/public/v1/{path}", json=body) as answer:
            return answer.status, await answer.json()

    async def person_writes(self, phone: str, **content: Any) -> None:
        """The person writes, and this returns when the gateway has stored it."""
        before = await self.count(incoming, incoming.c.sender == phone)
        await self.sandbox.post(f"/people/{phone}/messages", {"to": self.number.phone, **content})
        await self.until(incoming, incoming.c.sender == phone, count=before + 1)

    async def count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        """How many rows hold."""
        statement = sa.select(sa.func.count()).select_from(table).where(*where)
        return await self.gateway.database.read(lambda c: c.execute(statement).scalar_one())

    async def until(self, table: sa.Table, *where: sa.ColumnElement[bool], count: int = 1) -> sa.Row[Any]:
        """Waits until so many rows hold; returns the newest."""
        statement = sa.select(table).where(*where).order_by(table.c.id.desc())
        async with asyncio.timeout(TIMEOUT):
            while True:
                rows = await self.gateway.database.read(lambda c: c.execute(statement).all())
                if len(rows) >= count:
                    return rows[0]
                await asyncio.sleep(0.05)

    async def arrival(self, phone: str, wire_id: str) -> dict[str, Any]:
        """The message with that id, once it is on the phone."""
        return await self.sandbox.arrival(phone, lambda record: record["wire_id"] == wire_id)

    async def sample(self, name: str) -> bytes:
        """One of the sandbox's sample files."""
        async with self.http.get(f"{self.sandbox.url}/files/{name}") as answer:
            return await answer.read()


@pytest.fixture
async def shop(sandbox: SandboxNetwork, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(sandbox, tmp_path) as shop:
        yield shop


@asynccontextmanager
async def open_shop(
    sandbox: SandboxNetwork, folder: Path, graph_url: str = "", allowed: tuple[str, ...] = ()
) -> AsyncIterator[Shop]:
    """A gateway that serves; `graph_url` instead of the sandbox's own, `allowed` hosts beside the sandbox."""
    business = sandbox.businesses[0]
    host = sandbox.url.removeprefix("http://")
    settings = sandbox.settings(folder, allowed_networks=(host, *allowed), meta_answer_timeout=10.0)
    if graph_url:
        settings = msgspec.structs.replace(settings, graph_url=graph_url)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with running(settings) as gateway:

        def move_in(connection: sa.Connection) -> tuple[Number, str]:
            account = accounts.create(connection, name="Toko", email="toko@example.com", language="en")
            number = add_official(connection, gateway.sealing, account.id, business, verify_token="rahasia")
            return number, api_keys.create(connection, gateway.sealing, account.id)

        number, key = await gateway.database.write(move_in)
        endpoints = (*template_endpoints.ENDPOINTS, *conversations.ENDPOINTS)
        async with served(build(gateway, url, endpoints), listener=listener):
            shop = Shop(gateway, url, sandbox, number, key)
            try:
                await subscribe(sandbox.graph_url, business, url, verify_token="rahasia")
                yield shop
            finally:
                await shop.http.close()
        await sandbox.post("/reset")


async def test_every_kind_arrives_inside_the_window(shop: Shop) -> None:
    await shop.person_writes(SITI, text="Halo")

    status, reply = await shop.ask("send_meta_personal_message", reciptient=SITI, message="Halo Siti 👋")
    assert status == 200
    wamid = reply["message"].pop("message_id")
    assert wamid.startswith("wamid.")
    assert reply == {
        "code": "200",
        "message": {"state": "successfully", "to": SITI, "type": "text", "detail": "Message queued to be sent."},
        "type": "successfully",
        "template": None,
    }
    assert (await shop.arrival(SITI, wamid))["text"] == "Halo Siti 👋"

    picture = f"{shop.sandbox.url}/files/promo.png"
    status, reply = await shop.ask(
        "send_meta_personal_message", reciptient="0" + SITI[2:], message="Promo", image_url=picture, send_as_caption=1
    )
    assert (status, reply["message"]["url"], reply["message"]["caption"]) == (200, picture, "Promo")
    bubble = await shop.arrival(SITI, reply["message"]["message_id"])
    assert (bubble["kind"], bubble["caption"]) == ("image", "Promo")
    assert await shop.sandbox.media(bubble["media"]["sha256"]) == await shop.sample("promo.png")

    paper = f"{shop.sandbox.url}/files/invoice.pdf"
    status, reply = await shop.ask(
        "send_meta_personal_message", reciptient=SITI, file_url=paper, fileName="faktur.pdf", messageType="document"
    )
    assert (status, reply["message"]["fileName"], reply["message"]["url"]) == (200, "faktur.pdf", paper)
    bubble = await shop.arrival(SITI, reply["message"]["message_id"])
    assert (bubble["kind"], bubble["media"]["name"]) == ("document", "faktur.pdf")
    assert await shop.sandbox.media(bubble["media"]["sha256"]) == await shop.sample("invoice.pdf")

    status, reply = await shop.ask(
        "send_meta_personal_message",
        reciptient=SITI,
        latitude="-6.200000",
        longitude="106.816666",
        nameLocation="Monas",
        messageType="location",
    )
    assert {key: reply["message"][key] for key in ("latitude", "longitude", "nameLocation")} == {
        "latitude": "-6.200000",
        "longitude": "106.816666",
        "nameLocation": "Monas",
    }
    place = (await shop.arrival(SITI, reply["message"]["message_id"]))["location"]
    assert (place["latitude"], place["longitude"], place["name"]) == (-6.2, 106.816666, "Monas")

    await shop.until(messages, messages.c.state == "delivered", count=4)
    await shop.sandbox.post(f"/people/{SITI}/read")
    await shop.until(messages, messages.c.state == "read", count=4)


async def test_a_closed_window_stores_nothing_and_an_inbound_message_opens_it(shop: Shop) -> None:
    status, reply = await shop.ask("send_meta_personal_message", reciptient=DEWI, message="Halo")
    assert (status, reply["code"], reply["type"]) == (400, "400", "failed")
    assert (reply["message"]["state"], reply["message"]["to"]) == ("failed", DEWI)
    assert reply["message"]["detail"].startswith("Re-engagement message")
    assert await shop.count(messages) == 0

    await shop.person_writes(DEWI, image={"url": "/files/promo.png"}, caption="Ini ada?")
    stored = await shop.until(incoming, incoming.c.sender == DEWI)
    assert (stored.kind, stored.text, stored.sender_name) == ("image", "Ini ada?", "Dewi Lestari")
    media = json.loads(stored.media)
    assert media["mime"] == "image/png"
    assert media["remote_id"].isdigit()
    number = shop.number
    until = await shop.gateway.database.read(lambda c: window_open_until(c, number.account_id, number.id, DEWI))
    assert until == pytest.approx(stored.at + 86_400)

    status, reply = await shop.ask("send_meta_personal_message", reciptient=DEWI, message="Ada kak", method_send="sync")
    assert (status, reply["message"]["state"]) == (200, "successfully")
    assert (await shop.arrival(DEWI, reply["message"]["message_id"]))["text"] == "Ada kak"


async def test_a_template_is_written_reviewed_and_sent(shop: Shop) -> None:
    await shop.sandbox.post("/policy", {"review_seconds": 0.5})
    wanted = {
        "name": "lokasi_toko",
        "language": "id",
        "category": "UTILITY",
        "header": {
            "type": "LOCATION",
            "name": "Toko Pusat",
            "address": "Jl. Contoh No.1, Jakarta",
            "latitude": -6.3555,
            "longitude": 101.816,
        },
        "body": "Halo {{1}}, ini lokasi toko kami.",
        "variables": [{"placeholder": "{{1}}", "label": "Nama", "example": "Sari"}],
        "buttons": [{"type": "QUICK_REPLY", "data": {"label": "Terima kasih"}}],
    }
    status, draft = await shop.ask("create-template", submitToFacebook=False, **wanted)
    assert (status, draft["success"], draft["fb_response"]) == (200, True, None)
    assert "draft" in draft["message"]
    status, again = await shop.ask("create-template", submitToFacebook=False, **wanted)
    assert (status, again["errors"]) == (405, {"name": ["Template Name Already Exists"]})

    status, submitted = await shop.ask("create-template", submitToFacebook=True, **wanted)
    assert status == 200
    template_id = submitted["fb_response"].pop("id")
    assert submitted["fb_response"] == {"status": "IN_REVIEW"}
    assert set(submitted) == {"success", "message", "fb_response", "review_notice_title", "review_notice_message"}
    await shop.until(templates, templates.c.meta_id == template_id, templates.c.status == "APPROVED")
    assert await shop.count(callbacks, callbacks.c.fingerprint.startswith("template:")) == 1

    status, listed = await shop.ask("get-template-list", search="LOKASI")
    assert (status, listed["TotalRecords"]) == (200, 1)
    [row] = listed["data"]
    assert (row["templateId"], row["template_status"], row["template_language_name"]) == (
        template_id,
        "APPROVED",
        "Indonesian",
    )
    assert row["template_header"] == wanted["header"]
    assert row["template_buttons"] == wanted["buttons"]
    assert row["template_waba"] == "+" + shop.number.phone

    status, sent = await shop.ask("send_message_template", recipients=SITI, template=template_id, variables=["Siti"])
    assert status == 200
    assert await shop.count(broadcasts, broadcasts.c.key == sent.pop("bc_id")) == 1
    assert sent == {"code": "200", "message": "queued", "type": "successfully", "template": "lokasi_toko"}
    bubble = await shop.sandbox.arrival(SITI, lambda record: record["kind"] == "template")
    assert bubble["template"]["name"] == "lokasi_toko"
    assert "Halo Siti, ini lokasi toko kami." in bubble["bubble"]
    await shop.until(messages, messages.c.kind == "template", messages.c.state == "delivered")

    status, wrong = await shop.ask("send_message_template", recipients=SITI, template=template_id, variables=["a", "b"])
    assert (status, wrong["code"]) == (405, "405")
    assert "1 variables, 2 were given" in wrong["message"]
    status, wrong = await shop.ask("send_message_template", recipients=SITI, template="lokasi_toko", variables=["a"])
    assert (status, wrong["message"]) == (405, "Template not found: lokasi_toko")


async def test_a_media_header_is_uploaded_as_a_sample_and_sent_by_its_address(shop: Shop) -> None:
    await shop.sandbox.post("/policy", {"review_seconds": 0})
    status, made = await shop.ask(
        "create-template",
        name="katalog",
        language="id",
        category="MARKETING",
        submitToFacebook="1",
        header={"type": "IMAGE", "url": f"{shop.sandbox.url}/files/promo.png"},
        body="Katalog baru untuk Anda.",
        buttons=[
            {"type": "URL", "data": {"label": "Lihat", "url": "https://example.com/{{1}}", "example": "x"}},
            {"type": "COPY_CODE", "data": {"example": "HEMAT10"}},
        ],
    )
    assert (status, made["fb_response"]["status"]) == (200, "APPROVED"), made
    status, sent = await shop.ask(
        "send_message_template",
        recipients=BUDI,
        template=made["fb_response"]["id"],
        variables=["katalog-1"],
        method_send="sync",
    )
    assert (status, sent["message"]) == (200, "sent")
    bubble = await shop.sandbox.arrival(BUDI, lambda record: record["kind"] == "template")
    assert await shop.sandbox.media(bubble["media"]["sha256"]) == await shop.sample("promo.png")


async def test_meta_s_refusal_of_a_template_is_passed_on(shop: Shop) -> None:
    fields = {"language": "id", "category": "UTILITY", "submitToFacebook": True}
    body = "Halo, ini pesan untuk pelanggan kami."
    await shop.ask("create-template", name="sekali", body=body, **fields)
    # the same name again, behind the back of our own store
    await shop.gateway.database.write(lambda c: c.execute(templates.delete()))
    status, refused = await shop.ask("create-template", name="sekali", body=body, **fields)
    assert (status, refused["success"]) == (400, False)
    assert refused["fb_response"]["error"]["error_subcode"] == 2388024
    status, faulty = await shop.ask("create-template", name="Nama Salah", body="Halo {{1}}", **fields)
    assert (status, faulty["success"]) == (405, False)
    assert set(faulty["errors"]) == {"name", "body", "variables"}
    assert "Variables can't be at the end of the template body." in faulty["errors"]["body"]


async def test_templates_made_elsewhere_are_adopted_and_sent_to_many(shop: Shop) -> None:
    status, listed = await shop.ask("get-template-list", order_by="template_name", order_dir="asc", length="50")
    assert status == 200
    names = [row["template_name"] for row in listed["data"]]
    assert {"hello_world", "pesanan_dikirim"} <= set(names)
    assert names == sorted(names)
    status, sent = await shop.ask(
        "send_message_template",
        recipients=f"{SITI}, +{BUDI}",
        reciptient=None,
        template={
            "name": "pesanan_dikirim",
            "language": "id",
            "components": [{"type": "body", "parameters": [{"type": "text", "text": t} for t in ("Kak", "INV-9")]}],
        },
    )
    assert (status, sent["template"]) == (200, "pesanan_dikirim")
    for phone in (SITI, BUDI):
        bubble = await shop.sandbox.arrival(phone, lambda record: record["kind"] == "template")
        assert bubble["bubble"] == "Halo Kak, pesanan Anda INV-9 sudah kami kirim hari ini."
    assert await shop.count(messages, messages.c.broadcast_id.is_not(None)) == 2
    status, wrong = await shop.ask("send_message_template", recipients=[SITI, "123", "abc"], template="1", variables=[])
    assert status == 405
    assert "123, abc" in wrong["message"]


async def test_someone_not_on_whatsapp_ends_as_failed(shop: Shop) -> None:
    _, listed = await shop.ask("get-template-list", search="hello_world")
    template_id = listed["data"][0]["templateId"]
    status, _ = await shop.ask("send_message_template", recipients=NOT_ON_WHATSAPP, template=template_id)
    assert status == 200
    failed = await shop.until(messages, messages.c.recipient == NOT_ON_WHATSAPP, messages.c.state == "failed")
    assert failed.error_code == "131026"
    assert failed.remote_id.startswith("wamid.")


@asynccontextmanager
async def losing_answers(graph_url: str) -> AsyncIterator[str]:
    """A proxy before the Graph API that hands every send on and then cuts the line instead of answering."""

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {"Authorization": request.headers["Authorization"], "Content-Type": request.content_type}
        url = f"{graph_url}/{request.match_info['path']}"
        async with (
            aiohttp.ClientSession() as http,
            http.request(request.method, url, data=await request.read(), headers=headers) as answer,
        ):
            assert answer.status == 200
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_lost_answer_is_settled_by_the_callback_and_never_sent_twice(
    sandbox: SandboxNetwork, tmp_path: Path
) -> None:
    async with losing_answers(sandbox.graph_url) as graph_url, open_shop(sandbox, tmp_path, graph_url) as shop:
        await shop.person_writes(BUDI, text="Halo")
        status, reply = await shop.ask("send_meta_personal_message", reciptient=BUDI, message="Sekali saja")
        # the callback may be faster than the notice that the line was cut
        assert (status, reply["message"]["state"]) in {(408, "unconfirmed"), (200, "successfully")}
        settled = await shop.until(messages, messages.c.state == "delivered")
        assert settled.remote_id.startswith("wamid.")
        assert settled.attempts == 1
        assert (await shop.arrival(BUDI, settled.remote_id))["text"] == "Sekali saja"
        assert len(await sandbox.get(f"/people/{BUDI}/inbox")) == 1


async def post_callback(shop: Shop, raw: bytes, signature: str | None) -> int:
    headers = {"Content-Type": "application/json"} | ({"X-Hub-Signature-256": signature} if signature else {})
    async with shop.http.post(shop.url + meta_callbacks.PATH, data=io.BytesIO(raw), headers=headers) as answer:
        return answer.status


def callback(phone_number_id: str, wamid: str) -> bytes:
    message = {"from": SITI, "id": wamid, "timestamp": "1799999999", "type": "text", "text": {"body": "Halo"}}
    value = {"metadata": {"phone_number_id": phone_number_id}, "messages": [message]}
    changes = [{"field": "messages", "value": value}]
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}).encode()


def sign(secret: str, raw: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


async def test_only_what_meta_signed_is_believed_and_only_once(shop: Shop) -> None:
    secret = shop.sandbox.businesses[0]["app_secret"]
    raw = callback(shop.number.phone_number_id, "wamid.once")
    assert await post_callback(shop, raw, None) == 401
    assert await post_callback(shop, raw, sign("another secret", raw)) == 403
    assert await post_callback(shop, raw.replace(b"Halo", b"Hola"), sign(secret, raw)) == 403
    assert await shop.count(incoming) == 0

    assert await post_callback(shop, raw, sign(secret, raw)) == 200
    assert await post_callback(shop, raw, sign(secret, raw)) == 200
    assert await shop.count(incoming) == 1
    assert await shop.count(callbacks) == 1

    foreign = callback("999999", "wamid.foreign")
    assert await post_callback(shop, foreign, sign(secret, foreign)) == 200
    assert await shop.count(incoming) == 1
    for odd in (b"", b"[]", b"not json", b"\xff\xfe"):
        assert await post_callback(shop, odd, sign(secret, odd)) == 200  # quarantined
    assert await post_callback(shop, b"{}", sign(secret, b"{}")) == 200
    assert await post_callback(shop, b" " * 3_000_001, "sha256=00") == 413


async def test_another_account_cannot_forge_callbacks_for_a_number_it_claims(shop: Shop) -> None:
    def claim(connection: sa.Connection) -> Number:
        account = accounts.create(connection, name="Lain", email="lain@example.com")
        return numbers.add_official(
            connection,
            shop.gateway.sealing,
            account.id,
            phone="6281100009999",
            phone_number_id=shop.number.phone_number_id,
            waba_id="1",
            app_id="1",
            access_token="x",
            app_secret="a secret of their own",
            verify_token="y",
        )

    theirs = await shop.gateway.database.write(claim)
    raw = callback(shop.number.phone_number_id, "wamid.forged")
    assert await post_callback(shop, raw, sign("a secret of their own", raw)) == 200
    assert await shop.count(incoming, incoming.c.number_id == shop.number.id) == 0
    assert await shop.count(incoming, incoming.c.number_id == theirs.id) == 1


async def test_the_handshake_wants_a_known_verify_token(shop: Shop) -> None:
    async def verify(**query: str) -> tuple[int, str]:
        named = {f"hub.{key}": value for key, value in query.items()}
        async with shop.http.get(shop.url + meta_callbacks.PATH, params=named) as answer:
            return answer.status, await answer.text()

    assert await verify(mode="subscribe", challenge="1158201444", verify_token="rahasia") == (200, "1158201444")
    for wrong in (
        {"mode": "subscribe", "challenge": "1", "verify_token": "salah"},
        {"mode": "unsubscribe", "challenge": "1", "verify_token": "rahasia"},
        {"mode": "subscribe", "verify_token": "rahasia"},
        {},
    ):
        assert (await verify(**wrong))[0] == 403

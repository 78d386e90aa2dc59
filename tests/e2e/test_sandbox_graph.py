"""The sandbox as a process: every kind of message over the Graph API, inboxes, signed callbacks, restarts."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.e2e.callback_receiver import Receiver
from tests.e2e.graph_client import Client, Program

pytestmark = pytest.mark.e2e

SITI, BUDI, NOT_ON_WHATSAPP = "6281234567801", "6281234567802", "6281999999901"


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    program = Program(tmp_path, "--no-web")
    await program.start()
    yield program
    if program.process is not None and program.process.poll() is None:
        assert await program.end() == 0


@pytest.fixture
async def client(program: Program) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as http:
        yield Client(program, http)


@pytest.fixture
async def receiver(program: Program, client: Client) -> AsyncIterator[Receiver]:
    receiver = Receiver(program.business["app_secret"])
    await receiver.open()
    assert await client.subscribe(receiver.url, "rahasia") == (200, {"success": True})
    yield receiver
    await receiver.close()
    assert receiver.bad_signatures == 0


async def test_text_is_delivered_and_reported_in_order(client: Client, receiver: Receiver) -> None:
    await client.person_writes(SITI, text="Halo")
    wire_id = await client.send(f"+{SITI}", "text", {"body": "Halo Siti 👋"}, biz_opaque_callback_data="pesan-7")
    message = await client.bubble(SITI, wire_id)
    assert (message["channel"], message["from"], message["kind"]) == (
        "cloud_api",
        client.program.business["phone"],
        "text",
    )
    assert message["text"] == message["bubble"] == "Halo Siti 👋"
    assert message["media"] is message["location"] is message["template"] is None
    await receiver.wait_status(wire_id, "delivered")
    assert await client.control("POST", f"/people/{SITI}/read", {}) == (200, {"read": 1})
    await receiver.wait_status(wire_id, "read")
    statuses = receiver.statuses(wire_id)
    assert [status["status"] for status in statuses] == ["sent", "delivered", "read"]
    assert {status["biz_opaque_callback_data"] for status in statuses} == {"pesan-7"}
    assert {status["recipient_id"] for status in statuses} == {SITI}
    assert statuses[0]["pricing"] == {
        "billable": False,
        "category": "service",
        "type": "free_customer_service",
        "pricing_model": "PMP",
    }
    assert "expiration_timestamp" in statuses[0]["conversation"]
    assert "expiration_timestamp" not in statuses[1]["conversation"]
    assert set((await client.bubble(SITI, wire_id))["receipts"]) == {"delivered", "read"}


async def test_every_other_kind_arrives(client: Client, receiver: Receiver) -> None:
    await client.person_writes(SITI, text="Halo")
    files = client.program.facts["url"] + "/files"
    async with client.http.get(f"{files}/invoice.pdf") as answer:
        pdf = await answer.read()
    form = aiohttp.FormData({"messaging_product": "whatsapp", "type": "application/pdf"})
    form.add_field("file", pdf, filename="faktur.pdf", content_type="application/pdf")
    status, uploaded = await client.graph("POST", f"{client.number}/media", data=form)
    assert status == 200

    picture = await client.send(SITI, "image", {"link": f"{files}/promo.png", "caption": "Promo"})
    paper = await client.send(SITI, "document", {"id": uploaded["id"], "filename": "Faktur.pdf", "caption": "INV"})
    pin = await client.send(SITI, "location", {"latitude": "-6.2", "longitude": 106.8, "name": "Monas"})
    reaction = await client.send(SITI, "reaction", {"message_id": picture, "emoji": "👍"})
    template = await client.send(
        SITI,
        "template",
        {
            "name": "pesanan_dikirim",
            "language": {"code": "id"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": t} for t in ("Siti", "INV-9")]}],
        },
    )

    image = await client.bubble(SITI, picture)
    assert (image["kind"], image["caption"], image["media"]["mime"]) == ("image", "Promo", "image/png")
    document = await client.bubble(SITI, paper)
    digest = hashlib.sha256(pdf).hexdigest()
    assert document["media"] == {"mime": "application/pdf", "name": "Faktur.pdf", "size": len(pdf), "sha256": digest}
    async with client.http.get(client.program.facts["url"] + f"/media/{digest}") as answer:
        assert await answer.read() == pdf
    place = {"latitude": -6.2, "longitude": 106.8, "name": "Monas", "address": ""}
    assert (await client.bubble(SITI, pin))["location"] == place
    assert (await client.bubble(SITI, reaction))["text"] == "👍"
    filled = await client.bubble(SITI, template)
    assert filled["template"] == {"name": "pesanan_dikirim", "language": "id", "parameters": ["Siti", "INV-9"]}
    assert filled["bubble"] == "Halo Siti, pesanan Anda INV-9 sudah kami kirim hari ini."
    assert (await receiver.wait_status(template, "sent"))["pricing"]["category"] == "utility"
    ids = [message["wire_id"] for message in await client.inbox(SITI)]
    assert ids == [picture, paper, pin, reaction, template]


async def test_what_cannot_be_delivered_fails_later(client: Client, receiver: Receiver) -> None:
    await client.control("POST", "/policy", {"window": "off"})
    files = client.program.facts["url"] + "/files"
    nobody = await client.send(NOT_ON_WHATSAPP, "text", {"body": "Halo"})
    stranger = await client.send("62800000000", "text", {"body": "Halo"})
    broken = [
        await client.send(SITI, kind, {"link": f"{files}/{name}"})
        for kind, name in (
            ("image", "missing.png"),
            ("image", "page.html"),
            ("image", "large.png"),
            ("document", "redirect?to=/files/page.html"),
        )
    ]
    assert (await client.control("POST", "/policy", {"window": "failed_status"}))[0] == 200
    late = await client.send(SITI, "text", {"body": "Halo"})

    for wire_id, code in ((nobody, 131026), (stranger, 131026), (late, 131047), *((one, 131053) for one in broken)):
        failure = await receiver.wait_status(wire_id, "failed")
        assert [error["code"] for error in failure["errors"]] == [code]
        assert [status["status"] for status in receiver.statuses(wire_id)] == ["failed"]
    assert await client.control("GET", "/ledger") == (200, {"count": 0, "duplicates": 0, "entries": []})

    await client.control("POST", "/policy", {"window": "refuse"})
    body = {"messaging_product": "whatsapp", "to": SITI, "type": "text", "text": {"body": "Halo"}}
    status, answer = await client.graph("POST", f"{client.number}/messages", body)
    assert (status, answer["error"]["code"]) == (400, 131047)


async def test_inbound_reaches_the_app(client: Client, receiver: Receiver) -> None:
    first = await client.person_writes(BUDI, text="Apakah ready?")
    value = await receiver.wait_inbound(first)
    assert value["contacts"] == [{"profile": {"name": "Budi Santoso"}, "wa_id": BUDI}]
    assert value["metadata"]["phone_number_id"] == client.number
    assert value["messages"][0]["text"] == {"body": "Apakah ready?"}

    answer = await client.send(BUDI, "text", {"body": "Ready kak"}, context={"message_id": first})
    reply = await client.person_writes(BUDI, text="Sip", reply_to=answer)
    context = (await receiver.wait_inbound(reply))["messages"][0]["context"]
    assert context == {"from": client.program.business["phone"], "id": answer}

    picture = await client.person_writes(BUDI, image={"url": "/files/promo.png"}, caption="Ini")
    image = (await receiver.wait_inbound(picture))["messages"][0]["image"]
    assert (image["caption"], image["mime_type"]) == ("Ini", "image/png")
    _, media = await client.graph("GET", image["id"])
    assert media["sha256"] == image["sha256"]
    async with client.http.get(media["url"]) as refused:
        assert refused.status == 401
    bearer = {"Authorization": f"Bearer {client.program.business['access_token']}"}
    async with client.http.get(media["url"], headers=bearer) as download:
        assert hashlib.sha256(await download.read()).hexdigest() == image["sha256"]
    assert await client.graph("DELETE", image["id"]) == (200, {"success": True})
    assert (await client.graph("GET", image["id"]))[0] == 400

    pin = await client.person_writes(BUDI, location={"latitude": -6.9, "longitude": 107.6})
    location = (await receiver.wait_inbound(pin))["messages"][0]["location"]
    assert location == {"latitude": -6.9, "longitude": 107.6}

    seen = {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": first,
        "typing_indicator": {"type": "text"},
    }
    assert await client.graph("POST", f"{client.number}/messages", seen) == (200, {"success": True})
    _, activity = await client.control("GET", f"/people/{BUDI}/activity")
    assert [one["kind"] for one in activity] == ["read", "typing"]


async def test_template_life(client: Client, receiver: Receiver) -> None:
    await client.control("POST", "/policy", {"review_seconds": 0.1})
    path = f"{client.waba}/message_templates"
    body = {"type": "BODY", "text": "Hai {{1}}, kurir kami tiba sebentar lagi.", "example": {"body_text": [["Siti"]]}}
    new = {"name": "kurir_tiba", "language": "id", "category": "UTILITY", "components": [body]}
    status, created = await client.graph("POST", path, new)
    assert (status, created["status"], created["category"]) == (200, "PENDING", "UTILITY")
    assert (await client.graph("POST", path, new))[1]["error"]["error_subcode"] == 2388024
    promo = {**new, "name": "promo_tersembunyi", "components": [{"type": "BODY", "text": "Ada diskon besar hari ini."}]}
    _, rejected = await client.graph("POST", path, promo)

    def events() -> dict[int, dict[str, Any]]:
        field = "message_template_status_update"
        return {c["value"]["message_template_id"]: c["value"] for c in receiver.changes if c["field"] == field}

    await receiver.until(lambda: len(events()) == 2)
    assert events()[int(created["id"])]["event"] == "APPROVED"
    assert (events()[int(rejected["id"])]["event"], events()[int(rejected["id"])]["reason"]) == (
        "REJECTED",
        "INCORRECT_CATEGORY",
    )

    _, listed = await client.graph("GET", path, params={"limit": 2, "fields": "name,status"})
    assert len(listed["data"]) == 2 and set(listed["data"][0]) == {"id", "name", "status"}
    after = listed["paging"]["cursors"]["after"]
    _, rest = await client.graph("GET", path, params={"limit": 100, "after": after})
    names = [template["name"] for template in (*listed["data"], *rest["data"])]
    assert names == ["hello_world", "pesanan_dikirim", "kode_verifikasi", "kurir_tiba", "promo_tersembunyi"]
    assert (await client.graph("GET", created["id"]))[1]["name"] == "kurir_tiba"
    _, approved = await client.graph("GET", path, params={"status": "APPROVED", "name": "kurir"})
    assert [template["id"] for template in approved["data"]] == [created["id"]]

    assert await client.graph("DELETE", path, params={"name": "kurir_tiba"}) == (200, {"success": True})
    assert (await client.graph("POST", path, new))[1]["error"]["error_subcode"] == 2388023
    use = {"messaging_product": "whatsapp", "to": SITI, "type": "template"}
    use["template"] = {"name": "kurir_tiba", "language": {"code": "id"}}  # pyright: ignore[reportArgumentType]
    status, answer = await client.graph("POST", f"{client.number}/messages", use)
    assert (status, answer["error"]["code"]) == (404, 132001)


async def test_template_sample_upload(client: Client) -> None:
    async with client.http.get(client.program.facts["url"] + "/files/promo.png") as answer:
        picture = await answer.read()
    query = {"file_name": "promo.png", "file_length": len(picture), "file_type": "image/png"}
    _, upload = await client.graph("POST", f"{client.program.business['app_id']}/uploads", params=query)
    headers = {"Authorization": f"OAuth {client.program.business['access_token']}", "file_offset": "0"}
    _, done = await client.graph("POST", upload["id"], data=picture, headers=headers)
    components = [
        {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": [done["h"]]}},
        {"type": "BODY", "text": "Promo akhir pekan untuk pelanggan setia."},
    ]
    new = {"name": "promo_gambar", "language": "id", "category": "MARKETING", "components": components}
    path = f"{client.waba}/message_templates"
    assert (await client.control("POST", "/policy", {"review_seconds": 0}))[0] == 200
    status, created = await client.graph("POST", path, new)
    assert (status, created["status"]) == (200, "APPROVED")
    link = {"type": "image", "image": {"link": client.program.facts["url"] + "/files/promo.png"}}
    header = {"type": "header", "parameters": [link]}
    wire_id = await client.send(
        BUDI, "template", {"name": "promo_gambar", "language": {"code": "id"}, "components": [header]}
    )
    message = await client.bubble(BUDI, wire_id)
    assert message["bubble"] == "[image]\nPromo akhir pekan untuk pelanggan setia."
    assert message["media"]["sha256"] == hashlib.sha256(picture).hexdigest()


async def test_callbacks_outlive_the_receiver_and_a_kill(client: Client, receiver: Receiver) -> None:
    program = client.program
    await client.person_writes(SITI, text="Halo")
    receiver.answers = [500, 503, 200]
    refused = await client.send(SITI, "text", {"body": "satu"})
    await receiver.wait_status(refused, "delivered")

    await receiver.close()
    lost = [await client.send(SITI, "text", {"body": f"nomor {n}"}) for n in range(5)]
    await client.bubble(SITI, lost[-1])
    url = program.facts["url"]
    await program.end(signal.SIGKILL)
    await program.start()
    assert program.facts["url"] == url
    assert program.facts["businesses"][0]["callback_url"] == receiver.url
    await receiver.open()
    for wire_id in lost:
        await receiver.wait_status(wire_id, "delivered")
        assert [status["status"] for status in receiver.statuses(wire_id)] == ["sent", "delivered"]
    order = [s["id"] for c in receiver.changes for s in c["value"].get("statuses", []) if s["status"] == "sent"]
    assert order == [refused, *lost]
    assert [m["text"] for m in await client.inbox(SITI)] == ["satu", *(f"nomor {n}" for n in range(5))]


async def test_a_kill_between_acceptance_and_phone_loses_nothing(client: Client, receiver: Receiver) -> None:
    await client.control("POST", "/policy", {"window": "off", "review_seconds": 0.5})
    link = client.program.facts["url"] + "/files/slow?seconds=1"
    accepted = await client.send(BUDI, "image", {"link": link})
    behind = await client.send(BUDI, "text", {"body": "sesudahnya"})
    body = {"type": "BODY", "text": "Terima kasih sudah berbelanja."}
    new = {"name": "terima_kasih", "language": "id", "category": "UTILITY", "components": [body]}
    _, created = await client.graph("POST", f"{client.waba}/message_templates", new)
    assert (await client.control("GET", "/ledger"))[1]["count"] == 0
    await client.program.end(signal.SIGKILL)
    await client.program.start()
    for wire_id in (accepted, behind):
        await receiver.wait_status(wire_id, "delivered")
    assert [message["wire_id"] for message in await client.inbox(BUDI)] == [accepted, behind]
    await receiver.until(lambda: [c for c in receiver.changes if c["field"] == "message_template_status_update"])
    assert (await client.graph("GET", created["id"]))[1]["status"] == "APPROVED"


async def test_stops_quickly_with_open_requests(client: Client) -> None:
    program = client.program
    polls = [asyncio.create_task(client.control("GET", f"/people/{SITI}/inbox", wait=60)) for _ in range(3)]
    await client.control("GET", "/healthz")
    started = asyncio.get_running_loop().time()
    assert await program.end() == 0
    assert asyncio.get_running_loop().time() - started < 2
    assert all(isinstance(result, Exception) for result in await asyncio.gather(*polls, return_exceptions=True))
    assert not (program.data / "sandbox.json").exists()


async def test_handshake_must_pass(client: Client, receiver: Receiver) -> None:
    receiver.verify_token = "lain"
    status, answer = await client.subscribe(receiver.url, "rahasia")
    assert (status, answer["error"]["code"]) == (400, 2200)
    await receiver.close()
    assert (await client.subscribe(receiver.url, "rahasia"))[0] == 400
    assert (await client.graph("DELETE", f"{client.waba}/subscribed_apps"))[1] == {"success": True}
    assert (await client.graph("GET", f"{client.waba}/subscribed_apps"))[1] == {"data": []}


async def test_bad_graph_requests_have_graph_errors(client: Client) -> None:
    path, good = f"{client.number}/messages", {"messaging_product": "whatsapp", "to": SITI}
    cases: list[tuple[Any, int]] = [
        ([], 100),
        ({"to": SITI}, 100),
        ({**good, "messaging_product": "sms"}, 100),
        ({"messaging_product": "whatsapp", "type": "text", "text": {"body": "a"}}, 100),
        ({**good, "to": "abc", "text": {"body": "a"}}, 131009),
        ({**good, "type": "text"}, 131008),
        ({**good, "text": {"body": ""}}, 131008),
        ({**good, "text": {"body": "a" * 4097}}, 131009),
        ({**good, "text": "a"}, 131009),
        ({**good, "type": "image", "image": {}}, 131008),
        ({**good, "type": "image", "image": {"id": "1"}}, 100),
        ({**good, "type": "image", "image": {"link": "ftp://x"}}, 131009),
        ({**good, "type": "location", "location": {"latitude": 91, "longitude": 0}}, 131009),
        ({**good, "type": "hologram", "hologram": {}}, 131009),
        ({**good, "type": "template", "template": {"name": "x"}}, 131008),
        ({**good, "type": "template", "template": {"name": "x", "language": {"code": "id"}}}, 132001),
        ({**good, "type": "template", "template": {"name": "pesanan_dikirim", "language": {"code": "id"}}}, 132000),
        ({**good, "to": client.program.business["phone"], "text": {"body": "a"}}, 131021),
        ({**good, "status": "read", "message_id": "wamid.unknown"}, 131009),
    ]
    for body, code in cases:
        status, answer = await client.graph("POST", path, body)
        assert 400 <= status < 500 and answer["error"]["code"] == code, (body, answer)
        assert answer["error"]["fbtrace_id"] and answer["error"]["message"]
    for path in ("999/messages", "999", f"{client.program.business['app_id']}/messages"):
        status, answer = await client.graph("POST", path, good)
        assert (status, answer["error"]["code"], answer["error"]["error_subcode"]) == (400, 100, 33)
    status, answer = await client.graph("GET", "nonsense/path/here")
    assert (status, answer["error"]["code"]) == (400, 2500)
    status, answer = await client.graph("GET", client.number, headers={"Authorization": "Bearer wrong"})
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (401, 190, "OAuthException")
    _, number = await client.graph("GET", client.number)
    assert number["verified_name"] == "Kurir Official"
    assert (await client.graph("GET", f"{client.waba}/phone_numbers"))[1]["data"] == [number]


HOSTILE = (
    b"",
    b"{",
    b"null",
    b'{"a":' * 5000,
    b"\xff\xfe",
    b'{"messaging_product":"whatsapp","to":"6281234567801","text":{"body":"\\ud800"}}',
    b'{"phone":null,"qr":1,"code":{},"members":[[]],"owner":"6281234567801","subject":"x","upto":1e99,"all":1}',
    b'{"to":"6281500000009","location":{"latitude":1e400,"longitude":0}}',
)
PARTS = (
    b"",
    b"--x\r\nbad header\r\n\r\nabc",
    b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Encoding: gzip\r\n\r\nabc\r\n--x--',
    b'--x\r\nContent-Disposition: form-data; name="type"\r\n\r\n\xff\r\n--x--',
)


async def test_no_input_breaks_the_sandbox(client: Client) -> None:
    url, number, waba = client.program.facts["url"], client.number, client.waba
    bearer = {"Authorization": f"Bearer {client.program.business['access_token']}"}
    graph = [f"/graph/{number}/messages", f"/graph/{waba}/message_templates", f"/graph/{waba}/subscribed_apps"]
    control = ["/people", f"/people/{SITI}/messages", f"/people/{SITI}/read", "/groups", "/policy"]
    control += ["/logins", "/faults"]
    for path in (*graph, f"/graph/{number}", *control, "/people/%ED%A0%80/read", "/devices/%00/drop"):
        for raw in HOSTILE:
            async with client.http.post(url + path, data=raw, headers=bearer) as answer:
                assert 200 <= answer.status < 500, (path, raw[:40], await answer.text())
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "multipart/mixed; boundary=x"):
        for raw in PARTS:
            headers = {**bearer, "Content-Type": kind}
            async with client.http.post(f"{url}/graph/{number}/media", data=raw, headers=headers) as answer:
                assert answer.status == 400, (kind, raw)
    assert "Traceback" not in (client.program.data / "log").read_text()


async def test_bad_control_requests_name_the_field(client: Client) -> None:
    cases: list[tuple[str, str, Any, int, str]] = [
        ("POST", "/people", [], 400, "body"),
        ("POST", "/people", {"phone": "x", "name": "A"}, 400, "phone"),
        ("POST", "/people", {"phone": "62811111"}, 400, "name"),
        ("POST", "/people", {"phone": "62811111", "name": "A", "on_whatsapp": 1}, 400, "on_whatsapp"),
        ("GET", "/people/123/inbox", None, 404, "phone"),
        ("GET", f"/people/{SITI}/inbox?after=x", None, 400, "after"),
        ("GET", f"/people/{SITI}/inbox?wait=-1", None, 400, "wait"),
        ("POST", f"/people/{SITI}/messages", {"to": "62811", "text": "a", "image": {}}, 400, "body"),
        ("POST", f"/people/{SITI}/messages", {"to": BUDI, "text": "a"}, 404, "to"),
        ("POST", f"/people/{SITI}/messages", {"to": BUDI, "image": {"data": "@"}}, 400, "image.data"),
        ("POST", f"/people/{SITI}/messages", {"group": "1", "text": "a"}, 404, "group"),
        ("POST", f"/people/{SITI}/read", {"upto": "x"}, 400, "upto"),
        ("POST", "/logins", {"reason": 401}, 400, "path"),
        ("POST", "/groups", {"subject": "G", "owner": "62800000"}, 400, "owner"),
        ("POST", "/groups/1/members", {"phone": SITI}, 404, "id"),
        ("POST", "/policy", {"window": "sometimes"}, 400, "window"),
        ("POST", "/policy", {"weather": 1}, 400, "weather"),
        ("GET", "/ledger?channel=fax", None, 400, "channel"),
        ("GET", "/media/xyz", None, 404, "sha256"),
        ("GET", "/files/nothing", None, 404, "name"),
        ("GET", "/nowhere", None, 404, "path"),
    ]
    for method, path, body, status, field in cases:
        found, answer = await client.control(method, path, body)
        assert (found, answer["error"]["field"]) == (status, field), (path, body, answer)


async def test_reset_goes_back_to_the_seed(client: Client, receiver: Receiver) -> None:
    await client.control("POST", "/policy", {"window": "off"})
    await client.control("POST", "/people", {"phone": "6281200000077", "name": "Tamu"})
    first = await client.send("6281200000077", "text", {"body": "Halo"})
    await client.bubble("6281200000077", first)
    assert await client.control("POST", "/reset", {}) == (200, {"reset": "messages"})
    assert await client.control("GET", "/ledger") == (200, {"count": 0, "duplicates": 0, "entries": []})
    second = await client.send("6281200000077", "text", {"body": "Lagi"})
    await client.bubble("6281200000077", second)
    assert await client.control("POST", "/reset", {"all": True}) == (200, {"reset": "all"})
    _, people = await client.control("GET", "/people")
    assert "6281200000077" not in {person["phone"] for person in people}
    assert [person["name"] for person in people if person["phone"] == SITI] == ["Siti Rahmawati"]
    _, businesses = await client.control("GET", "/businesses")
    assert businesses == [{**client.program.business, "callback_url": None}]
    assert (await client.graph("GET", f"{client.waba}/message_templates"))[1]["data"][0]["status"] == "APPROVED"
    assert list((client.program.data / "media").iterdir()) == []

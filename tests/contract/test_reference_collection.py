"""The compatible API against the reference collection: every saved request, sent as it was saved, gets an answer of
the sample's shape. The credentials and placeholders are filled in; comments and missing headers stay."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image as Picture
from tests.contract.samples import Sample, Saved, filled, mismatches, sample, samples
from tests.harness.gateway import Harness, open_harness

from kurir.channels.linked_device.protocol import DeviceContact, DeviceGroup, DeviceParticipant
from kurir.contacts import contacts
from kurir.messages.channel_reports import Received, Sent
from kurir.web.compat_v1.decoding import decode
from kurir.web.compat_v1.endpoint_table import ENDPOINTS

PHONE = "6281234567890"
GROUP = "120363322806000000"


@pytest.mark.parametrize("saved", [s for found in samples() for s in (found.request, found.answered)])
def test_every_saved_body_is_read_as_it_was_saved(saved: Saved) -> None:
    fields = decode(saved.raw.encode(), saved.headers.get("Content-Type", ""))
    outermost = min(re.findall(r'^( +)"', saved.raw, re.MULTILINE))
    assert list(fields) == re.findall(rf'^{outermost}"(\w+)"', saved.raw, re.MULTILINE)
    assert not any("//" in str(value).replace("https://", "") for value in fields.values())


def test_the_collection_is_whole() -> None:
    assert len(samples()) == 21
    assert {found.path for found in samples()} == {endpoint.path for endpoint in ENDPOINTS}
    assert len(ENDPOINTS) == 15


@pytest.fixture
async def files() -> AsyncIterator[TestServer]:
    """A server with a picture and a file."""
    picture = io.BytesIO()
    Picture.new("RGB", (8, 8), "teal").save(picture, "PNG")

    async def image(_: web.Request) -> web.Response:
        return web.Response(body=picture.getvalue(), content_type="image/png")

    async def file(_: web.Request) -> web.Response:
        return web.Response(body=b"%PDF-1.4\n%%EOF\n", content_type="application/pdf")

    app = web.Application()
    app.add_routes([web.get("/image.png", image), web.get("/file.pdf", file)])
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield server
    await server.close()


@pytest.fixture
async def harness(tmp_path: Path, files: TestServer) -> AsyncIterator[Harness]:
    """A gateway with something to answer: contacts, a group, an address book, an open window, a template."""
    async with open_harness(tmp_path, allowed_networks=(f"127.0.0.1:{files.port}",)) as harness:
        harness.devices.on_whatsapp = {PHONE: True}
        harness.devices.address_book = [DeviceContact("Sari", "6281111111111"), DeviceContact("Budi", "6282222222222")]
        people = [DeviceParticipant(PHONE, "Sari", "superadmin", True), DeviceParticipant("6283", "", "admin", False)]
        harness.devices.member_of = [DeviceGroup(f"{GROUP}@g.us", "Family", people)]
        harness.cloud.outcome = lambda outgoing: Sent(f"wamid.{outgoing.message_id}")
        came_in = Received(
            harness.ours.account.id,
            harness.ours.official.id,
            "wamid.in",
            PHONE,
            PHONE,
            "Sari",
            time.time(),
            "text",
            "Hi",
        )
        await harness.gateway.inbox.take([(came_in, "in")])
        yield harness


async def placeholders(harness: Harness, found: Sample, files: TestServer) -> dict[str, str]:
    """What a caller would fill in for this sample, by field name."""
    values = {
        "api_key": harness.ours.api_key,
        "secret_key": harness.ours.api_key,
        "number_id": harness.ours.device.key,
        "licenses_key": harness.ours.official.key,
        "licensesKey": harness.ours.official.key,
        "phone_no": "81234567890",
        "group_id": GROUP,
        "reciptient": PHONE,
        "image_url": str(files.make_url("/image.png")),
        "file_url": str(files.make_url("/file.pdf")),
    }
    if found.path == "get-list-audiences":
        account_id = harness.ours.account.id

        def a_list(connection) -> str:
            made = contacts.create_list(connection, account_id, "Customers", at=1.0)
            contacts.add_audience(connection, account_id, made.id, "Jono", PHONE, at=1.0)
            return made.key

        values["contact_id"] = await harness.gateway.database.write(a_list)
    if found.path == "validate_otp":
        sent = await harness.post("send_otp", json.loads(filled(sample("OTP/Send OTP").request.raw, values)))
        values["otp_code"] = sent.json()["otp_code"]
    if found.path in {"send_message_template", "get-template-list"}:
        body = "Halo kak {{1}}, pesanan dengan nomor {{2}} sudah kami kirim dan tiba pada {{3}} ya."
        variables = [{"placeholder": f"{{{{{n}}}}}", "label": f"v{n}", "example": "x"} for n in (1, 2, 3)]
        made = await harness.send(
            "create-template",
            name="order_confirmation",
            language="id",
            category="UTILITY",
            header={"type": "TEXT", "content": "Pesanan Anda"},
            body=body,
            variables=variables,
            submitToFacebook=True,
        )
        values["template"] = made.json()["fb_response"]["id"]
    return values


@pytest.mark.parametrize("found", samples(), ids=lambda found: found.name)
async def test_every_saved_request_gets_an_answer_of_the_samples_shape(
    harness: Harness, files: TestServer, found: Sample
) -> None:
    raw = filled(found.request.raw, await placeholders(harness, found, files))
    if found.path == "create-template":  # the sample is the answer to a submission (wire contract, section 2)
        raw = raw.replace('"submitToFacebook": false', '"submitToFacebook": true')
    answer = await harness.client.post(f"/public/v1/{found.path}", content=raw.encode(), headers=found.request.headers)
    assert answer.status_code == 200, answer.text
    assert mismatches(found, answer.json()) == []
    assert harness.surprises() == 0


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("General/Info", {"code": 200}, "code: expected string, got number"),
        ("General/Info", {"type": "successfully"}, "type: is not in the sample"),
        ("General/Info", {"message": "Successfully"}, "message: expected 'Successfully.'"),
        ("General/Info", {"info": {}}, "info.package: is missing"),
        ("List Contacts", {"iTotalRecords": 32}, "iTotalRecords: expected string"),
        ("List Contacts", {"draw": "0"}, "draw: expected number"),
        ("Grabbing/Contacts", {"message": "Received 3 Contacts"}, "message: expected"),
        ("Grabbing/Group", {"data": []}, "data: expected object, got array"),
        ("OTP/Send OTP", {"otp_code": "19143"}, "otp_code: '19143' is not in the sample's format"),
        ("Create Template", {"success": False}, "success: expected True"),
    ],
)
def test_the_comparison_sees_differences(name: str, change: dict[str, object], words: str) -> None:
    found = sample(name)
    assert words in " | ".join(mismatches(found, found.answer | change))


def test_a_number_may_vary_where_the_sample_has_one() -> None:
    found = sample("Grabbing/Contacts")
    answer = {"code": "200", "message": "Received (0) Contacts", "type": "successfully", "data": []}
    assert mismatches(found, answer) == []

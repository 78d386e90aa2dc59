"""The 21 saved requests of the reference collection, sent as saved, and what then is on the phones.

Only credentials, recipients and addresses are filled in; comments, missing headers and spellings stay as they are.
Each answer must have exactly the sample's keys and types, and the sample's fixed texts.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.e2e.demo_process import DemoProcess, Phone

pytestmark = pytest.mark.e2e
COLLECTION = json.loads((Path(__file__).parent.parent / "contract" / "reference_collection.json").read_bytes())

FIXED = {"code", "type", "success", "status_defined", "state", "contacts_type_defined", "review_notice_title"}
"""Keys whose sample value is the contract where the sample's value is not of one person's data."""


def saved_requests() -> dict[str, dict[str, Any]]:
    """Every saved request by its path of names."""
    found: dict[str, dict[str, Any]] = {}

    def walk(items: list[dict[str, Any]], path: str) -> None:
        for item in items:
            name = f"{path}/{item['name']}".strip("/")
            if "item" in item:
                walk(item["item"], name)
            else:
                found[name] = item

    walk(COLLECTION["item"], "")
    return found


SAVED = saved_requests()
SAMPLES = {name: json.loads(item["response"][0]["body"]) for name, item in SAVED.items()}


def one(part: str) -> str:
    (name,) = [name for name in SAVED if part in name]
    return name


class Caller:
    """Sends saved requests with the demo's values filled in."""

    def __init__(self, demo: DemoProcess, session: aiohttp.ClientSession) -> None:
        self.file = demo.file
        self.session = session
        self.files = self.file["sandbox_url"] + "/files"

    async def send(self, name: str, raw: str | None = None, **values: str) -> dict[str, Any]:
        """The answer to a saved request; `values` replace further texts in the saved body."""
        request = SAVED[name]["request"]
        body = raw or request["body"]["raw"]
        credentials = {
            '"YOUR-API-KEY"': self.file["api_key"],
            '"BALESOTOMATIS-API-KEY"': self.file["api_key"],
            '"ISI_SECRET_KEY_KAMU"': self.file["secret_key"],
            '"YOUR_SECRET"': self.file["secret_key"],
            '"YOUR-NUMBER-ID"': self.file["number_id"],
            '"ISI_LICENSES_KEY_KAMU"': self.file["licenses_key"],
            '"BALESOTOMATIS-NUMBER-WABA-KEY"': self.file["licenses_key"],
            '"WB-xxxx"': self.file["licenses_key"],
            '"YOUR-TARGET-GROUP-ID"': self.file["group_id"],
        } | {f'"{text}"': value for text, value in values.items()}
        for text, value in credentials.items():
            body = body.replace(text, json.dumps(value))
        headers = {header["key"]: header["value"] for header in request.get("header", [])}
        url = self.file["base_url"] + request["url"].split("/public/v1")[1]
        async with self.session.post(url, data=body.encode(), headers=headers) as answer:
            data = json.loads(await answer.read())
            assert answer.status == 200, data
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
            assert "no-store" in answer.headers["Cache-Control"]
            return data

    async def phone(self, index: int) -> Phone:
        phone = Phone(self.session, self.file["sandbox_url"], self.file["people"][index])
        return await phone.catch_up()

    async def hash_of(self, name: str) -> str:
        async with self.session.get(f"{self.files}/{name}") as answer:
            return hashlib.sha256(await answer.read()).hexdigest()


@pytest.fixture
def caller(demo: DemoProcess, session: aiohttp.ClientSession) -> Caller:
    return Caller(demo, session)


def assert_shaped(answer: Any, sample: Any, where: str = "answer") -> None:
    """The answer has the sample's keys in every object, its types, and its fixed texts."""
    if isinstance(sample, dict) and isinstance(answer, dict):
        if sample and next(iter(sample)).startswith("120363"):  # an object keyed by ids
            for value in answer.values():
                assert_shaped(value, next(iter(sample.values())), f"{where}.*")
            return
        assert set(answer) == set(sample), where
        for key, value in sample.items():
            assert_shaped(answer[key], value, f"{where}.{key}")
            if key in FIXED and isinstance(value, str) and where == "answer":
                assert answer[key] == value, f"{where}.{key}"
    elif isinstance(sample, list) and sample:
        assert isinstance(answer, list), where
        for item in answer:
            assert_shaped(item, sample[0], f"{where}[]")
    elif isinstance(sample, float | int) and not isinstance(sample, bool):
        assert isinstance(answer, float | int), where
    else:
        assert type(answer) is type(sample), f"{where}: {answer!r} for {sample!r}"


def test_the_collection_is_whole():
    assert len(SAVED) == 21
    assert len({item["request"]["url"] for item in SAVED.values()}) == 15


async def test_info(caller: Caller):
    name = one("General/Info")
    answer = await caller.send(name)
    assert_shaped(answer, SAMPLES[name])
    assert answer["message"] == "Successfully."
    (device,) = answer["info"]["devices"]
    assert device["number_id"] == caller.file["number_id"]
    assert device["number_whatsapp"] == caller.file["device_phone"]
    assert device["state_connection"] == "connected"


async def test_validate_number(caller: Caller):
    name = one("Validate Number")
    values = {"YOUR-TARGET-PHONE-NUMBER": caller.file["people"][0]}
    assert await caller.send(name, **values) == SAMPLES[name]
    answer = await caller.send(name, **{"YOUR-TARGET-PHONE-NUMBER": caller.file["not_on_whatsapp"][0]})
    assert answer == {"code": "200", "message": "Invalid WhatsApp Number", "type": "failed"}


async def test_list_contacts(caller: Caller):
    name = one("List Contacts")
    answer = await caller.send(name)
    assert_shaped(answer, SAMPLES[name])
    assert caller.file["contact_id"] in [row["contacts_id"] for row in answer["data"]]


async def test_list_audiences(caller: Caller):
    name = one("List Audiences")
    answer = await caller.send(name, xxxxx=caller.file["contact_id"])
    assert_shaped(answer, SAMPLES[name])
    assert answer["draw"] == 1
    assert int(answer["iTotalRecords"]) == len(caller.file["people"])


TEXT = "Hi, this is sending from BalesOtomatis.id"


async def test_personal_text(caller: Caller):
    name = one("Personal/Text Message")
    phone = await caller.phone(0)
    answer = await caller.send(name, **{"YOUR-TARGET-PHONE-NUMBER": phone.number})
    assert answer == SAMPLES[name]
    message = await phone.next()
    assert (message["kind"], message["text"]) == ("text", TEXT)
    assert (message["channel"], message["from"]) == ("linked_device", caller.file["device_phone"])


async def test_personal_image_with_caption_and_as_two_bubbles(caller: Caller):
    name = one("Personal/Image Message")
    phone = await caller.phone(1)
    picture = await caller.hash_of("promo.png")
    values = {
        "YOUR-TARGET-PHONE-NUMBER": phone.number,
        "YOUR-IMAGE-URL-CONTAINS-EXTENSION": caller.files + "/promo.png",
    }
    assert await caller.send(name, **values) == SAMPLES[name]
    message = await phone.next()
    assert (message["kind"], message["caption"], message["media"]["sha256"]) == ("image", TEXT, picture)

    raw = SAVED[name]["request"]["body"]["raw"].replace('"send_as_caption": "1"', '"send_as_caption": "0"')
    assert await caller.send(name, raw, **values) == SAMPLES[name]
    image, text = await phone.next(), await phone.next()
    assert (image["kind"], image["caption"], image["media"]["sha256"]) == ("image", "", picture)
    assert (text["kind"], text["text"]) == ("text", TEXT)


async def test_personal_file(caller: Caller):
    name = one("Personal/File Message")
    phone = await caller.phone(2)
    values = {
        "YOUR-TARGET-PHONE-NUMBER": phone.number,
        "YOUR-IMAGE-URL-CONTAINS-EXTENSION": caller.files + "/invoice.pdf",
    }
    assert await caller.send(name, **values) == SAMPLES[name]
    message = await phone.next()
    assert (message["kind"], message["caption"]) == ("document", TEXT)
    assert message["media"]["name"] == "invoice.pdf"
    assert message["media"]["mime"] == "application/pdf"
    assert message["media"]["sha256"] == await caller.hash_of("invoice.pdf")


@pytest.mark.parametrize(
    ("part", "file", "kind"),
    [
        ("Group/Text Message", "", "text"),
        ("Group/Image Message", "promo.png", "image"),
        ("Group/File Message", "invoice.pdf", "document"),
    ],
)
async def test_group(caller: Caller, part: str, file: str, kind: str):
    name = one(part)
    async with caller.session.get(caller.file["sandbox_url"] + "/groups") as answer:
        groups = await answer.json()
    (group,) = [group for group in groups if group["id"] == caller.file["group_id"]]
    members = [member["phone"] for member in group["members"] if member["phone"] != caller.file["device_phone"]]
    phones = [Phone(caller.session, caller.file["sandbox_url"], member) for member in members]
    for phone in phones:
        await phone.catch_up()
    answer = await caller.send(name, **{"YOUR-IMAGE-URL-CONTAINS-EXTENSION": f"{caller.files}/{file}"})
    assert answer == SAMPLES[name]
    assert len(phones) > 1
    for phone in phones:
        message = await phone.next()
        assert (message["kind"], message["chat"]) == (kind, caller.file["group_id"])
        assert (message["text"] or message["caption"]) == TEXT
        if file:
            assert message["media"]["sha256"] == await caller.hash_of(file)


async def test_grab_contacts(caller: Caller):
    name = one("Grabbing/Contacts")
    answer = await caller.send(name)
    assert_shaped(answer, SAMPLES[name])
    assert answer["message"] == f"Received ({len(answer['data'])}) Contacts"
    assert {row["whatsapp_number"] for row in answer["data"]} & set(caller.file["people"])


async def test_grab_groups(caller: Caller):
    name = one("Grabbing/Group")
    answer = await caller.send(name)
    assert_shaped(answer, SAMPLES[name])
    assert answer["message"] == f"Received ({len(answer['data'])}) Groups"
    group = answer["data"][caller.file["group_id"]]
    assert {person["role"] for person in group["participants"]} >= {"participant", "superadmin"}


async def test_otp_is_sent_and_good_once(caller: Caller):
    send, check = one("OTP/Send OTP"), one("OTP/Validate OTP")
    phone = await caller.phone(3)
    answer = await caller.send(send, **{"YOUR-TARGET-PHONE-NUMBER": phone.number})
    assert_shaped(answer, SAMPLES[send])
    assert answer["message"] == SAMPLES[send]["message"]
    assert len(answer["otp_code"]) == 6
    message = await phone.next()
    for part in (answer["otp_code"], "YOUR-CUSTOMER-NAME", "YOUR-SERVICE-NAME", "YOUR-COMPANY-NAME"):
        assert part in message["text"]
    assert await caller.send(check, **{"OTP-CODE-HERE": answer["otp_code"]}) == SAMPLES[check]
    body = {"api_key": caller.file["api_key"], "otp_code": answer["otp_code"]}
    async with caller.session.post(caller.file["base_url"] + "/validate_otp", json=body) as again:
        assert await again.json() == {"code": "400", "message": "OTP Code is Invalid"}


async def test_create_template_as_saved_is_a_draft_and_submitted_it_is_the_sample(caller: Caller):
    name = one("Create Template")
    saved = SAVED[name]["request"]["body"]["raw"]
    draft = await caller.send(name)
    assert draft["success"] is True
    assert "draft" in draft["message"].lower()
    assert draft["fb_response"] is None
    raw = saved.replace('"submitToFacebook": false', '"submitToFacebook": true')
    answer = await caller.send(name, raw.replace('"lokasi_toko"', '"lokasi_toko_pusat"'))
    assert_shaped(answer, SAMPLES[name])
    assert {k: v for k, v in answer.items() if k != "fb_response"} == {
        k: v for k, v in SAMPLES[name].items() if k != "fb_response"
    }
    assert answer["fb_response"]["status"] == "IN_REVIEW"
    assert answer["fb_response"]["id"].isdigit()


async def test_list_templates(caller: Caller):
    name = one("Get List Templates")
    answer = await caller.send(name)
    approved = [row for row in answer["data"] if row["template_status"] == "APPROVED"]
    assert approved
    (row,) = [row for row in approved if row["template_name"] == caller.file["template_name"]]
    assert row["templateId"] == caller.file["template_id"]
    assert set(row) == set(SAMPLES[name]["data"][0])
    assert isinstance(answer["TotalRecords"], int)
    assert {k: answer[k] for k in ("code", "message", "type")} == {
        "code": "200",
        "message": "Successfully",
        "type": "successfully",
    }


async def test_send_template_in_both_shapes(caller: Caller):
    name = one("Templates/Send Template")
    phone = await caller.phone(4)
    values = {"6281234567890": phone.number, "TEMPLATE_ID_KAMU": caller.file["template_id"]}
    answer = await caller.send(name, **values)
    assert_shaped(answer, SAMPLES[name])
    assert (answer["message"], answer["template"]) == ("queued", caller.file["template_name"])
    message = await phone.next()
    assert (message["kind"], message["channel"]) == ("template", "cloud_api")
    assert message["template"]["parameters"] == ["Isi Var 1", "Isi Var 2", "Isi Var 3"]
    assert "Isi Var 2" in message["bubble"]

    by_name = SAVED[name]["response"][0]["originalRequest"]["body"]["raw"].replace(
        '{ "type": "text", "text": "Parameter 2" }',
        '{ "type": "text", "text": "Parameter 2" }, { "type": "text", "text": "Parameter 3" }',
    )
    values = {"62xxxxxxx": phone.number, "nama_template_meta": caller.file["template_name"]}
    answer = await caller.send(name, by_name, **values)
    assert_shaped(answer, SAMPLES[name])
    message = await phone.next()
    assert message["template"]["parameters"] == ["Parameter 1", "Parameter 2", "Parameter 3"]


@pytest.mark.parametrize("kind", ["Text Only", "Image", "Document", "Location"])
async def test_conversation_inside_the_window(caller: Caller, kind: str):
    name = one(f"Conversations/Send {kind}")
    phone = await caller.phone(5)
    values = {
        "62xxxxxxx": phone.number,
        "https://domain-kamu.com/image.jpg": caller.files + "/promo.png",
        "https://domain-kamu.com/file.pdf": caller.files + "/invoice.pdf",
    }
    answer = await caller.send(name, **values)
    assert_shaped(answer, SAMPLES[name])
    sample = SAMPLES[name]["message"]
    assert answer["message"]["message_id"].startswith("wamid.")
    assert answer["message"]["to"] == phone.number
    assert {answer["message"][key] for key in ("state", "type")} == {sample["state"], sample["type"]}
    message = await phone.next()
    assert (message["channel"], message["from"]) == ("cloud_api", caller.file["waba_phone"])
    match kind:
        case "Text Only":
            assert answer["message"]["detail"] == sample["detail"]
            assert message["text"] == "Halo, ini pesan dari API."
        case "Image":
            assert message["caption"] == answer["message"]["caption"] == "Ini caption gambar."
            assert message["media"]["sha256"] == await caller.hash_of("promo.png")
        case "Document":
            assert message["media"]["name"] == answer["message"]["fileName"] == "invoice.pdf"
            assert message["media"]["sha256"] == await caller.hash_of("invoice.pdf")
        case "Location":
            place = message["location"]
            assert (place["latitude"], place["longitude"]) == (-6.222222, 103.222222)
            assert place["name"] == answer["message"]["nameLocation"] == "Jakarta Pusat"

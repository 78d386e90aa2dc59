"""The bodies, byte for byte."""

from __future__ import annotations

import json

import pytest

from kurir.events import bodies as events
from kurir.events.bodies import encode
from kurir.messages.channel_reports import IncomingMedia, Received
from kurir.messages.content import Document, Image, Location, TemplateUse, Text

KEYS = [
    "chat_id", "message_id", "id", "name", "profile_picture", "timestamp", "message_body", "message_ack", "has_media",
    "media_mime", "media_name", "location_attached", "is_forwading", "is_from_me",
]  # fmt: skip
"""Section 3 of the wire contract, in its order."""


def came_in(**changes) -> Received:
    values = {
        "account_id": 1,
        "number_id": 2,
        "remote_id": "3EB0A1",
        "chat": "6281234567801",
        "sender": "6281234567801",
        "sender_name": "Siti 👩",
        "at": 1_800_000_000.75,
        "kind": "text",
        "text": "Halo",
    }
    return Received(**{**values, **changes})


def wire(body: events.Body) -> dict:
    return json.loads(encode(body))


def test_a_text_in_full() -> None:
    assert (
        encode(events.received(came_in()))
        == (
            '{"type":"incoming_chat","data":{"chat_id":"6281234567801@c.us","message_id":"3EB0A1","id":"3EB0A1",'
            '"name":"Siti 👩","profile_picture":"","timestamp":1800000000,"message_body":"Halo","message_ack":"SENT",'
            '"has_media":false,"media_mime":"","media_name":"","location_attached":null,"is_forwading":false,'
            '"is_from_me":false}}'
        ).encode()
    )


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"remote_id": "wamid.HBgN"}, {"message_id": "wamid.HBgN", "id": "wamid.HBgN"}),
        ({"chat": "120363000000000001@g.us"}, {"chat_id": "120363000000000001@g.us"}),
        ({"chat": "123456789@lid"}, {"chat_id": "123456789@lid"}),
        (
            {"kind": "image", "text": "", "media": IncomingMedia("image/jpeg", path="/x/y.jpg", size=3)},
            {"message_body": "", "has_media": True, "media_mime": "image/jpeg", "media_name": ""},
        ),
        (
            {"kind": "document", "text": "Ini", "media": IncomingMedia("application/pdf", "a b.pdf", remote_id="9")},
            {"message_body": "Ini", "has_media": True, "media_mime": "application/pdf", "media_name": "a b.pdf"},
        ),
        (
            {"kind": "location", "text": "Monas", "location": (-6.175392, 106.827153)},
            {"message_body": "Monas", "location_attached": {"lat": -6.175392, "lng": 106.827153}},
        ),
        ({"kind": "location", "text": "", "location": (0.0, 0.0)}, {"location_attached": {"lat": 0.0, "lng": 0.0},
                                                                     "message_body": ""}),
        ({"kind": "sticker", "text": "", "media": IncomingMedia("image/webp")},
         {"message_body": "", "has_media": True, "media_mime": "image/webp"}),
        ({"kind": "reaction", "text": "👍"}, {"message_body": "👍"}),
        ({"forwarded": True}, {"is_forwading": True}),
        ({"from_me": True, "sender": "62811", "sender_name": ""}, {"is_from_me": True, "name": ""}),
    ],
)  # fmt: skip
def test_every_kind_has_every_key(changes: dict, reported: dict) -> None:
    plain = wire(events.received(came_in()))
    found = wire(events.received(came_in(**changes)))
    assert list(found["data"]) == KEYS
    assert found == {"type": "incoming_chat", "data": plain["data"] | reported}


@pytest.mark.parametrize(
    ("content", "file", "reported"),
    [
        (Text("Pesanan siap"), ("", ""), {"message_body": "Pesanan siap"}),
        (
            Image("https://example.com/x", "Katalog"),
            ("image/png", "x.png"),
            {"message_body": "Katalog", "has_media": True, "media_mime": "image/png", "media_name": "x.png"},
        ),
        (
            Document("https://example.com/x", "k.pdf", "Kontrak"),
            ("application/pdf", "k.pdf"),
            {"message_body": "Kontrak", "has_media": True, "media_mime": "application/pdf", "media_name": "k.pdf"},
        ),
        (
            Location(-6.1, 106.8, "", "Jakarta"),
            ("", ""),
            {"message_body": "Jakarta", "location_attached": {"lat": -6.1, "lng": 106.8}},
        ),
        (TemplateUse("greeting", "id"), ("", ""), {}),
        (None, ("", ""), {}),
    ],
)
def test_the_devices_own_messages(content, file: tuple[str, str], reported: dict) -> None:
    plain = wire(events.received(came_in(from_me=True, sender_name="", text="")))
    made = events.own("6281234567801", "3EB0A1", content, at=1_800_000_000.5, mime=file[0], name=file[1])
    assert wire(made) == {"type": "incoming_chat", "data": plain["data"] | reported}


def test_the_other_types() -> None:
    status = events.MessageStatus(
        message_id="msg_1",
        remote_id="wamid.1",
        number_id="WB-1",
        chat_id="62811@c.us",
        status="failed",
        error_code="131026",
        error_reason="Message undeliverable",
        reason_code="meta_gave_no_reason",
        timestamp=5,
    )
    assert wire(status) == {
        "type": "message_status",
        "data": {
            "message_id": "msg_1",
            "remote_id": "wamid.1",
            "number_id": "WB-1",
            "chat_id": "62811@c.us",
            "status": "failed",
            "error_code": "131026",
            "error_reason": "Message undeliverable",
            "reason_code": "meta_gave_no_reason",
            "timestamp": 5,
        },
    }
    device = events.DeviceStatus(
        number_id="BO-1",
        phone="62811",
        name="shop",
        state="logged_out",
        reason="by the phone",
        reason_code="removed_by_phone",
        timestamp=5,
    )
    assert wire(device) == {
        "type": "device_status",
        "data": {
            "number_id": "BO-1",
            "phone": "62811",
            "name": "shop",
            "state": "logged_out",
            "reason": "by the phone",
            "reason_code": "removed_by_phone",
            "timestamp": 5,
        },
    }
    template = events.TemplateStatus(
        template_id="abc",
        templateId="123",
        number_id="WB-1",
        name="greeting",
        language="id",
        status="REJECTED",
        reason="TAG_CONTENT_MISMATCH",
        timestamp=5,
    )
    assert wire(template) == {
        "type": "template_status",
        "data": {
            "template_id": "abc",
            "templateId": "123",
            "number_id": "WB-1",
            "name": "greeting",
            "language": "id",
            "status": "REJECTED",
            "reason": "TAG_CONTENT_MISMATCH",
            "timestamp": 5,
        },
    }
    assert wire(events.Test(message="x", timestamp=5)) == {"type": "test", "data": {"message": "x", "timestamp": 5}}

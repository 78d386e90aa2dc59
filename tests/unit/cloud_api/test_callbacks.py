"""Callbacks: what Meta's bodies mean, whose signature counts, and that nothing odd raises."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pywa.utils import webhook_updates_validator
from tests.harness.properties import examples

from kurir.channels.cloud_api.callbacks import Reading, changes_of, read, signed_by
from kurir.messages.channel_reports import IncomingMedia, Received, StatusChanged, TemplateReviewed
from kurir.numbers.numbers import Number
from kurir.reasons import NOTHING

NOW = 1_800_000_000.0
NUMBER = Number(
    id=7,
    account_id=3,
    key="WB-x",
    channel="cloud_api",
    phone="6281100000001",
    name="Toko",
    state="connected",
    state_reason=NOTHING,
    last_connected_at=None,
    jid="",
    phone_number_id="111",
    waba_id="222",
    app_id="333",
    created_at=0.0,
)


def body(field: str, *values: dict[str, Any]) -> bytes:
    changes = [{"field": field, "value": value} for value in values]
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "222", "time": 5, "changes": changes}]}
    ).encode()


def messages_value(**more: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": "6281100000001", "phone_number_id": "111"}
    return {"messaging_product": "whatsapp", "metadata": metadata, **more}


def reading(raw: bytes) -> Reading:
    changes = changes_of(raw)
    assert changes is not None
    return read(changes, lambda _: [NUMBER], NOW)


def one(raw: bytes) -> tuple[Any, str]:
    [found] = reading(raw).events
    return found.event, found.fingerprint


def incoming(kind: str, part: Any, **more: Any) -> Received:
    message = {"from": "628555", "id": "wamid.in", "timestamp": "1799999999", "type": kind, kind: part, **more}
    contacts = [{"profile": {"name": "Sari"}, "wa_id": "628555"}]
    event, fingerprint = one(body("messages", messages_value(contacts=contacts, messages=[message])))
    assert fingerprint == "message:wamid.in"
    assert isinstance(event, Received)
    return event


@pytest.mark.parametrize("word", ["sent", "delivered", "read", "failed"])
def test_statuses(word: str) -> None:
    status = {
        "id": "wamid.out",
        "status": word,
        "timestamp": "1799999000",
        "recipient_id": "628555",
        "biz_opaque_callback_data": "4611686018427387905",
    }
    event, fingerprint = one(body("messages", messages_value(statuses=[status])))
    assert event == StatusChanged(
        account_id=3,
        number_id=7,
        remote_id="wamid.out",
        status=word,  # type: ignore[arg-type]
        at=1_799_999_000.0,
        message_id=4_611_686_018_427_387_905,
        person="628555",
    )
    assert fingerprint == f"status:wamid.out:{word}"


def test_a_failed_status_has_code_and_reason() -> None:
    failure = {"code": 131026, "title": "Message undeliverable", "error_data": {"details": "not on WhatsApp"}}
    status = {"id": "w", "status": "failed", "timestamp": "1", "recipient_id": "628", "errors": [failure]}
    event, _ = one(body("messages", messages_value(statuses=[status])))
    assert (event.code, event.reason) == ("131026", "Message undeliverable: not on WhatsApp")


@pytest.mark.parametrize("data", ["", "abc", "-5", "0", "9" * 30, 1.5, None, {"a": 1}, str(1 << 63)])
def test_foreign_callback_data_is_no_message_id(data: object) -> None:
    status = {"id": "w", "status": "sent", "timestamp": "1", "biz_opaque_callback_data": data}
    event, _ = one(body("messages", messages_value(statuses=[status])))
    assert event.message_id is None


def test_texts() -> None:
    event = incoming("text", {"body": "Halo"}, context={"forwarded": True})
    assert (event.kind, event.text, event.sender_name, event.chat) == ("text", "Halo", "Sari", "628555")
    assert event.forwarded
    assert not event.from_me
    assert event.at == 1_799_999_999.0


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
def test_media(kind: str) -> None:
    part = {"id": "998", "mime_type": "image/png; codecs=x", "sha256": "s", "caption": "lihat", "filename": "a.png"}
    event = incoming(kind, part)
    assert (event.kind, event.text) == (kind, "lihat")
    assert event.media == IncomingMedia(mime="image/png", name="a.png", remote_id="998")


def test_places() -> None:
    event = incoming("location", {"latitude": -6.2, "longitude": "106.8", "name": "Monas"})
    assert (event.location, event.text) == ((-6.2, 106.8), "Monas")
    assert incoming("location", {"latitude": "nan", "longitude": 1}).location is None


def test_button_replies_are_texts() -> None:
    assert incoming("button", {"payload": "p", "text": "Ya"}).text == "Ya"
    reply = incoming("interactive", {"type": "button_reply", "button_reply": {"id": "1", "title": "Setuju"}})
    assert (reply.kind, reply.text) == ("text", "Setuju")
    assert incoming("reaction", {"message_id": "wamid.out", "emoji": "👍"}).text == "👍"


def test_unknown_kinds_still_arrive() -> None:
    event = incoming("unsupported", None, errors=[{"code": 131051}])
    assert (event.kind, event.text) == ("unsupported", "")


def test_the_phone_s_own_messages_are_from_me() -> None:
    echo = {
        "from": "6281100000001",
        "to": "628555",
        "id": "w1",
        "timestamp": "9",
        "type": "text",
        "text": {"body": "x"},
    }
    event, _ = one(body("smb_message_echoes", messages_value(message_echoes=[echo])))
    assert (event.from_me, event.chat, event.sender) == (True, "628555", "6281100000001")


def test_template_reviews() -> None:
    value = {
        "event": "REJECTED",
        "message_template_id": 594425479261596,
        "message_template_name": "promo",
        "message_template_language": "id",
        "reason": "INCORRECT_CATEGORY",
    }
    event, fingerprint = one(body("message_template_status_update", value))
    assert event == TemplateReviewed(3, 7, "594425479261596", "REJECTED", "INCORRECT_CATEGORY")
    assert fingerprint == "template:594425479261596:REJECTED:5"
    again, _ = one(body("message_template_status_update", {**value, "event": "PENDING", "reason": "NONE"}))
    assert (again.status, again.reason) == ("IN_REVIEW", "")


def test_several_changes_and_entries_in_one_post() -> None:
    status = {"id": "a", "status": "sent", "timestamp": "1"}
    entry = json.loads(body("messages", messages_value(statuses=[status]), messages_value(statuses=[status])))["entry"]
    found = reading(json.dumps({"entry": [*entry, *entry]}).encode())
    assert len(found.events) == 4
    assert found.unread == []


def test_what_is_not_understood_is_named() -> None:
    assert reading(body("account_update", {"event": "X"})).unread == ["account_update"]
    strange = messages_value(statuses=[{"id": "a", "status": "warning"}, {"status": "sent"}], messages=[{"id": "b"}])
    assert reading(body("messages", strange)) == Reading([], ["status_warning", "status_sent", "message_other"], [])


def test_changes_without_an_owner_are_counted() -> None:
    changes = changes_of(body("messages", messages_value()))
    assert changes is not None
    assert changes[0].phone_number_id == "111"
    assert read(changes, lambda _: [], NOW) == Reading([], ["number"], [])


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 200_000, b'{"a":' * 50_000])
def test_no_object_no_changes(raw: bytes) -> None:
    assert changes_of(raw) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["id", "from", "status", "statuses", "messages", "type", "text", "image", "errors", "timestamp", "contacts"]


@settings(max_examples=examples(60))
@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), max_size=3) | JSON,
        max_size=4,
    )
)
def test_no_shape_of_value_raises(value: dict[str, Any]) -> None:
    for field in ("messages", "smb_message_echoes", "message_template_status_update", "x"):
        raw = msgspec.json.encode({"entry": [{"id": "222", "changes": [{"field": field, "value": value}]}]})
        for found in reading(raw).events:
            assert found.fingerprint


@given(JSON)
def test_no_envelope_raises(envelope: Any) -> None:
    raw = msgspec.json.encode({"entry": envelope})
    assert reading(raw).events == []


def sign(secret: str, raw: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


def test_signatures_agree_with_pywa() -> None:
    raw = body("messages", messages_value(messages=[{"text": {"body": "é 👍 \\u00e9"}}]))
    signature = sign("rahasia", raw)
    assert signed_by("rahasia", raw, signature)
    assert webhook_updates_validator("rahasia", raw, signature)
    assert not signed_by("other", raw, signature)
    assert not signed_by("", raw, sign("", raw))


def test_ten_thousand_mutations_none_accepted() -> None:
    rng = random.Random(20260101)
    raw = body("messages", messages_value(statuses=[{"id": "a", "status": "read", "timestamp": "1"}]))
    signature = sign("rahasia", raw)
    accepted = 0
    for _ in range(10_000):
        changed_body, changed_signature = bytearray(raw), bytearray(signature.encode())
        target = changed_body if rng.random() < 0.5 else changed_signature
        match rng.randrange(3):
            case 0:
                target[rng.randrange(len(target))] ^= 1 << rng.randrange(7)
            case 1:
                del target[rng.randrange(len(target))]
            case _:
                target.insert(rng.randrange(len(target)), rng.randrange(1, 127))
        same = bytes(changed_body) == raw and bytes(changed_signature) == signature.encode()
        accepted += not same and signed_by("rahasia", bytes(changed_body), changed_signature.decode("latin-1"))
    assert accepted == 0
    assert signed_by("rahasia", raw, signature)

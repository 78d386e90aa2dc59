"""Error bodies, the window, prices, signatures, notices, and reading send requests."""

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.properties import examples

from kurir_sandbox.graph_api import notices
from kurir_sandbox.graph_api.callbacks import envelope, sign
from kurir_sandbox.graph_api.errors import (
    GraphError,
    invalid,
    invalid_token,
    missing,
    status_error,
    template_refused,
    unknown_object,
)
from kurir_sandbox.graph_api.outgoing import outgoing, require_product, seen, template_named
from kurir_sandbox.policy import CUSTOMER_SERVICE_WINDOW, Price, price, window_open
from kurir_sandbox.traffic import Content, Media, Place
from kurir_sandbox.world import Business

SITI = "6281234567801"
BUSINESS = Business("62815", "Kurir", "10", "20", "30", "rahasia", "t", "v", None)


@pytest.mark.parametrize(
    ("error", "status", "wanted"),
    [
        (
            invalid("text.body", "is wrong"),
            400,
            {
                "message": "(#131009) Parameter value is not valid",
                "type": "OAuthException",
                "code": 131009,
                "error_data": {"messaging_product": "whatsapp", "details": "Parameter 'text.body' is wrong"},
            },
        ),
        (
            missing("text.body"),
            400,
            {
                "message": "(#131008) Required parameter is missing",
                "type": "OAuthException",
                "code": 131008,
                "error_data": {
                    "messaging_product": "whatsapp",
                    "details": "Parameter 'text.body' is mandatory",
                },
            },
        ),
        (
            invalid_token("Cannot parse access token"),
            401,
            {
                "message": "Invalid OAuth access token - Cannot parse access token",
                "type": "OAuthException",
                "code": 190,
            },
        ),
        (
            template_refused(2388024, "Title", "Why"),
            400,
            {
                "message": "Invalid parameter",
                "type": "OAuthException",
                "code": 100,
                "error_subcode": 2388024,
                "is_transient": False,
                "error_user_title": "Title",
                "error_user_msg": "Why",
            },
        ),
    ],
)
def test_error_body(error: GraphError, status: int, wanted: dict[str, Any]) -> None:
    body = error.body["error"]
    assert len(body.pop("fbtrace_id")) == 23
    assert (error.status, body) == (status, wanted)


def test_unknown_object_names_it() -> None:
    body = unknown_object("42", "GET").body["error"]
    assert (body["type"], body["code"], body["error_subcode"]) == ("GraphMethodException", 100, 33)
    assert body["message"].startswith("Unsupported get request. Object with ID '42' does not exist")


@pytest.mark.parametrize(("code", "status"), [(10, 403), (200, 403), (299, 403), (300, 400), (2, 503), (132001, 404)])
def test_http_status_by_code(code: int, status: int) -> None:
    assert GraphError(code).status == status


def test_failed_status_contains_the_error() -> None:
    failure = notices.failed(notices.status("wamid.1", "sent", SITI, 7.9, "p"), 131026, "Message Undeliverable.")
    assert failure["status"] == "failed" and failure["timestamp"] == "7"
    assert failure["biz_opaque_callback_data"] == "p"
    assert failure["errors"] == [status_error(131026, "Message Undeliverable.")]
    assert failure["errors"][0]["title"] == "Message undeliverable"


def test_window_is_open_for_a_day() -> None:
    assert not window_open(None, 1e9)
    assert window_open(1e9, 1e9)
    assert window_open(1e9, 1e9 + CUSTOMER_SERVICE_WINDOW - 1)
    assert not window_open(1e9, 1e9 + CUSTOMER_SERVICE_WINDOW)


@pytest.mark.parametrize(
    ("category", "open_window", "wanted"),
    [
        (None, True, Price(False, "service", "free_customer_service")),
        ("utility", True, Price(False, "utility", "free_customer_service")),
        ("utility", False, Price(True, "utility", "regular")),
        ("marketing", True, Price(True, "marketing", "regular")),
        ("authentication", True, Price(True, "authentication", "regular")),
    ],
)
def test_price(category: str | None, open_window: bool, wanted: Price) -> None:
    assert price(category, open_window) == wanted


def test_signature_is_over_the_raw_bytes() -> None:
    raw = '{"a":"é"}'.encode()
    assert sign("rahasia", raw) == "sha256=" + hmac.new(b"rahasia", raw, hashlib.sha256).hexdigest()
    assert sign("rahasia", raw) != sign("rahasia", raw + b" ")
    assert envelope("20", "messages", {}, 5.5)["entry"] == [
        {"id": "20", "time": 5, "changes": [{"value": {}, "field": "messages"}]}
    ]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (Content("text", text="Halo"), {"type": "text", "text": {"body": "Halo"}}),
        (
            Content("document", caption="INV", media=Media("application/pdf", "a.pdf", b"")),
            {"type": "document", "document": {"caption": "INV", "filename": "a.pdf", "id": "7"}},
        ),
        (
            Content("image", media=Media("image/png", "", b"")),
            {"type": "image", "image": {"id": "7"}},
        ),
        (
            Content("location", place=Place(0.0, 106.8, "Monas")),
            {"type": "location", "location": {"latitude": 0.0, "longitude": 106.8, "name": "Monas"}},
        ),
        (
            Content("reaction", text="👍"),
            {"type": "reaction", "reaction": {"message_id": "wamid.0", "emoji": "👍"}},
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Content) else "",
)
def test_inbound_message(content: Content, wanted: dict[str, Any]) -> None:
    context = {"from": "62815", "id": "wamid.0"}
    message = notices.inbound(SITI, "wamid.1", 9.0, content, media={"id": "7"}, context=context)
    head = {"context": context, "from": SITI, "id": "wamid.1", "timestamp": "9"}
    assert message == head | wanted


def test_unknown_kind_is_inbound_as_unsupported() -> None:
    message = notices.inbound(SITI, "wamid.1", 9.0, Content("poll"))
    assert (message["type"], message["errors"][0]["code"]) == ("unsupported", 131051)


def test_number_is_read_in_any_notation() -> None:
    wanted = outgoing({"to": "+62 812-3456-7801", "text": {"body": "a"}, "biz_opaque_callback_data": "7"})
    assert (wanted.to, wanted.given_to, wanted.opaque) == (SITI, "+62 812-3456-7801", "7")
    assert outgoing({"to": 6281234567801, "text": {"body": "a"}}).to == SITI


def test_media_comes_from_id_or_link() -> None:
    wanted = outgoing({"to": SITI, "type": "document", "document": {"id": "7", "filename": "a.pdf", "caption": "c"}})
    assert wanted.source and (wanted.source.id, wanted.source.link, wanted.source.filename) == ("7", "", "a.pdf")
    assert (wanted.content.kind, wanted.content.caption) == ("document", "c")
    both = {"to": SITI, "type": "image", "image": {"id": "7", "link": "https://a.id/b"}}
    with pytest.raises(GraphError) as refusal:
        outgoing(both)
    assert refusal.value.code == 131008


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"to": "٦٢٨١٢٣٤٥٦", "text": {"body": "a"}}, "to"),
        ({"to": SITI, "recipient_type": "crowd", "text": {"body": "a"}}, "recipient_type"),
        ({"to": SITI, "text": {"body": True}}, "text.body"),
        ({"to": SITI, "type": "location", "location": {"latitude": True, "longitude": 1}}, "location.latitude"),
        ({"to": SITI, "type": "location", "location": {"latitude": 1}}, "location.longitude"),
        ({"to": SITI, "type": "image", "image": {"link": "https://a.id", "caption": "a" * 1025}}, "image.caption"),
        ({"to": SITI, "type": "audio", "audio": {"link": "https://a.id", "caption": "a"}}, "audio.caption"),
        ({"to": SITI, "type": "reaction", "reaction": {"message_id": "x"}}, "reaction.emoji"),
        ({"to": SITI, "type": "contacts", "contacts": [1]}, "contacts"),
        ({"to": SITI, "text": {"body": "a"}, "context": []}, "context"),
        ({"to": SITI, "text": {"body": "a"}, "biz_opaque_callback_data": "a" * 513}, "biz_opaque_callback_data"),
    ],
)
def test_refusal_names_the_parameter(body: dict[str, Any], named: str) -> None:
    with pytest.raises(GraphError) as refusal:
        outgoing(body)
    assert f"'{named}'" in refusal.value.details


KEYS = st.sampled_from(
    [
        "messaging_product",
        "to",
        "type",
        "text",
        "body",
        "image",
        "id",
        "link",
        "caption",
        "location",
        "latitude",
        "longitude",
        "template",
        "name",
        "language",
        "code",
        "components",
        "status",
        "message_id",
        "typing_indicator",
        "reaction",
        "contacts",
        "formatted_name",
        "interactive",
        "context",
    ]
)
WORDS = st.sampled_from(["whatsapp", SITI, "text", "image", "location", "contacts", "interactive", "reaction", "read"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


@given(st.dictionaries(KEYS, VALUES, max_size=8))
@settings(max_examples=examples(150), deadline=None)
def test_any_request_is_read_or_refused(body: dict[str, Any]) -> None:
    for read in (require_product, template_named, lambda given: seen({"status": "read", **given}), outgoing):
        if read is outgoing and body.get("type") == "template":
            continue  # the caller looks the template up first
        try:
            read(body)
        except GraphError as refusal:
            assert 400 <= refusal.status < 500

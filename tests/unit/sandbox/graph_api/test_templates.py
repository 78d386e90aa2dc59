"""Creating templates: one row per rule; and what a send fills in."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.properties import examples

from kurir_sandbox.graph_api.bubbles import fill
from kurir_sandbox.graph_api.errors import GraphError
from kurir_sandbox.graph_api.template_book import decide
from kurir_sandbox.graph_api.templates import NewTemplate, checked

HEADER, BODY, FOOTER, LONG, CROWDED, EDGE = 2388047, 2388072, 2388073, 2388040, 2388293, 2388299

Json = dict[str, Any]


def body(text: str = "Halo kak, pesanan siap diambil.", *samples: str) -> Json:
    example = {"example": {"body_text": [list(samples)]}} if samples else {}
    return {"type": "BODY", "text": text, **example}


def header(**fields: Any) -> Json:
    return {"type": "HEADER", **fields}


def buttons(*items: Json) -> list[Json]:
    return [body(), {"type": "BUTTONS", "buttons": list(items)}]


def reply(text: str = "Ya") -> Json:
    return {"type": "QUICK_REPLY", "text": text}


def url(address: str = "https://toko.id", **more: Any) -> Json:
    return {"type": "URL", "text": "Buka", "url": address, **more}


OTP = {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE"}]}


def request(*components: Json, **changes: Any) -> Json:
    return {
        "name": "pesanan_siap",
        "language": "id",
        "category": "UTILITY",
        "components": list(components) or [body()],
        **changes,
    }


ACCEPTED = {
    "plain": request(),
    "variables with words": request(body("Halo {{1}}, pesanan {{2}} siap diambil hari ini.", "Siti", "7")),
    "named": request(
        {
            "type": "BODY",
            "text": "Halo {{nama}}, pesanan siap diambil.",
            "example": {"body_text_named_params": [{"param_name": "nama", "example": "Siti"}]},
        },
        parameter_format="NAMED",
    ),
    "header variable": request(header(format="TEXT", text="Untuk {{1}}", example={"header_text": ["Siti"]}), body()),
    "location header": request(header(format="location"), body()),
    "footer": request(body(), {"type": "FOOTER", "text": "Toko Kurir"}),
    "ten replies": request(*buttons(*[reply(str(n)) for n in range(10)])),
    "replies then links": request(
        *buttons(reply(), reply(), url(), url("https://a.id/{{1}}", example=["https://a.id/1"]))
    ),
    "copy code": request(*buttons({"type": "COPY_CODE", "example": "HEMAT20"})),
    "authentication": request({"type": "BODY", "add_security_recommendation": True}, OTP, category="AUTHENTICATION"),
    "marketing life": request(category="MARKETING", message_send_ttl_seconds=43200),
    "lower case category": request(category="marketing"),
}

REFUSED: dict[str, tuple[Json, int | None]] = {
    "no name": (request(name=""), None),
    "capitals in name": (request(name="Pesanan"), None),
    "long name": (request(name="a" * 513), None),
    "number as name": (request(name=7), None),
    "unknown language": (request(language="xx"), None),
    "unknown category": (request(category="SPAM"), None),
    "utility life too long": (request(message_send_ttl_seconds=43201), None),
    "no body": (request({"type": "FOOTER", "text": "Toko"}), BODY),
    "components no list": (request(components={"type": "BODY"}), None),
    "component no object": (request(components=["BODY"]), None),
    "unknown component": (request(body(), {"type": "SIDEBAR"}), None),
    "two bodies": (request(body(), body()), None),
    "empty body": (request(body(" ")), BODY),
    "long body": (request(body("a" * 1025)), LONG),
    "gap in numbers": (request(body("Halo {{1}}, pesanan {{3}} siap diambil hari ini.", "a", "b")), BODY),
    "names in positional": (request(body("Halo {{nama}}, pesanan siap diambil.", "a")), BODY),
    "capital names": (request(body("Halo {{Nama}}, pesanan siap.", "a"), parameter_format="NAMED"), BODY),
    "variable first": (request(body("{{1}} halo kak pesanan siap.", "a")), EDGE),
    "variable last": (request(body("Halo kak pesanan siap {{1}}", "a")), EDGE),
    "variable last before a dot": (request(body("Halo kak pesanan siap {{1}}.", "a")), EDGE),
    "side by side": (request(body("Halo kak {{1}} {{2}} pesanan siap diambil ya.", "a", "b")), BODY),
    "too few words": (request(body("Halo {{1}} kak", "a")), CROWDED),
    "no sample": (request(body("Halo {{1}}, pesanan siap diambil.")), BODY),
    "long header": (request(header(format="TEXT", text="a" * 61), body()), LONG),
    "two header variables": (
        request(header(format="TEXT", text="{{1}} dan {{2}}", example={"header_text": ["a", "b"]}), body()),
        HEADER,
    ),
    "header sample missing": (request(header(format="TEXT", text="Untuk {{1}}"), body()), HEADER),
    "header line break": (request(header(format="TEXT", text="a\nb"), body()), HEADER),
    "picture without handle": (request(header(format="IMAGE"), body()), HEADER),
    "picture with odd example": (request(header(format="IMAGE", example=["h"]), body()), HEADER),
    "gif in utility": (request(header(format="GIF", example={"header_handle": ["h"]}), body()), HEADER),
    "unknown header": (request(header(format="HOLOGRAM"), body()), HEADER),
    "long footer": (request(body(), {"type": "FOOTER", "text": "a" * 61}), LONG),
    "footer variable": (request(body(), {"type": "FOOTER", "text": "Untuk {{1}}"}), FOOTER),
    "eleven buttons": (request(*buttons(*[reply(str(n)) for n in range(11)])), None),
    "no buttons": (request(*buttons()), None),
    "long button": (request(*buttons(reply("a" * 26))), None),
    "three links": (request(*buttons(url(), url(), url())), None),
    "interleaved": (request(*buttons(reply(), url(), reply())), None),
    "link variable inside": (request(*buttons(url("https://a.id/{{1}}/b", example=["x"]))), None),
    "link without sample": (request(*buttons(url("https://a.id/{{1}}"))), None),
    "link no address": (request(*buttons(url("toko"))), None),
    "two phones": (request(*buttons(*[{"type": "PHONE_NUMBER", "text": "T", "phone_number": "62811"}] * 2)), None),
    "long code": (request(*buttons({"type": "COPY_CODE", "example": "A" * 16})), None),
    "authentication with text": (request(body(), OTP, category="AUTHENTICATION"), BODY),
    "authentication with header": (
        request({"type": "BODY"}, header(format="TEXT", text="A"), OTP, category="AUTHENTICATION"),
        HEADER,
    ),
    "authentication with a reply": (
        request({"type": "BODY"}, buttons(reply())[1], category="AUTHENTICATION"),
        None,
    ),
    "code lasts too long": (
        request({"type": "BODY"}, {"type": "FOOTER", "code_expiration_minutes": 91}, OTP, category="AUTHENTICATION"),
        FOOTER,
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_template_that_keeps_the_rules(name: str) -> None:
    assert checked(ACCEPTED[name]).name == "pesanan_siap"


@pytest.mark.parametrize("name", REFUSED)
def test_template_that_breaks_a_rule(name: str) -> None:
    asked, subcode = REFUSED[name]
    with pytest.raises(GraphError) as refusal:
        checked(asked)
    error = refusal.value.body["error"]
    assert (error["code"], error.get("error_subcode")) == (100, subcode)
    assert refusal.value.status == 400
    if subcode:
        assert error["error_user_title"] and error["error_user_msg"]


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        (request(), "APPROVED", "NONE"),
        (request(body("Ada diskon besar untuk Anda.")), "REJECTED", "INCORRECT_CATEGORY"),
        (request(body("Ada diskon besar untuk Anda."), category="MARKETING"), "APPROVED", "NONE"),
        (request(body("Lihat bit.ly/abc untuk pesanan.")), "REJECTED", "INVALID_FORMAT"),
    ],
)
def test_review(asked: Json, status: str, reason: str) -> None:
    assert decide(checked(asked)) == (status, reason)


def texts(*values: str) -> list[Json]:
    return [{"type": "text", "text": value} for value in values]


ORDER = checked(
    request(
        header(format="TEXT", text="Untuk {{1}}", example={"header_text": ["Siti"]}),
        body("Halo {{1}}, pesanan {{2}} siap, kata {{1}} kemarin.", "Siti", "7"),
        {"type": "FOOTER", "text": "Toko Kurir"},
        {"type": "BUTTONS", "buttons": [url("https://a.id/{{1}}", example=["x"]), reply("Terima kasih")]},
    )
)
SENT = [
    {"type": "header", "parameters": texts("Budi")},
    {"type": "body", "parameters": texts("Budi", "{{1}}")},
    {"type": "button", "sub_type": "url", "index": "0", "parameters": texts("p/9")},
]


def test_bubble_shows_every_part() -> None:
    filled = fill(ORDER, SENT)
    assert filled.parameters == ("Budi", "{{1}}")
    assert filled.bubble == (
        "Untuk Budi\nHalo Budi, pesanan {{1}} siap, kata Budi kemarin.\nToko Kurir\n"
        "[Buka] https://a.id/p/9\n[Terima kasih]"
    )


def test_named_parameters_go_by_name() -> None:
    template = checked(ACCEPTED["named"])
    sent = [{"type": "body", "parameters": [{"type": "text", "parameter_name": "nama", "text": "Budi"}]}]
    assert fill(template, sent).bubble == "Halo Budi, pesanan siap diambil."
    with pytest.raises(GraphError) as refusal:
        fill(template, [{"type": "body", "parameters": texts("Budi")}])
    assert refusal.value.code == 132000


def test_location_and_one_time_code() -> None:
    place = {"latitude": -6.2, "longitude": 106.8, "name": "Monas"}
    sent = [{"type": "header", "parameters": [{"type": "location", "location": place}]}]
    filled = fill(checked(ACCEPTED["location header"]), sent)
    assert filled.place and filled.place.name == "Monas"
    code = [{"type": "body", "parameters": texts("123456")}]
    button = {"type": "button", "sub_type": "url", "index": 0, "parameters": texts("123456")}
    assert "*123456*" in fill(checked(ACCEPTED["authentication"]), [*code, button]).bubble


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([], 132000),
        (SENT[1:], 132000),
        (SENT[:2], 132000),
        ([SENT[0], {"type": "body", "parameters": texts("a")}, SENT[2]], 132000),
        ([SENT[0], {"type": "body", "parameters": texts("a", "b", "c")}, SENT[2]], 132000),
        ([SENT[0], {"type": "body", "parameters": texts("a", "b\nc")}, SENT[2]], 132012),
        ([SENT[0], {"type": "body", "parameters": texts("a", "b     c")}, SENT[2]], 132012),
        ([SENT[0], {"type": "body", "parameters": [{"type": "image"}, *texts("b")]}, SENT[2]], 132012),
        ([*SENT, {"type": "button", "index": "5", "parameters": texts("a")}], 132000),
        (["body"], 132012),
        ([{"type": "sidebar"}], 132012),
        ([{"type": "body", "parameters": ["a"]}], 132012),
        ([{"type": "body", "parameters": "a"}], 131009),
    ],
)
def test_parameters_that_do_not_fit(sent: list[Any], code: int) -> None:
    with pytest.raises(GraphError) as refusal:
        fill(ORDER, sent)
    assert refusal.value.code == code


KEYS = st.sampled_from(
    [
        "type",
        "text",
        "format",
        "example",
        "buttons",
        "url",
        "index",
        "parameters",
        "header_handle",
        "body_text",
        "name",
        "language",
        "category",
        "components",
        "sub_type",
        "parameter_name",
        "currency",
        "fallback_value",
        "otp_type",
        "code_expiration_minutes",
    ]
)
WORDS = st.sampled_from(
    [
        "BODY",
        "HEADER",
        "FOOTER",
        "BUTTONS",
        "TEXT",
        "IMAGE",
        "LOCATION",
        "URL",
        "OTP",
        "QUICK_REPLY",
        "id",
        "UTILITY",
        "text",
        "body",
        "header",
        "button",
        "{{1}}",
        "0",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-2, 99) | WORDS | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25
)
COMPONENT = st.dictionaries(KEYS, ANYTHING, max_size=6)


@given(st.lists(COMPONENT | ANYTHING, max_size=4), st.sampled_from(["UTILITY", "AUTHENTICATION"]))
@settings(max_examples=examples(100), deadline=None)
def test_any_request_is_checked_or_refused(components: list[Any], category: str) -> None:
    try:
        assert isinstance(checked(request(components=components, category=category)), NewTemplate)
    except GraphError as refusal:
        assert 400 <= refusal.status < 500


@given(st.lists(COMPONENT | ANYTHING, max_size=4))
@settings(max_examples=examples(100), deadline=None)
def test_any_parameters_fit_or_are_refused(components: list[Any]) -> None:
    for template in (ORDER, checked(ACCEPTED["location header"])):
        try:
            fill(template, components)
        except GraphError as refusal:
            assert 400 <= refusal.status < 500

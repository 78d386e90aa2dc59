"""Meta's rules for templates, one row a rule, and what a good form turns into."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pywa.types.templates import TemplateLanguage

from kurir.channels.cloud_api.templates.components import (
    FillError,
    VariableCountError,
    creation_body,
    filled,
    form_of,
    shown_status,
)
from kurir.channels.cloud_api.templates.rules import LANGUAGES, faults
from kurir.messages.template_form import Button, Header, TemplateForm, Variable, variables_of
from kurir.reasons import sentence
from kurir.reasons.templates import VARIABLE_AT_END, VARIABLE_AT_START

GOOD = TemplateForm(
    name="pesanan_siap",
    language="id",
    category="UTILITY",
    body="Halo {{1}}, pesanan {{2}} Anda sudah siap diambil di toko.",
    header=Header("TEXT", content="Pesanan {{1}}", example="INV-1"),
    footer="Toko Kurir",
    buttons=[
        Button("QUICK_REPLY", label="Terima kasih"),
        Button("URL", label="Lihat", url="https://example.com/o/{{1}}", example="INV-1"),
        Button("PHONE_NUMBER", label="Telepon", phone_number="+6281234567890"),
        Button("COPY_CODE", example="HEMAT10"),
    ],
    variables=[Variable("{{1}}", "Nama", "Sari"), Variable("{{2}}", "Nomor", "INV-1")],
)
QUICK = Button("QUICK_REPLY", label="Ya")
URL = Button("URL", label="Buka", url="https://example.com")


def changed(**changes: Any) -> TemplateForm:
    return msgspec.structs.replace(GOOD, **changes)


def test_a_good_form_has_no_faults() -> None:
    assert faults(GOOD) == {}
    assert faults(TemplateForm("a", "en_US", "MARKETING", "Hello there")) == {}


def test_languages_are_those_that_pywa_knows() -> None:
    known_to_pywa = {str(language.value) for language in TemplateLanguage} - {"UNKNOWN", "None"}
    assert known_to_pywa == LANGUAGES


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("name", {"name": ""}),
    ("name", {"name": "Huruf Besar"}),
    ("name", {"name": "a" * 513}),
    ("name", {"name": "garis-datar"}),
    ("language", {"language": "xx"}),
    ("language", {"language": ""}),
    ("category", {"category": "PROMO"}),
    ("body", {"body": ""}),
    ("body", {"body": "   "}),
    ("body", {"body": "x" * 1025}),
    ("body", {"body": "Halo {{2}} apa kabar hari ini kawan"}),
    ("body", {"body": "Halo {{1}} dan {{3}} apa kabar hari ini kawan"}),
    ("body", {"body": "Halo {{nama}} apa kabar hari ini"}),
    ("body", {"body": "{{1}} apa kabar hari ini"}),
    ("body", {"body": "*{{1}}* apa kabar hari ini"}),
    ("body", {"body": "Apa kabar hari ini {{1}}"}),
    ("body", {"body": "Apa kabar hari ini {{1}}."}),
    ("body", {"body": "Apa kabar {{1}} {{2}} hari ini semua kawan"}),
    ("body", {"body": "Halo {{1}} ya"}),
    ("header", {"header": Header("TEXT", content="")}),
    ("header", {"header": Header("TEXT", content="x" * 61)}),
    ("header", {"header": Header("TEXT", content="dua\nbaris")}),
    ("header", {"header": Header("TEXT", content="*tebal*")}),
    ("header", {"header": Header("TEXT", content="a {{1}} b {{2}}")}),
    ("header", {"header": Header("TEXT", content="a {{2}} b")}),
    ("header", {"header": Header("IMAGE")}),
    ("header", {"header": Header("VIDEO", url="ftp://example.com/a.mp4")}),
    ("header", {"header": Header("DOCUMENT", url="berkas.pdf")}),
    ("header", {"header": Header("LOCATION", name="Toko")}),
    ("header", {"header": Header("LOCATION", latitude=91.0, longitude=0.0)}),
    ("header", {"header": Header("LOCATION", latitude=0.0, longitude=181.0)}),
    ("header", {"header": Header("GIF", url="https://example.com/a.gif")}),
    ("header", {"header": Header("")}),
    ("footer", {"footer": "x" * 61}),
    ("footer", {"footer": "Salam {{1}}"}),
    ("buttons", {"buttons": [QUICK] * 11}),
    ("buttons", {"buttons": [URL] * 3}),
    ("buttons", {"buttons": [QUICK, URL, QUICK]}),
    ("buttons", {"buttons": [GOOD.buttons[2]] * 2}),
    ("buttons", {"buttons": [GOOD.buttons[3]] * 2}),
    ("buttons.0", {"buttons": [Button("FLOW", label="x")]}),
    ("buttons.0", {"buttons": [Button("QUICK_REPLY", label="")]}),
    ("buttons.0", {"buttons": [Button("QUICK_REPLY", label="x" * 26)]}),
    ("buttons.0", {"buttons": [Button("QUICK_REPLY", label="{{1}}")]}),
    ("buttons.0", {"buttons": [Button("URL", label="x", url="javascript:alert(1)")]}),
    ("buttons.0", {"buttons": [Button("URL", label="x", url="https://example.com/" + "a" * 2000)]}),
    ("buttons.0", {"buttons": [Button("URL", label="x", url="https://example.com/{{1}}/b", example="a")]}),
    ("buttons.0", {"buttons": [Button("URL", label="x", url="https://example.com/{{1}}{{1}}", example="a")]}),
    ("buttons.0", {"buttons": [Button("URL", label="x", url="https://example.com/{{1}}")]}),
    ("buttons.0", {"buttons": [Button("PHONE_NUMBER", label="x", phone_number="abc")]}),
    ("buttons.0", {"buttons": [Button("PHONE_NUMBER", label="x", phone_number="1" * 21)]}),
    ("buttons.0", {"buttons": [Button("COPY_CODE", example="")]}),
    ("buttons.0", {"buttons": [Button("COPY_CODE", example="x" * 16)]}),
    ("variables", {"variables": []}),
    ("variables", {"variables": [Variable("{{1}}", "", "Sari")]}),
    ("variables", {"variables": [Variable("{{1}}", "", "Sari"), Variable("{{2}}")]}),
    ("header", {"category": "AUTHENTICATION"}),
    ("footer", {"category": "AUTHENTICATION"}),
    ("buttons", {"category": "AUTHENTICATION"}),
]


@pytest.mark.parametrize(("field", "changes"), BROKEN)
def test_a_broken_rule_names_its_field(field: str, changes: dict[str, Any]) -> None:
    assert field in faults(changed(**changes))


def test_the_known_sentences() -> None:
    assert faults(changed(body="Apa kabar hari ini {{1}}!"))["body"] == [VARIABLE_AT_END()]
    assert VARIABLE_AT_START() in faults(changed(body="{{1}} apa kabar hari ini"))["body"]
    assert sentence(VARIABLE_AT_END(), "id") == "Variables can't be at the end of the template body."


def test_all_broken_rules_are_reported_at_once() -> None:
    assert set(faults(changed(name="X", footer="{{1}}", language="?"))) == {"name", "footer", "language"}


def test_creation() -> None:
    assert creation_body(GOOD)["components"] == [
        {"type": "HEADER", "format": "TEXT", "text": "Pesanan {{1}}", "example": {"header_text": ["INV-1"]}},
        {"type": "BODY", "text": GOOD.body, "example": {"body_text": [["Sari", "INV-1"]]}},
        {"type": "FOOTER", "text": "Toko Kurir"},
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "QUICK_REPLY", "text": "Terima kasih"},
                {"type": "URL", "text": "Lihat", "url": "https://example.com/o/{{1}}", "example": ["INV-1"]},
                {"type": "PHONE_NUMBER", "text": "Telepon", "phone_number": "+6281234567890"},
                {"type": "COPY_CODE", "example": "HEMAT10"},
            ],
        },
    ]
    media = changed(header=Header("IMAGE", url="https://example.com/a.png"))
    assert creation_body(media, "4::h")["components"][0] == {
        "type": "HEADER",
        "format": "IMAGE",
        "example": {"header_handle": ["4::h"]},
    }
    place = changed(header=Header("LOCATION", latitude=-6.2, longitude=106.8))
    assert creation_body(place)["components"][0] == {"type": "HEADER", "format": "LOCATION"}


def test_authentication_templates_have_meta_s_own_text() -> None:
    form = TemplateForm("kode", "id", "AUTHENTICATION", "{{1}} adalah kode Anda.", buttons=[Button("COPY_CODE")])
    assert faults(form) == {}
    assert creation_body(form)["components"] == [
        {"type": "BODY", "add_security_recommendation": True},
        {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE"}]},
    ]
    code = [{"type": "text", "text": "123456"}]
    assert filled(form, ["123456"]) == [
        {"type": "body", "parameters": code},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": code},
    ]


def test_values_go_to_header_body_and_buttons_in_order() -> None:
    components = filled(GOOD, ["INV-9", "Sari", "INV-9", "INV-9x"])
    assert components == [
        {"type": "header", "parameters": [{"type": "text", "text": "INV-9"}]},
        {"type": "body", "parameters": [{"type": "text", "text": "Sari"}, {"type": "text", "text": "INV-9"}]},
        {"type": "button", "index": "1", "sub_type": "url", "parameters": [{"type": "text", "text": "INV-9x"}]},
        {
            "type": "button",
            "index": "3",
            "sub_type": "copy_code",
            "parameters": [{"type": "coupon_code", "coupon_code": "HEMAT10"}],
        },
    ]
    with_code = filled(GOOD, ["a", "b", "c", "d", "GRATIS"])
    assert with_code[-1]["parameters"] == [{"type": "coupon_code", "coupon_code": "GRATIS"}]


@pytest.mark.parametrize("given", [0, 1, 3, 6])
def test_the_count_must_fit(given: int) -> None:
    with pytest.raises(VariableCountError) as error:
        filled(GOOD, ["x"] * given)
    assert (error.value.wanted, error.value.given) == (4, given)


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "a\tb", "a     b"])
def test_values_that_meta_refuses(value: str) -> None:
    with pytest.raises(FillError, match="value 2"):
        filled(GOOD, ["x", value, "x", "x"])


def test_headers_at_send_time() -> None:
    picture = changed(header=Header("IMAGE", url="https://example.com/a.png"), buttons=[])
    [header, _] = filled(picture, ["a", "b"])
    assert header == {
        "type": "header",
        "parameters": [{"type": "image", "image": {"link": "https://example.com/a.png"}}],
    }
    paper = changed(header=Header("DOCUMENT", url="https://example.com/a%20b.pdf?x=1"), buttons=[])
    assert filled(paper, ["a", "b"])[0]["parameters"][0]["document"]["filename"] == "a b.pdf"
    place = changed(header=Header("LOCATION", name="Toko", latitude=-6.2, longitude=106.8), buttons=[])
    assert filled(place, ["a", "b"])[0]["parameters"][0]["location"] == {
        "latitude": -6.2,
        "longitude": 106.8,
        "name": "Toko",
    }
    other = filled(place, ["a", "b"], Header("LOCATION", latitude=1.0, longitude=2.0))
    assert other[0]["parameters"][0]["location"] == {"latitude": 1.0, "longitude": 2.0}
    for bare, field in ((Header("VIDEO"), "header_url"), (Header("LOCATION"), "latitude")):
        with pytest.raises(FillError) as error:
            filled(changed(header=bare, buttons=[]), ["a", "b"])
        assert error.value.field == field


def test_what_was_created_is_listed_as_the_same_form() -> None:
    body = creation_body(GOOD)
    listed = form_of(body["name"], body["language"], body["category"], body["components"], known=GOOD)
    assert listed == GOOD
    unknown = form_of(body["name"], body["language"], body["category"], body["components"])
    assert unknown.buttons == GOOD.buttons
    assert [variable.example for variable in unknown.variables] == ["Sari", "INV-1"]
    assert filled(unknown, ["a", "b", "c", "d"]) == filled(GOOD, ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    "components",
    [
        [],
        [{"type": "BODY"}],
        [{}],
        [{"type": "BUTTONS", "buttons": "x"}],
        [{"type": "BUTTONS", "buttons": [1, {"type": "URL", "example": 5}]}],
        [{"type": "BODY", "text": "a {{1}} b", "example": {"body_text": "x"}}],
        [{"type": "CAROUSEL", "cards": []}, {"type": "HEADER"}],
    ],
)
def test_listings_in_other_shapes_do_not_raise(components: list[dict[str, Any]]) -> None:
    assert form_of("a", "id", "UTILITY", components).name == "a"


def test_status_words() -> None:
    assert [shown_status(word) for word in ("PENDING", "APPROVED", "REINSTATED", "paused")] == [
        "IN_REVIEW",
        "APPROVED",
        "APPROVED",
        "PAUSED",
    ]


@given(st.text(alphabet="ab {}1.,", max_size=40))
def test_rules_and_filling_agree_for_any_body(body: str) -> None:
    """A body that passes the rules can always be filled in with as many values as it has variables."""
    names = variables_of(body)
    form = TemplateForm("a", "id", "UTILITY", body, variables=[Variable(f"{{{{{name}}}}}", "", "x") for name in names])
    if not faults(form):
        components = filled(form, ["v"] * len(names))
        assert sum(len(part["parameters"]) for part in components) == len(names)

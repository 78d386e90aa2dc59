"""A template as the public API writes it: what is shown of its parts, and the variables in its texts."""

from __future__ import annotations

from typing import Any

import pytest

from kurir.messages.template_form import Button, Header, TemplateForm, Variable, variables_of, with_variables_as


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (Header("TEXT", content="Halo {{1}}", example="Sari"), {"content": "Halo {{1}}", "example": "Sari"}),
        (Header("IMAGE", url="https://a.test/b.png"), {"url": "https://a.test/b.png"}),
        (
            Header("LOCATION", name="Toko", address="Jl. A", latitude=-6.2, longitude=106.8),
            {"name": "Toko", "address": "Jl. A", "latitude": -6.2, "longitude": 106.8},
        ),
        (Header("LOCATION"), {}),
    ],
)
def test_of_a_header_its_type_and_what_it_has_is_shown(header: Header, shown: dict[str, Any]) -> None:
    assert list(header.shown().items()) == [("type", header.type), *shown.items()]


@pytest.mark.parametrize(
    ("button", "data"),
    [
        (Button("QUICK_REPLY", "Ya"), {"label": "Ya"}),
        (
            Button("URL", "Buka", url="https://a.test/{{1}}", example="https://a.test/1"),
            {"label": "Buka", "url": "https://a.test/{{1}}", "example": "https://a.test/1"},
        ),
        (Button("PHONE_NUMBER", "Telepon", phone_number="62811"), {"label": "Telepon", "phone_number": "62811"}),
        (Button("COPY_CODE", example="A1"), {"label": "", "example": "A1"}),
    ],
)
def test_of_a_button_its_label_and_what_it_has_is_shown(button: Button, data: dict[str, str]) -> None:
    assert button.shown() == {"type": button.type, "data": data}


@pytest.mark.parametrize(
    ("text", "names", "marked"),
    [
        ("Halo", [], "Halo"),
        ("Halo {{1}}, {{ 2 }} dan {{1}}", ["1", "2"], "Halo x, x dan x"),
        ("{{b}}{{a}}{{}}", ["b", "a", ""], "xxx"),
        ("{{{1}}} {2} {{3} {{{{4}}}}", ["1", "4"], "{x} {2} {{3} {{x}}"),
    ],
)
def test_variables_are_named_in_order_and_each_once(text: str, names: list[str], marked: str) -> None:
    assert variables_of(text) == names
    assert with_variables_as(text, "x") == marked


def test_a_mark_is_no_pattern() -> None:
    assert with_variables_as("a {{1}} b", r"\1\g<0>") == r"a \1\g<0> b"


def test_an_example_is_found_by_its_placeholder_with_or_without_braces() -> None:
    variables = [Variable("{{1}}", "Nama", "Sari"), Variable("2", example="Rp 5"), Variable(" {{ 3 }} ", example="x")]
    form = TemplateForm("promo", "id", "MARKETING", "Halo", variables=variables)
    assert [form.example_of(name) for name in ("1", "2", "3", "4", "{{1}}")] == ["Sari", "Rp 5", "x", "", ""]

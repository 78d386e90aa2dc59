"""The lenient getters of a request body: what counts as the same value, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.envelopes import WireError


@pytest.mark.parametrize("value", ["1", 1, True, "true", "TRUE", "yes", "on", 1.0, " 1 "])
def test_true(value: Any) -> None:
    assert Body({"f": value}).flag("f") is True


@pytest.mark.parametrize("value", ["0", 0, False, "false", "No", "off", 0.0])
def test_false(value: Any) -> None:
    assert Body({"f": value}).flag("f", default=True) is False


@pytest.mark.parametrize("value", [None, ""])
def test_null_and_empty_count_as_absent(value: Any) -> None:
    body = Body({"f": value, "g": value})
    assert body.flag("f", default=True) is True
    assert body.text("f", default="d") == "d"
    assert body.integer("f", default=7) == 7
    assert body.items("f") is None
    assert body.mapping("f") is None
    with pytest.raises(WireError, match="`f` is required"):
        body.text("f", required=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (60, "60"),
        (-6.25, "-6.25"),
        (81234567890.0, "81234567890"),
        (True, "1"),
        ("a\nb\tc", "a\nb\tc"),
        ("a\x00b\x07", "ab"),
    ],
)
def test_text(value: Any, text: str) -> None:
    assert Body({"f": value}).text("f") == text


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", [], {}, 10**100])
def test_what_is_no_text_is_refused_by_the_first_name(value: Any) -> None:
    with pytest.raises(WireError, match="`f`"):
        Body({"alias": value}).text("f", "alias")


@pytest.mark.parametrize(
    ("value", "number"), [("60", 60), (60, 60), ("-6.2", -6.2), ("-6,2", -6.2), (-6.2, -6.2), (" 7 ", 7)]
)
def test_number(value: Any, number: float) -> None:
    assert Body({"f": value}).number("f", least=-90, most=90) == number


@pytest.mark.parametrize("value", ["x", "NaN", "inf", "1_0", "9" * 50, 91, "-90.1", [], {}, 10**400])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(WireError, match="`f`"):
        Body({"f": value}).number("f", least=-90, most=90)


@pytest.mark.parametrize("value", ["1.5", 1.5, -1, 11, "x"])
def test_what_is_no_whole_number_in_range_is_refused(value: Any) -> None:
    with pytest.raises(WireError, match="from 0 to 10"):
        Body({"f": value}).integer("f", least=0, most=10)


def test_a_long_text_names_both_lengths() -> None:
    with pytest.raises(WireError, match="6 characters, at most 5"):
        Body({"f": "x" * 6}).text("f", limit=5)


def test_both_languages_say_what_was_expected_and_what_came() -> None:
    with pytest.raises(WireError) as refusal:
        Body({"f": []}).flag("f")
    assert refusal.value.body("en")["message"] == 'Field `f` is not valid: expected "1" or "0", got a list.'
    assert (
        refusal.value.body("id")["message"]
        == 'Kolom `f` tidak valid: seharusnya "1" atau "0", diterima sebuah daftar (array).'
    )

"""Strangers' input within bounds: every text fits a database and a protocol, and what was fine is unchanged."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir.messages import bounds

NOW = 1_800_000_000.0
anything = st.one_of(st.text(st.characters(exclude_categories=())), st.binary(), st.binary().map(bytearray))


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        ("halo", 4, "halo"),
        ("halo!", 4, "halo"),
        ("a\0b\ud800c\udfffd", 10, "a\ufffdb\ufffdc\ufffdd"),
        ("\U0001f44b\ue000\ud7ff", 10, "\U0001f44b\ue000\ud7ff"),
        ("", 5, ""),
        (b"halo!", 4, "halo"),
        (b"a\0\xffb", 10, "a\ufffd\ufffdb"),
        (bytearray("hé👋".encode()), 3, "hé👋"),
        ("👋👋👋".encode(), 2, "👋👋"),
        (b"", 5, ""),
    ],
)
def test_a_text_is_valid_and_not_too_long(value: str | bytes | bytearray, limit: int, text: str) -> None:
    assert bounds.text(value, limit) == text


def test_the_limit_of_a_text_is_a_messages_unless_one_is_named() -> None:
    assert bounds.text("x" * 70_000) == "x" * 65_536
    assert bounds.text(b"x" * 70_000) == "x" * 65_536


@given(anything, st.integers(0, 40))
def test_any_text_can_be_stored_and_reading_it_again_changes_nothing(
    value: str | bytes | bytearray, limit: int
) -> None:
    text = bounds.text(value, limit)
    assert len(text) <= limit
    assert "\0" not in text
    text.encode()
    assert bounds.text(text, limit) == text


def hashed(value: bytes) -> str:
    return "sha256:" + hashlib.sha256(value).hexdigest()


@pytest.mark.parametrize(
    ("value", "limit", "identifier"),
    [
        ("wamid.ABC=", 255, "wamid.ABC="),
        (b"3EB0!~", 255, "3EB0!~"),
        (bytearray(b"x" * 255), 255, "x" * 255),
        ("x" * 256, 255, hashed(b"x" * 256)),
        ("abc", 3, "abc"),
        ("abcd", 3, hashed(b"abcd")),
        ("", 255, ""),
        (b"", 255, ""),
        ("with space", 255, hashed(b"with space")),
        ("line\n", 255, hashed(b"line\n")),
        ("é", 255, hashed("é".encode())),
        ("\x7f", 255, hashed(b"\x7f")),
        (b"\xff", 255, hashed(b"\xff")),
        ("\ud800", 255, hashed(b"\xed\xa0\x80")),
    ],
)
def test_an_id_is_kept_or_becomes_its_hash(value: str | bytes | bytearray, limit: int, identifier: str) -> None:
    assert bounds.identifier(value, limit) == identifier


@given(anything, anything)
def test_different_ids_stay_different(one: str | bytes | bytearray, other: str | bytes | bytearray) -> None:
    def raw(value: str | bytes | bytearray) -> bytes:
        return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)

    assert (bounds.identifier(one) == bounds.identifier(other)) == (raw(one) == raw(other))
    assert len(bounds.identifier(one)) <= 255


@pytest.mark.parametrize(
    ("seconds", "moment"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (0, NOW),
        (-1, NOW),
        (4_102_444_800.0, 4_102_444_800.0),
        (4_102_444_801.0, NOW),
        (math.nan, NOW),
        (math.inf, NOW),
        (-math.inf, NOW),
    ],
)
def test_a_time_that_no_message_can_have_is_now(seconds: float, moment: float) -> None:
    found = bounds.moment(seconds, NOW)
    assert (found, type(found)) == (moment, float)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (7, 7),
        (-1, None),
        (10**18 - 1, 10**18 - 1),
        (10**18, None),
        (True, None),
        (False, None),
        ("0", 0),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("", None),
        ("-1", None),
        ("1.0", None),
        ("٣", None),
        ("1\n", None),
        (1.0, None),
        (None, None),
        (b"1", None),
    ],
)
def test_a_number_is_digits_or_nothing(value: object, number: int | None) -> None:
    assert bounds.number(value) == number

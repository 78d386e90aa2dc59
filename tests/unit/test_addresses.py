"""Phone numbers and group ids, against the `phonenumbers` library's own reading for every region of the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from unittest.mock import patch

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType
from tests.harness.properties import examples

from kurir.messages import addresses, mobile_numbers
from kurir.messages.addresses import AddressError, CountryCodeError, is_group, parse_group, parse_phone

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
COUNTRY_CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def mobile(region: str) -> phonenumbers.PhoneNumber | None:
    return phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)


EXAMPLES = [(region, number) for region in REGIONS if (number := mobile(region)) is not None]


def e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)[1:]


@pytest.mark.parametrize(
    ("phone_no", "country_code", "digits"),
    [
        ("81234567890", "62", "6281234567890"),
        ("6281234567890", "62", "6281234567890"),
        ("081234567890", "62", "6281234567890"),
        ("+62 812-3456-7890", "62", "6281234567890"),
        ("+62 812-3456-7890", "", "6281234567890"),
        ("0062812 3456 7890", "62", "6281234567890"),
        ("620812-3456-7890", "62", "6281234567890"),
        ("(0812) 3456.7890", "+62", "6281234567890"),
        ("0812/3456/7890", " 62 ", "6281234567890"),
        ("81234567890", "062", "6281234567890"),
        ("6281234567890@c.us", "62", "6281234567890"),
        ("6281234567890@s.whatsapp.net", "", "6281234567890"),
        ("\u202a+62 812\u20113456\u20117890\u202c", "62", "6281234567890"),
        ("+14155550123", "62", "14155550123"),
        ("4155550123", "1", "14155550123"),
        ("14155550123", "1", "14155550123"),
        ("(415) 555-0123", "1", "14155550123"),
        ("+65 8123 4567", "62", "6581234567"),
        ("81234567", "65", "6581234567"),
        ("65812345", "65", "6565812345"),  # begins with its own country code and is a whole national number
        ("312 345 6789", "39", "393123456789"),
        ("06 1234 5678", "39", "390612345678"),  # Italy's 0 belongs to the number
        ("8 912 345-67-89", "7", "79123456789"),  # Russia's trunk prefix is 8
        ("011 15-2345-6789", "54", "5491123456789"),  # Argentina's 15 becomes a 9
    ],
)
def test_spellings_that_clients_send(phone_no: str, country_code: str, digits: str) -> None:
    assert parse_phone(phone_no, country_code) == digits


def test_without_a_country_code_the_accounts_is_used() -> None:
    assert parse_phone("912345678", default_country_code="351") == "351912345678"


@pytest.mark.parametrize(
    "phone_no",
    [
        *("", " ", "+", "0", "00", "62", "12", "+0", "-", "6281234567890123456", "+999123456789"),
        *("YOUR-TARGET-PHONE-NUMBER", "628xxxxxxxx", "٠٨١٢٣٤٥٦٧٨٩٠", "8123456789²"),
        *("081234567890;ext=1", "081234567890 x1", "120363322806@g.us"),
    ],
)
def test_what_cannot_be_a_phone_number_is_refused(phone_no: str) -> None:
    with pytest.raises(AddressError):
        parse_phone(phone_no, "62")


def test_a_possible_number_of_fewer_than_seven_digits_is_refused() -> None:
    """Germany's shortest numbers are possible ones to the library that knows the numbering plans."""
    assert parse_phone("+4912345") == "4912345"
    for phone_no in ("+491234", "+49123"):
        with pytest.raises(AddressError):
            parse_phone(phone_no)


@pytest.mark.parametrize("country_code", ["ID", "999", "6 2 1 0", "+", "-62x", "٦٢", "62a"])
def test_what_is_no_country_code_is_refused_as_such(country_code: str) -> None:
    if country_code == "+":
        assert parse_phone("81234567890", country_code) == "6281234567890"
        return
    with pytest.raises(CountryCodeError):
        parse_phone("81234567890", country_code)


@pytest.mark.parametrize(("region", "number"), EXAMPLES, ids=[region for region, _ in EXAMPLES])
def test_every_regions_mobile_number_is_understood_in_every_spelling(
    region: str, number: phonenumbers.PhoneNumber
) -> None:
    code, want = str(number.country_code), e164(number)
    spellings = {
        "digits": want,
        "plus": "+" + want,
        "international": phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL),
        "zeros": "00" + want,
        "bare": phonenumbers.national_significant_number(number),
    }
    if phonenumbers.region_code_for_country_code(number.country_code) == region:
        spellings["national"] = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    assert {name: parse_phone(spelling, code) for name, spelling in spellings.items()} == dict.fromkeys(spellings, want)


indonesian = st.builds(
    lambda prefix, rest: "62" + prefix + rest,
    st.sampled_from(["811", "812", "813", "821", "852", "857", "878", "895", "838", "881"]),
    st.text("0123456789", min_size=6, max_size=8),
)
separators = st.sampled_from(["", " ", "-", ".", " - ", "\u00a0", "/"])


@given(indonesian, separators, st.sampled_from(["62", "+62", "", "062"]), st.integers(0, 3))
def test_indonesian_numbers_never_get_a_doubled_country_code(
    digits: str, separator: str, country_code: str, form: int
) -> None:
    spelling = (digits, "+" + digits, "0" + digits[2:], digits[2:])[form]
    pieces = separator.join(spelling[start : start + 4] for start in range(0, len(spelling), 4))
    assert parse_phone(pieces, country_code) == digits


@given(indonesian)
def test_reading_what_was_read_changes_nothing(digits: str) -> None:
    once = parse_phone(digits, "62")
    assert parse_phone(once, "62") == once
    assert parse_phone("+" + once, "1") == once


@given(st.text(max_size=40), st.text(max_size=8))
@example("8" * 5000, "62")
@example("6262", "62")
@settings(max_examples=examples(500))
def test_any_text_is_a_possible_number_or_an_address_error(phone_no: str, country_code: str) -> None:
    try:
        digits = parse_phone(phone_no, country_code)
    except AddressError:
        return
    assert digits.isascii()
    assert digits.isdigit()
    assert 7 <= len(digits) <= 15
    assert phonenumbers.is_possible_number(phonenumbers.parse("+" + digits))


@given(st.text("0123456789+ -()", max_size=20), st.sampled_from(["62", "1", "65", "60", "44", "39", "7", "54"]))
@settings(max_examples=examples(500))
def test_what_the_library_calls_valid_is_read_as_the_library_reads_it(phone_no: str, country_code: str) -> None:
    region = phonenumbers.region_code_for_country_code(int(country_code))
    try:
        read = phonenumbers.parse(phone_no, region)
    except phonenumbers.NumberParseException:
        return
    bare = phonenumbers.normalize_digits_only(phone_no)
    if not phonenumbers.is_valid_number(read) or bare.startswith(("00", country_code)):
        return  # those are read with their country code first, as clients mean them
    if "+" in phone_no.lstrip(" -()")[1:]:
        return  # a plus sign that is not in front is a typing mistake to us, nothing to the library
    assert parse_phone(phone_no, country_code) == e164(read)


@pytest.mark.parametrize(
    ("group_id", "stored"),
    [
        ("120363322806000000", "120363322806000000@g.us"),
        ("120363322806000000@g.us", "120363322806000000@g.us"),
        (" 120363322806000000 ", "120363322806000000@g.us"),
        ("6281234567890-1512345678", "6281234567890-1512345678@g.us"),
    ],
)
def test_groups(group_id: str, stored: str) -> None:
    assert parse_group(group_id) == stored
    assert is_group(stored)
    assert not is_group("6281234567890")


@pytest.mark.parametrize(
    "group_id", ["", "@g.us", "family", "12", "120363@c.us", "1" * 40, "12345-", "٠" * 12, "1 2 3 4 5"]
)
def test_what_is_no_group_is_refused(group_id: str) -> None:
    with pytest.raises(AddressError, match=r"^expected a group id such as 120363322806000000 or \d+@g\.us$"):
        parse_group(group_id)


def everywhere(kinds: Iterable[int]) -> list[tuple[str, str]]:
    """An example of each kind of number of each region: its country code and the number without it."""
    found = [phonenumbers.example_number_for_type(region, kind) for region in REGIONS for kind in kinds]
    return [(str(n.country_code), phonenumbers.national_significant_number(n)) for n in found if n is not None]


PREFIXES = ["0", "8", "1", "06", "001", "011", "810", "009", "0011", "119", "99"]
"""What is dialled in front of numbers somewhere in the world."""
EVERY_KIND = everywhere(PhoneNumberType.values())


def outcome(read: Callable[[], str]) -> str:
    """The digits, or the sentence of the refusal."""
    try:
        return read()
    except AddressError as error:
        return f"{type(error).__name__}: {error}"


def near_miss(draw: st.DrawFn, number: str) -> str:
    """The number with a few digits changed, added or left out."""
    digits = list(number)
    for _ in range(draw(st.integers(0, 3))):
        at, digit = draw(st.integers(0, len(digits))), draw(st.sampled_from("0123456789"))
        digits[at : at + draw(st.integers(0, 1))] = draw(st.sampled_from([[digit], []]))
    return "".join(digits)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str, str]:
    """A number as clients write it, or nearly so; its country code; the account's."""
    code, number = draw(st.sampled_from(EVERY_KIND) | st.tuples(st.just("62"), indonesian.map(lambda n: n[2:])))
    front = draw(
        st.sampled_from(["", code, "+" + code, "00" + code, "+" + code + " 0", code + "0", code * 2, "+", *PREFIXES])
    )
    number = near_miss(draw, number)
    if draw(st.booleans()):  # as long as a number without what is in front: it might be one
        number = number[len(front.strip("+0 ")) :]
    given = draw(st.sampled_from([code, "", "62", "1", "0" + code, *(str(c) for c in COUNTRY_CODES)]))
    return front + number, given, draw(st.sampled_from(["62", code]))


def read_by_the_library_alone(spelling: tuple[str, str, str]) -> str:
    with patch.object(mobile_numbers, "_patterns", lambda _: None):
        return outcome(lambda: parse_phone(*spelling))


@given(spellings())
@settings(max_examples=examples(2_000), deadline=None)
def test_quickly_read_numbers_are_read_as_the_library_reads_them(spelling: tuple[str, str, str]) -> None:
    assert outcome(lambda: parse_phone(*spelling)) == read_by_the_library_alone(spelling)


@given(
    st.text(max_size=20) | st.text("0123456789+ -()٣", max_size=20), st.text(max_size=4) | st.text("01246", max_size=4)
)
@settings(max_examples=examples(1_000))
def test_odd_texts_are_read_as_the_library_reads_them(phone_no: str, country_code: str) -> None:
    assert outcome(lambda: parse_phone(phone_no, country_code)) == read_by_the_library_alone(
        (phone_no, country_code, "62")
    )


@pytest.mark.parametrize(("code", "number"), everywhere([PhoneNumberType.MOBILE]))
def test_regions_that_share_a_country_code_are_left_to_the_library(code: str, number: str) -> None:
    shared = len(phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]) > 1
    quick = mobile_numbers.international(code + number)
    assert quick is None if shared else quick in (None, code + number)


@pytest.mark.parametrize("number", ["81234567890", "081234567890", "6281234567890"])
def test_indonesian_mobile_numbers_need_no_library(number: str) -> None:
    assert mobile_numbers.dialled(number, "62") == "6281234567890"
    assert mobile_numbers.international("6281234567890") == "6281234567890"


def test_numbers_that_the_library_has_read_are_remembered_within_bounds() -> None:
    addresses._remembered.cache_clear()
    with patch.object(addresses, "_possible", wraps=addresses._possible) as asked:
        assert [parse_phone("+1 415 555 0123") for _ in range(3)] == ["14155550123"] * 3
        assert asked.call_count == 1
    for size in range(30, 40):
        with pytest.raises(AddressError):
            parse_phone("+" + "1" * size)
    info = addresses._remembered.cache_info()
    assert (info.currsize, info.misses) == (1, 1)
    assert info.maxsize is not None

"""What a message waits for: every cause from its facts, and a sentence for each in both languages."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from kurir.messages.channel_reports import NumberState
from kurir.numbers.numbers import Number
from kurir.outbox.wait_reasons import Cause, Facts, Waiting, lasts, number_waits, reason_of, waiting_for
from kurir.reasons import NOTHING, as_written, sentence

NOW = 1_800_000_000.0
NUMBER = Number(
    id=1,
    account_id=1,
    key="BO-1",
    channel="linked_device",
    phone="628111",
    name="",
    state="connected",
    state_reason=NOTHING,
    last_connected_at=NOW,
    jid="628111:1@s.whatsapp.net",
    phone_number_id="",
    waba_id="",
    app_id="",
    created_at=NOW,
)
PAUSED = msgspec.structs.replace(NUMBER, paused_at=NOW - 60, pause_reason=as_written("token refused"))
UNPAIRED = Number(**{name: getattr(NUMBER, name) for name in Number.__struct_fields__} | {"jid": ""})


def retry(reason: str, seconds: int) -> Waiting:
    return Waiting(cause="retry", reason=as_written(reason), seconds=seconds)


CASES: list[tuple[Cause, Facts]] = [
    ("sending", Facts(number=NUMBER, message="sending", state="logged_out")),
    ("receipt", Facts(number=NUMBER, message="unconfirmed", may_resend=True)),
    ("decision", Facts(number=NUMBER, message="unconfirmed")),
    ("removed", Facts(number=None, ahead="message", due_at=NOW + 5)),
    ("paused", Facts(number=PAUSED, ahead="message")),
    ("paused", Facts(number=PAUSED, state="logged_out", reason=as_written("the phone removed it"))),
    ("unpaired", Facts(number=UNPAIRED, state="disconnected")),
    ("pairing", Facts(number=UNPAIRED, state="pairing", reason=as_written("waiting for the phone"))),
    ("logged_out", Facts(number=NUMBER, state="logged_out", reason=as_written("the phone removed it"), due_at=NOW + 5)),
    ("replaced", Facts(number=NUMBER, state="replaced")),
    ("outdated", Facts(number=NUMBER, state="outdated")),
    ("banned", Facts(number=NUMBER, state="banned", reason=as_written("too many"), opens_at=NOW + 90)),
    ("restricted", Facts(number=NUMBER, state="restricted", reason=as_written("463"))),
    ("restricted", Facts(number=NUMBER, code="restricted", last=as_written("first contacts wait"), due_at=NOW + 600)),
    ("degraded", Facts(number=NUMBER, state="degraded")),
    ("connecting", Facts(number=NUMBER, state="connecting", reason=as_written("connecting to WhatsApp"))),
    ("connecting", Facts(number=NUMBER, state="disconnected")),
    ("connecting", Facts(number=NUMBER, state="a word of a later version")),
    ("ahead", Facts(number=NUMBER, ahead="message", due_at=NOW + 5)),
    ("doubt_ahead", Facts(number=NUMBER, ahead="doubt")),
    ("retry", Facts(number=NUMBER, due_at=NOW + 30.2, code="131056", last=as_written("pair rate limit"))),
    ("file", Facts(number=NUMBER, due_at=NOW, file_missing=True)),
    ("turn", Facts(number=NUMBER, due_at=NOW)),
]


def words_of(waiting: Waiting, language: str = "en") -> str:
    return sentence(reason_of(waiting), language)


@pytest.mark.parametrize(("cause", "facts"), CASES)
def test_each_cause_follows_from_its_facts(cause: Cause, facts: Facts) -> None:
    assert waiting_for(facts, NOW).cause == cause


def of_number(cause: Cause, reason: str = "", seconds: int | None = None) -> Waiting:
    return Waiting(cause=cause, number="BO-1", reason=as_written(reason) if reason else NOTHING, seconds=seconds)


DISCONNECTED = msgspec.structs.replace(NUMBER, state="disconnected", state_reason=as_written("as stored"))


@pytest.mark.parametrize(
    ("facts", "waiting"),
    [
        (Facts(number=NUMBER, message="sending"), Waiting(cause="sending")),
        (Facts(number=NUMBER, message="unconfirmed", last=as_written("cut")), Waiting(cause="decision")),
        (Facts(number=None), Waiting(cause="removed")),
        (Facts(number=NUMBER, ahead="message"), Waiting(cause="ahead")),
        (Facts(number=NUMBER, ahead="doubt"), Waiting(cause="doubt_ahead")),
        (Facts(number=NUMBER, file_missing=True), Waiting(cause="file")),
        (Facts(number=NUMBER, code="131056", due_at=NOW), Waiting(cause="turn")),
        (Facts(number=PAUSED, state="connected"), of_number("paused", "token refused")),
        (Facts(number=NUMBER, state="pairing", reason=as_written("scan")), of_number("pairing", "scan")),
        (Facts(number=UNPAIRED, state="disconnected"), of_number("unpaired")),
        (Facts(number=DISCONNECTED), of_number("connecting", "as stored")),
        (Facts(number=DISCONNECTED, state="connected", ahead="message"), Waiting(cause="ahead")),
        (Facts(number=DISCONNECTED, state="degraded", reason=as_written("live")), of_number("degraded", "live")),
        (Facts(number=NUMBER, state="banned", opens_at=NOW + 90.4), of_number("banned", seconds=90)),
        (Facts(number=NUMBER, state="banned", opens_at=NOW - 90), of_number("banned", seconds=1)),
        (
            Facts(number=NUMBER, code="restricted", last=as_written("463"), due_at=NOW + 600.6),
            of_number("restricted", "463", 601),
        ),
        (Facts(number=NUMBER, code="131056", due_at=NOW + 0.1), retry("131056", 1)),
        (Facts(number=NUMBER, code="131056", last=as_written("slow"), due_at=NOW + 30.6), retry("slow", 31)),
    ],
)
def test_what_is_known_of_it_comes_with_the_cause(facts: Facts, waiting: Waiting) -> None:
    assert waiting_for(facts, NOW) == waiting


@pytest.mark.parametrize(
    "facts",
    [
        Facts(number=NUMBER, state="banned", reason=as_written("x" * 500)),
        Facts(number=NUMBER, code="restricted", last=as_written("x" * 500), due_at=NOW + 1),
        Facts(number=NUMBER, code="1", last=as_written("x" * 500), due_at=NOW + 1),
    ],
)
def test_words_of_others_are_shortened_to_one_length(facts: Facts) -> None:
    assert waiting_for(facts, NOW).reason == as_written("x" * 500).shortened(150)


def test_every_cause_and_every_state_of_a_number_is_tried() -> None:
    assert {cause for cause, _ in CASES} | {"database", "stopping"} == set(get_args(Cause))
    assert {facts.state for _, facts in CASES} >= set(get_args(NumberState)) - {"connected", "paused"}  # never stored


@pytest.mark.parametrize("cause", get_args(Cause))
@pytest.mark.parametrize("language", ["id", "en"])
def test_each_sentence_is_whole_in_both_languages(cause: Cause, language: str) -> None:
    full = words_of(
        Waiting(cause=cause, number="BO-1", reason=as_written("{reason} of [others]"), seconds=90), language
    )
    bare = words_of(Waiting(cause=cause), language)
    for text in (full, bare):
        assert not any(blank in text for blank in ("{number}", "{when}", "{because}", "()"))
    assert full != words_of(Waiting(cause=cause), "en" if language == "id" else "id")


def test_a_sentence_names_the_command_that_helps_the_reason_and_the_time() -> None:
    out = waiting_for(Facts(number=NUMBER, state="logged_out", reason=as_written("the phone removed this device")), NOW)
    assert words_of(out) == (
        "device BO-1 is logged out (the phone removed this device): pair it again with `kurir number pair BO-1`"
    )
    paused = waiting_for(Facts(number=PAUSED), NOW)
    assert "`kurir number resume BO-1`" in words_of(paused, "id")
    assert "(token refused)" in words_of(paused)
    again = waiting_for(Facts(number=NUMBER, due_at=NOW + 30.2, last=as_written("pair rate limit")), NOW)
    assert words_of(again) == "it is tried again in 30 s (pair rate limit)"
    assert words_of(again, "id") == "akan dicoba lagi dalam 30 detik (pair rate limit)"


def test_a_reason_of_others_is_cut() -> None:
    waiting = waiting_for(Facts(number=NUMBER, state="banned", reason=as_written("x" * 10_000)), NOW)
    assert len(words_of(waiting)) < 300


@pytest.mark.parametrize(
    ("state", "opens_at", "surely"),
    [
        ("logged_out", None, True),
        ("replaced", None, True),
        ("outdated", None, True),
        ("restricted", None, True),
        ("banned", None, True),
        ("banned", NOW + 61, True),
        ("banned", NOW + 60, True),
        ("restricted", NOW + 59, False),
        ("banned", NOW + 30, False),
        ("connecting", None, False),
        ("degraded", None, False),
        ("pairing", None, False),
        ("disconnected", None, False),
    ],
)
def test_what_surely_lasts_longer_than_a_code(state: str, opens_at: float | None, surely: bool) -> None:
    waiting = number_waits(NUMBER, state, NOTHING, NOW, opens_at)
    assert waiting is not None
    assert lasts(waiting, 60) is surely


def test_a_pause_surely_lasts_longer_than_a_code_however_the_number_is_connected() -> None:
    for state in get_args(NumberState):
        waiting = number_waits(PAUSED, state, NOTHING, NOW)
        assert waiting is not None
        assert (waiting.cause, lasts(waiting, 60)) == ("paused", True)

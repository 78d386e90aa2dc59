"""What the engine's texts mean, and that the installed engine still says them."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from tests.sentences import english

from kurir.channels.linked_device import server_codes
from kurir.channels.linked_device.engine_host import engine_errors
from kurir.channels.linked_device.engine_host.engine_errors import outcome_of, why_not_connected, without_places
from kurir.messages.channel_reports import InDoubt, NotConnected, Refused, Restricted, TryLater
from kurir.reasons import messages, numbers

READ_AGAIN = (
    "read whatsmeow's send.go, receipt.go, errors.go and message.go and neonize's goneonize/main.go and "
    "utils/encoder.go of that version, then put engine_errors.py right"
)


def test_the_installed_engine_still_says_what_is_relied_on() -> None:
    files = importlib.metadata.files("neonize") or []
    (library,) = [Path(str(file.locate())) for file in files if file.name.endswith(".so")]
    words = library.read_bytes()
    gone = [text for text in engine_errors.RELIED_ON if text.encode() not in words]
    assert not gone, f"the engine no longer says {gone}: {READ_AGAIN}"


def test_the_engine_is_the_version_whose_texts_were_read() -> None:
    installed = importlib.metadata.version("neonize")
    assert installed == engine_errors.READ_IN, f"neonize is {installed} now: {READ_AGAIN}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("failed to get user info for 6281@s.whatsapp.net to fill LID cache: info query timed out", "lookup_failed"),
        ("failed to get group members: failed to get group info", "lookup_failed"),
        ("failed to get device list: failed to send usync query: info query timed out", "lookup_failed"),
        ("no LID found for 6281234567819@s.whatsapp.net from server", "lookup_failed"),
        ("failed to prefetch sessions: failed to scan", "not_encrypted"),
        ("failed to save cached sessions: x", "not_encrypted"),
        ("failed to encrypt group message to send 3EB0 to 1203@g.us: x", "not_encrypted"),
    ],
)
def test_errors_before_the_network_write_are_tried_again_with_a_reason_of_ours(text: str, code: str) -> None:
    outcome = outcome_of(text)
    assert isinstance(outcome, TryLater)
    assert outcome.code == code
    assert outcome.counted
    assert not any(part in english(outcome.reason) for part in ("LID", "failed to", "usync", "6281"))


def test_a_lost_line_and_the_rest() -> None:
    for text in engine_errors.NOT_CONNECTED:
        assert isinstance(outcome_of(f"failed to send message node: {text}"), NotConnected)
    doubt = outcome_of("info query timed out")
    assert doubt == InDoubt(messages.ENGINE_UNSURE())


def test_codes_of_the_server_say_whom_they_are_about() -> None:
    abouts = {"message": Refused, "person": Refused, "passing": TryLater}
    for code, known in server_codes.CODES.items():
        outcome = outcome_of(f"server returned error {code}")
        assert isinstance(outcome, abouts.get(known.about, (TryLater, Restricted))), code
        assert known.meaning.en in english(outcome.reason)
        assert str(code) in english(outcome.reason)
        assert known.source
    assert isinstance(outcome_of("server returned error 463"), Restricted)
    slow = outcome_of("server returned error 429")
    assert isinstance(slow, TryLater)
    assert (slow.counted, slow.whole_number) == (False, True)


@pytest.mark.parametrize("text", ["server returned error 777", "server returned error", "server returned error: x"])
def test_an_unknown_code_may_pass_but_not_often(text: str) -> None:
    outcome = outcome_of(text)
    assert isinstance(outcome, TryLater)
    assert outcome.most == server_codes.FEW_TRIES


def test_reasons_of_a_lost_connection_are_sentences_of_ours() -> None:
    assert why_not_connected("proto: required field neonize.Receipt.Type not set") == numbers.UNREADABLE()
    for raw in ("failed to dial whatsapp web websocket: dial tcp 1.2.3.4:443: connect: connection refused", "EOF"):
        assert why_not_connected(raw) == numbers.UNREACHABLE()
    assert why_not_connected('pq: database "kurir" does not exist') == numbers.NO_SESSION()
    assert why_not_connected("") == why_not_connected("anything else") == numbers.LET_GO()


def test_places_are_the_operators_business() -> None:
    assert without_places(OSError("no answer: dial tcp 10.0.0.1:5432")) == "no answer"
    assert without_places(ValueError("pq: password")) == "ValueError"

"""Whose phone got no copy of a message, by the engine's log."""

from __future__ import annotations

import io
import logging
from unittest.mock import patch

import pytest

# neonize runs `uname` through pipes that it does not close when it is imported
with patch("os.popen", lambda _command: io.StringIO("Linux")):
    from kurir.channels.linked_device.engine_host import protobufs  # noqa: F401  (readies libmagic, which the engine needs)
    from kurir.channels.linked_device.engine_host.engine_log_watch import Unencrypted, phones_left_out

OWN = ("6281100000001", "200000000000001")
SITI = "200000000000802"


@pytest.mark.parametrize(
    ("devices", "phones"),
    [
        ({f"{SITI}@lid"}, {SITI}),
        ({"6281234567802@s.whatsapp.net"}, {"6281234567802"}),
        ({f"{SITI}:7@lid"}, set()),
        ({f"{SITI}:99@hosted.lid"}, set()),
        ({f"{OWN[1]}@lid", f"{OWN[1]}:7@lid", f"{OWN[0]}:3@s.whatsapp.net", f"{OWN[0]}@s.whatsapp.net"}, set()),
        ({f"{SITI}.0:0@lid", f"{SITI}:2@lid"}, {SITI}),
    ],
)
def test_only_the_phone_of_somebody_else_counts(devices: set[str], phones: set[str]) -> None:
    assert phones_left_out(devices, OWN) == phones


def test_the_log_names_message_and_device_and_is_asked_once() -> None:
    failed: list[bool] = []
    heard = Unencrypted(lambda: failed.append(True), lambda: None)
    log = logging.getLogger("whatsmeow.Client")
    try:
        log.warning("Failed to encrypt 3EB0AA for 200000000000802:7@lid: can't encrypt message for device: no session")
        log.warning("Failed to encrypt 3EB0AA for 6281234567802@s.whatsapp.net: no signal session established: x: y")
        log.warning("Failed to encrypt 3EB0BB for 200000000000803@lid: database is locked")
        log.warning("Failed to encrypt")
        assert heard.devices("3EB0AA") == {"200000000000802:7@lid", "6281234567802@s.whatsapp.net"}
        assert heard.devices("3EB0AA") == set()
        assert heard.devices("3EB0BB") == {"200000000000803@lid"}
        assert not failed
        log.warning("Error decrypting message 3EB0CC from 200000000000802@lid: failed to load session: disk I/O error")
        log.warning("Error decrypting message 3EB0CC from 200000000000802@lid: no session")
        assert failed == [True]
        log.warning(b"Error decrypting message \xff\xfe from 2000@lid: failed to load session: disk I/O error")
        assert failed == [True, True], "a sender's client chooses the id"
    finally:
        logging.getLogger("whatsmeow").removeHandler(heard)


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("Error unmarshaling decrypted message from 2000@lid: proto: cannot parse invalid wire-format data", 1),
        ("Error unmarshaling plaintext message from 1203@newsletter: proto: cannot parse", 1),
        ("Failed to decode armadillo message from 2000@lid: failed to unmarshal transport: proto", 1),
        ("Unknown version 7 in decrypted message from 2000@lid in 1203@g.us", 1),
        (b"Unhandled encrypted message (type \xff\xfe) from 2000@lid", 1),
        ("Unhandled encrypted message (type what) from 2000@lid", 1),
        ("Error decrypting message 3EB0 from 2000@lid: no session", 0),
        ("Ignoring message 3EB0 from 2000@lid: message with old counter 0 / 0", 0),
        ("Failed to handle x: Error unmarshaling decrypted message from 2000@lid", 0),
    ],
)
def test_what_was_opened_and_dropped_is_reported(line: str | bytes, counted: int) -> None:
    dropped: list[bool] = []
    heard = Unencrypted(lambda: None, lambda: dropped.append(True))
    try:
        logging.getLogger("whatsmeow.Client").warning(line)
        assert len(dropped) == counted
    finally:
        logging.getLogger("whatsmeow").removeHandler(heard)

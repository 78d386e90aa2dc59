"""The meaning of the engine's error texts for a message or a connection. Pure.

The engine (neonize) returns errors as text only, so they are recognized by fixed parts of whatsmeow's and neonize's
messages. Every part that is used is listed in `RELIED_ON`; a test looks each up in the library of the installed
version. The texts themselves go to the log: callers and numbers' states get reasons of Kurir's.
"""

from __future__ import annotations

import re

from kurir.channels.linked_device import server_codes
from kurir.channels.linked_device.protocol import SendOutcome
from kurir.messages.channel_reports import InDoubt, NotConnected, TryLater
from kurir.reasons import Reason, messages, numbers

NEVER_LEFT = ("failed to get user info", "failed to get group members", "failed to get device list")
NOT_ENCRYPTED = ("failed to prefetch sessions", "failed to save cached sessions", "failed to encrypt group message")
"""Beginnings of the errors of steps before the network write (found in whatsmeow's send)."""
NO_ADDRESS = "no LID found"
"""The server's answer about a number contained no LID, without which the engine does not send (whatsmeow's
SendMessage)."""
SERVER_REFUSED = "server returned error"
"""The `<ack>` of a message contained an error code, which follows (whatsmeow's ErrServerReturnedError)."""
NOT_CONNECTED = ("websocket not connected", "doesn't contain a device JID")
"""An event could not be serialized, and neonize's event loop has ended with it."""
NO_ANSWER = ("timed out", "disconnected", "not connected", "failed to send")
"""Parts of errors of a query that the server did not answer; any other error is an answer."""
NOT_ENCRYPTED_FOR = ("Failed to encrypt %s for %s: %v", "Error decrypting message %s from %s: %v")
"""Formats of whatsmeow's warnings that `engine_log_watch` reads."""
STORE_FAILED = ("disk is full", "disk I/O error", "database is locked", "pq: ", "bad connection")
"""Parts of such a warning when the session store failed (SQLite, lib/pq, database/sql)."""

READ_IN = "0.5.2"
"""The version of neonize from which these messages are taken."""
RELIED_ON = (
    *NEVER_LEFT,
    *NOT_ENCRYPTED,
    NO_ADDRESS,
    SERVER_REFUSED,
    *NOT_CONNECTED,
    "required field %v not set",
    *NO_ANSWER,
    *NOT_ENCRYPTED_FOR,
    *STORE_FAILED,
)
"""Every part of the engine's messages on which a decision depends, as contained in the library."""

_PLACES = re.compile(r":?\s*\b(?:dial|read|write|lookup|open|pq:).*", re.DOTALL)
"""The part of an error that names addresses and files, which only the operator may see."""
_STORE = re.compile(r"(?i)\bpq: |\bsql|database|disk|failed to (?:open|get|upgrade)")
_NETWORK = re.compile(r"(?i)\bdial\b|websocket|handshake|timeout|timed out|refused|reset|\bEOF\b|no such host|\bTLS\b")


def without_places(error: Exception) -> str:
    """An error's text without addresses and files."""
    return _PLACES.sub("", str(error)) or type(error).__name__


def could_not_serialize(error: str) -> bool:
    """Whether the event loop ended because an event could not be serialized; the client continues then."""
    return error.startswith("proto:")


def why_not_connected(error: str) -> Reason:
    """Why `connect` ended by itself, for the number's state."""
    if could_not_serialize(error):
        return numbers.UNREADABLE()
    if not error:
        return numbers.LET_GO()
    if _NETWORK.search(error):
        return numbers.UNREACHABLE()
    return numbers.NO_SESSION() if _STORE.search(error) else numbers.LET_GO()


def outcome_of(error: str) -> SendOutcome:
    """The outcome of a message for an error of `send_message`. In doubt, the gateway looks for evidence."""
    if NO_ADDRESS in error:
        return TryLater("lookup_failed", messages.NO_ADDRESS())
    if SERVER_REFUSED in error:
        code = error.rpartition(SERVER_REFUSED)[2].strip(" :.")
        return server_codes.outcome_of(int(code) if code.isascii() and code.isdigit() else 0)
    if any(words in error for words in NOT_CONNECTED):
        return NotConnected(messages.DEVICE_OFFLINE())
    if error.startswith(NEVER_LEFT):
        return TryLater("lookup_failed", messages.DEVICES_NOT_LOOKED_UP())
    if error.startswith(NOT_ENCRYPTED):
        return TryLater("not_encrypted", messages.SESSION_UNUSABLE())
    return InDoubt(messages.ENGINE_UNSURE())

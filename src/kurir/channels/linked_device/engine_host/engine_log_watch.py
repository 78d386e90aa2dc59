"""Watches the engine's log for events that the engine reports only there.

When the engine has no keys for a device, or the session store fails during a send, it logs that (whatsmeow's
`encryptMessageForDevices`), leaves the device out, and sends the message to the others, at worst to nobody; WhatsApp's
server acknowledges it all the same. The log line names the message and the device. A received message that cannot be
decrypted because the store failed is given up after five retry receipts within moments, unacknowledged. Observed with
the store on a PostgreSQL server that was shut down and on a full disk (neonize 0.5.2).

Content that was decrypted but is not a known message (bytes that are no protobuf, an unknown version or type of
encryption) is dropped with a line in the log; nothing else reports it, and requesting it again would not help.

Only a phone (device 0) that was left out puts a send in doubt: a phone passes nothing on to companions, but a companion
without keys, often one of a client that no longer exists, does not prevent the person from reading the message. A phone
that was left out may still get it: it can request it from the sender, so a resend under another id could arrive twice.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Collection

# between the engine's thread and Python's logging; the library has no other way to wait for its records
from neonize.utils.log import _log_queue  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]

from kurir.channels.linked_device.engine_host.engine_errors import STORE_FAILED

_NOTE = re.compile(r"Failed to encrypt (\S+) for (\S+): ")
_STORE_FAILED = re.compile(rf"Error decrypting message .*(?:{'|'.join(map(re.escape, STORE_FAILED))}|\btcp\b)")
_UNDECODABLE = re.compile(
    r"Error unmarshaling (?:decrypted|plaintext) message from "
    r"|Failed to decode armadillo message from "
    r"|Unknown version -?\d+ in decrypted message from "
    r"|Unhandled encrypted message \(type "
    r"|Plaintext message from .* doesn't have byte content"
    r"|Failed to parse message: "
    r"|Message decryption for .* panicked: "
)
_KEPT = 1_000


class Unencrypted(logging.Handler):
    """A log handler for the engine's warnings; `store_failed` is called when a received message could not be decrypted,
    `undecodable` when one was decrypted and dropped."""

    def __init__(self, store_failed: Callable[[], None], undecodable: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._store_failed = store_failed
        self._undecodable = undecodable
        self._devices: OrderedDict[str, set[str]] = OrderedDict()
        logging.getLogger("whatsmeow").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Records the message and the device that a warning names."""
        # a line that is not UTF-8, usually because of an id, comes as bytes
        text = record.msg.decode(errors="replace") if isinstance(record.msg, bytes) else record.getMessage()
        if _STORE_FAILED.match(text):
            self._store_failed()
        if _UNDECODABLE.match(text):
            self._undecodable()
        if found := _NOTE.match(text):
            self._devices.setdefault(found[1], set()).add(found[2])
            while len(self._devices) > _KEPT:
                self._devices.popitem(last=False)

    def devices(self, message_id: str) -> set[str]:
        """The devices (JIDs) for which a message that was just sent was not encrypted; returned once."""
        _log_queue.join()  # what was logged before the send returned has been emitted
        return self._devices.pop(message_id, set())


def phones_left_out(devices: Collection[str], own: Collection[str]) -> set[str]:
    """The accounts (user parts of JIDs, number or LID) other than the `own` ones whose phone is among `devices`."""
    return {user for user, device in map(_account_and_device, devices) if device == 0 and user not in own}


def _account_and_device(jid: str) -> tuple[str, int]:
    """The user part and the device number of a JID such as `6281…@s.whatsapp.net` (0) or `2000…:7@lid` (7)."""
    user, _, device = jid.partition("@")[0].partition(":")
    return user.partition(".")[0], int(device) if device.isascii() and device.isdigit() else 0

"""What the engine only writes into its log: for which messages it could not encrypt a copy for some device.

When the session store fails in the middle of a send, the engine (whatsmeow's `encryptMessageForDevices`) logs that,
leaves the device out, and sends the message to the others, at worst to nobody; WhatsApp's server acknowledges it all
the same. Seen with the store on a PostgreSQL server that was shut down (neonize 0.5.2).
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict

from neonize.utils.log import _log_queue  # between the engine's thread and Python's logging

_NOTE = re.compile(r"Failed to encrypt (\S+) for ")
_KEPT = 1_000


class Unencrypted(logging.Handler):
    """Listens to the engine's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._ids: OrderedDict[str, None] = OrderedDict()
        logging.getLogger("whatsmeow").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Notes the message that a warning names."""
        if found := _NOTE.match(record.getMessage()):
            self._ids[found[1]] = None
            while len(self._ids) > _KEPT:
                self._ids.popitem(last=False)

    def names(self, message_id: str) -> bool:
        """Whether a copy of a message that was just sent is missing; says so once."""
        _log_queue.join()  # what was logged before the send returned has been emitted
        return self._ids.pop(message_id, self) is None

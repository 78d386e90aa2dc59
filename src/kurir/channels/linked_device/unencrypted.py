"""What the engine only writes into its log: that the session store failed it while it encrypted or decrypted.

When the session store fails in the middle of a send, the engine (whatsmeow's `encryptMessageForDevices`) logs that,
leaves the device out, and sends the message to the others, at worst to nobody; WhatsApp's server acknowledges it all
the same. A received message that cannot be opened for such a reason is given up after five retry receipts within
moments, unacknowledged. Seen with the store on a PostgreSQL server that was shut down and on a full disk (neonize
0.5.2).
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable

from neonize.utils.log import _log_queue  # between the engine's thread and Python's logging

_NOTE = re.compile(r"Failed to encrypt (\S+) for ")
_STORE_FAILED = re.compile(
    r"Error decrypting message .*(?:disk is full|disk I/O error|database is locked|pq: |\btcp\b|bad connection)"
)
_KEPT = 1_000


class Unencrypted(logging.Handler):
    """Listens to the engine's warnings; `store_failed` is called when a received message could not be opened."""

    def __init__(self, store_failed: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._store_failed = store_failed
        self._ids: OrderedDict[str, None] = OrderedDict()
        logging.getLogger("whatsmeow").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Notes the message that a warning names."""
        text = record.getMessage()
        if _STORE_FAILED.match(text):
            self._store_failed()
        if found := _NOTE.match(text):
            self._ids[found[1]] = None
            while len(self._ids) > _KEPT:
                self._ids.popitem(last=False)

    def names(self, message_id: str) -> bool:
        """Whether a copy of a message that was just sent is missing; says so once."""
        _log_queue.join()  # what was logged before the send returned has been emitted
        return self._ids.pop(message_id, self) is None

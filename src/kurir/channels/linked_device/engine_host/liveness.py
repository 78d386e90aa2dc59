"""A device's pulse: whether WhatsApp still answers on its connection, and how fast. Runs inside a host process.

A connection can be open and dead: nothing is heard on it, and nothing says so. The engine's own keep-alive (read in
whatsmeow: a ping every 20 to 30 seconds, 10 seconds for its answer) finds a dead line within 40 seconds, but only that,
and tells nothing while all is well. So a device on which nothing has been heard for a while is asked something through
the whole way (engine, line, server), with a deadline.

What is asked is the account's own list of blocked contacts: a read of own data that WhatsApp Web makes as well, about
nobody else, without effect, and a few hundred bytes. It goes out only on a line that has been quiet for `after`
seconds; where messages and receipts flow, none is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kurir.channels.linked_device.engine_host.engine_errors import NO_ANSWER

_AGAIN = 5.0
"""Seconds after which a line that failed without a word must say that it is lost, or it counts as dead."""


class Liveness:
    """One device's. `ask` blocks until the server answers and raises when it does not or refuses; `connected` says
    what the device claims; `beat` is told how many seconds an answer took, `silent` that none came in time.
    """

    def __init__(
        self,
        *,
        after: float,
        timeout: float,
        ask: Callable[[], object],
        connected: Callable[[], bool],
        check: Callable[[float], None],
        silent: Callable[[], None],
    ) -> None:
        self._after = after
        self._timeout = timeout
        self._ask = ask
        self._connected = connected
        self._check = check
        self._silent = silent
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Something came from the server."""
        self._heard = time.monotonic()

    def run(self, closing: threading.Event) -> None:
        """Checks whenever nothing was heard for `after` seconds, until `closing`."""
        pause = self._after
        while not closing.wait(pause):
            if self._connected() and time.monotonic() - self._heard >= self._after and not self._answers():
                before = self._heard
                closing.wait(_AGAIN)
                if self._connected() and self._heard == before:
                    self._silent()
            quiet = time.monotonic() - self._heard
            pause = self._after if quiet >= self._after else self._after - quiet

    def _answers(self) -> bool:
        started = time.monotonic()
        deadline = threading.Timer(self._timeout, self._silent)
        deadline.daemon = True
        deadline.start()
        try:
            self._ask()
        except Exception as error:
            if any(words in str(error) for words in NO_ANSWER):
                return False
        finally:
            deadline.cancel()
        self.heard()
        self._check(self._heard - started)
        return True

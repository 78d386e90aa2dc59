"""Liveness check of a device: whether WhatsApp still answers on its connection, and how fast. Runs inside a host
process.

A connection can be open and dead, without any notice. The engine's own keep-alive (found in whatsmeow: a ping every 20
to 30 seconds, 10 seconds for its answer) detects a dead connection within 40 seconds, but reports nothing while all is
well. So a device that has received nothing for a while sends a query through the whole path (engine, connection,
server), with a timeout.

The query reads the account's own list of blocked contacts: a read of own data that WhatsApp Web makes as well, about
nobody else, without effect, and a few hundred bytes. It is sent only on a connection that has been quiet for `after`
seconds, never while messages and receipts arrive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kurir.channels.linked_device.engine_host.engine_errors import NO_ANSWER

_AGAIN = 5.0
"""Seconds within which a failed check must be followed by a lost connection, or the connection counts as dead."""


class Liveness:
    """The check of one device. `ask` blocks until the server answers, and raises when it does not or refuses;
    `connected` returns the device's own state; `on_answer` gets the seconds of each round trip, `on_timeout` is
    called when no answer came in time."""

    def __init__(
        self,
        *,
        after: float,
        timeout: float,
        ask: Callable[[], object],
        connected: Callable[[], bool],
        on_answer: Callable[[float], None],
        on_timeout: Callable[[], None],
    ) -> None:
        self._after = after
        self._timeout = timeout
        self._ask = ask
        self._connected = connected
        self._on_answer = on_answer
        self._on_timeout = on_timeout
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Records that something came from the server."""
        self._heard = time.monotonic()

    def run(self, closing: threading.Event) -> None:
        """Checks whenever nothing was received for `after` seconds, until `closing`."""
        pause = self._after
        while not closing.wait(pause):
            if self._connected() and time.monotonic() - self._heard >= self._after and not self._answers():
                before = self._heard
                closing.wait(_AGAIN)
                if self._connected() and self._heard == before:
                    self._on_timeout()
            quiet = time.monotonic() - self._heard
            pause = self._after if quiet >= self._after else self._after - quiet

    def _answers(self) -> bool:
        started = time.monotonic()
        deadline = threading.Timer(self._timeout, self._on_timeout)
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
        self._on_answer(self._heard - started)
        return True

"""Broadcasts: a template to one or many people."""

from __future__ import annotations

from kurir.broadcasts.broadcasts import Broadcast
from kurir.broadcasts.start import start
from kurir.kit.clock import Clock
from kurir.messages.content import TemplateUse
from kurir.numbers.numbers import Number
from kurir.outbox.idempotency import Once
from kurir.outbox.outbox import Outbox


class Broadcasts:
    """The broadcasts of all accounts."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock

    async def start(
        self, number: Number, recipients: list[str], content: TemplateUse, *, once: Once | None = None
    ) -> tuple[Broadcast, list[int]]:
        """Stores a broadcast with a message per recipient; returns it and the messages' ids in that order.

        With `once` the request is remembered. Raises QueueFull, DatabaseUnavailable and Repeated; then nothing was
        stored.
        """
        return await start(self._outbox, number, recipients, content, self._clock(), once=once)

"""The interface between the dispatcher and a way to WhatsApp.

Both channels implement `Channel`; `tests/conformance` runs the same samples through both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kurir.messages.channel_reports import Event, Evidence, Outcome
from kurir.messages.content import Kind, Outgoing
from kurir.numbers.numbers import Number


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a channel supports, as data: kinds of content, groups, typing, and sends in flight per number.

    `timeout`: seconds within which a receipt nearly always comes, once receipts can come at all.
    """

    kinds: frozenset[Kind]
    groups: bool
    typing: bool
    window: int
    timeout: float = 60.0


class Channel(Protocol):
    """A way to WhatsApp for all numbers of one kind. Every method may be called concurrently."""

    capabilities: Capabilities

    async def start(self) -> None:
        """Starts the channel; numbers connect in the background."""
        ...

    def ready(self, number: Number) -> bool:
        """Whether a send for `number` can succeed now. False pauses its lane until a ConnectionChanged."""
        ...

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        """Puts one message on the wire, at most once. Never raises: every failure is an Outcome."""
        ...

    async def evidence(self, number: Number, outgoing: Outgoing) -> Evidence:
        """What the channel knows about an attempt that ended in doubt or was interrupted. Never raises.

        Call it only when the attempt is over: its process has answered or ended.
        """
        ...

    def events(self) -> AsyncIterator[Event]:
        """Events from the network, in order per number. One consumer."""
        ...

    def stored(self, events: Sequence[Event]) -> None:
        """Acknowledges events that are in the database, so that the channel need not keep them."""
        ...

    async def close(self) -> None:
        """Finishes or abandons what is in flight and releases everything. Idempotent."""
        ...

"""The phones: what reaches them is written down first, then shown; receipts go back over the same wire."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from kurir_sandbox.ledger import Ledger, Record, Search
from kurir_sandbox.traffic import Arrival, ChannelName, Entry, Network, ReceiptKind

_ACTIVITY_KEPT = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Activity:
    """Something a person sees besides messages: the other side types, comes online, read a message."""

    id: int
    at: float
    phone: str
    kind: str
    detail: dict[str, Any]


class Phones:
    """Every simulated phone. Networks are attached once at start; use from one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._networks: dict[ChannelName, Network] = {}
        self._activity: deque[Activity] = deque(maxlen=_ACTIVITY_KEPT)
        self._activity_ids = itertools.count(1)
        self._news: dict[str, asyncio.Event] = {}
        self._delivering: dict[int, asyncio.Task[None]] = {}

    def attach(self, networks: Mapping[ChannelName, Network]) -> None:
        """Set the network that takes the receipts of a channel."""
        self._networks.update(networks)

    def resume(self) -> None:
        """Send the "delivered" receipts that an earlier run wrote a row for but did not get to."""
        while owed := self.ledger.records(Search(lacks="delivered", after=max(self._delivering, default=0))):
            for record in owed:
                entry = self.ledger.entry(record.id)
                if entry is not None:
                    self._promise_delivered(entry)

    async def stop(self) -> None:
        """Stop sending receipts; what is owed is sent by `resume` of the next run."""
        owed = list(self._delivering.values())
        for task in owed:
            task.cancel()
        await asyncio.gather(*owed, return_exceptions=True)

    async def deliver(self, arrival: Arrival) -> Entry | None:
        """A message reaches a phone: on disk first, then seen by waiters, then a "delivered" receipt is sent.

        Returns the ledger entry, None when the phone has the message already. The receipt goes out on its own, shortly
        after.
        """
        entry = await self.ledger.write(arrival)
        if entry is None:
            log.info("message_repeated", phone=arrival.phone, wire_id=arrival.wire_id)
            return None
        if waiting := self._news.pop(arrival.phone, None):
            waiting.set()
        self._promise_delivered(entry)
        return entry

    def activity(self, phone: str, kind: str, detail: dict[str, Any]) -> None:
        """Note what the phone sees besides messages ("typing", "presence", …); the latest 1,000 are kept."""
        self._activity.append(Activity(next(self._activity_ids), time.time(), phone, kind, detail))

    def activities(self, phone: str, after: int = 0) -> list[Activity]:
        """What `phone` saw besides messages, with ids above `after`, in order."""
        return [seen for seen in self._activity if seen.phone == phone and seen.id > after]

    async def read(self, phone: str, upto: int | None = None) -> int:
        """The person opens the chats: "read" receipts for every unread entry (up to id `upto`).

        Returns how many receipts were sent.
        """
        sent = 0
        for record in self.ledger.records(Search(phone=phone, upto=upto, lacks="read"), limit=10_000):
            if task := self._delivering.get(record.id):
                await asyncio.wait([task])
            entry = self.ledger.entry(record.id)
            if entry is not None and await self._receipt(entry, "read"):
                sent += 1
        return sent

    async def inbox(self, phone: str, after: int = 0, wait: float = 0.0, limit: int = 1000) -> list[Record]:
        """The messages on `phone` with ids above `after`; with none, waits up to `wait` seconds for news."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            found = self.ledger.records(Search(phone=phone, after=after), limit)
            left = deadline - asyncio.get_running_loop().time()
            if found or left <= 0:
                return found
            news = self._news.setdefault(phone, asyncio.Event())
            try:
                await asyncio.wait_for(news.wait(), left)
            except TimeoutError:
                return []

    async def forget(self) -> None:
        """Forget every message and activity."""
        await self.ledger.clear()
        self._activity.clear()

    def _promise_delivered(self, entry: Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._delivered(entry))
        self._delivering[entry.id] = task
        task.add_done_callback(lambda _: self._delivering.pop(entry.id, None))

    async def _delivered(self, entry: Entry) -> None:
        await self._receipt(entry, "delivered")

    async def _receipt(self, entry: Entry, kind: ReceiptKind) -> bool:
        network = self._networks.get(entry.arrival.channel)
        if network is None:
            return False
        try:
            await network.receipt(entry, kind)
        except Exception:
            # A wire that cannot take a receipt must not stop the other phones; the row shows that it is owed.
            log.exception("receipt_failed", entry=entry.id, kind=kind, channel=entry.arrival.channel)
            return False
        await self.ledger.note_receipt(entry.id, kind)
        return True

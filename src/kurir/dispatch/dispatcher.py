"""The dispatcher: runs one lane for each number that has something to send, and expires messages that waited too
long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from kurir.channels.channel import Channel
from kurir.dispatch.lane import Lane
from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.kit.pauses import PAUSES, Pauses
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.kit.test_signals import TestSignals
from kurir.leases import Alone, Hold, Ownership
from kurir.media.store import MediaStore
from kurir.numbers import numbers
from kurir.numbers.numbers import ChannelKind
from kurir.outbox.outbox import Outbox
from kurir.store.database import Database, DatabaseUnavailable

log = structlog.get_logger(__name__)


class Dispatcher:
    """Starts lanes when they are notified and stops them in order."""

    def __init__(
        self,
        channels: Mapping[ChannelKind, Channel],
        *,
        database: Database,
        outbox: Outbox,
        media: MediaStore,
        metrics: Metrics,
        clock: Clock,
        device_gap: float,
        ownership: Ownership | None = None,
        health: TaskHealth | None = None,
        pauses: Pauses = PAUSES,
        signals: TestSignals | None = None,
    ) -> None:
        self._health = health or TaskHealth()
        self._tasks = Tasks(self._health)
        self._pauses = pauses
        self._signals = signals or TestSignals()
        self._ownership = ownership or Alone()
        self._leaving: set[int] = set()
        self._channels = channels
        self._database = database
        self._outbox = outbox
        self._media = media
        self._metrics = metrics
        self._clock = clock
        self._gaps: Mapping[ChannelKind, float] = {"linked_device": device_gap, "cloud_api": 0.0}
        self._lanes: dict[int, Lane] = {}
        self._kept: set[int] = set()
        """Numbers whose lane has a task: running, starting, or waiting to be restarted after a failure."""
        self._stopping = False

    async def start(self) -> None:
        """Starts lanes for all numbers with something to send or settle, and starts the sweep for expired messages."""
        await self._wake_all()
        self._tasks.keep("sweep", self._sweep, vital=True, endless=True)

    def wake(self, account_id: int, number_id: int) -> None:
        """Notifies the number's lane: it may have something to send, or may have become ready."""
        lane = self._lanes.get(number_id)
        if lane is not None and not lane.closed:
            lane.wake()
        elif not self._stopping and number_id not in self._kept and self._hold(number_id) is not None:
            self._kept.add(number_id)
            self._tasks.keep("lane", lambda: self._run(account_id, number_id), key=str(number_id))

    def begin(self, account_id: int, number_id: int) -> None:
        """This gateway now holds the number: starts its lane."""
        self._leaving.discard(number_id)
        self.wake(account_id, number_id)

    async def end(self, number_id: int, timeout: float) -> None:
        """Stops the number's lane; sends in flight have `timeout` seconds, then they are cancelled."""
        self._leaving.add(number_id)
        lane = self._lanes.get(number_id)
        if lane is not None:
            cut = await lane.stop(timeout)
            log.info("lane_ended", number=lane.number.key, cut_off=cut)

    async def stop(self, timeout: float = 25.0) -> int:
        """Stops claiming and waits for sends in flight; returns how many sends were cancelled."""
        self._stopping = True
        lanes = [lane for lane in self._lanes.values() if not lane.closed]
        cut = sum(await asyncio.gather(*(lane.stop(timeout) for lane in lanes)))
        await self._tasks.close()
        return cut

    # -- inside ----------------------------------------------------------------------------------------------------

    def _hold(self, number_id: int) -> Hold | None:
        return None if number_id in self._leaving else self._ownership.hold(number_id)

    async def _wake_all(self) -> None:
        for account_id, number_id in await self._outbox.waiting_numbers():
            self.wake(account_id, number_id)

    async def _run(self, account_id: int, number_id: int) -> None:
        lane = await self._opened(account_id, number_id)
        if lane is not None:
            try:
                await lane.run()
            except Exception:
                # the next lane recovers what is in flight: it must not start before those sends are recorded
                await lane.recorded()
                lane.closed = True
                raise
            finally:
                if self._lanes.get(number_id) is lane:
                    del self._lanes[number_id]
        # without an await since the lane closed: a `wake` that comes now starts the next lane
        self._kept.discard(number_id)

    async def _opened(self, account_id: int, number_id: int) -> Lane | None:
        """The number's lane; None when this gateway no longer has anything to send for it."""
        while True:
            try:
                number = await self._database.read(lambda c: numbers.by_id(c, account_id, number_id), of=account_id)
                break
            except DatabaseUnavailable:
                await asyncio.sleep(self._pauses.after_failure)
        hold = self._hold(number_id)
        if number is None or self._stopping or hold is None:
            return None
        lane = self._lanes[number_id] = Lane(
            number,
            self._channels[number.channel],
            database=self._database,
            outbox=self._outbox,
            media=self._media,
            metrics=self._metrics,
            clock=self._clock,
            gap=self._gaps[number.channel],
            hold=hold,
            health=self._health,
            pauses=self._pauses,
            signals=self._signals,
        )
        return lane

    async def _sweep(self) -> None:
        while True:
            try:
                await self._outbox.expire()
                if self._database.shared:  # other gateways accept and send as well
                    await self._outbox.count_waiting()
                await self._wake_all()  # a notification may get lost
                self._metrics.restricted(await self._database.read(numbers.restricted_count))
                self._metrics.waiting(self._outbox.waiting())
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", task="sweep", reason=str(error))
            await asyncio.sleep(self._pauses.sweep)

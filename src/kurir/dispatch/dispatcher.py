"""The dispatcher: keeps one lane for each number that has something to send, and ends what has waited too long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from kurir import numbers
from kurir.channels.channel import Channel
from kurir.channels.media import MediaStore
from kurir.dispatch.lane import Lane
from kurir.foundation.clock import Clock
from kurir.foundation.database import Database, DatabaseUnavailable
from kurir.foundation.telemetry import Metrics
from kurir.leases import Alone, Hold, Ownership
from kurir.numbers import ChannelKind
from kurir.outbox.outbox import Outbox

_SWEEP = 5.0

log = structlog.get_logger(__name__)


class Dispatcher:
    """Starts lanes when they are woken and stops them in order."""

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
    ) -> None:
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
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[int] = set()
        self._stopping = False

    async def start(self) -> None:
        """Wakes every number with something to send or to settle and begins to sweep out expired ones."""
        await self._wake_all()
        self._spawn(self._sweep(), "sweep")

    def wake(self, account_id: int, number_id: int) -> None:
        """The number may have something to send, or may have become ready."""
        lane = self._lanes.get(number_id)
        if lane is not None and not lane.closed:
            lane.wake()
        elif not self._stopping and number_id not in self._opening and self._hold(number_id) is not None:
            self._opening.add(number_id)
            self._spawn(self._run(account_id, number_id), f"lane-{number_id}")

    def begin(self, account_id: int, number_id: int) -> None:
        """The number is this gateway's from now on."""
        self._leaving.discard(number_id)
        self.wake(account_id, number_id)

    async def end(self, number_id: int, patience: float) -> None:
        """Sends nothing more for the number; what is in flight has `patience` seconds, then it is cut off."""
        self._leaving.add(number_id)
        lane = self._lanes.get(number_id)
        if lane is not None:
            cut = await lane.stop(patience)
            log.info("lane_ended", number=lane.number.key, cut_off=cut)

    async def stop(self, patience: float = 25.0) -> int:
        """Claims nothing more and waits for what is in flight; returns how many sends were cut off."""
        self._stopping = True
        lanes = [lane for lane in self._lanes.values() if not lane.closed]
        cut = sum(await asyncio.gather(*(lane.stop(patience) for lane in lanes)))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return cut

    # -- inside ----------------------------------------------------------------------------------------------------

    def _hold(self, number_id: int) -> Hold | None:
        return None if number_id in self._leaving else self._ownership.hold(number_id)

    async def _wake_all(self) -> None:
        for account_id, number_id in await self._outbox.waiting_numbers():
            self.wake(account_id, number_id)

    def _spawn(self, work: object, name: str) -> None:
        task = asyncio.create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, account_id: int, number_id: int) -> None:
        lane = None
        try:
            while lane is None:
                try:
                    number = await self._database.read(lambda c: numbers.by_id(c, account_id, number_id))
                except DatabaseUnavailable:
                    await asyncio.sleep(1.0)
                    continue
                hold = self._hold(number_id)
                if number is None or self._stopping or hold is None:
                    return
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
                )
        finally:
            self._opening.discard(number_id)
        try:
            await lane.run()
        except Exception:
            log.exception("lane_broke", number=lane.number.key)
            # the next lane takes what is in flight for left behind: it must not begin before that has landed
            await lane.landed()
            lane.closed = True
        if self._lanes.get(number_id) is lane:
            del self._lanes[number_id]

    async def _sweep(self) -> None:
        while True:
            try:
                await self._outbox.expire()
                if self._database.shared:  # other gateways accept and send too, and a ring may get lost
                    await self._outbox.count_waiting()
                    await self._wake_all()
                self._metrics.waiting(self._outbox.waiting())
            except DatabaseUnavailable as error:
                log.warning("sweep_waits_for_database", reason=str(error))
            await asyncio.sleep(_SWEEP)

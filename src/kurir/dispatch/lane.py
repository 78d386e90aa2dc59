"""A lane sends the messages of one sender number. Start reading here.

A lane first settles what an earlier lane left in flight. Then it waits until its number is ready, fetches the files of
the next messages (`prefetch`), claims messages that are due and complete, sends each through the channel, asks for
evidence where an attempt ended in doubt, and records the outcome. Messages to different recipients may be in flight
together, up to the channel's window; one recipient has at most one message in flight.

More than 300 lines: one loop whose steps share the state of one number's sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from kurir.channels.channel import Channel
from kurir.dispatch.prefetch import Prefetch
from kurir.kit import crash_points
from kurir.kit.backoff import pause_after
from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.kit.pauses import PAUSES, Pauses
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.kit.test_signals import TestSignals
from kurir.leases import Hold
from kurir.media.store import MediaStore
from kurir.messages.channel_reports import Halted, InDoubt, NeverLeft, Outcome, Refused, Sent, TryLater, Unknown
from kurir.messages.content import Document, Image, MediaFile, Outgoing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.doubt import CUT_OFF, explained
from kurir.outbox.message_rows import Claimed, Claims
from kurir.outbox.outbox import Outbox
from kurir.reasons import media as files
from kurir.reasons import sentence
from kurir.reasons.messages import CHANNEL_BROKE, NOT_RECORDED
from kurir.store.database import Database, DatabaseUnavailable

_RECHECK = 30.0
_RECORD_TRIES = 3
"""Attempts to record an outcome before the message is quarantined."""
_DEEP_PAUSE = 1.0
"""Minimum seconds between two scans of the whole queue that found nothing to claim."""
_LONGEST_REST = 3_600.0
_LAST_SENDS = 60.0
"""Longest time in seconds that a previous gateway's connection can still flush a send."""

_DONE = frozenset({"sent", "delivered", "read", "failed"})
"""States after which a message keeps nothing back."""

log = structlog.get_logger(__name__)


class Lane:
    """Sends one number's messages until the queue has been empty for a while.

    `wake` notifies it of more, `closed` is set when it has ended.
    """

    def __init__(
        self,
        number: Number,
        channel: Channel,
        *,
        database: Database,
        outbox: Outbox,
        media: MediaStore,
        metrics: Metrics,
        clock: Clock,
        gap: float,
        hold: Hold,
        health: TaskHealth | None = None,
        pauses: Pauses = PAUSES,
        signals: TestSignals | None = None,
    ) -> None:
        self.number = number
        self._hold = hold
        self.closed = False
        self._channel = channel
        self._database = database
        self._outbox = outbox
        self._media = media
        self._metrics = metrics
        self._clock = clock
        self._gap = gap
        self._pauses = pauses
        self._signals = signals or TestSignals()
        self._tasks = Tasks(health)
        self._prefetch = Prefetch(number.account_id, media, self._tasks, self.wake)
        self._wake_event = asyncio.Event()
        self._stopping = False
        self._ended = asyncio.Event()
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._recording: set[int] = set()
        self._on_wire: set[int] = set()
        self._finished = 0
        """Sends that have ended."""
        self._left = True
        """Whether the queue may hold something that a send under way keeps back."""
        self._recovered = False
        self._begun = False
        self._began = self._last_claim = time.monotonic()
        self._ready_since: float | None = None
        self._next_doubt: float | None = None
        self._rests_until = 0.0
        self._next_deep = 0.0
        self._slowed = 0

    def wake(self) -> None:
        """Notifies the lane of a commit, a connection or a finished send."""
        self._wake_event.set()

    async def run(self) -> None:
        """Works until nothing is queued or in flight for `lane_idle` seconds, or until `stop`."""
        try:
            await self._work()
        finally:
            await self._prefetch.close()
            self._ended.set()

    async def _work(self) -> None:
        while not self._stopping:
            self._wake_event.clear()
            try:
                # without the hold nothing may be sent; the handler of its loss stops this lane
                wait = await self._turn() if self._hold.valid() else _RECHECK
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", task="lane", number=self.number.key, reason=str(error))
                wait = self._pauses.after_failure
            self._signals.emit("lane_turned")
            if wait is None:
                wait = max(0.01, min(_RECHECK, self._pauses.lane_idle))  # a send that ends need not notify the lane
                if not self._in_flight and not self._prefetch.busy and self._next_doubt is None:
                    wait = self._last_claim + self._pauses.lane_idle - time.monotonic()
                    if wait <= 0 and not self._wake_event.is_set():
                        break
            if self._next_doubt is not None and self._ready_since is not None:
                wait = min(wait, max(0.01, self._next_doubt - self._clock()))
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake_event.wait()
        self.closed = True

    async def recorded(self) -> None:
        """Waits until nothing is in flight."""
        while self._in_flight:
            await asyncio.wait(self._in_flight.values())

    async def stop(self, timeout: float) -> int:
        """Stops claiming and waits up to `timeout` seconds; returns how many sends were cancelled.

        A send that has an outcome is not cancelled: the outcome must not be lost while this process runs.
        """
        self._stopping = True
        self._wake_event.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()  # a claim in progress is completed
                await self.recorded()
        left = [task for message_id, task in self._in_flight.items() if message_id not in self._recording]
        for task in left:
            task.cancel()
        return len(left)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _turn(self) -> float | None:
        """One pass over the queue. Returns how long to wait before the next one; None when nothing is queued."""
        removed = False
        ready = self._channel.ready(self.number)
        # as far as is known: a claim reads the number, but there is none while it is not ready or paused
        if not ready or self.number.paused:
            account_id, number_id = self.number.account_id, self.number.id
            current = await self._database.read(lambda c: numbers.by_id(c, account_id, number_id), of=account_id)
            removed = current is None
            self.number = current or self.number
            ready = current is not None and self._channel.ready(current)
        if not self._recovered and not await self._recover(ready=ready):
            return _RECHECK
        if removed:
            return self._removed()
        if not ready:
            self._ready_since = None
            return _RECHECK
        await self._settle_doubts()
        free = self._free()
        # `stop` may have been called since this turn began; receipts settle doubts also while the number is paused
        if free <= 0 or self._stopping or self.number.paused:
            return _RECHECK
        rest = self._rests_until - time.monotonic()
        if rest > 0:
            return rest
        return await self._take(free)

    async def _take(self, free: int) -> float | None:
        """Starts sending up to `free` messages; returns how long to wait, like `_turn`."""
        now = self._clock()
        claims = await self._claim(free)
        if not claims.held:
            return _RECHECK
        if claims.number is None:
            return self._removed()
        if claims.number.paused:
            return _RECHECK
        wait = self._until_due(claims.due_at, now)
        if claims.full or claims.files or self._prefetch.busy:
            if pause := self._prefetch.pause():
                return 0.0 if claims.full else min(pause, wait or _RECHECK)
            await self._look_ahead(now)
        if not claims.messages and claims.crowded:
            claims = await self._look_deep(free, now)
            wait = min(wait or _RECHECK, max(0.01, self._next_deep - time.monotonic()))
        # of many that wait for one recipient each claim finds one: the next turn looks beyond them at once
        return 0.0 if claims.full or (claims.messages and claims.crowded) else wait

    def _removed(self) -> None:
        """The number was removed: its messages expire."""
        self._next_doubt = None

    async def _look_deep(self, free: int, now: float) -> Claims:
        """Claims, and fetches files, behind many messages that may not be claimed.

        This scans the number's whole queue in the shared writer, so it is limited to a tenth of the time.
        """
        began = time.monotonic()
        if began < self._next_deep:
            return Claims(self.number)
        claims = await self._claim(free, deep=True)
        await self._look_ahead(now, deep=True)
        if not claims.messages:
            self._next_deep = time.monotonic() + max(_DEEP_PAUSE, 10 * (time.monotonic() - began))
        return claims

    async def _claim(self, free: int, *, deep: bool = False) -> Claims:
        """Claims up to `free` messages and starts sending them; takes over the number as the claim saw it."""
        finished = self._finished
        try:
            claims = await self._outbox.claim(
                self.number.account_id,
                self.number.id,
                free,
                self._hold.guard,
                ready=self._prefetch.ready(),
                failed=self._prefetch.failed(),
                deep=deep,
            )
        except DatabaseUnavailable:
            self._recovered = (
                False  # whether the claim was committed may be unknown: recovery finds what it took as in flight
            )
            raise
        self.number = claims.number or self.number
        self._left = claims.full or claims.due_at is not None
        if self._left and finished != self._finished:
            self._wake_event.set()  # what ended meanwhile may have kept back what the claim passed over
        if claims.messages:
            self._last_claim = time.monotonic()
        for message in claims.messages:
            task = self._tasks.spawn("send", self._process(message), key=str(message.id))
            self._in_flight[message.id] = task
            task.add_done_callback(functools.partial(self._recorded, message.id))
        return claims

    def _free(self) -> int:
        """How many more messages may be in flight. A number with a gap sends one at a time and pauses after each."""
        return (1 if self._gap else self._channel.capabilities.window) - len(self._in_flight)

    async def _look_ahead(self, now: float, *, deep: bool = False) -> None:
        """Reads which messages with files come next and fetches what they need."""
        fetching = self._prefetch.fetching()
        upcoming = await self._outbox.upcoming(
            self.number.account_id, self.number.id, now, fetching=fetching, deep=deep
        )
        self._prefetch.begin(upcoming.files, upcoming.given_up)

    def _until_due(self, due_at: float | None, now: float) -> float | None:
        """Seconds until something is due that was not yet due at `now`, before a claim that found nothing."""
        if due_at is None:
            return None
        # what was due but not claimed waits behind a message in flight or for its file, whose end notifies this lane
        wait = max(0.01, due_at - self._clock()) if due_at > now else _RECHECK
        # a person whose message waits for the end of a restriction may write meanwhile, without a notification
        return wait if self.number.restricted_until is None else min(wait, _RECHECK)

    async def _recover(self, *, ready: bool) -> bool:
        """Settles what an earlier lane of this number left in flight when its process ended; False: it is too early.

        Another gateway that held the number may be frozen with its device still connected, so that its last send may
        yet leave. Once this gateway's connection has replaced that one it cannot, so recovery waits for the connection.
        Later calls find messages that this lane claimed without learning of it: those have surely not left.
        """
        if self._hold.inherited and not ready and time.monotonic() < self._began + _LAST_SENDS:
            return False
        for message in await self._outbox.left_in_flight(self.number.account_id, self.number.id):
            if message.id not in self._in_flight:
                own = explained(CUT_OFF, NeverLeft())
                outcome = own if self._begun else await self._looked_into(message, CUT_OFF)
                await self._record(message, outcome, self._hold.guard)
        self._next_doubt = 0.0  # earlier doubts may still wait for receipts
        self._recovered = self._begun = True
        return True

    async def _settle_doubts(self) -> None:
        """Resends or holds messages in doubt for which no receipt has come in time."""
        now = self._clock()
        if self._ready_since is None:
            self._ready_since = now
        if self._next_doubt is not None and self._next_doubt <= now:
            self._next_doubt = await self._outbox.settle_doubts(
                self.number.account_id,
                self.number.id,
                since=self._ready_since,
                timeout=self._channel.capabilities.timeout,
            )

    def _recorded(self, message_id: int, _task: asyncio.Task[None]) -> None:
        del self._in_flight[message_id]
        self._finished += 1
        self._recording.discard(message_id)
        if message_id in self._on_wire:  # only what reached the channel starts the gap
            self._on_wire.discard(message_id)
            self._rests_until = max(self._rests_until, time.monotonic() + self._gap)
        if self._left or self._stopping:
            self._wake_event.set()

    async def _process(self, message: Claimed) -> None:
        """Sends one message and records its outcome, with as many attempts at recording as it takes."""
        started = time.monotonic()
        outcome = await self._send(message)
        if outcome is None:
            return  # another gateway holds the number now and settles what it finds in flight
        self._recording.add(message.id)
        crash_points.reach("send.answered")
        self._metrics.sent(self.number.channel, outcome, time.monotonic() - started)
        self._slow_down(outcome)
        if isinstance(outcome, InDoubt):
            outcome = await self._looked_into(message, outcome)
        await self._record(message, outcome)

    def _slow_down(self, outcome: Outcome) -> None:
        """Pauses the number when the channel asks for it, twice as long each time until something has been sent."""
        if isinstance(outcome, Sent):
            self._slowed = 0
        elif isinstance(outcome, TryLater) and outcome.whole_number and time.monotonic() >= self._rests_until:
            # several in flight each get this outcome: it counts once
            self._slowed += 1
            self._rests_until = time.monotonic() + pause_after(self._slowed, outcome.after or 1.0, _LONGEST_REST)

    async def _looked_into(self, message: Claimed, doubt: InDoubt) -> Outcome:
        """The outcome of an attempt that ended in doubt, after asking the channel for evidence, however long that
        takes.

        A message whose file was never fetched cannot have left; for others the channel may know.
        """
        outgoing = Outgoing(message.id, message.recipient, message.content, message.typing, None, message.attempt)
        while True:
            try:
                if await self._lacks_file(message):
                    return explained(doubt, NeverLeft())
                evidence = await self._channel.evidence(self.number, outgoing)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", task="evidence", message_id=message.id, reason=str(error))
                await asyncio.sleep(self._pauses.after_failure)
                continue
            except Exception:
                log.exception("evidence_failed", message_id=message.id)
                evidence = Unknown()
            return explained(doubt, evidence)

    async def _lacks_file(self, message: Claimed) -> bool:
        if not isinstance(message.content, Image | Document):
            return False
        return not await self._media.was_fetched(message.account_id, message.id)

    async def _record(
        self, message: Claimed, outcome: Outcome, guard: Callable[[Connection], bool] | None = None
    ) -> None:
        """Records the outcome, retrying as long as needed; with `guard` only while it returns true."""
        timeout = self._channel.capabilities.timeout
        failures = 0
        while True:
            try:
                after = await self._outbox.record(message, outcome, timeout, guard)
            except DatabaseUnavailable as error:
                # the message may have left: its outcome must not be lost while this process runs
                log.warning("database_unavailable", task="outcome", message_id=message.id, reason=str(error))
                await asyncio.sleep(self._pauses.after_failure)
                continue
            except Exception as error:
                failures += 1
                log.exception("outcome_failed", message_id=message.id, failures=failures)
                if failures < _RECORD_TRIES:
                    await asyncio.sleep(self._pauses.after_failure)
                    continue
                await self._quarantine(message, outcome, error)
                return
            if after.state not in _DONE:
                # it waits for another attempt or for a receipt; a claim under way may not have seen that
                self._left = True
                self._wake_event.set()
            # one line for each message that went out at once would be most of the log
            write = log.debug if message.attempt == 1 and isinstance(outcome, Sent) else log.info
            write(
                "send_attempted",
                message_id=message.id,
                number=self.number.key,
                attempt=message.attempt,
                state=after.state,
                reason=sentence(after.error_reason, "en") or None,
            )
            if isinstance(outcome, Halted):
                log.error(
                    "number_paused", number=self.number.key, code=outcome.code, reason=sentence(outcome.reason, "en")
                )
            if after.state == "unconfirmed":
                self._next_doubt = 0.0
            return

    async def _quarantine(self, message: Claimed, outcome: Outcome, error: Exception) -> None:
        reason = NOT_RECORDED(error=type(error).__name__)
        while True:
            try:
                await self._outbox.quarantine(message, outcome, reason)
                return
            except DatabaseUnavailable:
                await asyncio.sleep(self._pauses.after_failure)

    async def _send(self, message: Claimed) -> Outcome | None:
        answer = self._prefetch.take(message.id)
        if answer is not None:
            return answer
        media = await self._file_of(message) if isinstance(message.content, Image | Document) else None
        if not isinstance(media, MediaFile | None):
            return media
        crash_points.reach("send.begun")
        if not self._hold.valid():
            log.warning("send_yielded", message_id=message.id, number=self.number.key)
            return None
        self._on_wire.add(message.id)
        try:
            return await self._channel.send(
                self.number,
                Outgoing(message.id, message.recipient, message.content, message.typing, media, message.attempt),
            )
        except Exception:
            log.exception("send_failed", message_id=message.id)
            return InDoubt(CHANNEL_BROKE())

    async def _file_of(self, message: Claimed) -> MediaFile | TryLater | Refused:
        """The file that was fetched for the message; nothing is fetched while it is in flight."""
        try:
            file = await self._media.whole_file(message.account_id, message.id)
        except DatabaseUnavailable:
            return TryLater("media_not_found", files.NOT_LOOKED_UP(), counted=False)
        except Exception:
            log.exception("media_failed", message_id=message.id)
            return Refused("media_failed", files.NOT_READ())
        return file or TryLater("media_lost", files.LOST(), counted=False)

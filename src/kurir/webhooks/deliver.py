"""The deliverer: makes deliveries of new events, posts them, as many at once as is fair, and records the answers.

Each endpoint has a few workers; a worker claims one event, posts it, records the answer, and takes the next. An
endpoint that keeps failing has one worker only, and those of all failing endpoints share a small pool of their own: a
dead or slow receiver delays no other. Accounts share both pools by turns, so that many slow receivers of one account
delay no other's. A commit notifies the deliverer; it also polls every few seconds, for what other processes have
written.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping

import structlog
from sqlalchemy import Connection

from kurir.kit.clock import Clock, system_clock
from kurir.kit.connection_failures import connection_failure
from kurir.kit.fair_sharing import Turns
from kurir.kit.metrics import Metrics
from kurir.kit.safe_fetch import FetchFailed, SafeFetch
from kurir.kit.sealing import Sealing
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.kit.url_rules import UrlRefused
from kurir.reasons import Reason
from kurir.reasons.webhooks import RECEIVER_UNREACHABLE
from kurir.store.database import LONG_WORK, Database, DatabaseUnavailable, Work
from kurir.webhooks import deliveries, history
from kurir.webhooks.deliveries import ClaimedDelivery
from kurir.webhooks.fan_out import behind, fan_out
from kurir.webhooks.retry_schedule import FAILING, Answered, Delivered, ReceiverResponse, RetryLater, Unanswered, judge
from kurir.webhooks.signing import headers

TIMEOUT = 15.0
"""Seconds that a receiver has to answer."""
MOST_ANSWER = 20_000
"""Bytes of an answer that are read."""
CONNECTIONS = 256
"""Tries at once to receivers that work."""
FAILING_CONNECTIONS = 32
"""Tries at once to those that keep failing."""
_PER_ENDPOINT = 4
_POLL = 5.0
_AFTER_FAILURE = 1.0  # seconds until what failed is tried again
_REPAIR_EVERY = 15.0
_BATCH_DELAY = 0.02
_FAN_OUT_MOST = 1.0
"""Seconds after which the deliveries made of a long backlog are posted before more are made."""
_ACCOUNTS = 32
"""Accounts whose events become deliveries in one transaction."""
_MOST_BREAKAGES = 3
"""Unforeseen failures of one delivery after which it is quarantined."""

log = structlog.get_logger(__name__)


class Deliverer:
    """Delivers all accounts' webhooks until it is stopped."""

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        safe_fetch: SafeFetch,
        metrics: Metrics,
        clock: Clock,
        *,
        health: TaskHealth | None = None,
        connections: int = CONNECTIONS,
        failing_connections: int = FAILING_CONNECTIONS,
    ) -> None:
        self._tasks = Tasks(health)
        self._database = database
        self._sealing = sealing
        self._safe_fetch = safe_fetch
        self._metrics = metrics
        self._clock = clock
        self._wake_event = asyncio.Event()
        self._workers: dict[int, set[asyncio.Task[None]]] = {}
        self._failures: Counter[int] = Counter()
        self._in_flight: dict[int, ClaimedDelivery] = {}
        self._breakages: Counter[tuple[int, int]] = Counter()
        """Unforeseen failures by endpoint and delivery (0: the one that was about to be claimed)."""
        self._slots = Turns(connections)
        self._failing_slots = Turns(failing_connections)
        self._repaired = 0.0
        self._stopping = False

    async def start(self) -> None:
        """Starts with what an earlier process left. Raises DatabaseUnavailable."""
        if not self._database.shared:  # no other process can have claimed any
            now = self._clock()
            await self._database.write(lambda c: deliveries.release_all(c, now), timeout=LONG_WORK)
        self._tasks.keep("webhook-rounds", self._poll_endpoints, vital=True)

    def wake(self) -> None:
        """Notifies the deliverer of a commit."""
        self._wake_event.set()

    async def stop(self, timeout: float = 5.0) -> None:
        """Claims nothing more and waits for what is in flight; what takes longer is left to the next process."""
        self._stopping = True
        self._wake_event.set()
        await self._tasks.close(timeout)
        left, now = list(self._in_flight.values()), self._clock()
        if left:
            with contextlib.suppress(DatabaseUnavailable):  # then their leases run out
                await self._database.write(lambda c: [deliveries.release(c, delivery, now) for delivery in left])

    async def forget(self, before: float) -> int:
        """Removes events delivered (or given up) before that unix time; returns how many deliveries."""
        return await history.forget(self._database, before)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _poll_endpoints(self) -> None:
        while not self._stopping:
            self._wake_event.clear()
            pause = _POLL
            try:
                await self._repair()
                await self._fan_out()
                now = self._clock()
                for account_id, endpoint_id, due_at in await self._database.read(deliveries.first_due):
                    if due_at <= now:
                        self._call(account_id, endpoint_id)
                    else:
                        pause = min(pause, due_at - now)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", task="webhooks", reason=str(error))
                await asyncio.sleep(_AFTER_FAILURE)
                continue
            await asyncio.sleep(_BATCH_DELAY)  # commits meanwhile share one round
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake_event.wait()

    async def _fan_out(self) -> None:
        """Makes deliveries of new events in the log; an account that fails delays no other."""
        waiting = await self._database.read(behind)
        until = time.monotonic() + _FAN_OUT_MOST
        while waiting:
            some, waiting = waiting[:_ACCOUNTS], waiting[_ACCOUNTS:]
            writes = (self._database.write(lambda c, a=a: fan_out(c, a), timeout=LONG_WORK) for a in some)
            for account_id, more in zip(some, await asyncio.gather(*writes, return_exceptions=True), strict=True):
                if isinstance(more, DatabaseUnavailable):
                    raise more
                if isinstance(more, Exception):
                    log.error("fan_out_failed", account=account_id, exc_info=more)
                    self._metrics.task_failed("webhook-fan-out")
                elif more is True:
                    waiting.append(account_id)  # after the others
            if waiting and time.monotonic() >= until:
                self._wake_event.set()
                return

    async def _repair(self) -> None:
        if time.monotonic() - self._repaired >= _REPAIR_EVERY:
            if await self._database.read(deliveries.stranded):
                now = self._clock()
                await self._database.write(lambda c: deliveries.repair(c, now), timeout=LONG_WORK)
            self._repaired = time.monotonic()

    def _call(self, account_id: int, endpoint_id: int) -> None:
        """Starts one more worker for an endpoint with work, up to its limit."""
        workers = self._workers.setdefault(endpoint_id, set())
        if self._stopping or len(workers) >= self._most(endpoint_id):
            return
        task = self._tasks.spawn("webhook", self._work(account_id, endpoint_id), key=str(endpoint_id))
        workers.add(task)

        def gone(done: asyncio.Task[None]) -> None:
            workers.discard(done)
            if not workers and self._workers.get(endpoint_id) is workers:
                del self._workers[endpoint_id]
            self._wake_event.set()  # something may have been committed while it ended

        task.add_done_callback(gone)

    def _most(self, endpoint_id: int) -> int:
        return 1 if self._is_failing(endpoint_id) else _PER_ENDPOINT

    def _is_failing(self, endpoint_id: int) -> bool:
        return self._failures[endpoint_id] >= FAILING

    async def _work(self, account_id: int, endpoint_id: int) -> None:
        delivery: ClaimedDelivery | None = None
        try:
            while not self._stopping and len(self._workers[endpoint_id]) <= self._most(endpoint_id):
                pool = self._failing_slots if self._is_failing(endpoint_id) else self._slots
                async with pool.place(account_id):
                    if self._stopping:
                        return
                    now = self._clock()
                    delivery = await self._database.write(
                        lambda c, now=now: deliveries.claim(c, self._sealing, endpoint_id, now)
                    )
                    if delivery is None:
                        self._breakages.pop((endpoint_id, 0), None)
                        return
                    self._in_flight[delivery.id] = delivery
                    self._call(account_id, endpoint_id)  # there may be more
                    try:
                        await self._deliver(delivery)
                    except asyncio.CancelledError:
                        raise  # the gateway stops, and gives back what is in flight
                    except BaseException:
                        del self._in_flight[delivery.id]
                        raise
                    del self._in_flight[delivery.id]
                    self._breakages.pop((endpoint_id, 0), None)
                    self._breakages.pop((endpoint_id, delivery.id), None)
                    delivery = None
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", task="webhooks", reason=str(error))
            await asyncio.sleep(_AFTER_FAILURE)
        except Exception as error:
            log.exception("webhook_delivery_failed", endpoint=endpoint_id)
            await self._broke(endpoint_id, delivery, error)
            await asyncio.sleep(_AFTER_FAILURE)

    async def _broke(self, endpoint_id: int, delivery: ClaimedDelivery | None, error: Exception) -> None:
        """Quarantines a delivery after some unforeseen failures: the others of its endpoint go on."""
        which = (endpoint_id, delivery.id if delivery is not None else 0)
        self._breakages[which] += 1
        now = self._clock()
        with contextlib.suppress(DatabaseUnavailable):  # then it fails once more
            if self._breakages[which] >= _MOST_BREAKAGES:
                reason = f"it could not be processed ({type(error).__name__})"
                await self._database.write(
                    lambda c: deliveries.quarantine_delivery(c, endpoint_id, which[1], reason, now)
                )
                self._metrics.quarantined("webhook")
                del self._breakages[which]
            elif delivery is not None:
                await self._database.write(lambda c: deliveries.release(c, delivery, now))

    async def _deliver(self, delivery: ClaimedDelivery) -> None:
        began = time.monotonic()
        body = delivery.body.encode()
        # the receiver compares it with a clock of its own
        signed = headers(delivery.secrets, delivery.event_key, delivery.number_key, body, system_clock())
        answer = await post(self._safe_fetch, delivery.url, body, signed, delivery.account_id)
        seconds = time.monotonic() - began
        now = self._clock()
        step = judge(answer, delivery.attempt, now, random.random())  # noqa: S311 - jitter, not a secret
        if isinstance(step, Delivered):
            del self._failures[delivery.endpoint_id]
        else:
            self._failures[delivery.endpoint_id] += 1
            log.info(
                "webhook_failed",
                endpoint=delivery.endpoint_key,
                event_id=delivery.event_key,
                attempt=delivery.attempt,
                status=answer.status if isinstance(answer, Answered) else 0,
                reason="" if isinstance(answer, Answered) else answer.reason.code,
                step=type(step).__name__,
            )

        def work(connection: Connection) -> Reason:
            return deliveries.record(connection, delivery, answer, step, seconds=seconds, now=now)

        disabled = await self._written(work, began + deliveries.LEASE)
        # the names of the metric's label, which dashboards know
        outcome = "again" if isinstance(step, RetryLater) else type(step).__name__.lower()
        self._metrics.webhook_attempted(outcome, seconds)
        if disabled:
            log.warning("webhook_endpoint_disabled", endpoint=delivery.endpoint_key, reason=disabled.code)

    async def _written(self, work: Work[Reason], deadline: float) -> Reason:
        """Records a result, with retries while the try is still ours: a lost result is a second delivery."""
        while True:
            try:
                return await self._database.write(work)
            except DatabaseUnavailable:
                if self._stopping or time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_AFTER_FAILURE)


async def post(
    safe_fetch: SafeFetch, url: str, body: bytes, signed: Mapping[str, str], account: int = 0
) -> ReceiverResponse:
    """One POST with the headers of `signing.headers`; never raises for what the other side does."""
    try:
        response = await safe_fetch.post(url, body, signed, within=TIMEOUT, most_answer=MOST_ANSWER, account=account)
    except (UrlRefused, FetchFailed) as refusal:
        return Unanswered(refusal.reason)
    except OSError as error:
        log.info("webhook_post_failed", error=f"{type(error).__name__}: {error}")
        return Unanswered(RECEIVER_UNREACHABLE(error=connection_failure(error)))
    return Answered(
        response.status, response.retry_after, response.answer.decode("utf-8", "replace").replace("\0", "\ufffd")
    )

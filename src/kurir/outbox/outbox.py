"""The outbox: durable sending in three verbs, and the wait for an outcome. Read this, then `accept`, `claim`, `record`.

`recovery` settles what a crash left and what is in doubt; `operator_actions` replays and cancels single messages.

A message exists exactly when its transaction was flushed. The counts of waiting messages and the waiters for an outcome
are in this process; all else is in the database.

More than 300 lines: the one interface to the outbox, over the modules beside it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Connection

from kurir.kit import crash_points
from kurir.kit.clock import Clock
from kurir.kit.ids import MessageIds
from kurir.kit.metrics import Metrics
from kurir.kit.sealing import Sealing
from kurir.messages.channel_reports import Outcome, StatusChanged
from kurir.messages.content import kind_of
from kurir.messages.lifecycle import SETTLED
from kurir.numbers import numbers
from kurir.outbox import (
    accept,
    claim,
    doubt,
    early_receipts,
    idempotency,
    operator_actions,
    outcomes,
    record,
    recovery,
    restrictions,
    retention,
    unprocessable,
    wait_facts,
)
from kurir.outbox.after_commit import Effects
from kurir.outbox.claim import Taken
from kurir.outbox.idempotency import Earlier, KeptAnswer, Once
from kurir.outbox.message_rows import Claimed, Claims, Draft, FileAhead, Snapshot, Upcoming
from kurir.outbox.retries import decide
from kurir.outbox.row_decoding import ReadableRows
from kurir.outbox.unprocessable import Tried
from kurir.outbox.wait_reasons import Facts
from kurir.reasons import Reason
from kurir.store.database import CommitUnknown, Database, DatabaseUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")
_LOOK_AGAIN = 10.0


class QueueFull(Exception):  # noqa: N818 - a state of the world, not a mistake
    """The account has too many messages waiting; nothing was stored."""


class NotSettledYet(Exception):  # noqa: N818 - a state of the world, not a mistake
    """A message's state cannot be read now. The message itself is stored."""


@dataclass(frozen=True, slots=True)
class Accepted(Generic[T]):
    """Messages that are stored durably: their ids in order, and what `also` returned."""

    ids: list[int]
    value: T


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt did within its transaction: `message` is how it found the message, None when it is not known yet,
    and `moved` how it left it, None when it changed no state."""

    message: Snapshot | None
    moved: Snapshot | None


class Outbox:
    """Outgoing messages of all accounts.

    `number_due` is called with (account_id, number_id) after a commit that gives that number something to send,
    `settled` with (account_id, message_id) when a message is settled and nobody in this process waits for that.
    """

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        clock: Clock,
        *,
        lifetime: float,
        max_attempts: int,
        queue_limit: int,
        restriction: float = 3_600.0,
        metrics: Metrics,
        number_due: Callable[[int, int], None],
        settled: Callable[[int, int], None] = lambda _account_id, _message_id: None,
    ) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock
        self._lifetime = lifetime
        self._max_attempts = max_attempts
        self._queue_limit = queue_limit
        self._restriction = restriction
        self._metrics = metrics
        self._number_due = number_due
        self._ids = MessageIds()
        self._effects = Effects(metrics, settled, shared=database.shared)
        self._rows = ReadableRows(database, sealing, clock, metrics, self._effects)

    async def count_waiting(self) -> None:
        """Counts what is queued or in flight: at the start, and periodically where other gateways send too."""
        self._effects.count(dict(await self._database.read(claim.count_waiting)))

    def waiting(self) -> int:
        """Messages that are queued or in flight, over all accounts."""
        return self._effects.waiting_in_all()

    # -- accept ----------------------------------------------------------------------------------------------------

    async def accept(
        self,
        drafts: Sequence[Draft],
        also: Callable[[Connection, list[int]], T] | None = None,
        *,
        once: Once | None = None,
        facts: dict[str, str] | None = None,
        awaited: bool = False,
    ) -> Accepted[T | None]:
        """Stores the drafts, all or none, and returns after the flushed commit.

        `also` runs in the same transaction with the new ids. With `once` the request is remembered there too, together
        with `facts` for its answer. `awaited`: the caller is about to wait for each of them.

        Raises QueueFull, DatabaseUnavailable and, for a request that was accepted before, Repeated; then nothing was
        stored, unless it is a CommitUnknown.
        """
        now = self._clock()
        wanted: dict[int, int] = {}
        for draft in drafts:
            wanted[draft.account_id] = wanted.get(draft.account_id, 0) + 1
        for account_id, count in wanted.items():
            if self._effects.waiting(account_id) + count > self._queue_limit:
                raise QueueFull(f"{self._effects.waiting(account_id)} messages are waiting already")
        ids = [self._ids.next() for _ in drafts]
        rows = [
            accept.row_of(self._sealing, message_id, draft, now, self._lifetime)
            for message_id, draft in zip(ids, drafts, strict=True)
        ]
        name = idempotency.name_of(self._sealing, once, drafts) if once else ""
        remembered = idempotency.Remembered(ids, facts or {})

        def work(connection: Connection) -> T | None:
            if once is not None:
                idempotency.remember(connection, self._sealing, once, name=name, remembered=remembered, now=now)
            accept.insert(connection, rows)
            return also(connection, ids) if also is not None else None

        def stored(_value: object) -> None:
            crash_points.reach("accept.committed")
            for account_id, count in wanted.items():
                self._effects.queued(account_id, count)
            for draft in drafts:
                self._metrics.accepted(kind_of(draft.content), draft.origin)
            if awaited:
                for message_id in ids:
                    self._effects.waiters.expect(message_id)
            self._wake(drafts)

        try:
            if also is None and once is None:
                await self._database.append(accept.INSERT, rows, after_commit=stored)
                value = None
            else:
                value = await self._database.write(work, after_commit=stored, in_haste=True)
        except CommitUnknown:
            # if it was committed after all, the lanes find it; the server may still be busy
            self._wake(drafts)
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._wake, drafts)
            raise
        return Accepted(ids, value)

    async def earlier(self, once: Once) -> Earlier | None:
        """The request that was accepted before under the same key, or None."""
        since = self._clock() - once.seconds
        return await self._database.read(
            lambda c: idempotency.find(c, self._sealing, once.account_id, once.key_hash, since),
            of=once.account_id,
        )

    async def keep_answer(self, once: Once, answer: KeptAnswer) -> None:
        """Remembers the answer to the request that was accepted under this key."""
        await self._database.write(lambda c: idempotency.keep(c, self._sealing, once.account_id, once.key_hash, answer))

    async def forget_requests(self, before: float) -> int:
        """Removes what is remembered of requests before that unix time; returns how many."""
        return await retention.forget_requests(self._database, before)

    async def forget_early_receipts(self, before: float) -> int:
        """Removes receipts from before that unix time whose message never became known; returns how many."""
        return await retention.forget_early_receipts(self._database, before)

    async def forget_messages(self, before: float) -> int:
        """Removes messages from before that unix time that have come to their end, with their tries; how many."""
        return await retention.forget_messages(self._database, before)

    # -- claim -----------------------------------------------------------------------------------------------------

    async def claim(
        self,
        account_id: int,
        number_id: int,
        limit: int,
        guard: Callable[[Connection], bool] | None = None,
        *,
        ready: Collection[int] = (),
        failed: Collection[int] = (),
        deep: bool = False,
    ) -> Claims:
        """Takes up to `limit` messages of the number for sending; their attempts are committed before this returns.

        Nothing is taken while the number is paused. While WhatsApp restricts it, first contacts are passed over (see
        `restrictions`). Messages with files are passed over, but for those that are `ready`; of these, `failed` ones
        will be recorded without asking the network, and try nothing. `deep`: looks beyond the number's first messages,
        which may take long (see `claim`). `guard` is called within the transaction; when it returns false, nothing is
        taken.
        """
        now = self._clock()

        def work(connection: Connection) -> Taken:
            number = numbers.by_id(connection, account_id, number_id)
            if guard is not None and not guard(connection):
                return Taken(number, held=False)
            if number is None or number.paused:
                return Taken(number)
            over = None
            if number.restricted_until is not None:
                complete, over = restrictions.put_off(connection, account_id, number_id, now)
                if not complete:
                    return Taken(number, complete=False)
            rows = claim.claim(connection, account_id, number_id, limit, now, ready=ready, deep=deep)
            trials: set[int] = set()
            if over is not None:
                asked = [row for row in rows if row.id not in failed]
                trials = {r.id for r in asked if restrictions.is_first_contact(connection, number_id, r.recipient)}
                if trials:
                    restrictions.try_one(connection, account_id, number_id, over, now)
            # as many as were wanted: the caller claims again, and what is left is asked then
            left = claim.left(connection, account_id, number_id, now) if len(rows) < limit else None
            return Taken(number, rows, trials, left)

        def taken_up(taken: Taken) -> None:
            self._effects.expired([row for row in taken.rows if row.state == "expired"])

        taken = Taken(None, complete=False)
        while not taken.complete:
            taken = await self._database.write(work, after_commit=taken_up)
        messages: list[Claimed] = []
        for row in taken.rows:
            if row.state == "expired":
                await self._publish_ended(row.account_id, row.id)
            else:
                crash_points.reach("claim.committed")
                # it was taken a moment ago and nothing was tried: it surely has not left
                messages += await self._rows.readable(row, "failed", first_contact=row.id in taken.trials)
        if taken.left is None:
            return Claims(taken.number, messages, taken.held, full=bool(taken.rows))
        return Claims(taken.number, messages, taken.held, *taken.left)

    async def upcoming(
        self, account_id: int, number_id: int, now: float, *, fetching: Collection[int] = (), deep: bool = False
    ) -> Upcoming:
        """The files that the number will need after `now`; `deep` as for `claim`."""

        def work(connection: Connection) -> tuple[set[int], list[Any]]:
            return (
                claim.still_queued(connection, account_id, fetching),
                claim.files_ahead(connection, account_id, number_id, now, deep=deep),
            )

        queued, rows = await self._database.read(work, of=account_id)
        files = [FileAhead(row.id, self._rows.content(row)) for row in rows]
        return Upcoming(files, set(fetching) - queued)

    async def waiting_numbers(self) -> list[tuple[int, int]]:
        """Every (account, number) with queued messages."""
        return await self._database.read(claim.waiting_numbers)

    async def expire(self) -> int:
        """Ends queued messages whose lifetime is over; returns how many."""
        now = self._clock()
        rows = await self._database.write(lambda c: claim.expire(c, now), after_commit=self._effects.expired)
        for row in rows:
            await self._publish_ended(row.account_id, row.id)
        return len(rows)

    # -- record ----------------------------------------------------------------------------------------------------

    async def record(
        self,
        claimed: Claimed,
        outcome: Outcome,
        timeout: float = 0.0,
        guard: Callable[[Connection], bool] | None = None,
    ) -> Snapshot:
        """Records a try's result. Raises DatabaseUnavailable; then call it again, the result must not get lost.

        `timeout`: seconds in which a receipt may still settle a message in doubt. `guard` is called within the
        transaction; when it returns false, nothing is written. It is for the tries of earlier lanes: a try of the
        caller's own is recorded whichever gateway holds the number by now.
        """
        now = self._clock()
        decision = decide(
            outcome,
            attempt=claimed.attempt,
            max_attempts=self._max_attempts,
            now=now,
            expires_at=claimed.expires_at,
            jitter=random.random(),  # noqa: S311 - jitter, not a secret
        )

        def work(connection: Connection) -> Snapshot:
            if guard is not None and not guard(connection):
                unchanged = record.by_id(connection, claimed.account_id, claimed.id)
                assert unchanged is not None
                return unchanged
            return outcomes.write(
                connection, claimed, outcome, decision, now=now, timeout=timeout, restriction=self._restriction
            )

        def recorded(after: Snapshot) -> None:
            crash_points.reach("record.committed")
            self._effects.moved(after, left_queue=after.state in SETTLED)

        return await self._database.write(work, after_commit=recorded)

    async def quarantine(self, claimed: Claimed, outcome: Outcome, reason: Reason) -> None:
        """Ends a message whose outcome cannot be recorded, whatever is tried. Raises DatabaseUnavailable."""
        tried = Tried(claimed.id, claimed.account_id, claimed.number_id, claimed.attempt, claimed.due_at)
        remote_id = getattr(outcome, "remote_id", None)
        await self._rows.quarantine(tried, unprocessable.state_after(outcome), reason, remote_id)

    def receipt(self, connection: Connection, event: StatusChanged, now: float) -> Receipt:
        """Applies a receipt within the caller's transaction; call `receipt_committed` with what it returns after the
        commit.

        A receipt whose message is not known yet is stored until the send's answer is recorded.
        """
        message = None
        if event.message_id is not None:
            message = record.by_id(connection, event.account_id, event.message_id)
            if message is not None and message.number_id != event.number_id:
                message = None
        if message is None:
            message = record.by_remote_id(connection, event.account_id, event.number_id, event.remote_id)
        if message is None:
            early_receipts.keep(connection, event, now)
            return Receipt(None, None)
        after = record.receipt(connection, message, event, now)
        return Receipt(message, after if after.state != message.state else None)

    def receipt_committed(self, receipt: Receipt) -> None:
        """Call it after the commit of a receipt, as `after_commit`: resolves the message's waiters."""
        if receipt.message is None or receipt.moved is None:
            return
        self._effects.moved(receipt.moved, left_queue=receipt.message.state == "queued")

    # -- doubt -----------------------------------------------------------------------------------------------------

    async def left_in_flight(self, account_id: int, number_id: int) -> list[Claimed]:
        """What an earlier lane left in flight; record an outcome for each. Only for a number that this gateway
        holds."""
        rows = await self._database.read(lambda c: recovery.left_in_flight(c, account_id, number_id), of=account_id)
        # whether an unreadable message left is unknown
        return [claimed for row in rows for claimed in await self._rows.readable(row, "unconfirmed")]

    async def settle_doubts(self, account_id: int, number_id: int, *, since: float, timeout: float) -> float | None:
        """Queues again, or holds, the number's unconfirmed messages whose timeout is over.

        `since` is when receipts of the number could last begin to come (unix seconds), `timeout` how long they take at
        most. Returns when to call again, None when nothing is left to wait for. Raises DatabaseUnavailable.
        """
        now = self._clock()

        rows = await self._database.read(lambda c: recovery.doubts(c, account_id, number_id), of=account_id)
        ripe = [(max(row.doubt_until, since + doubt.timeout(row.origin, timeout)), row) for row in rows]
        due = [row for at, row in ripe if at <= now]

        def work(connection: Connection) -> int:
            return sum(
                recovery.settle(connection, account_id, row, max_attempts=self._max_attempts, now=now) for row in due
            )

        if due:
            await self._database.write(work, after_commit=partial(self._effects.queued, account_id))
        return min((at for at, _ in ripe if at > now), default=None)

    # -- operator actions ------------------------------------------------------------------------------------------

    async def replay(self, account_id: int, message_id: int) -> Snapshot:
        """Queues a failed, expired or unconfirmed message anew. Raises KeyError and NotPossible."""
        now = self._clock()

        def queued(message: Snapshot) -> None:
            self._effects.queued(account_id)
            self._number_due(account_id, message.number_id)

        return await self._database.write(
            lambda c: operator_actions.replay(c, account_id, message_id, now=now, lifetime=self._lifetime),
            after_commit=queued,
        )

    async def cancel(self, account_id: int, message_id: int) -> Snapshot:
        """Ends a queued or unconfirmed message. Raises KeyError and NotPossible."""
        now = self._clock()

        def canceled(moved: tuple[Snapshot, Snapshot]) -> None:
            before, after = moved
            self._effects.moved(after, left_queue=before.state == "queued")
            self._number_due(account_id, after.number_id)  # what waited behind it may go

        _, after = await self._database.write(
            lambda c: operator_actions.cancel(c, account_id, message_id, now=now), after_commit=canceled
        )
        return after

    # -- queries ---------------------------------------------------------------------------------------------------

    async def snapshot(self, account_id: int, message_id: int) -> Snapshot | None:
        """Where the account's message stands, or None."""
        return await self._database.read(lambda c: record.by_id(c, account_id, message_id), of=account_id)

    async def waiting_facts(self, account_id: int, message_id: int) -> Facts | None:
        """What is known of a message that has not ended; None when it has. Raises DatabaseUnavailable."""
        found = await self._database.read(lambda c: wait_facts.facts(c, account_id, [message_id]), of=account_id)
        return found.get(message_id)

    async def wait_until_settled(self, account_id: int, message_id: int, timeout: float) -> Snapshot:
        """Waits until the message is settled, `timeout` seconds at most; returns where it stands then.

        Raises KeyError when the account has no such message, and NotSettledYet.
        """
        waiters = self._effects.waiters
        try:
            found = await waiters.wait(message_id, timeout, lambda: self.snapshot(account_id, message_id))
        except DatabaseUnavailable as error:
            raise NotSettledYet(str(error)) from error
        if found.account_id != account_id:
            raise KeyError(message_id)
        return found

    def awaits(self, message_id: int) -> bool:
        """Whether anybody in this process waits for the message's outcome."""
        return self._effects.waiters.awaited(message_id)

    async def look_at(self, account_id: int, message_id: int) -> None:
        """Resolves the message's waiters if it was settled by another gateway."""
        if self._effects.waiters.awaited(message_id):
            now = await self.snapshot(account_id, message_id)
            if now is not None and now.state in SETTLED:
                self._effects.waiters.resolve(now)

    @property
    def dismissed(self) -> bool:
        """Whether the process stops and all waiting has ended."""
        return self._effects.waiters.dismissed

    def dismiss(self) -> None:
        """Ends all waiting at the stop: waiters get their message's present state."""
        self._effects.waiters.dismiss()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _wake(self, drafts: Sequence[Draft]) -> None:
        for account_id, number_id in {(draft.account_id, draft.number_id) for draft in drafts}:
            self._number_due(account_id, number_id)

    async def _publish_ended(self, account_id: int, message_id: int) -> None:
        await self.look_at(account_id, message_id)
        self._effects.ended(account_id, message_id)


__all__ = ["Accepted", "Claimed", "Draft", "NotSettledYet", "Outbox", "QueueFull", "Snapshot"]

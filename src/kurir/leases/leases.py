"""A gateway's leases: its heartbeat, and the numbers that it acquires, holds and releases."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import Connection

from kurir.kit.atomic_files import replace_whole
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.leases import statements
from kurir.leases.ownership import Hold
from kurir.leases.statements import Taken
from kurir.store.database import Database, DatabaseUnavailable

LEASE = 20.0
"""Seconds for which a heartbeat keeps a gateway's leases."""
HEARTBEAT = 5.0
_SAFE = 0.9
"""Fraction of a lease after which a gateway stops by its own clock, before the database considers it dead."""
_WATCH = 0.25
_AGAIN = 1.0
_JUST_AFTER = 0.1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseHandlers:
    """Callbacks run when this gateway gains or loses a number."""

    begin: Callable[[int, int], Awaitable[None]]
    """(account_id, number_id): this gateway now holds the number."""
    end: Callable[[int, bool], Awaitable[None]]
    """(number_id, orderly): this gateway no longer holds the number. Orderly: sends in flight may finish; otherwise the
    lease is lost already."""
    may_go: Callable[[int], bool]
    """(number_id): whether the number may move to another gateway now."""
    released: Callable[[], None]
    """Numbers were released; notifies the other gateways."""


class Leases:
    """The numbers that this gateway holds. Start it when lanes and devices can begin, close it after they ended.

    A gateway that only answers API calls never starts it: it holds nothing, but can look up holders.
    """

    def __init__(
        self,
        database: Database,
        memory: Path,
        url: str = "",
        *,
        lease: float = LEASE,
        heartbeat: float = HEARTBEAT,
        health: TaskHealth | None = None,
    ) -> None:
        """`memory` is a file that stores this gateway's last name; the data folder's lock guarantees that the previous
        owner has exited. `url` is the address at which other gateways reach this one."""
        self._database = database
        self._memory = memory
        self._url = url
        self._lease = lease
        self._heartbeat = heartbeat
        self._me = self._before = ""
        self._held: dict[int, _Lease] = {}
        self._until = 0.0
        self._next_death = 0.0
        self._leaving: set[int] = set()
        self._taking = False
        self._extending = asyncio.Lock()
        self._tasks = Tasks(health)
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._look = asyncio.Event()

    # -- asked by others -------------------------------------------------------------------------------------------

    def hold(self, number_id: int) -> Hold | None:
        """The hold on the number, None when this gateway does not hold it."""
        lease = self._held.get(number_id)
        return lease if lease is not None and lease.valid() else None

    def holds(self, number_id: int, lease: _Lease) -> bool:
        """Whether this lease on the number has been neither released nor lost."""
        return self._held.get(number_id) is lease and _now() < self._until

    def held(self) -> list[int]:
        """The numbers that this gateway holds."""
        return sorted(self._held)

    async def holder(self, number_id: int) -> str | None:
        """The address of the gateway that holds the number, None when none does. Raises DatabaseUnavailable."""
        return await self._database.read(lambda c: statements.holder(c, number_id))

    # -- start and stop --------------------------------------------------------------------------------------------

    async def start(self, handlers: LeaseHandlers) -> None:
        """Registers this gateway and acquires its share of the numbers. Raises DatabaseUnavailable and OSError.

        Numbers held by an earlier run of this gateway are free at once.
        """
        self._handlers = handlers
        self._taking = True
        with contextlib.suppress(FileNotFoundError):
            self._before = self._memory.read_text(encoding="ascii", errors="replace")
        await self._extend()
        self._tasks.keep("heartbeat", self._go_on, vital=True, endless=True)
        self._tasks.keep("heartbeat-watch", self._watch, vital=True, endless=True)

    async def take(self, number_id: int) -> bool:
        """Acquires one number now if it is free; returns whether this gateway holds it. Raises DatabaseUnavailable."""
        begun: list[asyncio.Task[None]] = []
        if self._taking and number_id not in self._held:
            async with self._extending:
                begun = await self._take(1, only=number_id)
            await asyncio.gather(*begun)
        return self.hold(number_id) is not None

    def look(self) -> None:
        """Checks for free numbers now instead of at the next heartbeat, because another gateway released some."""
        self._look.set()

    def stop_taking(self) -> None:
        """Stops acquiring numbers before shutdown; keeps those held."""
        self._taking = False

    async def close(self) -> None:
        """Releases everything at once; call it after lanes and devices have ended."""
        self._taking = False
        await self._tasks.close()
        self._held.clear()
        if self._me:
            with contextlib.suppress(DatabaseUnavailable):  # the lease expires in that case
                await self._database.write(lambda c: statements.leave(c, self._me))
                self._handlers.released()

    # -- heartbeat -------------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        while True:
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._heartbeat, max(0.0, self._next_death) + _JUST_AFTER)):
                    await self._look.wait()
            try:
                await self._extend()
            except DatabaseUnavailable as error:
                log.warning("heartbeat_missed", reason=str(error))

    async def _watch(self) -> None:
        """Stops sending in time when heartbeats fail, also while one is waiting for the database."""
        while True:
            await asyncio.sleep(_WATCH)
            if self._held and _now() >= self._until:
                self._lose("no heartbeat got through in time")

    async def _extend(self) -> None:
        async with self._extending:
            if self._me and _now() >= self._until:
                self._lose("no heartbeat got through in time")
            began, me = _now(), self._me
            if not (me and await self._database.write(lambda c: statements.renew(c, me, self._lease))):
                if self._me:
                    self._lose("another gateway took this one for dead")
                # a heartbeat of a frozen process began long ago: the new name's lease counts from now
                began, me, before = _now(), f"gw_{secrets.token_hex(8)}", self._before
                await asyncio.to_thread(replace_whole, self._memory, me.encode())
                await self._database.write(lambda c: statements.register(c, me, self._url, before, self._lease))
                self._me = me
            if self._me == me:
                self._until = began + self._lease * _SAFE
                await self._share()

    async def _share(self) -> None:
        """Acquires this gateway's share of the numbers, or begins to release those above it."""
        me, held = self._me, self.held()
        counts = await self._database.write(lambda c: statements.count(c, me, held))
        self._next_death = counts.next_death
        share = -(-counts.numbers // max(1, counts.gateways))
        if not self._taking:
            return
        if counts.free and len(self._held) < share:
            await self._take(share - len(self._held))
        too_many = len(self._held) - len(self._leaving) - share
        free_to_go = (n for n in reversed(self.held()) if n not in self._leaving and self._handlers.may_go(n))
        for number_id, _ in zip(free_to_go, range(too_many), strict=False):
            self._leaving.add(number_id)
            self._tasks.keep("number-hand-over", lambda n=number_id: self._give_up(n), key=str(number_id))

    # -- numbers come and go ---------------------------------------------------------------------------------------

    async def _take(self, most: int, only: int = 0) -> list[asyncio.Task[None]]:
        me = self._me
        taken = await self._database.write(lambda c: statements.take(c, me, most, only))
        if self._me != me:
            return []  # lost meanwhile, together with what it acquired
        for one in taken:
            self._held[one.number_id] = _Lease(self, me, one)
            log.info("number_acquired", number_id=one.number_id, change_of_hands=one.token)
        return [self._begin_later(one.account_id, one.number_id, self._held[one.number_id]) for one in taken]

    def _lose(self, reason: str) -> None:
        """Drops everything at once: from now on nothing may be sent under this name."""
        lost, self._held = self._held, {}
        self._me, self._before = "", self._me
        self._leaving.clear()
        log.error("leases_lost", numbers=len(lost), reason=reason)
        for number_id in lost:
            self._tasks.keep("number-end", lambda n=number_id: self._end(n, orderly=False), key=str(number_id))

    async def _give_up(self, number_id: int) -> None:
        lease = self._held.get(number_id)
        if lease is None:
            return  # lost meanwhile
        await self._end(number_id, orderly=True)
        if self._held.get(number_id) is not lease:
            return
        del self._held[number_id]
        self._leaving.discard(number_id)
        with contextlib.suppress(DatabaseUnavailable):  # the next heartbeat retries it
            await self._database.write(lambda c: statements.give_up(c, self._me, number_id, lease.token))
        log.info("number_released", number_id=number_id)
        self._handlers.released()

    def _begin_later(self, account_id: int, number_id: int, lease: _Lease) -> asyncio.Task[None]:
        return self._tasks.keep("number-begin", lambda: self._begin(account_id, number_id, lease), key=str(number_id))

    async def _begin(self, account_id: int, number_id: int, lease: _Lease) -> None:
        async with self._turns[number_id]:
            while self._held.get(number_id) is lease:
                try:
                    await self._handlers.begin(account_id, number_id)
                    break
                except DatabaseUnavailable as error:
                    log.warning("number_delayed", number_id=number_id, reason=str(error))
                await asyncio.sleep(_AGAIN)

    async def _end(self, number_id: int, *, orderly: bool) -> None:
        async with self._turns[number_id]:
            await self._handlers.end(number_id, orderly)


class _Lease:
    """A number that this gateway holds."""

    def __init__(self, leases: Leases, me: str, taken: Taken) -> None:
        self.token = taken.token
        self.inherited = taken.token > 1
        self._leases = leases
        self._me = me
        self._number_id = taken.number_id

    def valid(self) -> bool:
        return self._leases.holds(self._number_id, self)

    def guard(self, connection: Connection) -> bool:
        return statements.fence(connection, self._me, self._number_id, self.token)


def _now() -> float:
    """Seconds of a clock that also counts while the machine is suspended, unlike Python's monotonic clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

"""Which gateway carries which number. Several gateways may share one PostgreSQL; each number is carried by one of them.

A gateway that sends is a row of `gateways`, alive while its heartbeat (every 5 s) moves `expires_at` (database time,
20 s ahead). It holds a number through a row of `leases`; each change of hands raises the lease's token. A gateway that
misses its heartbeats is struck off by another, which then takes its numbers; it can never come back to life under its
old name, and before that moment it has stopped by its own clock. `guard` checks lease and token inside the transaction
that claims messages: that is the fence. Numbers are shared out evenly; a gateway with too many gives some up in order.
With SQLite there is one gateway and nothing of this: `Alone`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.foundation.database import Database, DatabaseUnavailable

LEASE = 20.0
"""Seconds for which a heartbeat keeps a gateway's numbers."""
HEARTBEAT = 5.0
_SAFE = 0.9
"""The part of a lease after which a gateway stops by its own clock, before the database takes it for dead."""
_WATCH = 0.25
_AGAIN = 1.0

_REGISTER = sa.text("""
INSERT INTO gateways (key, url, expires_at) VALUES (:me, :url, extract(epoch FROM clock_timestamp()) + :lease)
""")
_RENEW = sa.text("""
UPDATE gateways SET expires_at = extract(epoch FROM clock_timestamp()) + :lease
WHERE key = :me AND expires_at > extract(epoch FROM clock_timestamp())
""")
_LEAVE = sa.text("DELETE FROM gateways WHERE key = :key")
_STRIKE_OFF = sa.text("DELETE FROM gateways WHERE expires_at <= extract(epoch FROM clock_timestamp())")
_COUNTS = sa.text("""
SELECT (SELECT count(*) FROM numbers WHERE removed_at IS NULL), (SELECT count(*) FROM gateways),
    (SELECT count(*) FROM numbers AS n WHERE n.removed_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM leases AS l JOIN gateways AS g ON g.key = l.gateway WHERE l.number_id = n.id))
""")
_ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtext('kurir leases'))")
_TAKE = sa.text("""
INSERT INTO leases (number_id, gateway, token)
SELECT n.id, :me, 1 FROM numbers AS n
WHERE n.removed_at IS NULL AND (:only = 0 OR n.id = :only) AND NOT EXISTS (
    SELECT 1 FROM leases AS l JOIN gateways AS g ON g.key = l.gateway WHERE l.number_id = n.id)
ORDER BY n.id LIMIT :most
ON CONFLICT (number_id) DO UPDATE SET gateway = excluded.gateway, token = leases.token + 1
RETURNING number_id, token, (SELECT account_id FROM numbers WHERE id = number_id)
""")
_GIVE_UP = sa.text("UPDATE leases SET gateway = '' WHERE number_id = :number AND gateway = :me AND token = :token")
_FENCE = sa.text("""
SELECT 1 FROM leases AS l JOIN gateways AS g ON g.key = l.gateway
WHERE l.number_id = :number AND l.gateway = :me AND l.token = :token
    AND g.expires_at > extract(epoch FROM clock_timestamp())
FOR SHARE OF l
""")
_CARRIER = sa.text("""
SELECT g.url FROM leases AS l JOIN gateways AS g ON g.key = l.gateway
WHERE l.number_id = :number AND g.expires_at > extract(epoch FROM clock_timestamp())
""")

log = structlog.get_logger(__name__)


class Ownership(Protocol):
    """Whether this process may carry a number."""

    def holds(self, number_id: int) -> bool:
        """By this process's own clock: asked before anything is put on the wire."""
        ...

    def guard(self, connection: Connection, number_id: int) -> bool:
        """By the database, which keeps the answer true until the caller's transaction ends."""
        ...


class Alone:
    """The only gateway: it carries every number."""

    def holds(self, number_id: int) -> bool:
        """Always."""
        return True

    def guard(self, connection: Connection, number_id: int) -> bool:
        """Always."""
        return True


class Lease(msgspec.Struct, frozen=True):
    """A number that this gateway carries; `token` counts its changes of hands."""

    account_id: int
    token: int


@dataclass(frozen=True, slots=True)
class Duties:
    """What follows for the rest of the gateway. Both get (account_id, number_id)."""

    begin: Callable[[int, int], Awaitable[None]]
    """The number is this gateway's from now on."""
    end: Callable[[int, int, bool], Awaitable[None]]
    """Carry it no more. With True sends in flight may finish; with False the lease is lost already."""
    freed: Callable[[], None]
    """Numbers were given up: the other gateways should look."""


class Leases:
    """The numbers that this gateway carries. Start it when lanes and devices can begin, close it after they ended."""

    def __init__(
        self, database: Database, memory: Path, url: str = "", *, lease: float = LEASE, heartbeat: float = HEARTBEAT
    ) -> None:
        """`memory` is a file in this gateway's own data folder, whose lock says that whoever wrote it last is dead."""
        self._database = database
        self._memory = memory
        self._url = url
        self._lease = lease
        self._heartbeat = heartbeat
        self._me = self._before = ""
        self._held: dict[int, Lease] = {}
        self._until = 0.0
        self._leaving: set[int] = set()
        self._taking = True
        self._beating = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._look = asyncio.Event()

    # -- asked by lanes --------------------------------------------------------------------------------------------

    def holds(self, number_id: int) -> bool:
        """Whether the number is this gateway's, by its own clock."""
        return number_id in self._held and time.monotonic() < self._until

    def guard(self, connection: Connection, number_id: int) -> bool:
        """Whether the number is this gateway's, until the transaction ends: taking it over waits for that."""
        lease = self._held.get(number_id)
        if lease is None:
            return False
        fence = {"number": number_id, "me": self._me, "token": lease.token}
        return connection.execute(_FENCE, fence).first() is not None

    def held(self) -> list[int]:
        """The numbers that this gateway carries."""
        return sorted(self._held)

    # -- the life of it --------------------------------------------------------------------------------------------

    async def start(self, duties: Duties) -> None:
        """Registers this gateway and takes its share of the numbers. Raises DatabaseUnavailable and OSError.

        What an earlier life of this gateway carried is free at once.
        """
        self._duties = duties
        with contextlib.suppress(FileNotFoundError):
            self._before = self._memory.read_text(encoding="ascii")
        await self._beat()
        self._spawn(self._go_on(), "heartbeat")
        self._spawn(self._watch(), "heartbeat-watch")

    async def take(self, number_id: int) -> bool:
        """Takes one number now if nobody carries it; whether this gateway carries it. Raises DatabaseUnavailable."""
        async with self._beating:
            begun = await self._take(1, only=number_id) if self._taking and number_id not in self._held else []
        await asyncio.gather(*begun)
        return self.holds(number_id)

    async def carrier(self, number_id: int) -> str:
        """The address of the gateway that carries the number, "" when none does. Raises DatabaseUnavailable."""
        return await self._database.read(lambda c: c.execute(_CARRIER, {"number": number_id}).scalar()) or ""

    def look(self) -> None:
        """Another gateway gave up numbers: look now instead of at the next heartbeat."""
        self._look.set()

    def stop_taking(self) -> None:
        """This gateway is about to end: it keeps what it has and takes nothing more."""
        self._taking = False

    async def close(self) -> None:
        """Gives up everything at once; call it when nothing is carried any more."""
        self._taking = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()
        if self._me:
            with contextlib.suppress(DatabaseUnavailable):  # then the lease runs out
                await self._database.write(lambda c: c.execute(_LEAVE, {"key": self._me}) and None)
                self._duties.freed()

    # -- heartbeat -------------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        while True:
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._heartbeat)
            try:
                await self._beat()
            except DatabaseUnavailable as error:
                log.warning("heartbeat_missed", reason=str(error))
            except Exception:
                log.exception("heartbeat_broke")

    async def _watch(self) -> None:
        """Stops carrying in time when heartbeats fail, also while one is waiting for the database."""
        while True:
            await asyncio.sleep(_WATCH)
            if self._held and time.monotonic() >= self._until:
                self._lose("no heartbeat got through in time")

    async def _beat(self) -> None:
        async with self._beating:
            if self._me and time.monotonic() >= self._until:
                self._lose("no heartbeat got through in time")
            began, me = time.monotonic(), self._me
            if not (me and await self._database.write(lambda c: _renew(c, me, self._lease))):
                if self._me:
                    self._lose("another gateway took this one for dead")
                me, before = f"gw_{secrets.token_hex(8)}", self._before
                self._memory.write_text(me, encoding="ascii")
                await self._database.write(lambda c: _register(c, me, self._url, before, self._lease))
                self._me = me
            if self._me == me:
                self._until = began + self._lease * _SAFE
                await self._share()

    async def _share(self) -> None:
        """Takes what is this gateway's share of the numbers, or begins to give up what is more."""
        total, gateways, free = await self._database.write(_counted)
        share = -(-total // max(1, gateways))
        if self._taking and free and len(self._held) < share:
            await self._take(share - len(self._held))
        staying = [number_id for number_id in self.held() if number_id not in self._leaving]
        for number_id in staying[share:] if self._taking else ():
            self._leaving.add(number_id)
            self._spawn(self._give_up(number_id), f"give-up-{number_id}")

    async def _take(self, most: int, only: int = 0) -> list[asyncio.Task[None]]:
        me = self._me

        def work(connection: Connection) -> list[tuple[int, int, int]]:
            connection.execute(_ONE_AT_A_TIME)  # the next statement sees every gateway that took before
            taken = connection.execute(_TAKE, {"me": me, "most": most, "only": only}).all()
            return [(row[0], row[1], row[2]) for row in taken]

        taken = await self._database.write(work)
        if self._me != me:
            return []  # lost meanwhile, and with its name what it took
        for number_id, token, account_id in taken:
            self._held[number_id] = Lease(account_id, token)
            log.info("number_taken", number_id=number_id, token=token)
        return [
            self._spawn(self._begin(account_id, number_id), f"begin-{number_id}") for number_id, _, account_id in taken
        ]

    def _lose(self, reason: str) -> None:
        """Everything is lost: nothing may go out any more from this moment on, and never again under this name."""
        lost, self._held = self._held, {}
        self._me, self._before = "", self._me
        self._leaving.clear()
        log.error("leases_lost", numbers=len(lost), reason=reason)
        for number_id, lease in lost.items():
            self._spawn(self._end(lease.account_id, number_id, orderly=False), f"end-{number_id}")

    async def _give_up(self, number_id: int) -> None:
        lease = self._held[number_id]
        await self._end(lease.account_id, number_id, orderly=True)
        if self._held.get(number_id) is not lease:
            return
        del self._held[number_id]
        self._leaving.discard(number_id)
        given = {"number": number_id, "me": self._me, "token": lease.token}
        with contextlib.suppress(DatabaseUnavailable):
            await self._database.write(lambda c: c.execute(_GIVE_UP, given) and None)
        log.info("number_given_up", number_id=number_id)
        self._duties.freed()

    async def _begin(self, account_id: int, number_id: int) -> None:
        async with self._turns[number_id]:
            while number_id in self._held:
                try:
                    await self._duties.begin(account_id, number_id)
                    break
                except DatabaseUnavailable as error:
                    log.warning("number_begins_later", number_id=number_id, reason=str(error))
                    await asyncio.sleep(_AGAIN)

    async def _end(self, account_id: int, number_id: int, *, orderly: bool) -> None:
        async with self._turns[number_id]:
            await self._duties.end(account_id, number_id, orderly)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("lease_task_broke", task=task.get_name(), exc_info=task.exception())


def _register(connection: Connection, me: str, url: str, before: str, lease: float) -> None:
    connection.execute(_LEAVE, {"key": before})
    connection.execute(_REGISTER, {"me": me, "url": url, "lease": lease})


def _renew(connection: Connection, me: str, lease: float) -> bool:
    return connection.execute(_RENEW, {"me": me, "lease": lease}).rowcount > 0


def _counted(connection: Connection) -> tuple[int, int, int]:
    connection.execute(_STRIKE_OFF)
    numbers, gateways, free = connection.execute(_COUNTS).one()
    return numbers, gateways, free

"""Connections of linked devices: opens, pairs, restarts and closes devices, and handles the engine's events about them.

One `DeviceConnection` per number. Events of the engine change its state; each change is emitted as a
ConnectionChanged, in order.

More than 300 lines: one state machine, whose transitions all change the same `DeviceConnection` under its lock.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, assert_never

import structlog

from kurir.channels.linked_device import logins
from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.connection import DeviceConnection
from kurir.channels.linked_device.event_stream import EventStream
from kurir.channels.linked_device.hosts import Hosts
from kurir.channels.linked_device.pairing_progress import PairingProgress
from kurir.channels.linked_device.sessions import Sessions
from kurir.kit.clock import Clock
from kurir.kit.log_limit import LogLimit
from kurir.kit.tasks import TaskHealth, Tasks, Work
from kurir.messages.channel_reports import ConnectionChanged, NumberState
from kurir.numbers.numbers import Number
from kurir.reasons import Reason
from kurir.reasons import numbers as reasons
from kurir.settings import Settings
from kurir.store.database import DatabaseUnavailable

log = structlog.get_logger(__name__)

_SHORTEST_BAN = 60.0
_TRY_AGAIN = 1.0
_CLEARING = 5.0
"""Seconds that a caller who cancels a pairing waits for its cleanup."""
_FULL = "the disk is nearly full: messages come in, files wait"
_STUCK = 30.0
"""Seconds for a newly paired device to connect: the server ends the pairing's connection; where it does not, the engine
waits for ever."""
_SETTLING = 60.0
"""Seconds after a pairing during which the device is not restarted or moved: the phone sends its history and
contacts."""


class Connections:
    """All connections of this gateway; `events` receives connection changes and incoming messages, `unread` the kind of
    unsupported content."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        events: EventStream,
        clock: Clock,
        argv: Sequence[str],
        *,
        health: TaskHealth | None = None,
        unread: Callable[[str], None],
    ) -> None:
        self.hosts = Hosts(settings, self._on_news, self._on_lost, argv, health)
        self._settings = settings
        self._sessions = sessions
        self._incoming: Path = settings.data_dir.absolute() / "incoming"
        self._journals: Path = settings.data_dir.absolute() / "journals"
        self._events = events
        self._unread = unread
        self._clock = clock
        self._connections: dict[int, DeviceConnection] = {}
        self._openings = itertools.count(1)
        self._full = LogLimit()
        self.troubles: dict[str, int] = dict.fromkeys(say.TROUBLES, 0)
        self._tasks = Tasks(health)

    def of(self, number: Number) -> DeviceConnection:
        """The number's connection; a number seen for the first time is not connected."""
        known = self._connections.get(number.id)
        if known is None:
            state: NumberState = number.state if number.state in ("logged_out", "banned") else "disconnected"
            known = self._connections[number.id] = DeviceConnection(number, state, number.state_reason, jid=number.jid)
        return known

    def all(self) -> list[DeviceConnection]:
        """Every number's connection that this process has seen."""
        return list(self._connections.values())

    async def restore(self, number: Number) -> None:
        """Opens a number that was paired before."""
        connection = self.of(number)
        if not number.jid:
            return
        if await asyncio.to_thread(self._sessions.exists, number):
            await self._open(connection)
        elif number.state != "logged_out":
            await self._become(connection, "logged_out", reasons.SESSION_MISSING())

    async def let_go(self, number_id: int) -> None:
        """Closes a number that another gateway now holds; the session stays, and no event is emitted."""
        connection = self._connections.pop(number_id, None)
        if connection is None:
            return
        if connection.reopening is not None:
            connection.reopening.cancel()
        if connection.running_pairing is not None:
            connection.running_pairing.fail(reasons.HELD_ELSEWHERE_NOW())
        await self.hosts.close(number_id)

    async def forget(self, number: Number) -> None:
        """Closes a number that is being removed and deletes its session; nobody is notified."""
        async with self.of(number).changing:
            await self.let_go(number.id)
            await asyncio.to_thread(self._sessions.forget, number)

    def is_pairing(self, number_id: int) -> bool:
        """Whether the number's pairing is in progress."""
        connection = self._connections.get(number_id)
        return connection is not None and connection.running_pairing is not None

    async def pair(self, connection: DeviceConnection, phone: str) -> PairingProgress:
        """Starts a pairing, by code when `phone` is not empty. Raises DatabaseUnavailable and OSError."""
        if connection.reopening is not None:
            connection.reopening.cancel()
        before = connection.pairing
        void = connection.state == "logged_out" or (before is not None and before.came_to_nothing)
        pairing = connection.pairing = PairingProgress.begin(phone, self._clock())
        connection.opening = next(self._openings)  # events still in transit belong to an earlier opening
        connection.pauses = 0
        try:
            await self._become(connection, "pairing", reasons.WAITING_FOR_PHONE())
            async with connection.changing:
                await self.hosts.close(connection.number.id)
                if void:
                    connection.jid = ""
                    await asyncio.to_thread(self._sessions.forget, connection.number)
                if pairing.running:
                    await self._open(connection)
        except BaseException:  # also when the caller was cancelled
            pairing.fail(reasons.NOT_BEGUN())
            self._keep("pairing-end", connection, lambda: self._give_up(connection, pairing))
            raise
        self._keep("pairing-expiry", connection, lambda: self._expire(connection, pairing))
        return pairing

    async def cancel_pairing(self, connection: DeviceConnection, reason: Reason) -> None:
        """Cancels a pairing in progress; slow cleanup continues in the background."""
        pairing = connection.running_pairing
        if pairing is not None:
            await asyncio.wait({self._fail(connection, pairing, reason)}, timeout=_CLEARING)

    async def leave(self, connection: DeviceConnection, log_out: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Logs a device out by `log_out` and deletes its session."""
        connection.leaving = True  # the engine emits the logout before it answers: its host must run until then
        try:
            await log_out()
            await self._become(connection, "logged_out", reasons.LOGGED_OUT())
        finally:
            connection.leaving = False
            if connection.state == "logged_out":
                await self._discard(connection)

    async def close(self) -> None:
        """Ends everything: timers, tasks, hosts."""
        await self._tasks.close()
        for connection in self._connections.values():  # what a task began at the last moment, too
            if connection.reopening is not None:
                connection.reopening.cancel()
        await self.hosts.stop()

    # -- news ------------------------------------------------------------------------------------------------------

    async def _on_lost(self, number_id: int, reason: Reason) -> None:
        connection = self._connections.get(number_id)
        if connection is None:
            return  # released meanwhile
        log.warning("engine_host_lost", number=number_id, reason=reason.code)
        pairing = connection.running_pairing
        if pairing is not None:
            self._fail(connection, pairing, reason)
        else:
            await self._become(connection, "connecting", reasons.HOST_LOST(reason=reason))

    async def _on_news(self, news: say.News) -> None:
        if isinstance(news, say.Trouble):
            kind = news.kind if news.kind in say.TROUBLES else "other"
            self.troubles[kind] += 1
            if kind == "no_room":
                if self._full.is_due():
                    log.warning("received_files_deferred", reason=_FULL)
                return
            # anybody can send receipts of an unknown type in any number: only the first is logged
            say_it = log.debug if kind == "unknown_receipt" and self.troubles[kind] > 1 else log.error
            say_it("engine_trouble", number=news.device, kind=kind, what=news.what)
            return
        if isinstance(news, say.Unread):
            self._unread(news.kind)
            return
        if isinstance(news, say.NumberEvent):
            self._heard(news.number_id)
            await self._events.put(news)
            return
        connection = self._connections.get(news.device)
        if connection is None or news.opening != connection.opening:
            # released meanwhile, or of an earlier opening: answers and events come on two sockets
            log.debug("engine_event_stale", number=news.device, news=type(news).__name__)
            return
        await self._on_news_of(connection, news)

    async def _on_news_of(self, connection: DeviceConnection, news: say.NewsOfConnection) -> None:  # noqa: PLR0912
        pairing = connection.running_pairing
        match news:
            case say.QrShown(qr=qr):
                await self._on_qr(connection, qr)
            case say.CodeShown(code=code):
                if pairing is not None:
                    pairing.show_code(code)
            case say.Paired(phone=phone, jid=jid):
                self.hosts.settled(connection.number.id)
                if pairing is not None:
                    pairing.succeed()
                    self._keep("device-move", connection, lambda: self._move_in(connection))
                await self._become(connection, "connecting", reasons.PAIRED(), phone=phone, jid=jid)
                self._keep("device-unstick", connection, lambda: self._unstick(connection))
            case say.PairingFailed(reason=reason):
                if pairing is not None:
                    self._fail(connection, pairing, reason)
            case say.DeviceState():
                await self._on_state(connection, news)
            case say.Unsteady(short=short):
                await self._on_unsteady(connection, short)
            case say.StoreFailed():
                if not connection.failing:
                    connection.failing = True
                    self._keep("session-repair", connection, lambda: self._mend(connection))
            case say.Heartbeat(round_trip=round_trip):
                self._heard(news.device)
                connection.round_trip = round_trip
            case _:
                assert_never(news)

    async def _on_qr(self, connection: DeviceConnection, qr: str) -> None:
        pairing = connection.running_pairing
        if pairing is not None:
            pairing.show_qr(qr, self._clock())
            return
        # a number that counted as paired has lost its session
        await self._become(connection, "logged_out", reasons.SESSION_VOID())
        self._keep("session-removal", connection, lambda: self._discard(connection))

    async def _on_state(self, connection: DeviceConnection, news: say.DeviceState) -> None:
        pairing = connection.running_pairing
        if news.state == "pairing" or (pairing is not None and news.state in ("connecting", "degraded")):
            return
        if pairing is not None and news.state == "logged_out":
            pairing.fail(news.reason)
            pairing = None
        if pairing is not None and news.state != "connected":  # the device has given up
            self._fail(connection, pairing, news.reason, news.retry_after or 0.0)
            return
        if news.state == connection.state == "logged_out":
            return  # the logout event may come after the answer to the call, when everything is done
        if news.state == "connected":
            self._heard(connection.number.id)
            self.hosts.settled(connection.number.id)
        if news.state == connection.state == "degraded":
            return  # both the engine and the liveness check reported it; one restart is enough
        if pairing is not None:
            pairing.succeed()  # the session was valid after all
            self._keep("device-move", connection, lambda: self._move_in(connection))
        await self._become(connection, news.state, news.reason, phone=news.phone, jid=news.jid)
        if news.state == "logged_out" and not connection.leaving:
            self._keep("session-removal", connection, lambda: self._discard(connection))
        elif news.retry_after is not None:
            after = max(news.retry_after, _SHORTEST_BAN)
            self._keep("device-reopening", connection, lambda: self._reopen_later(connection, after))
        elif news.state in ("replaced", "outdated"):
            self._keep("device-close", connection, lambda: self._take_down(connection))
        elif news.state == "degraded":
            self._keep("device-restart", connection, lambda: self._restart(connection))

    async def _on_unsteady(self, connection: DeviceConnection, short: int) -> None:
        """Pauses a device whose logins do not last, longer each time."""
        if connection.state == "logged_out":
            return
        pairing = connection.running_pairing
        if pairing is not None:
            self._fail(connection, pairing, reasons.UNSTEADY_PAIRING())
            return
        lived = time.monotonic() - connection.opened_at
        connection.pauses = 1 if lived > logins.STEADY else connection.pauses + 1
        after = logins.pause(connection.pauses)
        self.troubles["reconnects_often"] += 1
        log.warning(
            "device_unstable",
            number=connection.number.key,
            short_connections=short,
            pauses=connection.pauses,
            next_try_in=round(after, 1),
        )
        await self._become(connection, "disconnected", reasons.UNSTEADY())
        self._keep("device-reopening", connection, lambda: self._reopen_later(connection, after))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _open(self, connection: DeviceConnection) -> None:
        number, pairing = connection.number, connection.running_pairing
        opening = connection.opening = next(self._openings)
        # what may fail comes first: a retry depends on the state
        session = await asyncio.to_thread(self._sessions.place, number)
        if pairing is None:
            await self._become(connection, "connecting", reasons.CONNECTING())
        order = say.Open(
            device=number.id,
            account_id=number.account_id,
            session=session,
            incoming=str(self._incoming / str(number.id)),
            journal=str(self._journals / f"{number.id}.db"),
            jid=connection.jid if pairing is None else "",
            phone=pairing.phone if pairing is not None else "",
            check_after=self._settings.device_check_after,
            check_timeout=self._settings.device_check_timeout,
            short_connections=0 if connection.pauses else logins.MOST,
            opening=opening,
        )
        connection.opened_at = time.monotonic()
        if self._connections.get(number.id) is not connection:
            return  # released meanwhile
        await self.hosts.open(order, alone=pairing is not None)

    async def _become(
        self, connection: DeviceConnection, state: NumberState, reason: Reason, phone: str = "", jid: str = ""
    ) -> None:
        known = (state, reason) == (connection.state, connection.reason) or state == connection.state == "logged_out"
        if known and not jid:
            return
        connection.state, connection.reason = state, reason
        connection.jid = jid or connection.jid
        number = connection.number
        await self._events.put_now(
            ConnectionChanged(number.account_id, number.id, state, reason, self._clock(), phone=phone, jid=jid)
        )

    def _heard(self, number_id: int) -> None:
        connection = self._connections.get(number_id)
        if connection is not None:
            connection.heard_at = self._clock()

    async def _discard(self, connection: DeviceConnection) -> None:
        """Closes a logged-out device and deletes the rest of its session; a new pairing does so by itself."""
        async with connection.changing:
            if connection.state == "logged_out":
                await self.hosts.close(connection.number.id)
                await asyncio.to_thread(self._sessions.forget, connection.number)

    async def _take_down(self, connection: DeviceConnection) -> None:
        """Closes a device that has stopped trying, unless it is being paired meanwhile."""
        async with connection.changing:
            if connection.running_pairing is None:
                await self.hosts.close(connection.number.id)

    async def _move_in(self, connection: DeviceConnection) -> None:
        """Moves a newly paired device to a shared host: a host of its own costs about 100 MiB."""
        await asyncio.sleep(_SETTLING)
        # a slow first login does not justify a host of its own
        while connection.state == "connecting":  # noqa: ASYNC110 - a minute more or less does not matter
            await asyncio.sleep(_SETTLING)
        device = connection.number.id
        if connection.state != "connected" or not self.hosts.could_share(device):
            return
        await self._open_anew(connection, reasons.MOVING())

    async def _unstick(self, connection: DeviceConnection) -> None:
        """Reopens a newly paired device that has not connected: the server did not end the pairing's connection."""
        await asyncio.sleep(_STUCK)
        if (connection.state, connection.reason) == ("connecting", reasons.PAIRED()):
            await self._open_anew(connection, reasons.AFTER_PAIRING())

    async def _mend(self, connection: DeviceConnection) -> None:
        """Reopens a device once its session is usable again: WhatsApp then repeats what was not acknowledged."""
        try:
            while not await asyncio.to_thread(self._sessions.usable):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(_TRY_AGAIN)
            if connection.state == "connected":
                await self._open_anew(connection, reasons.READING_AGAIN())
        finally:
            connection.failing = False

    async def _open_anew(self, connection: DeviceConnection, why: Reason) -> None:
        await self._become(connection, "connecting", why)
        await self.hosts.quiet(connection.number.id)
        # and not logged out or released meanwhile
        while connection.state == "connecting" and self._connections.get(connection.number.id) is connection:
            try:
                async with connection.changing:
                    await self.hosts.close(connection.number.id)
                    if connection.state != "connecting":
                        return
                    await self._open(connection)
            except (DatabaseUnavailable, OSError) as error:
                log.warning("session_unusable", number=connection.number.key, reason=str(error))
                await asyncio.sleep(_TRY_AGAIN)
            else:
                return

    async def _restart(self, connection: DeviceConnection) -> None:
        """Closes and reopens a device whose connection is dead; calls that wait on the connection end with it."""
        async with connection.changing:
            if connection.running_pairing is not None:
                return
            await self.hosts.close(connection.number.id)
            ours = self._connections.get(connection.number.id) is connection  # or released meanwhile
            if ours and connection.state in (
                "degraded",
                "connected",
                "connecting",
            ):  # the connection may have recovered
                await self._open(connection)

    async def _reopen_later(self, connection: DeviceConnection, seconds: float) -> None:
        await self._take_down(connection)
        if connection.running_pairing is not None or self._connections.get(connection.number.id) is not connection:
            return
        if connection.reopening is not None:
            connection.reopening.cancel()
        loop = asyncio.get_running_loop()
        connection.reopening = loop.call_later(
            seconds, self._keep, "device-reopening", connection, lambda: self._reopen(connection)
        )

    async def _reopen(self, connection: DeviceConnection) -> None:
        async with connection.changing:
            there = await asyncio.to_thread(self._sessions.exists, connection.number)
            if there and connection.state in ("banned", "disconnected"):
                await self._open(connection)

    async def _expire(self, connection: DeviceConnection, pairing: PairingProgress) -> None:
        if not await pairing.settled():
            pairing.expire()
            self._keep("pairing-end", connection, lambda: self._give_up(connection, pairing))

    async def _give_up(self, connection: DeviceConnection, pairing: PairingProgress, retry_after: float = 0.0) -> None:
        """Ends a pairing that did not succeed, with the half-made session; one from before it is tried again, after
        `retry_after` seconds at the earliest."""
        async with connection.changing:
            if connection.pairing is not pairing or self._connections.get(connection.number.id) is not connection:
                return  # another pairing has replaced this one, or the number was released meanwhile
            await self.hosts.close(connection.number.id)
            if pairing.shown:
                await asyncio.to_thread(self._sessions.forget, connection.number)
            if connection.pairing is not pairing:
                return  # it has waited for the lock meanwhile
            await self._become(connection, "disconnected", pairing.error)
        if connection.jid and not pairing.shown:
            await self._reopen_later(connection, max(retry_after, _SHORTEST_BAN))

    def _fail(
        self, connection: DeviceConnection, pairing: PairingProgress, reason: Reason, retry_after: float = 0.0
    ) -> asyncio.Task[None]:
        pairing.fail(reason)
        return self._keep("pairing-end", connection, lambda: self._give_up(connection, pairing, retry_after))

    def _keep(self, name: str, connection: DeviceConnection, work: Work) -> asyncio.Task[None]:
        """Runs `work` in the background until it has succeeded: a device must not stay half closed or half opened."""
        return self._tasks.keep(name, work, key=str(connection.number.id))

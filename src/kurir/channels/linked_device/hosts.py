"""The engine hosts: assigns devices to child processes, and restarts those that end.

Paired devices share hosts. A device that is being paired has its own host, because the engine cannot stop a device that
shows QR codes: cancelling a pairing means ending its host, which must not affect other devices. Some time after the
pairing the device moves to a shared host, if there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence

import structlog

from kurir.channels.linked_device.host_process import HostLostError, HostProcess
from kurir.channels.linked_device.protocol import Close, Command, HostReply, JournalState, News, Open, Ping
from kurir.kit.backoff import Backoff
from kurir.kit.file_failures import file_failure
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.reasons import Reason
from kurir.reasons.numbers import HOST_NOT_RUNNING, HOST_NOT_STARTED
from kurir.settings import Settings

log = structlog.get_logger(__name__)

ARGV = (sys.executable, "-m", "kurir.channels.linked_device.engine_host.program")
_BACK_OFF_FIRST, _BACK_OFF_MOST = 0.5, 30.0
_START_TIMEOUT = 60.0
"""Seconds for a host to load the engine; long, because many may start at once on a small machine."""
_CLOSE_TIMEOUT = 20.0
"""Seconds for a device to close. The engine needs up to ten on a dead connection; a host that takes longer is
killed."""
_GOOD_LIFE = 20.0
"""Seconds a host must have run for the back-off to restart at its first value."""
_SHORT_LIVES = 3
"""Ends of a host, each within `_GOOD_LIFE` of its start, after which its devices are split over two hosts: one of them
may cause the crashes, which should not affect the others. Halving finds it with few more processes (about 60 MiB each).
A SIGKILL from outside does not count: it is no sign of a bad device, and more processes do not help when memory is
short."""
_SUSPICION = 600.0
"""Seconds for which no other device joins the devices of a host that keeps crashing."""
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXY = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a host, complete at exec because the engine reads it only then.

    An allow-list: the gateway's own secrets stay out of the process that talks to the network.
    """
    values = {name: os.environ[name] for name in (*_PASSED_ON, *_PROXY) if name in os.environ}
    values["NEONIZE_BOT_TAG"] = "off"  # otherwise every message has a node that marks it as sent by a business bot
    values["PYTHONUNBUFFERED"] = "1"
    values["KURIR_MEDIA_LIMIT"] = str(settings.media_document_bytes)
    values["KURIR_INCOMING_MEDIA_TIMEOUT"] = str(settings.incoming_media_timeout)
    values["KURIR_DISK_RESERVE"] = str(settings.disk_reserve)
    if settings.sandbox:
        for name in _PROXY:
            values.pop(name, None)
        values["HTTPS_PROXY"] = settings.sandbox_proxy
        values["SSL_CERT_FILE"] = settings.sandbox_ca
        values["KURIR_SANDBOX_NOISE_ROOT"] = settings.sandbox_noise_root
        values["KURIR_CRASH_AT"] = settings.crash_at
    return values


def later_half(devices: Sequence[int]) -> list[int]:
    """The half of a host's devices that moves to another host when it keeps crashing; none of a single one. Pure."""
    return list(devices[(len(devices) + 1) // 2 :])


class Hosts:
    """All hosts of this gateway. Belongs to one event loop."""

    def __init__(
        self,
        settings: Settings,
        on_news: Callable[[News], Awaitable[None]],
        on_lost: Callable[[int, Reason], Awaitable[None]],
        argv: Sequence[str] = ARGV,
        health: TaskHealth | None = None,
    ) -> None:
        self.health = health or TaskHealth()
        self.settings = settings
        self._on_news = on_news
        self._on_lost = on_lost
        self._argv = argv
        self._slots: list[_Slot] = []
        self._ending: set[_Slot] = set()
        self._closing = False

    async def open(self, order: Open, *, alone: bool) -> None:
        """Opens a device, and reopens it whenever its host ends. `alone` while it is being paired."""
        slot = None if alone else next((s for s in self._slots if s.has_room(self.settings.devices_per_host)), None)
        if slot is None:
            slot = _Slot(self, alone)
            self._slots.append(slot)
        await slot.add(order)

    def settled(self, device: int) -> None:
        """A device that was opened alone has been paired: its host may take others from now on."""
        slot = self._slot(device)
        if slot is not None:
            slot.alone = False

    async def close(self, device: int) -> None:
        """Closes a device; does nothing when it is not open."""
        slot = self._slot(device)
        if slot is not None:
            await slot.remove(device)

    def could_share(self, device: int) -> bool:
        """Whether a device that has its own host would find room in another."""
        own = self._slot(device)
        most = self.settings.devices_per_host
        return own is not None and len(own.orders) == 1 and any(s.has_room(most) for s in self._slots if s is not own)

    async def quiet(self, device: int) -> None:
        """Waits until pending calls of the device's host have been answered."""
        slot = self._slot(device)
        if slot is not None and slot.process is not None:
            await slot.process.quiet(self.settings.engine_timeout)

    async def call(self, device: int, command: Command, timeout: float) -> HostReply:
        """The answer of the device's host. Raises HostLostError, also when no host is running."""
        slot = self._slot(device)
        if slot is None or slot.process is None:
            raise HostLostError(HOST_NOT_RUNNING())
        return await slot.process.call(command, timeout)

    def post(self, device: int, command: Command) -> None:
        """Sends a command whose answer is ignored to the device's host; does nothing when no host is running."""
        slot = self._slot(device)
        if slot is not None and slot.process is not None:
            slot.process.post(command)

    async def stop(self) -> None:
        """Ends every host."""
        self._closing = True
        await asyncio.gather(*(slot.end() for slot in {*self._slots, *self._ending}))

    def pids(self) -> list[int]:
        """The process ids of the running hosts."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    def journals(self) -> list[JournalState]:
        """The journals of all open devices, as last reported by the hosts."""
        processes = [slot.process for slot in self._slots if slot.process is not None]
        return [journal for process in processes for journal in process.journals.values()]

    def _slot(self, device: int) -> _Slot | None:
        return next((slot for slot in self._slots if device in slot.orders), None)

    # -- called by the slots ---------------------------------------------------------------------------------------

    async def launch(self) -> HostProcess:
        """Starts a host. Raises OSError."""
        return await HostProcess.launch(self._argv, environment(self.settings), self._on_news, self.health)

    async def lost(self, device: int, reason: Reason) -> None:
        """Reports that a device's host has ended, unless all hosts are being ended."""
        if not self._closing:
            await self._on_lost(device, reason)

    async def isolate(self, slot: _Slot, devices: Sequence[int]) -> None:
        """Moves devices of a host that keeps crashing to a host of their own."""
        if not devices:
            return
        orders = [slot.orders.pop(device) for device in devices]
        log.warning("device_isolated", stay=sorted(slot.orders), go=list(devices))
        other = _Slot(self, alone=False)
        self._slots.append(other)
        other.suspect()
        for order in orders:
            await other.add(order)

    def ending(self, slot: _Slot) -> None:
        """Gives a slot no further devices, and remembers it until `ended`: a caller that waits may be cancelled."""
        if slot in self._slots:
            self._slots.remove(slot)
        self._ending.add(slot)

    def ended(self, slot: _Slot) -> None:
        """Forgets a slot whose process is gone."""
        self._ending.discard(slot)


class _Slot:
    """One host: its devices, its process, and the task that restarts the process."""

    def __init__(self, hosts: Hosts, alone: bool) -> None:
        self.alone = alone
        self.short_lives = 0
        self._suspected_until = 0.0
        self.orders: dict[int, Open] = {}
        self.process: HostProcess | None = None
        self._hosts = hosts
        self._tasks = Tasks(hosts.health)

    def has_room(self, most: int) -> bool:
        trusted = asyncio.get_running_loop().time() >= self._suspected_until
        return not self.alone and trusted and 0 < len(self.orders) < most

    def suspect(self) -> None:
        """Marks the slot's devices as a possible cause of crashes: for a while no other device joins them."""
        self._suspected_until = asyncio.get_running_loop().time() + _SUSPICION

    async def add(self, order: Open) -> None:
        self.orders[order.device] = order
        if not self._tasks:
            self._tasks.keep("engine-host", self._keep, key=str(order.device))
        elif self.process is not None:
            await self._open(self.process, order)

    async def remove(self, device: int) -> None:
        self.orders.pop(device, None)
        if self.process is not None and not self.alone:
            with contextlib.suppress(HostLostError):  # then it is closed
                await self.process.call(Close(device), min(_CLOSE_TIMEOUT, self._hosts.settings.engine_timeout))
        if not self.orders:
            await self.end()

    async def end(self) -> None:
        self.orders.clear()
        self._hosts.ending(self)
        await self._tasks.close()
        self._hosts.ended(self)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(_BACK_OFF_FIRST, _BACK_OFF_MOST)
        while self.orders:
            started = loop.time()
            try:
                process = await self._hosts.launch()
            except OSError as error:
                log.warning("engine_host_failed", error=str(error))
                reason = HOST_NOT_STARTED(error=file_failure(error))
            else:
                reason = await self._life(process)
                self.short_lives += not process.killed_from_outside
            for device in list(self.orders):
                await self._hosts.lost(device, reason)
            if loop.time() - started > _GOOD_LIFE:
                backoff.reset()
                self.short_lives = 0
            elif self.short_lives >= _SHORT_LIVES:
                self.suspect()
                self.short_lives = 0
                await self._hosts.isolate(self, later_half(list(self.orders)))
            await asyncio.sleep(backoff.after_failure())

    async def _life(self, process: HostProcess) -> Reason:
        """Runs a host from its start to its end; returns why it ended."""
        try:
            with contextlib.suppress(HostLostError):
                await process.call(Ping(), _START_TIMEOUT)
                self.process = process
            for order in list(self.orders.values()):
                await self._open(process, order)
            await process.ended()
        except asyncio.CancelledError:
            process.stop()
            raise
        finally:
            self.process = None
            process.kill()
            await process.ended()
        return process.why_lost

    async def _open(self, process: HostProcess, order: Open) -> None:
        with contextlib.suppress(HostLostError):  # the task above starts the next one, with this device
            await process.call(order, self._hosts.settings.engine_timeout)

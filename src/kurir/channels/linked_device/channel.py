"""Linked devices as a channel: numbers that WhatsApp knows as a companion of someone's phone.

The engine lives in child processes (see `hosts`); this module is what the rest of the gateway sees of it. It keeps
each number's connection state, turns the engine's news into events, and looks for evidence when a send was cut off.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from kurir.channels.channel import Capabilities
from kurir.channels.linked_device import engine as say
from kurir.channels.linked_device.host_process import HostLostError
from kurir.channels.linked_device.hosts import ARGV, Hosts
from kurir.channels.linked_device.pairing_progress import PairingProgress
from kurir.channels.linked_device.sessions import Sessions
from kurir.channels.linked_device.typing_time import typing_seconds
from kurir.foundation.clock import Clock
from kurir.messages.content import Outgoing
from kurir.messages.reports import (
    ConnectionChanged,
    Event,
    Evidence,
    InDoubt,
    NeverLeft,
    NotConnected,
    Outcome,
    Received,
    Refused,
    Sent,
    StatusChanged,
    TryLater,
)
from kurir.numbers import Number, NumberState
from kurir.settings import Settings

log = structlog.get_logger(__name__)

_EVENTS = 10_000
"""Events that may wait for the inbox; when there are more, the engine waits, and with it WhatsApp's server."""
_SLOWEST_UPLOAD = 50_000
"""Bytes per second below which an upload counts as hung."""
_SHORTEST_BAN = 60.0


class DeviceUnavailable(Exception):  # noqa: N818  (a state of the field, not a fault of the program)
    """The linked device cannot answer now; the message says why."""


@dataclass(slots=True)
class _Device:
    number: Number
    state: NumberState = "disconnected"
    reason: str = ""
    pairing: PairingProgress | None = None
    reopening: asyncio.TimerHandle | None = None
    leaving: bool = False


class LinkedDevices:
    """All linked devices of this gateway.

    `message_key` is this server's key from which each message's secret is made, always the same for the same message,
    so that a send can be recognised after a crash. `list_numbers` gives the linked-device numbers of every account.
    """

    def __init__(
        self,
        settings: Settings,
        message_key: bytes,
        list_numbers: Callable[[], Awaitable[Sequence[Number]]],
        clock: Clock,
        argv: Sequence[str] = ARGV,
    ) -> None:
        self.capabilities = Capabilities(
            kinds=frozenset({"text", "image", "document", "location"}),
            groups=True,
            typing=True,
            window=settings.device_window,
        )
        self._settings = settings
        self._message_key = message_key
        self._list_numbers = list_numbers
        self._clock = clock
        self._sessions = Sessions(settings.data_dir)
        self._incoming = settings.data_dir.absolute() / "incoming"
        self._devices: dict[int, _Device] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(_EVENTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts = Hosts(settings, self._on_news, self._on_lost, argv)
        self._closed = False

    # -- the channel -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens every number that has been paired; they connect in the background. Raises OSError."""
        self._sessions.prepare()
        for number in await self._list_numbers():
            device = self._device(number)
            if not number.jid:
                continue
            if self._sessions.exists(number):
                await self._open(device)
            elif number.state != "logged_out":
                await self._become(device, "logged_out", "the session file is missing; pair the number again")

    def ready(self, number: Number) -> bool:
        """Whether the device is connected."""
        device = self._devices.get(number.id)
        return device is not None and device.state == "connected"

    def state(self, number: Number) -> tuple[NumberState, str]:
        """The number's connection state and why, as this process sees it."""
        device = self._device(number)
        return device.state, device.reason

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        """Puts one message on the wire, at most once. Never raises."""
        device = self._device(number)
        if device.state != "connected":
            return NotConnected(device.reason or "the device is not connected")
        settings = self._settings
        typing = 0.0
        if outgoing.typing:
            typing = typing_seconds(outgoing.content, settings.typing_per_character, settings.typing_max)
        size = outgoing.media.size if outgoing.media is not None else 0
        command = say.Send(number.id, outgoing, self._secret(outgoing.message_id), typing)
        try:
            patience = settings.engine_timeout + typing + size / _SLOWEST_UPLOAD
            answer = await self._hosts.call(number.id, command, patience)
        except HostLostError as error:
            return await self._after_doubt(number, outgoing, str(error))
        match answer:
            case Sent() | Refused() | TryLater() | NotConnected():
                return answer
            case InDoubt(reason) | say.Failed(reason):
                return await self._after_doubt(number, outgoing, reason)
            case _:
                return await self._after_doubt(number, outgoing, f"the engine answered {type(answer).__name__}")

    async def evidence(self, number: Number, outgoing: Outgoing) -> Evidence:
        """What the device's session says about an earlier try; ask when that try is over or its process is dead."""
        return await asyncio.to_thread(self._sessions.evidence, number, self._secret(outgoing.message_id))

    async def events(self) -> AsyncIterator[Event]:
        """What happens on the devices, in order per number, until the channel is closed. One consumer."""
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        """Ends the engine hosts. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for device in self._devices.values():
            if device.reopening is not None:
                device.reopening.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hosts.stop()
        if self._events.full():
            self._events.get_nowait()  # a consumer that has stopped must not keep the end from being said
        self._events.put_nowait(None)

    # -- what a device knows ---------------------------------------------------------------------------------------

    async def is_on_whatsapp(self, number: Number, phones: Sequence[str]) -> dict[str, bool]:
        """For each phone (digits) that WhatsApp answered for, whether it is there. Raises DeviceUnavailable."""
        answer = await self._ask(number, say.LookUp(number.id, list(phones)))
        return answer.known if isinstance(answer, say.OnWhatsApp) else {}

    async def contacts(self, number: Number) -> list[say.DeviceContact]:
        """The phone's address book. Raises DeviceUnavailable."""
        answer = await self._ask(number, say.ListContacts(number.id))
        return answer.contacts if isinstance(answer, say.Contacts) else []

    async def groups(self, number: Number) -> list[say.DeviceGroup]:
        """The groups the number is in, with their participants. Raises DeviceUnavailable."""
        answer = await self._ask(number, say.ListGroups(number.id))
        return answer.groups if isinstance(answer, say.Groups) else []

    async def logout(self, number: Number) -> None:
        """Removes the device from the phone and deletes its session. Raises DeviceUnavailable."""
        device = self._device(number)
        device.leaving = True  # the engine tells of the logout before it answers: its host must live until then
        try:
            await self._ask(number, say.LogOut(number.id))
            await self._become(device, "logged_out", "logged out; pair the number again")
        finally:
            device.leaving = False
            if device.state == "logged_out":
                await self._discard(device)

    # -- pairing ---------------------------------------------------------------------------------------------------

    async def start_pairing(self, number: Number, phone: str | None = None) -> PairingProgress:
        """Begins a pairing by QR code, or by code for the phone number `phone` (digits).

        A pairing of the same kind that is under way is kept. Raises DeviceUnavailable when the device is already
        paired and connected or connecting.
        """
        device = self._device(number)
        if device.state in ("connected", "connecting", "degraded"):
            raise DeviceUnavailable(f"the number is paired and {device.state}; log it out first")
        running = device.pairing
        if running is not None and running.running:
            if running.phone == (phone or ""):
                return running
            await self.stop_pairing(number)
        device.pairing = PairingProgress.begin(phone or "", self._clock())
        await self._become(device, "pairing", "waiting for the phone")
        await self._hosts.close(number.id)
        await self._open(device)
        self._spawn(self._expire(device, device.pairing))
        return device.pairing

    def pairing(self, number: Number) -> PairingProgress | None:
        """The number's latest pairing since this process started."""
        return self._device(number).pairing

    async def stop_pairing(self, number: Number, reason: str = "the pairing was canceled") -> None:
        """Gives up a pairing that is under way."""
        device = self._device(number)
        if device.pairing is not None and device.pairing.running:
            device.pairing.fail(reason)
            await self._give_up(device, device.pairing)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _device(self, number: Number) -> _Device:
        device = self._devices.get(number.id)
        if device is None:
            state: NumberState = number.state if number.state in ("logged_out", "banned") else "disconnected"
            device = self._devices[number.id] = _Device(number, state, number.state_reason)
        return device

    def _secret(self, message_id: int) -> bytes:
        return hmac.digest(self._message_key, str(message_id).encode(), "sha256")

    async def _ask(self, number: Number, command: say.Command) -> say.Answer:
        device = self._device(number)
        if device.state != "connected":
            raise DeviceUnavailable(device.reason or "the device is not connected")
        try:
            answer = await self._hosts.call(number.id, command, self._settings.engine_timeout)
        except HostLostError as error:
            raise DeviceUnavailable(str(error)) from error
        if isinstance(answer, say.Failed):
            raise DeviceUnavailable(answer.reason)
        return answer

    async def _after_doubt(self, number: Number, outgoing: Outgoing, reason: str) -> Outcome:
        """The send is over and its outcome unknown: what the session file says about it decides."""
        found = await self.evidence(number, outgoing)
        if isinstance(found, NeverLeft):
            return TryLater("engine_failed", reason)
        return InDoubt(reason, found.remote_id or None)

    async def _open(self, device: _Device) -> None:
        number, pairing = device.number, device.pairing
        in_pairing = pairing is not None and pairing.running
        if not in_pairing:
            await self._become(device, "connecting", "connecting to WhatsApp")
        order = say.Open(
            device=number.id,
            account_id=number.account_id,
            session=str(self._sessions.path(number)),
            incoming=str(self._incoming / str(number.id)),
            phone=pairing.phone if pairing is not None and in_pairing else "",
        )
        await self._hosts.open(order, alone=in_pairing)

    async def _on_lost(self, number_id: int, reason: str) -> None:
        device = self._devices[number_id]
        log.warning("an engine host was lost", number=number_id, reason=reason)
        if device.pairing is not None and device.pairing.running:
            device.pairing.fail(reason)
            self._spawn(self._give_up(device, device.pairing))
        else:
            await self._become(device, "connecting", f"{reason}; starting another")

    async def _on_news(self, news: say.News) -> None:
        if isinstance(news, (Received, StatusChanged)):
            await self._events.put(news)
            return
        device = self._devices[news.device]
        pairing = device.pairing if device.pairing is not None and device.pairing.running else None
        match news:
            case say.QrShown(qr=qr):
                await self._on_qr(device, pairing, qr)
            case say.CodeShown(code=code):
                if pairing is not None:
                    pairing.show_code(code)
            case say.Paired(phone=phone, jid=jid):
                self._hosts.settled(device.number.id)
                if pairing is not None:
                    pairing.succeed()
                await self._become(device, "connecting", "paired; connecting to WhatsApp", phone=phone, jid=jid)
            case say.PairingFailed(reason=reason):
                if pairing is not None:
                    pairing.fail(reason)
                    self._spawn(self._give_up(device, pairing))
            case say.DeviceState():
                await self._on_state(device, pairing, news)
            case say.Trouble(what=what):
                log.error("the engine had trouble", number=news.device, what=what)
            case _:
                assert_never(news)

    async def _on_qr(self, device: _Device, pairing: PairingProgress | None, qr: str) -> None:
        if pairing is not None:
            pairing.show_qr(qr, self._clock())
            return
        # a number that counted as paired has lost what its session held
        await self._become(device, "logged_out", "the session is no longer valid; pair the number again")
        self._spawn(self._discard(device))

    async def _on_state(self, device: _Device, pairing: PairingProgress | None, news: say.DeviceState) -> None:
        if news.state == "pairing":
            return
        if news.state == "connected":
            self._hosts.settled(device.number.id)
        if pairing is not None:
            if news.state != "connected":
                return
            pairing.succeed()  # there was a valid session after all
        await self._become(device, news.state, news.reason, phone=news.phone, jid=news.jid)
        if news.state == "logged_out" and not device.leaving:
            self._spawn(self._discard(device))
        elif news.retry_after is not None:
            self._spawn(self._reopen_later(device, max(news.retry_after, _SHORTEST_BAN)))
        elif news.state in ("replaced", "outdated"):
            self._spawn(self._hosts.close(device.number.id))

    async def _become(self, device: _Device, state: NumberState, reason: str, phone: str = "", jid: str = "") -> None:
        known = (state, reason) == (device.state, device.reason) or state == device.state == "logged_out"
        if known and not jid:
            return
        device.state, device.reason = state, reason
        number = device.number
        await self._events.put(
            ConnectionChanged(number.account_id, number.id, state, reason, self._clock(), phone=phone, jid=jid)
        )

    async def _discard(self, device: _Device) -> None:
        """Takes a logged-out device down and deletes what is left of its session."""
        await self._hosts.close(device.number.id)
        self._sessions.forget(device.number)

    async def _reopen_later(self, device: _Device, seconds: float) -> None:
        await self._hosts.close(device.number.id)
        loop = asyncio.get_running_loop()
        device.reopening = loop.call_later(seconds, lambda: self._spawn(self._reopen(device)))

    async def _reopen(self, device: _Device) -> None:
        if device.state in ("banned", "disconnected") and self._sessions.exists(device.number):
            await self._open(device)

    async def _expire(self, device: _Device, pairing: PairingProgress) -> None:
        if not await pairing.settled():
            pairing.expire()
            await self._give_up(device, pairing)

    async def _give_up(self, device: _Device, pairing: PairingProgress) -> None:
        """Ends a pairing that did not succeed, with the half-made session."""
        await self._hosts.close(device.number.id)
        if pairing.shown:
            self._sessions.forget(device.number)
        await self._become(device, "disconnected", pairing.error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

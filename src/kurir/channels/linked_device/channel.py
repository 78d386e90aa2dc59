"""The channel of linked devices: numbers that WhatsApp knows as a companion of someone's phone.

The engine runs in child processes (see `hosts`), each number's connection in `connections`; this module is the
interface for the rest of the gateway: it sends, looks for evidence when a send was interrupted, and queries devices.

More than 300 lines: one method for each thing that the gateway asks of linked devices.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple, get_args

from kurir.channels.channel import Capabilities
from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.connections import Connections
from kurir.channels.linked_device.engine_host.typing_time import typing_seconds
from kurir.channels.linked_device.event_stream import EventStream
from kurir.channels.linked_device.host_process import HostLostError
from kurir.channels.linked_device.hosts import ARGV
from kurir.channels.linked_device.pairing_progress import PairingProgress
from kurir.channels.linked_device.peer_calls import Call, DeviceUnavailable, PeerCalls, Result
from kurir.channels.linked_device.sessions import FileSessions, Sessions
from kurir.kit.clock import Clock
from kurir.kit.metrics import DeviceStats
from kurir.kit.tasks import TaskHealth
from kurir.kit.waits import Waits
from kurir.messages.channel_reports import (
    Event,
    Evidence,
    InDoubt,
    NotConnected,
    NumberState,
    Outcome,
    Refused,
    Restricted,
    Sent,
    TryLater,
)
from kurir.messages.content import Outgoing
from kurir.numbers.numbers import Number
from kurir.reasons import Reason
from kurir.reasons import numbers as reasons
from kurir.reasons.states import state
from kurir.settings import Settings

_EVENTS = 10_000
"""Events that may wait for the inbox; beyond that the engine waits, and with it WhatsApp's server."""
_CANCELED = reasons.PAIRING_CANCELED()
_SLOWEST_UPLOAD = 50_000
"""Bytes per second below which an upload counts as stuck."""


_Question = say.LookUp | say.ListContacts | say.ListGroups | say.LogOut
_ON_THE_WAY = 5.0
"""Additional seconds for an answer from another gateway."""


class Vitals(NamedTuple):
    """When anything last came from WhatsApp (unix seconds), and the seconds of the last check's round trip."""

    last_heard_at: float | None
    round_trip: float | None


class LinkedDevices:
    """All linked devices of this gateway; `peer_calls` reaches the devices of other gateways, if any.

    `message_key` is this server's key, from which each attempt's message secret is derived: the same for the same
    attempt of the same message, so that a send can be recognized after a crash. `list_numbers` gives the linked-device
    numbers of every account. `unread` is called with the kind of unsupported content.
    """

    def __init__(
        self,
        settings: Settings,
        message_key: bytes,
        list_numbers: Callable[[], Awaitable[Sequence[Number]]],
        clock: Clock,
        argv: Sequence[str] = ARGV,
        *,
        peer_calls: PeerCalls | None = None,
        health: TaskHealth | None = None,
        unread: Callable[[str], None] = lambda _kind: None,
    ) -> None:
        self._peer_calls = peer_calls
        self.capabilities = Capabilities(
            kinds=frozenset({"text", "image", "document", "location"}),
            groups=True,
            typing=True,
            window=settings.device_window,
            timeout=settings.device_receipt_wait,
        )
        self._settings = settings
        self._clock = clock
        self._message_key = message_key
        self._list_numbers = list_numbers
        self._sessions = _sessions(settings)
        self._events = EventStream(_EVENTS)
        self._connections = Connections(
            settings, self._sessions, self._events, clock, argv, health=health, unread=unread
        )
        self._shared = bool(settings.database_url)
        self._held: set[int] = set()
        self._closed = False
        self._waits = Waits()

    # -- the channel -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens every paired number; they connect in the background. Where gateways share the numbers, `open_device`
        does that for each.

        Raises OSError and DatabaseUnavailable.
        """
        await asyncio.to_thread(self._sessions.prepare)
        if not self._shared:
            for number in await self._list_numbers():
                await self._connections.restore(number)

    async def open_device(self, number: Number) -> None:
        """Opens a number that this gateway now holds. Raises DatabaseUnavailable."""
        self._held.add(number.id)
        await self._connections.restore(number)

    async def close_device(self, number_id: int) -> None:
        """Closes a number that another gateway holds from now on, if it is open."""
        self._held.discard(number_id)
        await self._connections.let_go(number_id)

    def holds(self, number_id: int) -> bool:
        """Whether this gateway holds the number."""
        return not self._shared or number_id in self._held

    async def forward(self, number: Number, call: Call, timeout: float) -> Result:
        """The answer of the gateway that holds the number. Raises DeviceUnavailable."""
        if self._peer_calls is None:
            raise DeviceUnavailable(reasons.HELD_ELSEWHERE())
        return await self._peer_calls.run(number, call, timeout)

    def is_pairing(self, number_id: int) -> bool:
        """Whether a pairing may still succeed: then the number does not move to another gateway."""
        return self._connections.is_pairing(number_id)

    def ready(self, number: Number) -> bool:
        """Whether the device is connected."""
        return self.state(number)[0] == "connected"

    def state(self, number: Number) -> tuple[NumberState, Reason]:
        """The number's connection state and its reason, as seen by the gateway that holds it."""
        if not self.holds(number.id):
            return number.state, number.state_reason
        connection = self._connections.of(number)
        return connection.state, connection.reason

    def vitals(self, number: Number) -> Vitals:
        """Measurements of the number's connection."""
        connection = self._connections.of(number)
        return Vitals(connection.heard_at, connection.round_trip)

    def device_stats(self) -> DeviceStats:
        """Figures over all devices."""
        connections = self._connections.all()
        now = self._clock()
        connected = [connection for connection in connections if connection.state == "connected"]
        journals = self._connections.hosts.journals()
        counts = Counter(connection.state for connection in connections)
        return DeviceStats(
            states={state: counts[state] for state in get_args(NumberState)},
            longest_silence=max((now - one.heard_at for one in connected if one.heard_at is not None), default=0.0),
            slowest_round_trip=max((one.round_trip or 0.0 for one in connected), default=0.0),
            hosts=len(self._connections.hosts.pids()),
            journal_entries=sum(journal.entries for journal in journals),
            oldest_entry=max((time.time() - at for journal in journals if (at := journal.oldest_at)), default=0.0),
            troubles=self._connections.troubles,
        )

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        """Puts one message on the wire, at most once. Never raises."""
        if not self.holds(number.id):
            return NotConnected(reasons.HELD_ELSEWHERE())
        state, reason = self.state(number)
        if state != "connected":
            return NotConnected(reason or reasons.NOT_CONNECTED())
        settings = self._settings
        typing = 0.0
        if outgoing.typing:
            typing = typing_seconds(outgoing.content, settings.typing_per_character, settings.typing_max)
        size = outgoing.media.size if outgoing.media is not None else 0
        command = say.Send(number.id, outgoing, self._secret(outgoing), typing)
        try:
            timeout = settings.engine_timeout + typing + size / _SLOWEST_UPLOAD
            answer = await self._connections.hosts.call(number.id, command, timeout)
        except HostLostError as error:
            return InDoubt(error.reason)
        match answer:
            case Sent() | Refused() | TryLater() | Restricted() | NotConnected() | InDoubt():
                return answer
            case say.Failed(reason):
                return InDoubt(reason)
            case _:
                return InDoubt(reasons.ENGINE_ANSWERED(what=type(answer).__name__))

    async def evidence(self, number: Number, outgoing: Outgoing) -> Evidence:
        """What the device's session shows about an earlier attempt; call it when that attempt is over or its process is
        dead."""
        return await asyncio.to_thread(self._sessions.evidence, number, self._secret(outgoing))

    async def events(self) -> AsyncIterator[Event]:
        """Events of the devices, in order per number, until the channel is closed. One consumer."""
        async for event in self._events.events():
            yield event

    def stored(self, events: Sequence[Event]) -> None:
        """Lets the devices' journals delete the entries of `events`, which are in the database now."""
        by_device: dict[int, list[int]] = {}
        for event in events:
            if isinstance(event, say.NumberEvent) and event.entry:
                by_device.setdefault(event.number_id, []).append(event.entry)
        for device, entries in by_device.items():
            self._connections.hosts.post(device, say.Stored(device, entries))

    async def close(self) -> None:
        """Ends the engine hosts. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._connections.close()
        await self._events.end()

    def dismiss(self) -> None:
        """Ends the waiting for what devices know, at the stop: callers get DeviceUnavailable."""
        self._waits.dismiss()

    # -- what a device knows ---------------------------------------------------------------------------------------

    async def is_on_whatsapp(self, number: Number, phones: Sequence[str]) -> dict[str, bool]:
        """For each phone (digits) that WhatsApp answered for, whether it is there. Raises DeviceUnavailable."""
        answer = await self._question(number, say.LookUp(number.id, list(phones)))
        return answer.known if isinstance(answer, say.OnWhatsApp) else {}

    async def contacts(self, number: Number) -> list[say.DeviceContact]:
        """The phone's address book. Raises DeviceUnavailable."""
        answer = await self._question(number, say.ListContacts(number.id))
        return answer.contacts if isinstance(answer, say.Contacts) else []

    async def groups(self, number: Number) -> list[say.DeviceGroup]:
        """The groups the number is in, with their participants. Raises DeviceUnavailable."""
        answer = await self._question(number, say.ListGroups(number.id))
        return answer.groups if isinstance(answer, say.Groups) else []

    async def logout(self, number: Number) -> None:
        """Removes the device from the phone and deletes its session. Raises DeviceUnavailable."""
        if not self.holds(number.id):
            await self.forward(number, say.LogOut(number.id), self._settings.engine_timeout + _ON_THE_WAY)
            return
        await self._connections.leave(self._connections.of(number), lambda: self._ask(number, say.LogOut(number.id)))

    async def forget(self, number: Number) -> None:
        """Closes a number of this gateway that is being removed, and deletes its session."""
        await self._connections.forget(number)

    async def replay_received(self, number: Number, payload: bytes) -> None:
        """Processes a quarantined journal entry of the number again; `payload` as in `Quarantined`.

        Raises DeviceUnavailable, also when another gateway holds the number.
        """
        if not self.holds(number.id):
            raise DeviceUnavailable(reasons.HELD_ELSEWHERE())
        try:
            answer = await self._connections.hosts.call(
                number.id, say.Replay(number.id, payload), self._settings.engine_timeout
            )
        except HostLostError as error:
            raise DeviceUnavailable(error.reason) from error
        if isinstance(answer, say.Failed):
            raise DeviceUnavailable(answer.reason)

    # -- pairing ---------------------------------------------------------------------------------------------------

    async def start_pairing(self, number: Number, phone: str | None = None) -> PairingProgress:
        """Starts a pairing by QR code, or by code for the phone number `phone` (digits).

        A pairing of the same kind that is in progress is kept. Raises DeviceUnavailable when the device is already
        paired and connected or connecting.
        """
        connection = self._connections.of(number)
        if connection.state in ("connected", "connecting", "degraded"):
            raise DeviceUnavailable(reasons.ALREADY_PAIRED(state=state(connection.state)))
        running = connection.running_pairing
        if running is not None:
            if running.phone == (phone or ""):
                return running
            await self.stop_pairing(number)
        return await self._connections.pair(connection, phone or "")

    def pairing(self, number: Number) -> PairingProgress | None:
        """The number's latest pairing since this process started."""
        return self._connections.of(number).pairing

    async def stop_pairing(self, number: Number, reason: Reason = _CANCELED) -> None:
        """Cancels a pairing in progress."""
        await self._connections.cancel_pairing(self._connections.of(number), reason)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _secret(self, outgoing: Outgoing) -> bytes:
        return hmac.digest(self._message_key, f"{outgoing.message_id}/{outgoing.attempt}".encode(), "sha256")

    async def _question(self, number: Number, question: _Question) -> say.HostReply | Result:
        """The answer to what changes nothing: it can be asked again, so nobody waits for it at the stop."""
        try:
            async with self._waits.timeout(None):
                return await self._ask(number, question)
        except TimeoutError:
            raise DeviceUnavailable(reasons.GATEWAY_STOPPING()) from None

    async def _ask(self, number: Number, command: _Question) -> say.HostReply | Result:
        if not self.holds(number.id):
            return await self.forward(number, command, self._settings.engine_timeout + _ON_THE_WAY)
        state, reason = self.state(number)
        if state != "connected":
            raise DeviceUnavailable(reason or reasons.NOT_CONNECTED())
        try:
            answer = await self._connections.hosts.call(number.id, command, self._settings.engine_timeout)
        except HostLostError as error:
            raise DeviceUnavailable(error.reason) from error
        if isinstance(answer, say.Failed):
            raise DeviceUnavailable(answer.reason)
        return answer


def _sessions(settings: Settings) -> Sessions:
    if not settings.database_url:
        return FileSessions(settings.data_dir)
    from kurir.channels.linked_device.server_sessions import (  # noqa: PLC0415 - brings psycopg, which files never need
        ServerSessions,
    )

    return ServerSessions(settings.database_url)

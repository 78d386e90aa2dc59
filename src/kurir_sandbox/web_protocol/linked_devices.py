"""Linked devices: who is linked to which account, their public keys, their connection and the stanzas they still
have to get.

A stanza for a device waits in its queue until the device acknowledged it, over reconnects and over restarts of the
sandbox; so a device that dies in between gets it again, as with WhatsApp.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from . import codec
from .device_queue import Queue, Waiting
from .signal_sessions import Bundle
from .stanza import JID, LID_SERVER, SERVER, Node

if TYPE_CHECKING:
    from ..world import StateStore


@dataclass(frozen=True, slots=True)
class LinkedDevice:
    """A linked device as people see it. `jid` and `lid` contain the device id; `linked_at` is in unix seconds."""

    jid: str
    lid: str
    phone: str
    device_id: int
    platform: str
    connected: bool
    linked_at: int


class Device(msgspec.Struct):
    """A linked device as the server knows it; keys are public (32 bytes)."""

    phone: str
    lid_user: str
    device_id: int
    registration: int
    identity: bytes
    signed_key_id: int
    signed_key: bytes
    signature: bytes
    noise_key: bytes
    platform: str
    linked_at: int
    has_app_state_key: bool = False

    @property
    def jid(self) -> JID:
        """The device's address by phone number."""
        return JID(self.phone, device=self.device_id)

    @property
    def lid(self) -> JID:
        """The device's address by LID: the one Signal sessions are kept under."""
        return JID(self.lid_user, LID_SERVER, self.device_id)


class Line(Protocol):
    """The live connection of a device, as far as this module needs it."""

    async def send(self, node: Node) -> None:
        """Sends one stanza; a broken connection is not an error here."""
        ...


@dataclass(slots=True)
class _Presence:
    line: Line
    active: bool = False
    # what waited for the device goes out before anything newer
    order: asyncio.Lock = field(default_factory=asyncio.Lock)


class LinkedDevices:
    """The register of all linked devices."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._devices: dict[JID, Device] = {}
        self._one_time_keys: dict[JID, dict[int, bytes]] = {}
        self._queues: dict[JID, Queue] = {}
        self._lines: dict[JID, _Presence] = {}
        self._number = 0
        for _, raw in store.items("linked_devices"):
            device = msgspec.msgpack.decode(raw, type=Device)
            self._devices[device.jid] = device
            self._load(device)

    def _load(self, device: Device) -> None:
        keys = self._store.get("one_time_keys", str(device.jid))
        self._one_time_keys[device.jid] = msgspec.msgpack.decode(keys, type=dict[int, bytes]) if keys else {}
        queue = self._queues.setdefault(device.jid, Queue())
        for number, raw in sorted(self._store.items(_queue_space(device))):
            queue.add(Waiting(int(number), codec.decode(raw), stored=True))
            self._number = max(self._number, int(number))

    # who there is

    def all(self) -> list[Device]:
        """Every linked device."""
        return list(self._devices.values())

    def of(self, phone: str) -> list[Device]:
        """The linked devices of one account."""
        return [d for d in self._devices.values() if d.phone == phone]

    def find(self, jid: JID) -> Device | None:
        """The device with this address, by phone number or by LID."""
        if jid.server == LID_SERVER:
            return next((d for d in self._devices.values() if d.lid == jid), None)
        return self._devices.get(jid)

    def view(self, device: Device) -> LinkedDevice:
        """The device as shown to people."""
        return LinkedDevice(
            str(device.jid),
            str(device.lid),
            device.phone,
            device.device_id,
            device.platform,
            device.jid in self._lines,
            device.linked_at,
        )

    def next_device_id(self, phone: str) -> int:
        """A device id that was never used on this account: a reused one would meet old Signal sessions of its peers."""
        last = self._store.get("last_device_id", phone)
        device_id = int(last or b"0") + 1
        self._store.put("last_device_id", phone, str(device_id).encode())
        return device_id

    def add(self, device: Device) -> None:
        """Links `device`."""
        self._devices[device.jid] = device
        self._one_time_keys[device.jid] = {}
        self._queues[device.jid] = Queue()
        self.save(device)

    def save(self, device: Device) -> None:
        """Writes a changed record down."""
        self._store.put("linked_devices", str(device.jid), msgspec.msgpack.encode(device))

    def remove(self, device: Device) -> None:
        """Unlinks `device` with its keys and its queue."""
        self._devices.pop(device.jid, None)
        self._one_time_keys.pop(device.jid, None)
        self._lines.pop(device.jid, None)
        for waiting in self._queues.pop(device.jid, Queue()).all():
            self._drop(device, waiting)
        self._store.delete("linked_devices", str(device.jid))
        self._store.delete("one_time_keys", str(device.jid))

    # keys

    def one_time_key_count(self, device: Device) -> int:
        """How many one-time keys of the device are left."""
        return len(self._one_time_keys.get(device.jid, ()))

    def add_one_time_keys(self, device: Device, keys: dict[int, bytes]) -> None:
        """Keeps uploaded one-time keys (id to 32 bytes)."""
        self._one_time_keys[device.jid].update(keys)
        self._save_keys(device)

    def one_time_keys(self, device: Device) -> dict[int, bytes]:
        """The one-time keys of the device that are left, by id."""
        return dict(self._one_time_keys.get(device.jid, {}))

    def public_keys(self, device: Device) -> Bundle:
        """The device's keys without a one-time key."""
        return Bundle(device.registration, device.identity, device.signed_key_id, device.signed_key, device.signature)

    def bundle(self, device: Device) -> Bundle:
        """The device's keys for one new session; its one-time key is used up by asking."""
        keys = self._one_time_keys[device.jid]
        one_time_id = next(iter(keys), None)
        one_time = None
        if one_time_id is not None:
            one_time = keys.pop(one_time_id)
            self._save_keys(device)
        return msgspec.structs.replace(self.public_keys(device), one_time_id=one_time_id, one_time_key=one_time)

    def _save_keys(self, device: Device) -> None:
        raw = msgspec.msgpack.encode(self._one_time_keys[device.jid])
        self._store.put("one_time_keys", str(device.jid), raw)

    # the connection

    def attach(self, device: Device, line: Line) -> None:
        """The device logged in on `line`; stanzas wait until it is active."""
        self._lines[device.jid] = _Presence(line)

    def detach(self, device: Device, line: Line) -> None:
        """`line` is gone; what it didn't acknowledge is kept for the next one."""
        if self.line(device) is line:
            del self._lines[device.jid]
            self.keep_unacknowledged(device)

    def line(self, device: Device) -> Line | None:
        """The device's connection, None while it is offline."""
        presence = self._lines.get(device.jid)
        return presence.line if presence else None

    async def activate(self, device: Device) -> None:
        """The device is ready: sends it what is queued, then that this was all. Nothing if it is active already."""
        presence = self._lines.get(device.jid)
        if presence is None:
            return
        async with presence.order:
            if presence.active:
                return
            presence.active = True
            waiting = self.waiting(device)
            counts = {tag: str(sum(n.tag == tag for n in waiting)) for tag in ("message", "receipt", "notification")}
            preview = Node("offline_preview", {"count": str(len(waiting)), **counts, "appdata": "0"})
            await presence.line.send(Node("ib", {"from": SERVER}, [preview]))
            for index, node in enumerate(waiting):
                await presence.line.send(Node(node.tag, {**node.attrs, "offline": str(index)}, node.content))
            end = Node("offline", {"count": str(len(waiting))})
            await presence.line.send(Node("ib", {"from": SERVER}, [end]))

    def hold(self, device: Device) -> None:
        """The device wants nothing for now: stanzas wait until it is active again."""
        if presence := self._lines.get(device.jid):
            presence.active = False

    # the queue

    async def post(self, device: Device, node: Node) -> None:
        """Hands `node` (a message, receipt or notification) to the device, now or when it comes back."""
        if device.jid not in self._devices:
            return
        self._number += 1
        presence = self._lines.get(device.jid)
        waiting = Waiting(self._number, node, stored=False)
        self._drop(device, self._queues[device.jid].add(waiting))
        if node.tag == "message" or presence is None:
            self._keep(device, [waiting])
        if presence and presence.active:
            async with presence.order:
                await presence.line.send(node)

    async def whisper(self, device: Device, node: Node) -> None:
        """Hands `node` (typing, presence) to the device if it is there right now."""
        presence = self._lines.get(device.jid)
        if presence and presence.active:
            await presence.line.send(node)

    def settle(self, device: Device, ack: Node) -> None:
        """The device acknowledged a receipt or notification (`<ack>`): it leaves the queue."""
        ticket = (ack.text("class"), *(ack.text(name) for name in ("id", "to", "participant", "type")))
        self._drop(device, self._queue(device).take(ticket))

    def settle_message(self, device: Device, wire_id: str, to: JID, participant: JID | None = None) -> None:
        """The device sent a receipt for a message, which is how it acknowledges one: it leaves the queue."""
        self._drop(device, self._queue(device).take_message(wire_id, str(to), str(participant or "")))

    def queued(self, device: Device) -> int:
        """How many stanzas the device hasn't acknowledged yet."""
        return len(self.waiting(device))

    def waiting(self, device: Device) -> list[Node]:
        """The stanzas that the device hasn't acknowledged yet, in order."""
        return [waiting.node for waiting in self._queue(device).all()]

    def keep_unacknowledged(self, device: Device) -> None:
        """Writes down what so far waits only in memory."""
        self._keep(device, [w for w in self._queue(device).all() if not w.stored])

    def _keep(self, device: Device, waiting: list[Waiting]) -> None:
        if not waiting:
            return
        space = _queue_space(device)
        self._store.put_many([(space, f"{w.number:012d}", codec.encode(w.node)) for w in waiting])
        for entry in waiting:
            entry.stored = True

    def _drop(self, device: Device, waiting: Waiting | None) -> None:
        if waiting is not None and waiting.stored:
            self._store.delete(_queue_space(device), f"{waiting.number:012d}")

    def _queue(self, device: Device) -> Queue:
        return self._queues.get(device.jid) or Queue()


def _queue_space(device: Device) -> str:
    return f"queue/{device.jid}"


def now() -> str:
    """The time as in stanzas: unix seconds as text."""
    return str(int(time.time()))

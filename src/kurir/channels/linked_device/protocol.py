"""The protocol between the gateway and an engine host: commands, answers, events ("news"), and their framing.

A host is a child process that runs the WhatsApp Web engine for several linked devices. Commands go down with a call
number, each gets exactly one answer with the same number; news come up unasked, in order per device. A frame is a
4-byte big-endian length and one MessagePack object. Devices are named by their number's internal id.

More than 300 lines: every message of one wire format, readable in one place by both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from kurir.channels.linked_device.logins import MOST
from kurir.messages.channel_reports import (
    InDoubt,
    MediaFetched,
    NotConnected,
    NumberState,
    Quarantined,
    Received,
    Refused,
    Restricted,
    Sent,
    StatusChanged,
    TryLater,
)
from kurir.messages.content import Outgoing
from kurir.reasons import Reason

FRAME_LIMIT = 64 * 1024 * 1024
"""Maximum bytes of one frame: far above the contact list of a busy phone; more means that the two sides are out of
step."""


class DeviceContact(msgspec.Struct, frozen=True):
    """An entry of the phone's address book; `phone` in digits."""

    name: str
    phone: str


class DeviceParticipant(msgspec.Struct, frozen=True):
    """A member of a group: `role` is participant, admin or superadmin; `phone` in digits, "" when WhatsApp hides it."""

    phone: str
    name: str
    role: str
    is_contact: bool


class DeviceGroup(msgspec.Struct, frozen=True):
    """A group the device is a member of; `id` ends in `@g.us`."""

    id: str
    subject: str
    participants: list[DeviceParticipant]


# -- commands ----------------------------------------------------------------------------------------------------------


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Connects a device and keeps it connected. Without a session in `session` it shows QR codes, or, when `phone` is
    given, one pairing code. `session`, `incoming` (folder for received media) and `journal` (file for what was received
    and is not stored yet) are absolute paths; `jid` is the device's own JID where it is known. After `check_after`
    quiet seconds (0: never) the connection is checked; an answer must come within `check_timeout`. After more than
    `short_connections` in a row the engine is stopped (see `logins`). `opening` is stamped on its news."""

    device: int
    account_id: int
    session: str
    incoming: str
    journal: str
    jid: str = ""
    phone: str = ""
    check_after: float = 0.0
    check_timeout: float = 15.0
    short_connections: int = MOST
    opening: int = 0


class Close(msgspec.Struct, frozen=True, tag="close"):
    """Disconnects a device and forgets it. The session stays."""

    device: int


class Send(msgspec.Struct, frozen=True, tag="send"):
    """Sends one message. `secret` (32 bytes) is stored by the engine before anything reaches the network; `typing` is
    for how many seconds the recipient sees "typing …" first."""

    device: int
    outgoing: Outgoing
    secret: bytes
    typing: float = 0.0


class LookUp(msgspec.Struct, frozen=True, tag="look_up"):
    """Asks which phones (digits) are on WhatsApp."""

    device: int
    phones: list[str]


class ListContacts(msgspec.Struct, frozen=True, tag="list_contacts"):
    """Asks for the phone's address book."""

    device: int


class ListGroups(msgspec.Struct, frozen=True, tag="list_groups"):
    """Asks for the device's groups."""

    device: int


class LogOut(msgspec.Struct, frozen=True, tag="log_out"):
    """Removes the device from the phone's list of linked devices."""

    device: int


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """The content of these journal entries is in the database: the journal may delete them."""

    device: int
    entries: list[int]


class Replay(msgspec.Struct, frozen=True, tag="replay"):
    """Puts a quarantined entry of a device's journal back into it; `payload` as in `Quarantined`."""

    device: int
    payload: bytes


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Checks that the host's command loop works."""


Command = Open | Close | Send | LookUp | ListContacts | ListGroups | LogOut | Stored | Replay | Ping

TROUBLES = (
    "event_stream_ended",  # an event could not be serialized; the device was connected anew
    "not_connected",
    "unknown_receipt",
    "device_left_out",  # a companion without keys, or some members of a group
    "call_failed",
    "not_relaxed",  # an unknown value of an event ends the event stream
    "reconnects_often",  # WhatsApp ends the connection right after each login; the device was left alone for a time
    "long_receipt",  # names more messages than are read of one
    "no_room",  # received files wait because the disk is nearly full
    "notices_dropped",  # problems and counts dropped because the gateway was too far behind
    "other",
)
"""The kinds of problems that are counted."""

# -- answers -----------------------------------------------------------------------------------------------------------


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The command was carried out (Open: started)."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The command was not carried out, for a reason."""

    reason: Reason


class JournalState(msgspec.Struct, frozen=True):
    """How many entries of a device's journal are not stored yet, and since when the oldest waits (unix seconds)."""

    device: int
    entries: int
    oldest_at: float | None


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The answer to `Ping`: the state of every open device's journal, and the host's failing threads (name: type name
    of the exception)."""

    journals: list[JournalState] = []
    failing: dict[str, str] = {}


class OnWhatsApp(msgspec.Struct, frozen=True, tag="on_whatsapp"):
    """For each phone that the server answered for: whether it is on WhatsApp."""

    known: dict[str, bool]


class Contacts(msgspec.Struct, frozen=True, tag="contacts"):
    """The address book."""

    contacts: list[DeviceContact]


class Groups(msgspec.Struct, frozen=True, tag="groups"):
    """The groups."""

    groups: list[DeviceGroup]


SendOutcome = Sent | Refused | TryLater | Restricted | NotConnected | InDoubt
HostReply = Done | Failed | Alive | OnWhatsApp | Contacts | Groups | SendOutcome

# -- news --------------------------------------------------------------------------------------------------------------


class OfOpening(msgspec.Struct, frozen=True, kw_only=True):
    """News of a device's connection that belong to the `Open` with this number; news of an earlier one may arrive after
    it."""

    opening: int = 0


class QrShown(OfOpening, frozen=True, tag="qr_shown"):
    """A QR text for the phone's camera; the next one replaces it."""

    device: int
    qr: str


class CodeShown(OfOpening, frozen=True, tag="code_shown"):
    """An 8-character pairing code to type into the phone, such as `34DG-8G2E`."""

    device: int
    code: str


class Paired(OfOpening, frozen=True, tag="paired"):
    """The phone accepted the device: its phone number (digits) and device JID."""

    device: int
    phone: str
    jid: str


class PairingFailed(OfOpening, frozen=True, tag="pairing_failed"):
    """The pairing cannot succeed any more."""

    device: int
    reason: Reason


class DeviceState(OfOpening, frozen=True, tag="device_state"):
    """A device's connection changed. `retry_after` seconds: the engine does not try again before."""

    device: int
    state: NumberState
    reason: Reason
    phone: str = ""
    jid: str = ""
    retry_after: float | None = None


class Unsteady(OfOpening, frozen=True, tag="unsteady"):
    """The device's connections end right after each login, `short` times in a row: the engine has been stopped."""

    device: int
    short: int


class StoreFailed(OfOpening, frozen=True, tag="store_failed"):
    """A received message could not be decrypted because the session could not be read or written. It was not
    acknowledged: WhatsApp repeats it when the device reconnects."""

    device: int


class Heartbeat(OfOpening, frozen=True, tag="heartbeat"):
    """A quiet device's connection was checked: WhatsApp answered after `round_trip` seconds."""

    device: int
    round_trip: float


class Trouble(msgspec.Struct, frozen=True, tag="trouble"):
    """A problem in the engine that is not part of an answer, such as an event that could not be read.

    `kind` is a fixed word (see `TROUBLES`) under which it is counted; `device` 0: the whole host.
    """

    device: int
    what: str
    kind: str = ""


class Unread(msgspec.Struct, frozen=True, tag="unread"):
    """Unsupported content was received; `kind` is a name from the engine's fixed list; `device` 0: any of the host's
    devices."""

    device: int
    kind: str


NewsOfConnection = QrShown | CodeShown | Paired | PairingFailed | DeviceState | Unsteady | StoreFailed | Heartbeat
DeviceNews = NewsOfConnection | Unread | Trouble
NumberEvent = Received | MediaFetched | StatusChanged | Quarantined
"""News that go to the inbox unchanged."""
News = DeviceNews | NumberEvent

# -- frames ------------------------------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, tag="request"):
    """To the host: a command and its call number."""

    call: int
    command: Command


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """To the gateway: the answer to a call."""

    call: int
    answer: HostReply


class Notice(msgspec.Struct, frozen=True, tag="notice"):
    """To the gateway: news."""

    news: News


_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(Request)
_upward = msgspec.msgpack.Decoder(Reply | Notice)


def frame(item: Request | Reply | Notice) -> bytes:
    """Encodes `item` as a frame. Raises ValueError when it is larger than `FRAME_LIMIT`."""
    body = _encode(item)
    if len(body) > FRAME_LIMIT:
        raise ValueError(f"a frame of {len(body)} bytes is too large")
    return len(body).to_bytes(4, "big") + body


def body_length(head: bytes) -> int:
    """The length of the body that follows the 4 bytes `head`. Raises ValueError when it cannot be a valid frame."""
    length = int.from_bytes(head, "big")
    if length > FRAME_LIMIT:
        raise ValueError(f"a frame of {length} bytes is too large")
    return length


def decode_request(body: bytes) -> Request:
    """Decodes a command from a frame's body. Raises msgspec.ValidationError."""
    return _request.decode(body)


def decode_upward(body: bytes | memoryview) -> Reply | Notice:
    """Decodes an answer or news from a frame's body. Raises msgspec.ValidationError."""
    return _upward.decode(body)


def sound_frame(item: Reply | Notice) -> bytes:
    """Encodes `item` as a frame and decodes it once, so that the gateway can surely read it.

    Raises ValueError, TypeError, OverflowError and msgspec.MsgspecError when it cannot be.
    """
    data = frame(item)
    decode_upward(memoryview(data)[4:])
    return data


class Engine(Protocol):
    """The engine as used by a host. `perform` may be called from several threads at once."""

    def perform(self, command: Command) -> HostReply:
        """Carries out one command; blocks until its answer is known. Never raises."""
        ...


Emit = Callable[[News], bool]
"""Passes news from an engine to its host; a `NumberEvent` blocks while the gateway is behind, nothing else does. False:
they could not be encoded, and a `Trouble` was sent instead."""

"""What a channel returns for a send (`Outcome`), reports later (`Event`), or knows after a crash (`Evidence`).

Closed unions: match them exhaustively and end with `assert_never`. All are msgspec structs, so that they travel
unchanged between the gateway and its engine hosts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kurir.messages.lifecycle import ReceiptStatus
from kurir.reasons import Reason

NumberState = Literal[
    "connected",
    "connecting",
    "disconnected",
    "pairing",
    "logged_out",
    "replaced",
    "banned",
    "outdated",
    "degraded",
    "paused",
    "restricted",
]
"""`state_connection` of the wire: `connected` and `disconnected` as old clients know them, or a more precise word.

logged_out: the phone removed the device, pair again · replaced: the session was opened elsewhere · banned: WhatsApp
refused the number for a time · outdated: WhatsApp refuses this engine version · degraded: connected but not answering ·
paused: nothing of this number is sent until a person has acted (`kurir number resume`) · restricted: WhatsApp lets the
number write only to people it has been in contact with. These two are no states of the connection, and not stored as
such: they are shown in place of `connected`, see `numbers.shown_state`.
"""


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """The network accepted the message; `remote_id` is its id there (`wamid.…`, or the engine's message id)."""

    remote_id: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It surely did not leave and never will; `code` is a stable word or Graph code."""

    code: str
    reason: Reason


class TryLater(msgspec.Struct, frozen=True, tag="try_later"):
    """It surely did not leave; try again, not before `after` seconds when the other side named a time.

    `counted` is false for problems of this machine or of the whole number, for which no message is given up. `most`
    tries at most, where fewer than usual make sense. With `whole_number` nothing of the number is sent before then.
    """

    code: str
    reason: Reason
    after: float | None = None
    counted: bool = True
    most: int | None = None
    whole_number: bool = False


class Restricted(msgspec.Struct, frozen=True, tag="restricted"):
    """It surely did not leave: the network lets the number write only to people it has been in contact with.

    No attempt is counted for a first contact; for anybody else the refusal concerns that person.
    """

    code: str
    reason: Reason


class NotConnected(msgspec.Struct, frozen=True, tag="not_connected"):
    """The sender number is not connected; nothing was tried, no attempt is counted."""

    reason: Reason


class Halted(msgspec.Struct, frozen=True, tag="halted"):
    """It surely did not leave, and nothing of its number will until a person has acted; no attempt is counted."""

    code: str
    reason: Reason


class InDoubt(msgspec.Struct, frozen=True, tag="in_doubt"):
    """It may have left: no answer, a cut connection, a dead engine host."""

    reason: Reason
    remote_id: str | None = None


Outcome = Sent | Refused | TryLater | Restricted | NotConnected | Halted | InDoubt


class NeverLeft(msgspec.Struct, frozen=True, tag="never_left"):
    """The channel knows that the message never left."""


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """The channel does not know; if the message left, it left under `remote_id` ("" when even that is not known)."""

    remote_id: str = ""


Evidence = NeverLeft | Unknown


MediaState = Literal["pending", "stored", "gone"]
"""pending: still to be fetched · stored: on disk · gone: unavailable, and not retried."""


class IncomingMedia(msgspec.Struct, frozen=True):
    """Media of a received message; `path` is the stored file (absolute), "" unless `state` is stored; `reason` says why
    they are gone, as `reasons.stored` writes it.

    `state` is "" in rows of earlier releases: then `path` alone says whether there is a file.
    """

    mime: str
    name: str = ""
    path: str = ""
    size: int = 0
    remote_id: str = ""
    state: MediaState | Literal[""] = ""
    reason: str = ""


class Received(msgspec.Struct, frozen=True, tag="received"):
    """A received message, or one that another device of the same number sent (`from_me`).

    `chat` is a phone number in digits or a group id with `@g.us`; `sender` the person's phone number; `at` unix
    seconds; `entry` the journal entry that is deleted when this is stored (0: none).
    """

    account_id: int
    number_id: int
    remote_id: str
    chat: str
    sender: str
    sender_name: str
    at: float
    kind: str
    text: str = ""
    media: IncomingMedia | None = None
    location: tuple[float, float] | None = None
    from_me: bool = False
    forwarded: bool = False
    entry: int = 0


class MediaFetched(msgspec.Struct, frozen=True, tag="media_fetched"):
    """The result of fetching the media of a message that was stored before; `sender` and `entry` as in `Received`."""

    account_id: int
    number_id: int
    chat: str
    remote_id: str
    media: IncomingMedia
    entry: int = 0
    sender: str = ""


class StatusChanged(msgspec.Struct, frozen=True, tag="status_changed"):
    """A receipt: message `remote_id` of that number was sent, delivered, read, or failed at the other side.

    `message_id` is the gateway's where the channel returns it (Cloud API: `biz_opaque_callback_data`); `reason` is the
    network's own text; `entry` as in `Received`.
    """

    account_id: int
    number_id: int
    remote_id: str
    status: ReceiptStatus
    at: float
    message_id: int | None = None
    code: str = ""
    reason: str = ""
    person: str = ""
    entry: int = 0


class ConnectionChanged(msgspec.Struct, frozen=True, tag="connection_changed"):
    """A number's connection state changed; `state` is a `NumberState`.

    `phone` and `jid` are filled when a device has just been paired.
    """

    account_id: int
    number_id: int
    state: str
    reason: Reason
    at: float
    phone: str = ""
    jid: str = ""


class TemplateReviewed(msgspec.Struct, frozen=True, tag="template_reviewed"):
    """Meta changed a template's status (`message_template_status_update`)."""

    account_id: int
    number_id: int
    meta_id: str
    status: str
    reason: str = ""


class Quarantined(msgspec.Struct, frozen=True, tag="set_aside"):
    """An item of a number that failed some tries: stored whole in the quarantine.

    `queue` names its queue (`kurir.quarantine`), `reference` is its id there, `payload` what a retry needs, `reason`
    why it failed; `entry` as in `Received`. `fetch` is the result for the media of a message that is stored already.
    """

    account_id: int
    number_id: int
    queue: str
    reference: str
    reason: str
    payload: bytes
    entry: int = 0
    fetch: MediaFetched | None = None


Event = Received | MediaFetched | StatusChanged | ConnectionChanged | TemplateReviewed | Quarantined

__all__ = [
    "ConnectionChanged",
    "Event",
    "Evidence",
    "Halted",
    "InDoubt",
    "IncomingMedia",
    "MediaFetched",
    "MediaState",
    "NeverLeft",
    "NotConnected",
    "Outcome",
    "Quarantined",
    "Received",
    "Refused",
    "Restricted",
    "Sent",
    "StatusChanged",
    "TemplateReviewed",
    "TryLater",
    "Unknown",
]

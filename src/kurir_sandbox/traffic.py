"""The vocabulary shared by the two wires of the sandbox: contents, arrivals, and the two networks.

`web_protocol` (linked devices) and `graph_api` (official numbers) each implement `Network`. Everything that reaches a
phone passes through `Phones.deliver` (see `phones.py`), which writes the ledger; everything a person does on a phone is
passed to the network that owns the chat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

ChannelName = Literal["linked_device", "cloud_api"]
Kind = Literal["text", "image", "document", "location", "contact", "poll", "reaction", "template", "unsupported"]
ReceiptKind = Literal["delivered", "read"]


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or file as bytes. `mime` as declared by the sender; `name` is empty for pictures."""

    mime: str
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A location pin; degrees in WGS 84."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """A template as it was sent; `parameters` are the body variables in order."""

    name: str
    language: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What a bubble holds. Exactly the fields of its `kind` are filled.

    `bubble` is what the person sees, as text (for a template: header, body with variables filled in, footer, buttons).
    """

    kind: Kind
    text: str = ""
    caption: str = ""
    media: Media | None = None
    place: Place | None = None
    template: TemplateUse | None = None
    bubble: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message on one phone. `chat` is the sender's phone number, or the group id for a group message."""

    phone: str
    channel: ChannelName
    sender: str
    chat: str
    wire_id: str
    content: Content


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger row: an `Arrival` that was written down, with its id (ascending) and time (unix seconds)."""

    id: int
    at: float
    arrival: Arrival
    receipts: dict[ReceiptKind, float] = field(default_factory=dict)


class Network(Protocol):
    """A network: passes what people do on their phones to the gateway."""

    def owns(self, phone: str) -> bool:
        """Whether the number `phone` (digits) is reachable over this wire right now or later (queued)."""
        ...

    async def write(self, sender: str, to: str, content: Content) -> str:
        """A person writes `content` to number `to`, or in group `to` (id). Returns the message's wire id."""
        ...

    async def receipt(self, entry: Entry, kind: ReceiptKind) -> None:
        """Sends the receipt of the phone that holds `entry`: it was delivered or read."""
        ...

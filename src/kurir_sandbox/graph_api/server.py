"""The Cloud API network: official numbers on one side, phones on the other.

A message is accepted (on disk) before the answer, then delivered to the phone in a lane per number and person, then
reported to the app in signed callbacks: sent, delivered, read, or failed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import aiohttp
import structlog

from kurir_sandbox.faults import Faults, Occasion, magic
from kurir_sandbox.graph_api import notices
from kurir_sandbox.graph_api.callbacks import Callbacks
from kurir_sandbox.graph_api.errors import GraphError
from kurir_sandbox.graph_api.identifiers import new_message_id
from kurir_sandbox.graph_api.lanes import Lanes
from kurir_sandbox.graph_api.media_library import MediaError, MediaLibrary
from kurir_sandbox.graph_api.outgoing import Outgoing, Seen
from kurir_sandbox.graph_api.sends import Send, Sends
from kurir_sandbox.graph_api.template_book import TemplateBook
from kurir_sandbox.graph_api.templates import Template
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.phones import Phones
from kurir_sandbox.policy import Policy, price, window_open
from kurir_sandbox.traffic import Arrival, Content, Entry, ReceiptKind
from kurir_sandbox.world import Business, World

_POLICY_SPACE = "policy"
_WINDOW_CLOSED = "Message failed to send because more than 24 hours have passed since the customer last replied."

log = structlog.get_logger(__name__)


class GraphNetwork:
    """The network of official numbers. `clock` gives unix seconds for the window."""

    def __init__(
        self,
        world: World,
        phones: Phones,
        files: MediaFiles,
        data: Path,
        *,
        faults: Faults,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.world = world
        self.faults = faults
        self._phones = phones
        self._clock = clock
        self._db = sqlite3.connect(data / "graph.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._http = aiohttp.ClientSession()
        self._lanes = Lanes()
        self.callbacks = Callbacks(self._db, world, self._http, faults)
        self.sends = Sends(self._db)
        self.media = MediaLibrary(self._db, files, self._http)
        self.templates = TemplateBook(self._db, self._template_changed)
        stored = world.state.get(_POLICY_SPACE, "graph_api")
        self.policy = Policy(**json.loads(stored)) if stored else Policy()

    def start(self) -> None:
        """Take up what an earlier run left: callbacks, reviews, accepted messages."""
        self.callbacks.resume()
        self.templates.resume()
        for send in self.sends.unsettled():
            self._lanes.add((send.phone_number_id, send.person), partial(self._deliver, send))

    async def stop(self) -> None:
        """Stop everything and close the database; what is unfinished is taken up by the next start."""
        await self._lanes.stop()
        await self.templates.stop()
        await self.callbacks.stop()
        await self._http.close()
        self._db.close()

    async def forget(self, everything: bool = False) -> None:
        """Forget messages, callbacks and windows; with `everything` also templates, media and the policy."""
        await self._lanes.stop()
        await self.callbacks.stop()
        self.callbacks.forget()
        self.sends.forget()
        if everything:
            self.templates.forget()
            self.media.forget()
            self.set_policy(Policy())

    def set_policy(self, policy: Policy) -> None:
        """Use `policy` from now on, also after a restart."""
        self.world.state.put(_POLICY_SPACE, "graph_api", json.dumps(asdict(policy)).encode())
        self.policy = policy

    def owns(self, phone: str) -> bool:
        """Whether `phone` is an official number."""
        return self.world.business_by_phone(phone) is not None

    def accept(self, business: Business, wanted: Outgoing, template: Template | None) -> Send:
        """Accept a message for delivery; raises GraphError when it may not even be tried."""
        match magic(wanted.to):
            case ("error", code):
                raise GraphError(code)
            case _:
                pass
        if wanted.to == business.phone:
            raise GraphError(131021, "Recipient phone number and sender phone number are the same")
        if wanted.source and wanted.source.id:
            stored = self.media.stored(wanted.source.id)
            if stored is None or stored.phone_number_id != business.phone_number_id:
                raise GraphError(
                    100,
                    message=f"(#100) Param {wanted.source.type}['id'] is not a valid whatsapp business account "
                    "media attachment ID",
                )
        closed = template is None and not self._window_open(business.phone_number_id, wanted.to)
        if closed and self.policy.window == "refuse":
            raise GraphError(131047, _WINDOW_CLOSED)
        send = self.sends.accept(
            new_message_id(wanted.to, from_business=True),
            business.phone_number_id,
            wanted,
            template.category.lower() if template else None,
            too_late=closed and self.policy.window == "failed_status",
        )
        self._lanes.add((send.phone_number_id, send.person), partial(self._deliver, send))
        return send

    def seen(self, business: Business, seen: Seen) -> None:
        """The business read a person's message, and perhaps types; raises GraphError 131009 for an unknown id."""
        person = self.sends.writer_of(seen.message_id, business.phone_number_id)
        if person is None:
            raise GraphError(131009, "Parameter 'message_id' is not a message this number received")
        self._phones.activity(person, "read", {"from": business.phone, "id": seen.message_id})
        if seen.typing:
            self._phones.activity(person, "typing", {"from": business.phone, "on": True})

    async def write(self, sender: str, to: str, content: Content, reply_to: str | None = None) -> str:
        """A person writes to an official number; `reply_to` is the wire id of the message answered.

        Returns the wire id. Raises ValueError when `to` is no official number or `sender` is not on WhatsApp.
        """
        business, person = self.world.business_by_phone(to), self.world.person(sender)
        if business is None:
            raise ValueError(f"{to} is not an official number")
        if person is None or not person.on_whatsapp:
            raise ValueError(f"{sender} is not on WhatsApp")
        now = self._clock()
        wire_id = new_message_id(sender, from_business=False)
        media = None
        if content.media is not None:
            stored = self.media.keep(business.phone_number_id, content.media)
            media = {"mime_type": stored.mime, "sha256": stored.sha256, "id": stored.id}
        self.sends.note_inbound(wire_id, business.phone_number_id, sender, now)
        context = {"from": business.phone, "id": reply_to} if reply_to else None
        message = notices.inbound(sender, wire_id, now, content, media=media, context=context)
        value = notices.messages_value(business, contacts=[notices.contact(person)], messages=[message])
        self.callbacks.send(business, sender, "messages", value)
        return wire_id

    async def receipt(self, entry: Entry, kind: ReceiptKind) -> None:
        """The phone received or read a message: a status callback."""
        send = self.sends.send(entry.arrival.wire_id)
        if send is not None:
            self._notify(send, kind)

    async def _deliver(self, send: Send) -> None:
        """Bring an accepted message to the phone, or fail it."""
        business = self.world.business(send.phone_number_id)
        if business is None:
            self.sends.settle(send.wire_id, "failed")
            return
        if self._phones.ledger.find(send.person, send.wire_id) is not None:
            # An earlier run delivered it and ended before it could note so.
            self.sends.settle(send.wire_id, "delivered")
            return
        occasion = Occasion("cloud_api", business.phone, send.person, send.content.kind)
        if self.faults.strike(occasion, "lose"):
            self.sends.settle(send.wire_id, "lost")
            return
        refusal = self._refusal(send)
        if fault := self.faults.strike(occasion, "fail"):
            refusal = (fault.code or 131000, "A fault of the sandbox makes it fail.")
        content = send.content
        if refusal is None and send.source is not None:
            try:
                content = replace(content, media=await self.media.obtain(send.source, send.phone_number_id))
            except MediaError as problem:
                refusal = (131053, str(problem))
        if refusal is not None:
            self._notify(send, "failed", refusal)
            self.sends.settle(send.wire_id, "failed")
            return
        self._notify(send, "sent")
        arrival = Arrival(send.person, "cloud_api", business.phone, business.phone, send.wire_id, content)
        await self._phones.deliver(arrival)
        self.sends.settle(send.wire_id, "delivered")

    def _refusal(self, send: Send) -> tuple[int, str] | None:
        match magic(send.person):
            case ("fail", code):
                return code, "This phone number always fails so."
            case _:
                pass
        person = self.world.person(send.person)
        if person is None or not person.on_whatsapp:
            return 131026, "Message Undeliverable."
        return (131047, _WINDOW_CLOSED) if send.too_late else None

    def _window_open(self, phone_number_id: str, person: str) -> bool:
        return window_open(self.sends.last_inbound(phone_number_id, person), self._clock())

    def _notify(self, send: Send, kind: str, error: tuple[int, str] | None = None) -> None:
        business = self.world.business(send.phone_number_id)
        if business is None:
            return
        status = notices.status(send.wire_id, kind, send.person, time.time(), send.opaque)
        if error is not None:
            status = notices.failed(status, *error)
        elif kind in ("sent", "delivered"):
            # Meta gives conversation and pricing with "sent" and one of delivered and read.
            cost = price(send.category, self._window_open(send.phone_number_id, send.person))
            status = notices.charged(status, _conversation_id(send, cost.category), cost)
        self.callbacks.send(business, send.person, "messages", notices.messages_value(business, statuses=[status]))

    def _template_changed(self, template: Template) -> None:
        acknowledged: set[str] = set()
        for business in self.world.businesses():
            url = business.callback_url
            if business.waba_id == template.waba_id and url is not None and url not in acknowledged:
                acknowledged.add(url)
                value = notices.template_update(template)
                self.callbacks.send(business, "", "message_template_status_update", value)


def _conversation_id(send: Send, category: str) -> str:
    """The same id for messages of one category between one number and one person on one day."""
    day = int(send.at // 86400)
    return hashlib.md5(
        f"{send.phone_number_id}:{send.person}:{category}:{day}".encode(), usedforsecurity=False
    ).hexdigest()

"""The official channel: sends messages of WABA numbers through the Cloud API.

Facts: Meta, Cloud API reference `messages` and `business-phone-numbers/media`. A 200 with a `wamid.…` means accepted;
delivery, or its failure, is told later by a callback (`callbacks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp

from kurir.channels.channel import Capabilities
from kurir.channels.cloud_api.credentials import Credentials
from kurir.channels.cloud_api.errors import outcome_of
from kurir.channels.cloud_api.expiring import Expiring
from kurir.channels.cloud_api.graph import Graph, GraphResponse, NoAnswer, NotSent
from kurir.channels.cloud_api.payloads import message_body, read_body
from kurir.channels.cloud_api.templates.calls import TemplateCalls
from kurir.kit.clock import Clock
from kurir.kit.sealing import Sealing
from kurir.messages import bounds
from kurir.messages.addresses import is_group
from kurir.messages.content import Document, Image, MediaFile, Outgoing
from kurir.messages.reports import Event, Evidence, Halted, InDoubt, Outcome, Refused, Sent, TryLater, Unknown
from kurir.numbers.numbers import Number
from kurir.reasons import media as files
from kurir.reasons import messages as reasons
from kurir.settings import Settings
from kurir.store.database import Database, DatabaseUnavailable

_UPLOAD_SECONDS = 120.0
_UPLOADS_KEPT = 2_000
_UPLOAD_LIFE = 86_400.0
"""Meta keeps an upload for 30 days; a day spares the uploads of a broadcast and leaves room for clocks."""


class CloudApi:
    """All official numbers of this gateway. Implements `kurir.channels.channel.Channel`."""

    def __init__(self, settings: Settings, database: Database, sealing: Sealing, clock: Clock) -> None:
        self.capabilities = Capabilities(
            kinds=frozenset({"text", "image", "document", "location", "template"}),
            groups=False,
            typing=False,
            window=settings.cloud_window,
            timeout=settings.cloud_receipt_wait,
        )
        self._graph = Graph(settings.graph_url, settings.graph_timeout)
        self.credentials = Credentials(database, sealing, clock)
        self.templates = TemplateCalls(self._graph, self.credentials, clock)
        self._uploads: Expiring[tuple[int, str, str], str] = Expiring(_UPLOADS_KEPT, _UPLOAD_LIFE, clock)
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """Opens the connection pool; the Cloud API has no session of its own to bring up."""
        await self._graph.start()

    def ready(self, number: Number) -> bool:
        """True unless the number is paused, or lacks the id by which Meta knows it."""
        return number.state != "paused" and bool(number.phone_number_id)

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        """Uploads the media, if any, then sends the message; the upload alone leaves no doubt about the message."""
        if is_group(outgoing.recipient):
            return Refused("no_groups", reasons.NO_GROUPS())
        try:
            credentials = await self.credentials.of(number)
        except DatabaseUnavailable:
            return TryLater("database", reasons.TOKEN_NOT_READ(), counted=False)
        if credentials is None or not number.phone_number_id:
            return Refused("credentials", reasons.NO_TOKEN())
        token = credentials.access_token
        media_id = ""
        if isinstance(outgoing.content, (Image, Document)):
            if outgoing.media is None:
                return Refused("media", files.NOT_FETCHED())
            uploaded = await self._upload(number, outgoing.media, token)
            if not isinstance(uploaded, str):
                return self._noted(number, uploaded)
            media_id = uploaded
        call = await self._graph.call(
            "POST", f"{number.phone_number_id}/messages", token, json=message_body(outgoing, media_id)
        )
        outcome = _message_outcome(call)
        if isinstance(outcome, Refused):
            self._forget(number, outgoing.media)
        return self._noted(number, outcome)

    async def evidence(self, number: Number, outgoing: Outgoing) -> Evidence:
        """Always Unknown: the Cloud API cannot be asked. A status callback with our id settles the message instead."""
        return Unknown()

    async def events(self) -> AsyncIterator[Event]:
        """Nothing until the channel closes: what Meta tells comes in as HTTP callbacks."""
        await self._closed.wait()
        for event in ():
            yield event

    def stored(self, events: Sequence[Event]) -> None:
        """Nothing: Meta repeats what was not acknowledged, and callbacks are acknowledged once they are stored."""

    async def mark_read(self, number: Number, remote_id: str, typing: bool = False) -> bool:
        """Marks a received message as read, with `typing` also shows "typing…"; whether Meta took it."""
        credentials = await self.credentials.of(number)
        if credentials is None:
            return False
        call = await self._graph.call(
            "POST",
            f"{number.phone_number_id}/messages",
            credentials.access_token,
            json=read_body(remote_id, typing),
        )
        return isinstance(call, GraphResponse) and bool(call.body and call.body.get("success") is True)

    async def close(self) -> None:
        """Closes the connections; calls in flight end as in doubt. Idempotent."""
        self._closed.set()
        await self._graph.close()

    async def _upload(self, number: Number, media: MediaFile, token: str) -> str | Refused | TryLater | Halted:
        """The media id of the file at Meta, from an upload of the last day or a new one."""
        key = (number.id, media.sha256, media.mime)
        known = self._uploads.get(key)
        if known is not None:
            return known
        try:
            file = await asyncio.to_thread(Path(media.path).open, "rb")
        except OSError as error:
            return TryLater("media", files.STORED_NOT_READ(error=error.strerror))
        with file:
            form = aiohttp.FormData()
            form.add_field("messaging_product", "whatsapp")
            form.add_field("type", media.mime)
            form.add_field("file", file, filename=media.name or "file", content_type=media.mime)
            call = await self._graph.call(
                "POST", f"{number.phone_number_id}/media", token, data=form, seconds=_UPLOAD_SECONDS
            )
        if isinstance(call, (NotSent, NoAnswer)):
            return TryLater("upload", call.reason)
        if call.error is not None:
            return outcome_of(call.status, call.error, call.retry_after)
        media_id = call.body.get("id") if call.body else None
        # the id goes back to Meta as it came: one that had to be shortened names nothing there
        if call.status != 200 or not isinstance(media_id, str) or media_id != (bounds.identifier(media_id) or None):
            return TryLater("upload", reasons.META_UPLOAD_UNEXPLAINED(status=call.status))
        return self._uploads.put(key, media_id)

    def _noted(self, number: Number, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Halted):
            self.credentials.forget(number)  # the next try may have a new token
        return outcome

    def _forget(self, number: Number, media: MediaFile | None) -> None:
        """A refused send may be about a media id that Meta no longer has: the next one uploads again."""
        if media is not None:
            self._uploads.drop((number.id, media.sha256, media.mime))


def _message_outcome(call: GraphResponse | NotSent | NoAnswer) -> Outcome:
    """What the answer to a send means: reliability rules "surely not sent", "surely sent" and "in doubt"."""
    if isinstance(call, NotSent):
        return TryLater("unreachable", call.reason)
    if isinstance(call, NoAnswer):
        return InDoubt(call.reason)
    if call.error is not None:
        return outcome_of(call.status, call.error, call.retry_after)
    remote_id = _remote_id(call)
    if call.status == 200 and remote_id:
        return Sent(remote_id)
    return _unexplained(call)


def _unexplained(call: GraphResponse) -> Refused | TryLater | InDoubt:
    """An answer with neither a message id nor a Graph error: from a proxy on the way, or cut short."""
    described = reasons.META_UNEXPLAINED(status=call.status)
    if call.status == 429:
        return TryLater("http_429", described, call.retry_after)
    if 300 <= call.status < 500:
        return Refused(f"http_{call.status}", described)
    return InDoubt(described)


def _remote_id(call: GraphResponse) -> str:
    messages = call.body.get("messages") if call.body else None
    first = messages[0] if isinstance(messages, list) and messages else None
    remote_id = first.get("id") if isinstance(first, dict) else None
    return bounds.identifier(remote_id) if isinstance(remote_id, str) else ""

"""The channel of official numbers: sends messages of WABA numbers through the Cloud API.

Facts: Meta, Cloud API reference `messages` and `business-phone-numbers/media`. A 200 with a `wamid.…` means accepted;
delivery, or its failure, is reported later by a callback (`callbacks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import structlog
from cachetools import TTLCache

from kurir.channels.channel import Capabilities
from kurir.channels.cloud_api.credentials import Credentials
from kurir.channels.cloud_api.errors import outcome_of
from kurir.channels.cloud_api.graph import Graph, GraphResponse, NoAnswer, NotSent
from kurir.channels.cloud_api.payloads import message_body
from kurir.channels.cloud_api.templates.calls import TemplateCalls
from kurir.kit.clock import Clock
from kurir.kit.file_failures import file_failure
from kurir.kit.json_values import JsonValue
from kurir.kit.sealing import Sealing
from kurir.messages import bounds
from kurir.messages.addresses import is_group
from kurir.messages.channel_reports import Event, Evidence, Halted, InDoubt, Outcome, Refused, Sent, TryLater, Unknown
from kurir.messages.content import Document, Image, MediaFile, Outgoing
from kurir.numbers.numbers import Number
from kurir.reasons import media as files
from kurir.reasons import messages as reasons
from kurir.settings import Settings
from kurir.store.database import Database, DatabaseUnavailable

log = structlog.get_logger(__name__)

_UPLOAD_SECONDS = 120.0
_UPLOADS_KEPT = 2_000
_UPLOAD_LIFE = 86_400.0
"""Seconds for which an upload is reused. Meta keeps uploads for 30 days; one day is enough for a broadcast and leaves
room for clock differences."""


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
        self._uploads: TTLCache[tuple[int, str, str], str] = TTLCache(_UPLOADS_KEPT, _UPLOAD_LIFE, clock)
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """Opens the connection pool; the Cloud API needs no session."""
        await self._graph.start()

    def ready(self, number: Number) -> bool:
        """True unless the number lacks its id at Meta."""
        return bool(number.phone_number_id)

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        """Uploads the media, if any, then sends the message; a failed upload leaves no doubt about the message."""
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
        """Always Unknown: the Cloud API cannot be queried. A status callback with the message's id settles it
        instead."""
        return Unknown()

    async def events(self) -> AsyncIterator[Event]:
        """Yields nothing until the channel closes: Meta's events come as HTTP callbacks."""
        await self._closed.wait()
        for event in ():
            yield event

    def stored(self, events: Sequence[Event]) -> None:
        """Does nothing: callbacks are acknowledged after they are stored, and Meta repeats unacknowledged ones."""

    async def close(self) -> None:
        """Closes the connections; calls in progress end in doubt. Idempotent."""
        self._closed.set()
        await self._graph.close()

    async def _upload(self, number: Number, media: MediaFile, token: str) -> str | Refused | TryLater | Halted:
        """The file's media id at Meta, from an upload of the last day or a new one."""
        key = (number.id, media.sha256, media.mime)
        known = self._uploads.get(key)
        if known is not None:
            return known
        try:
            file = await asyncio.to_thread(Path(media.path).open, "rb")
        except OSError as error:
            log.warning("media_file_unreadable", error=str(error))
            return TryLater("media", files.STORED_NOT_READ(error=file_failure(error)))
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
        # the id goes back to Meta unchanged: a truncated one would be invalid
        if call.status != 200 or not isinstance(media_id, str) or media_id != (bounds.identifier(media_id) or None):
            return TryLater("upload", reasons.META_UPLOAD_UNEXPLAINED(status=call.status))
        self._uploads[key] = media_id
        return media_id

    def _noted(self, number: Number, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Halted):
            self.credentials.forget(number)  # the next attempt may have a new token
        return outcome

    def _forget(self, number: Number, media: MediaFile | None) -> None:
        """Forgets a media id that Meta may no longer have, so that the next attempt uploads again."""
        if media is not None:
            self._uploads.pop((number.id, media.sha256, media.mime), None)


def _message_outcome(call: GraphResponse | NotSent | NoAnswer) -> Outcome:
    """The outcome for an answer to a send: surely not sent, surely sent, or in doubt."""
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
    """The outcome for an answer with neither a message id nor a Graph error: from a proxy, or truncated."""
    described = reasons.META_UNEXPLAINED(status=call.status)
    if call.status == 429:
        return TryLater("http_429", described, call.retry_after)
    if 300 <= call.status < 500:
        return Refused(f"http_{call.status}", described)
    return InDoubt(described)


def _remote_id(call: GraphResponse) -> str:
    messages: JsonValue = call.body.get("messages") if call.body else None
    first = messages[0] if isinstance(messages, list) and messages else None
    remote_id = first.get("id") if isinstance(first, dict) else None
    return bounds.identifier(remote_id) if isinstance(remote_id, str) else ""

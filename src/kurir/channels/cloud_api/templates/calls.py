"""Calls to the Graph API about templates: create, list, delete, and the upload of header samples.

Facts: Meta, `message_templates` edge and the resumable upload API (`/{app_id}/uploads`).
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog

from kurir.channels.cloud_api.credentials import Credentials
from kurir.channels.cloud_api.graph import Call, Graph, GraphResponse
from kurir.channels.cloud_api.lenient_json import identifier_of
from kurir.kit.clock import Clock
from kurir.kit.file_failures import file_failure
from kurir.kit.json_values import JsonValue
from kurir.messages import bounds
from kurir.messages.content import MediaFile
from kurir.numbers.numbers import Number
from kurir.reasons import Reason, messages
from kurir.reasons import templates as reasons

_FIELDS = "id,name,language,status,category,components,rejected_reason"
_PAGE = "100"
_MOST_PAGES = 70
"""Maximum pages of a listing: a business may have 6,000 templates."""
_LONGEST_HANDLE = 8_192
"""Characters of an upload's id or handle: both are returned to Meta unchanged and not stored."""

log = structlog.get_logger(__name__)


class Created(msgspec.Struct, frozen=True):
    """Meta accepted the template; `id` is decimal, `status` PENDING, APPROVED or REJECTED."""

    id: str
    status: str
    category: str = ""


class GraphRefusal(msgspec.Struct, frozen=True):
    """Meta refused the call; `error` is its error object, with `error_subcode` and `error_user_msg` where given."""

    error: dict[str, Any]


class Unreachable(msgspec.Struct, frozen=True):
    """There is no usable answer; `reason` says why."""

    reason: Reason


class MetaTemplate(msgspec.Struct, frozen=True):
    """A template as Meta lists it."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    name: str
    language: str
    status: str
    category: str = ""
    components: list[dict[str, Any]] = []
    rejected_reason: str = ""


class UnreadTemplate(msgspec.Struct, frozen=True):
    """A template in an unknown shape: its id at Meta ("" without one), the row as JSON, and the error."""

    id: str
    row: bytes
    reason: str


class TemplateCalls:
    """The template calls of the official channel. Raises DatabaseUnavailable when credentials cannot be read."""

    def __init__(self, graph: Graph, credentials: Credentials, clock: Clock) -> None:
        self._graph = graph
        self._credentials = credentials
        self._clock = clock
        self._listed_at: dict[int, float] = {}

    def listed_within(self, number: Number, seconds: float) -> bool:
        """Whether the number's templates were listed in the last `seconds`."""
        return self._clock() - self._listed_at.get(number.id, float("-inf")) < seconds

    async def create(self, number: Number, body: dict[str, Any]) -> Created | GraphRefusal | Unreachable:
        """Submits a template for review; `body` as in `POST /{waba}/message_templates`."""
        answer = await self._call(number, "POST", f"{number.waba_id}/message_templates", json=body)
        if not isinstance(answer, dict):
            return answer
        identifier, status, category = identifier_of(answer.get("id")), answer.get("status"), answer.get("category")
        if not identifier or not isinstance(status, str):
            return Unreachable(reasons.NO_TEMPLATE_ID())
        category = bounds.text(category, bounds.NAME) if isinstance(category, str) else ""
        return Created(identifier, bounds.text(status, bounds.NAME), category)

    async def list(self, number: Number) -> list[MetaTemplate | UnreadTemplate] | GraphRefusal | Unreachable:
        """All templates of the number's business account, page by page: never a part of them, because missing ones
        count as deleted."""
        self._listed_at[number.id] = self._clock()
        found: list[MetaTemplate | UnreadTemplate] = []
        query = {"fields": _FIELDS, "limit": _PAGE}
        for _ in range(_MOST_PAGES):
            answer = await self._call(number, "GET", f"{number.waba_id}/message_templates", query=query)
            if not isinstance(answer, dict):
                return answer
            data: JsonValue = answer.get("data")
            if not isinstance(data, list):
                return Unreachable(reasons.NO_LIST())
            found += map(_template, data)
            after = _next(answer.get("paging"))
            if after is None:
                return Unreachable(reasons.NO_NEXT_PAGE())
            if not after:
                return found
            query["after"] = after
        return Unreachable(reasons.NO_END(pages=_MOST_PAGES))

    async def delete(self, number: Number, name: str, meta_id: str = "") -> bool | GraphRefusal | Unreachable:
        """Deletes one template by id, or every language of `name`; returns whether Meta did."""
        query = {"name": name, **({"hsm_id": meta_id} if meta_id else {})}
        answer = await self._call(number, "DELETE", f"{number.waba_id}/message_templates", query=query)
        return answer.get("success") is True if isinstance(answer, dict) else answer

    async def upload_sample(self, number: Number, media: MediaFile) -> str | GraphRefusal | Unreachable:
        """Uploads a header's sample file by a resumable upload in one piece; returns its handle."""
        query = {
            "file_name": media.name or Path(media.path).name,
            "file_length": str(media.size),
            "file_type": media.mime,
        }
        session = await self._call(number, "POST", f"{number.app_id}/uploads", query=query)
        if not isinstance(session, dict):
            return session
        upload_id = session.get("id")
        if not isinstance(upload_id, str) or not upload_id.startswith("upload:") or len(upload_id) > _LONGEST_HANDLE:
            return Unreachable(reasons.NO_UPLOAD_SESSION())
        try:
            file = await asyncio.to_thread(Path(media.path).open, "rb")
        except OSError as error:
            log.warning("sample_file_unreadable", error=str(error))
            return Unreachable(reasons.SAMPLE_NOT_READ(error=file_failure(error)))
        with file:
            answer = await self._call(
                number, "POST", upload_id, data=file, headers={"file_offset": "0"}, scheme="OAuth", seconds=120.0
            )
        if not isinstance(answer, dict):
            return answer
        handle = answer.get("h")
        if not isinstance(handle, str) or not 0 < len(handle) <= _LONGEST_HANDLE:
            return Unreachable(reasons.NO_HANDLE())
        return handle

    async def _call(
        self, number: Number, method: str, path: str, **options: Any
    ) -> dict[str, Any] | GraphRefusal | Unreachable:
        credentials = await self._credentials.of(number)
        if credentials is None:
            return Unreachable(messages.NO_TOKEN())
        return _object(await self._graph.call(method, path, credentials.access_token, **options))


def _object(call: Call) -> dict[str, Any] | GraphRefusal | Unreachable:
    if not isinstance(call, GraphResponse):
        return Unreachable(call.reason)
    if call.error is not None:
        return GraphRefusal(call.error)
    if call.status != 200 or call.body is None:
        return Unreachable(reasons.NO_BODY(status=call.status))
    return call.body


def _template(row: JsonValue) -> MetaTemplate | UnreadTemplate:
    """One row of the list; texts are valid and of limited length. A row in another shape must not hide the others."""
    identifier = identifier_of(row.get("id")) if isinstance(row, dict) else ""
    try:
        read = msgspec.convert(_bounded(_without_null(row)), MetaTemplate)
        return _of_limited_length(read, identifier)
    except (msgspec.ValidationError, RecursionError) as error:
        kept = bounds.text(json.dumps(row) if not isinstance(error, RecursionError) else "").encode()
        reason = f"Meta lists a template in a shape that is not known: {error}"
        return UnreadTemplate(identifier, kept, reason)


def _of_limited_length(read: MetaTemplate, identifier: str) -> MetaTemplate:
    return msgspec.structs.replace(
        read,
        id=identifier,
        name=bounds.text(read.name, bounds.NAME),
        language=bounds.text(read.language, bounds.NAME),
        status=bounds.text(read.status, bounds.NAME),
        category=bounds.text(read.category, bounds.NAME),
        rejected_reason=bounds.text(read.rejected_reason, bounds.REASON),
    )


def _bounded(value: JsonValue) -> JsonValue:
    """A JSON value whose texts are valid and of limited length."""
    match value:
        case str():
            return bounds.text(value)
        case dict():
            return {bounds.text(str(key), bounds.NAME): _bounded(part) for key, part in value.items()}
        case list():
            return [_bounded(part) for part in value]
        case _:
            return value


def _without_null(row: JsonValue) -> JsonValue:
    """The row without null values, and with its id as text."""
    if not isinstance(row, dict):
        return row
    present: dict[str, JsonValue] = {key: value for key, value in row.items() if value is not None}
    return present | {"id": identifier_of(row.get("id"))}


def _next(paging: JsonValue) -> str | None:
    """The cursor of the next page; "" after the last, None when there is one and its cursor cannot be read."""
    if not isinstance(paging, dict) or not paging.get("next"):
        return ""  # Meta gives `next` only while there is one
    cursors = paging.get("cursors")
    after = cursors.get("after") if isinstance(cursors, dict) else None
    return after if isinstance(after, str) and after else None

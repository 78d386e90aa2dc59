"""Message templates of official numbers: local drafts, Meta's state of them, and filling them in for a send.

A template is stored here from its first draft: DRAFT here, IN_REVIEW at Meta, then the state that Meta decides. Listing
templates refreshes Meta's list, at most every `LIST_EVERY` seconds, and adopts templates created elsewhere.

More than 300 lines: the service and the queries of one table, which change together.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.channels.cloud_api.channel import CloudApi
from kurir.channels.cloud_api.templates.calls import Created, GraphRefusal, MetaTemplate, Unreachable, UnreadTemplate
from kurir.channels.cloud_api.templates.components import (
    FillError,
    VariableCountError,
    creation_body,
    filled,
    form_of,
    shown_status,
)
from kurir.channels.cloud_api.templates.rules import faults
from kurir.kit.clock import Clock
from kurir.kit.ids import MessageIds, opaque_id
from kurir.media.store import MediaStore
from kurir.messages.channel_reports import Quarantined, Refused, TryLater
from kurir.messages.content import Document, Image, MediaFile
from kurir.messages.template_form import MEDIA_HEADERS, Button, Header, TemplateForm, Variable, variables_of
from kurir.numbers.numbers import Number, all_of_channel
from kurir.quarantine import quarantine
from kurir.reasons import Reason
from kurir.reasons.templates import NAME_TAKEN
from kurir.store.database import Database, DatabaseUnavailable
from kurir.store.inserts import insert_into
from kurir.templates.status import PUBLISHED, publish_status
from kurir.templates.tables import templates

DRAFT, IN_REVIEW, APPROVED, DELETED = "DRAFT", "IN_REVIEW", "APPROVED", "DELETED"
LIST_EVERY = 30.0
"""Minimum seconds between two listings at Meta for the same number."""
_LIST_TIMEOUT = 3.0
_AT_ONCE = 100
"""Templates adopted in one transaction: a business may have thousands, and a long transaction delays all writes."""
_ORDERS = {
    "template_created_at": templates.c.created_at,
    "template_updated_at": templates.c.updated_at,
    "template_name": templates.c.name,
    "template_status": templates.c.status,
}
ORDERS = tuple(_ORDERS)

log = structlog.get_logger(__name__)


class Template(msgspec.Struct, frozen=True):
    """A stored template; `key` is its public id, `meta_id` Meta's ("" for a draft), times in unix seconds."""

    id: int
    account_id: int
    number_id: int
    key: str
    form: TemplateForm
    meta_id: str
    status: str
    rejected_reason: str
    created_at: float
    updated_at: float


class Faulty(msgspec.Struct, frozen=True):
    """A template that Kurir refused before submission: reasons by field."""

    errors: dict[str, list[Reason]]


class Templates:
    """Creates, lists and refreshes templates; every method takes the number, which belongs to the account."""

    def __init__(self, database: Database, cloud_api: CloudApi, media: MediaStore, clock: Clock) -> None:
        self._database = database
        self._calls = cloud_api.templates
        self._media = media
        self._clock = clock
        self._listing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def create(
        self, number: Number, form: TemplateForm, *, submit: bool
    ) -> Template | Faulty | GraphRefusal | Unreachable:
        """Stores a draft or, with `submit`, sends the template to Meta and stores it when Meta accepted it.

        A submission replaces a draft of the same name and language. Raises DatabaseUnavailable.
        """
        errors = faults(form)
        if errors:
            return Faulty(errors)
        existing = await self._database.read(
            lambda c: by_name(c, number.account_id, number.id, form.name, form.language), of=number.account_id
        )
        if existing is not None and not (existing.status == DELETED or (submit and existing.status == DRAFT)):
            return Faulty({"name": [NAME_TAKEN()]})
        meta_id, status = "", DRAFT
        if submit:
            created = await self._submit(number, form)
            if not isinstance(created, Created):
                return created
            meta_id, status = created.id, shown_status(created.status)
        now = self._clock()
        stored = await self._database.write(lambda c: put(c, number, form, meta_id=meta_id, status=status, now=now))
        return stored if stored is not None else Faulty({"name": [NAME_TAKEN()]})

    async def refresh(self, number: Number, every: float = LIST_EVERY) -> bool:
        """Adopts Meta's list, unless that was done in the last `every` seconds or Meta is slow to answer.

        Concurrent callers wait for a refresh in progress, so that none of them sees the old list. Returns whether the
        list was adopted now.
        """
        listing = self._listing[number.id]
        try:
            async with asyncio.timeout(_LIST_TIMEOUT):
                await listing.acquire()
        except TimeoutError:
            return False
        try:
            return not self._calls.listed_within(number, every) and await self._listed(number)
        finally:
            listing.release()

    async def _listed(self, number: Number) -> bool:
        asked_at = self._clock()
        try:
            async with asyncio.timeout(_LIST_TIMEOUT):
                listed = await self._calls.list(number)
        except TimeoutError:
            log.info("template_list_delayed", number=number.key)
            return False
        if not isinstance(listed, list):
            log.info("template_list_failed", number=number.key)
            return False
        await self._adopt(number, listed, asked_at)
        return True

    async def refresh_all(self) -> None:
        """Runs `refresh` for every official number, one after the other, for maintenance; a failure does not stop the
        others."""
        failures: list[Exception] = []
        for number in await self._database.read(lambda c: all_of_channel(c, "cloud_api")):
            try:
                await self.refresh(number)
            except DatabaseUnavailable:
                raise
            except Exception as error:
                log.exception("template_refresh_failed", number=number.key)
                failures.append(error)
        if failures:
            raise failures[0]

    async def _adopt(self, number: Number, listed: Sequence[MetaTemplate | UnreadTemplate], asked_at: float) -> None:
        """Adopts Meta's list; a template that cannot be adopted goes to the quarantine."""
        for start in range(0, len(listed), _AT_ONCE):
            some = listed[start : start + _AT_ONCE]
            try:
                await self._database.write(lambda c, some=some: adopt(c, number, some, asked_at))
            except DatabaseUnavailable:
                raise
            except Exception:
                log.exception("template_adoption_failed", number=number.key)
                for theirs in some:
                    await self._adopt_or_quarantine(number, theirs, asked_at)
        await self._database.write(lambda c: mark_gone(c, number, listed, asked_at))

    async def _adopt_or_quarantine(
        self, number: Number, theirs: MetaTemplate | UnreadTemplate, asked_at: float
    ) -> None:
        try:
            await self._database.write(lambda c: adopt_one(c, number, theirs, asked_at))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.exception("template_quarantined", number=number.key, template=theirs.id)
            reason = f"it could not be taken over ({type(error).__name__})"
            unread = UnreadTemplate(theirs.id, msgspec.json.encode(theirs), reason)
            await self._database.write(lambda c: adopt_one(c, number, unread, asked_at))

    async def find(self, number: Number, *, meta_id: str = "", name: str = "", language: str = "") -> Template | None:
        """The template by Meta's id, or by name and language; refreshes once more when it is not approved yet."""

        def stored(connection: Connection) -> Template | None:
            if meta_id:
                return by_meta_id(connection, number.account_id, number.id, meta_id)
            return by_name(connection, number.account_id, number.id, name, language)

        found = await self._database.read(stored, of=number.account_id)
        if found is None or found.status != APPROVED:
            await self.refresh(number, every=2.0)
            found = await self._database.read(stored, of=number.account_id)
        return found

    async def _submit(self, number: Number, form: TemplateForm) -> Created | Faulty | GraphRefusal | Unreachable:
        handle = ""
        if form.header is not None and form.header.type in MEDIA_HEADERS:
            sample = await self._sample(number, form.header)
            if not isinstance(sample, MediaFile):
                return Faulty({"header": [sample.reason]})
            uploaded = await self._calls.upload_sample(number, sample)
            if not isinstance(uploaded, str):
                return uploaded
            handle = uploaded
        return await self._calls.create(number, creation_body(form, handle))

    async def _sample(self, number: Number, header: Header) -> MediaFile | Refused | TryLater:
        content = Image(header.url) if header.type == "IMAGE" else Document(header.url)
        # a sample belongs to no message, so it is fetched under a separate id
        return await self._media.prepare(number.account_id, MessageIds().next(), content)


# -- store -------------------------------------------------------------------------------------------------------------


def put(
    connection: Connection, number: Number, form: TemplateForm, *, meta_id: str, status: str, now: float
) -> Template | None:
    """Stores a template, replacing a draft or a deleted one of that name, and publishes its status when that is new.
    None when the name is taken."""
    values = {**_columns(form), "meta_id": meta_id, "status": status, "rejected_reason": "", "updated_at": now}
    if not _add(connection, number, {**values, "created_at": now}, now):
        replaced = {DELETED} if status == DRAFT else {DRAFT, DELETED}
        free = sa.or_(
            templates.c.status.in_(replaced), sa.and_(templates.c.meta_id == meta_id, templates.c.status != DRAFT)
        )
        before = connection.execute(
            sa.select(templates.c.id, templates.c.status)
            .where(_named(number, form.name, form.language), free)
            .with_for_update()
        ).first()
        if before is None:
            return None
        _replace(connection, number, before, values, now)
    return by_name(connection, number.account_id, number.id, form.name, form.language)


def by_name(connection: Connection, account_id: int, number_id: int, name: str, language: str) -> Template | None:
    """The number's template with that name and language, or None."""
    return _one(connection, account_id, number_id, templates.c.name == name, templates.c.language == language)


def by_meta_id(connection: Connection, account_id: int, number_id: int, meta_id: str) -> Template | None:
    """The number's template with that id at Meta, or None."""
    return _one(connection, account_id, number_id, templates.c.meta_id == meta_id)


def page(
    connection: Connection,
    account_id: int,
    number_id: int,
    *,
    search: str = "",
    order_by: str = "template_created_at",
    descending: bool = True,
    start: int = 0,
    length: int = 20,
) -> tuple[list[Template], int]:
    """One page of the number's templates and how many match; `search` looks into names and bodies, `order_by` is one
    of `ORDERS`."""
    where = [
        templates.c.account_id == account_id,
        templates.c.number_id == number_id,
        templates.c.status != DELETED,
    ]
    if search:
        where.append(
            sa.or_(
                templates.c.name.icontains(search, autoescape=True), templates.c.body.icontains(search, autoescape=True)
            )
        )
    column = _ORDERS[order_by]
    rows = connection.execute(
        sa.select(templates)
        .where(*where)
        .order_by(column.desc() if descending else column, templates.c.id.desc() if descending else templates.c.id)
        .offset(start)
        .limit(length)
    )
    found = [template for row in rows if (template := _readable(row)) is not None]
    total = connection.execute(sa.select(sa.func.count()).select_from(templates).where(*where)).scalar_one()
    return found, total


def adopt(
    connection: Connection, number: Number, listed: Sequence[MetaTemplate | UnreadTemplate], asked_at: float
) -> None:
    """Adopts templates of Meta's list as of `asked_at`: new and changed ones."""
    for theirs in listed:
        adopt_one(connection, number, theirs, asked_at)


def adopt_one(connection: Connection, number: Number, theirs: MetaTemplate | UnreadTemplate, asked_at: float) -> None:
    """Adopts one template as of `asked_at`; one that cannot be read goes to the quarantine."""
    if isinstance(theirs, UnreadTemplate):
        reference = theirs.id or hashlib.sha256(theirs.row).hexdigest()
        entry = Quarantined(number.account_id, number.id, "template", reference, theirs.reason, theirs.row)
        quarantine.add(connection, entry, asked_at)
        return
    row = connection.execute(sa.select(templates).where(_named(number, theirs.name, theirs.language))).first()
    ours = _readable(row) if row else None
    form = form_of(theirs.name, theirs.language, theirs.category, theirs.components, known=ours.form if ours else None)
    values = {
        **_columns(form),
        "meta_id": theirs.id,
        "status": shown_status(theirs.status),
        "rejected_reason": "" if theirs.rejected_reason == "NONE" else theirs.rejected_reason,
        "updated_at": asked_at,
    }
    if row is None:
        if not _add(connection, number, {**values, "created_at": asked_at}, asked_at):
            adopt_one(connection, number, theirs, asked_at)  # another gateway has just added it
        return
    if row.updated_at > asked_at:
        return  # a callback or a submission is newer than the list
    if ours is None or (ours.form, ours.meta_id, ours.status) != (form, theirs.id, values["status"]):
        _replace(connection, number, row, values, asked_at)


def mark_gone(
    connection: Connection, number: Number, listed: Sequence[MetaTemplate | UnreadTemplate], asked_at: float
) -> None:
    """Marks as deleted what Meta no longer lists; a template that it lists in an unknown shape still exists.

    Nothing is marked while the list has a template without a readable id: it may be any of the stored ones.
    """
    if not all(theirs.id for theirs in listed):
        return
    gone = connection.execute(
        _own(templates.update(), number)
        .where(
            templates.c.meta_id != "",
            templates.c.meta_id.not_in([theirs.id for theirs in listed]),
            templates.c.updated_at < asked_at,
            templates.c.status != DELETED,
        )
        .values(status=DELETED, rejected_reason="", updated_at=asked_at)
        .returning(*PUBLISHED)
    ).all()
    for template in gone:
        publish_status(connection, template, asked_at)


def _add(connection: Connection, number: Number, values: dict[str, Any], now: float) -> bool:
    """Adds a template and publishes its status; False when the number has one of that name and language already."""
    owner = {"account_id": number.account_id, "number_id": number.id, "key": opaque_id(16)}
    row = insert_into(connection, templates).values(**owner, **values).on_conflict_do_nothing()
    added = connection.execute(row.returning(*PUBLISHED)).first()
    if added is not None:
        publish_status(connection, added, now)
    return added is not None


def _replace(connection: Connection, number: Number, before: Any, values: dict[str, Any], now: float) -> None:
    """Changes a template, and publishes its status if that changes; nothing when another gateway has changed its
    status since `before` was read."""
    changed = connection.execute(
        _own(templates.update(), number)
        .where(templates.c.id == before.id, templates.c.status == before.status)
        .values(**values)
        .returning(*PUBLISHED)
    ).first()
    if changed is not None and changed.status != before.status:
        publish_status(connection, changed, now)


def _named(number: Number, name: str, language: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        templates.c.account_id == number.account_id,
        templates.c.number_id == number.id,
        templates.c.name == name,
        templates.c.language == language,
    )


def _one(connection: Connection, account_id: int, number_id: int, *where: sa.ColumnElement[bool]) -> Template | None:
    row = connection.execute(
        sa.select(templates).where(templates.c.account_id == account_id, templates.c.number_id == number_id, *where)
    ).first()
    return _readable(row) if row else None


def _readable(row: Any) -> Template | None:
    """The row as a template; None, with a log line, when it cannot be decoded."""
    try:
        return _template(row)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        log.exception("template_invalid", template=row.key)
        return None


def _own(statement: sa.Update, number: Number) -> sa.Update:
    return statement.where(templates.c.account_id == number.account_id, templates.c.number_id == number.id)


def _columns(form: TemplateForm) -> dict[str, Any]:
    return {
        "name": form.name,
        "language": form.language,
        "category": form.category,
        "body": form.body,
        "footer": form.footer,
        "header": msgspec.json.encode(form.header).decode() if form.header else "",
        "buttons": msgspec.json.encode(form.buttons).decode(),
        "variables": msgspec.json.encode(form.variables).decode(),
    }


def _template(row: Any) -> Template:
    form = TemplateForm(
        name=row.name,
        language=row.language,
        category=row.category,
        body=row.body,
        header=msgspec.json.decode(row.header, type=Header) if row.header else None,
        footer=row.footer,
        buttons=msgspec.json.decode(row.buttons, type=list[Button]),
        variables=msgspec.json.decode(row.variables, type=list[Variable]),
    )
    return Template(
        row.id,
        row.account_id,
        row.number_id,
        row.key,
        form,
        row.meta_id,
        row.status,
        row.rejected_reason,
        row.created_at,
        row.updated_at,
    )


__all__ = [
    "APPROVED",
    "DELETED",
    "DRAFT",
    "IN_REVIEW",
    "LIST_EVERY",
    "ORDERS",
    "Button",
    "Faulty",
    "FillError",
    "GraphRefusal",
    "Header",
    "Template",
    "TemplateForm",
    "Templates",
    "Unreachable",
    "Variable",
    "VariableCountError",
    "adopt",
    "by_meta_id",
    "by_name",
    "filled",
    "page",
    "put",
    "variables_of",
]

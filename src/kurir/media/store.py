"""The media of outgoing messages: turns `image_url` and `file_url` into checked bytes on the disk, once per message.

A message's first attempt fetches; a retry or a restart finds the row in `media` and its file, so that what the
recipient gets cannot change between attempts. Files are stored under their SHA-256 and shared by messages with the same
bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from kurir.kit.atomic_files import flush
from kurir.kit.clock import Clock
from kurir.kit.disk_reserve import DiskNearlyFull, DiskReserve
from kurir.kit.file_failures import file_failure
from kurir.kit.limited_process import Confined, TooCostly, TooSlow
from kurir.kit.log_limit import LogLimit
from kurir.kit.safe_fetch import Fetched, FetchFailed, SafeFetch, TooLarge
from kurir.kit.url_rules import UrlRefused
from kurir.media import inspection_process
from kurir.media.files import MediaFiles
from kurir.media.inspection_process import DiskFailed, InspectDocument, InspectPicture, Unusable, Usable
from kurir.messages.channel_reports import Refused, TryLater
from kurir.messages.content import Document, Image, MediaFile
from kurir.outbox.tables import media, messages
from kurir.reasons import Reason, ReasonedError, failures
from kurir.reasons import media as reasons
from kurir.settings import Settings
from kurir.store.chunked_deletes import oldest_first, removed
from kurir.store.database import Database, DatabaseUnavailable
from kurir.store.inserts import insert_into

log = structlog.get_logger(__name__)

_OWN_TROUBLE = 5.0
"""Seconds until a file that our disk or database could not take is fetched again."""
_FULL = "the disk is nearly full: texts go on, files wait"
_NO_ROOM = 10.0
"""Seconds until a file for which the disk has no room is looked at again."""
_OPEN = ("queued", "sending", "unconfirmed")
_SWEPT = 500
_ABANDONED = 86_400.0
"""Seconds after which a half-fetched file belongs to no fetch of this process."""
_COLUMNS = [media.c[name] for name in MediaFile.__struct_fields__]


class MediaStore:
    """The media of outgoing messages, under `<data_dir>/media`."""

    def __init__(self, settings: Settings, database: Database, safe_fetch: SafeFetch, clock: Clock) -> None:
        self._files = MediaFiles(settings.data_dir.absolute() / "media")
        self._limits = {Image: settings.media_image_bytes, Document: settings.media_document_bytes}
        self._timeout = settings.media_timeout
        self._reserve = DiskReserve(self._files.folder, settings.disk_reserve)
        self._full = LogLimit()
        self._failed = LogLimit()
        self._database = database
        self._safe_fetch = safe_fetch
        self._clock = clock
        largest = max(self._limits.values())
        self._inspection = Confined(
            inspection_process.PROGRAM, settings.media_inspectors, inspection_process.limits(largest)
        )

    async def close(self) -> None:
        """Ends the inspection processes; a later file starts new ones."""
        await self._inspection.close()

    def check(self, url: str) -> None:
        """Raises UrlRefused when `url` can never be fetched; called on acceptance, uses no network."""
        self._safe_fetch.check(url)

    async def prepare(
        self, account_id: int, message_id: int, content: Image | Document
    ) -> MediaFile | Refused | TryLater:
        """The message's file, fetched and inspected now or earlier.

        Refused: the address, the answer or the file cannot be used. TryLater: the server or the local disk may recover.
        """
        try:
            known = await self.whole_file(account_id, message_id)
            if known is not None:
                return known
            file = await self._fetch(account_id, content)
            try:
                row = {"account_id": account_id, "message_id": message_id, "url": content.url}
                now = self._clock()
                await self._database.write(lambda c: _store(c, {**row, "created_at": now}, file))
            finally:
                self._files.release(Path(file.path))
            return file
        except (UrlRefused, TooLarge, FetchFailed, _NotUsable) as error:
            return _failure("image_url" if isinstance(content, Image) else "file_url", error)
        except TooSlow:
            return TryLater("media_not_inspected", reasons.NOT_INSPECTED(), after=_OWN_TROUBLE)
        except DiskNearlyFull:
            if self._full.is_due():
                log.warning("outgoing_files_deferred", reason=_FULL)
            return TryLater("media_not_stored", reasons.NOT_STORED_DISK(), after=_NO_ROOM, counted=False)
        except (DatabaseUnavailable, OSError) as error:
            if self._failed.is_due(type(error)):
                log.warning("outgoing_file_not_stored", error=f"{type(error).__name__}: {error}")
            unavailable = isinstance(error, DatabaseUnavailable)
            why = reasons.NOT_STORED(error=failures.DATABASE_BUSY if unavailable else file_failure(error))
            return TryLater("media_not_stored", why, after=_OWN_TROUBLE, counted=False)

    async def whole_file(self, account_id: int, message_id: int) -> MediaFile | None:
        """The message's file when it was fetched and is whole here, else None. Raises DatabaseUnavailable."""
        found = await self._database.read(lambda c: _row(c, account_id, message_id), of=account_id)
        return found if found is not None and await asyncio.to_thread(_is_whole, found) else None

    async def was_fetched(self, account_id: int, message_id: int) -> bool:
        """Whether the message's file was ever fetched: before that, the message cannot have left.

        Raises DatabaseUnavailable.
        """
        return await self._database.read(lambda c: _row(c, account_id, message_id), of=account_id) is not None

    async def forget(self, before: float) -> int:
        """Deletes the media of messages stored before that unix time and returns how many; shared files stay.

        Media of a message that is not settled stay as well, whatever their age: a retry sends them, and they are
        evidence.
        """
        forgotten = 0
        find = oldest_first(media, media.c.created_at, before)
        async for paths in removed(self._database, find, _remove_rows):
            forgotten += len(paths)
            await self._remove_files({Path(path) for path in paths})
        await self._sweep(before)
        return forgotten

    async def _sweep(self, before: float) -> None:
        """Removes files that no row names: another gateway deleted the row, or this one ended before it removed the
        file."""
        old = sorted(await asyncio.to_thread(self._files.older_than, before))
        for start in range(0, len(old), _SWEPT):
            await self._remove_files(set(old[start : start + _SWEPT]))
        for path in await asyncio.to_thread(self._files.left_behind, self._clock() - _ABANDONED):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _remove_files(self, paths: set[Path]) -> None:
        """Removes those of the files that no row names, after the commit."""
        marks = await asyncio.to_thread(self._files.mark, paths)
        named = await self._database.read(lambda c: _named(c, list(marks)), pool="lists") if marks else set[Path]()
        await asyncio.to_thread(self._files.remove, {path: mark for path, mark in marks.items() if path not in named})

    async def _fetch(self, account_id: int, content: Image | Document) -> MediaFile:
        arriving = self._files.folder / f"arriving-{secrets.token_hex(8)}"
        limit = self._limits[type(content)]
        await asyncio.to_thread(self._reserve.require, 0)  # before anything is fetched
        await asyncio.to_thread(self._files.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            fetched = await self._safe_fetch.fetch(
                content.url,
                arriving,
                max_bytes=limit,
                within=self._timeout,
                account=account_id,
                reserve=self._reserve,
            )
            found = await self._inspected(account_id, content, fetched, limit)
            return await asyncio.to_thread(self._keep, arriving, found)
        finally:
            await asyncio.to_thread(arriving.unlink, missing_ok=True)

    async def _inspected(self, account_id: int, content: Image | Document, fetched: Fetched, limit: int) -> Usable:
        """Inspects the fetched file; a picture may be rewritten in place. Raises _NotUsable, TooSlow, OSError."""
        path = str(fetched.path)
        match content:
            case Image():
                await asyncio.to_thread(self._reserve.require, fetched.size)  # it may be rewritten
                question = InspectPicture(path, content.url, limit)
            case Document():
                question = InspectDocument(path, fetched.size, fetched.sha256, content.url, content.file_name)
        try:
            answer = await self._inspection.run(account_id, inspection_process.encode(question))
        except TooCostly as error:
            raise _NotUsable("media_too_costly", reasons.TOO_COSTLY()) from error
        match inspection_process.decode(answer):
            case Unusable(code, reason):
                raise _NotUsable(code, reason)
            case DiskFailed(kind):
                raise OSError(f"the file could not be inspected ({kind})")
            case found:
                return found

    def _keep(self, arrived: Path, found: Usable) -> MediaFile:
        """Moves the inspected file to its final place, where it is in use until the caller releases it."""
        flush(arrived)
        place = self._files.place(arrived, found.sha256, found.preview)
        return MediaFile(str(place), found.mime, found.name, found.size, found.sha256)


class _NotUsable(ReasonedError):  # noqa: N818 - an outcome, not a mistake
    """The file cannot be sent; `code` is a stable word."""

    def __init__(self, code: str, reason: Reason) -> None:
        super().__init__(reason)
        self.code = code


def _remove_rows(connection: Connection, ids: list[int]) -> list[str]:
    """Deletes those of the rows whose messages are settled; returns the paths that they named."""
    open_ = sa.exists().where(messages.c.id == media.c.message_id, messages.c.state.in_(_OPEN))
    gone = sa.delete(media).where(media.c.id.in_(ids), ~open_).returning(media.c.path)
    return list(connection.execute(gone).scalars())


def _named(connection: Connection, paths: list[Path]) -> set[Path]:
    """Those of the paths that a row names."""
    rows = connection.execute(sa.select(media.c.path).where(media.c.path.in_([str(path) for path in paths])))
    return {Path(row.path) for row in rows}


def _is_whole(file: MediaFile) -> bool:
    with contextlib.suppress(OSError):
        return Path(file.path).stat().st_size == file.size
    return False


def _row(connection: Connection, account_id: int, message_id: int) -> MediaFile | None:
    row = connection.execute(
        sa.select(*_COLUMNS).where(media.c.account_id == account_id, media.c.message_id == message_id)
    ).first()
    return MediaFile(*row) if row else None


def _store(connection: Connection, row: dict[str, Any], file: MediaFile) -> None:
    """Inserts a row, replacing one whose file was lost, or that another gateway stored for the same message."""
    new = insert_into(connection, media).values(**row, **msgspec.structs.asdict(file))
    changed = [name for name in (*row, *MediaFile.__struct_fields__) if name not in ("account_id", "message_id")]
    connection.execute(
        new.on_conflict_do_update(
            index_elements=[media.c.message_id],
            set_={name: getattr(new.excluded, name) for name in changed},
            where=media.c.account_id == new.excluded.account_id,
        )
    )


def _failure(field: str, error: UrlRefused | TooLarge | _NotUsable | FetchFailed) -> Refused | TryLater:
    reason = reasons.FIELD(field=field, reason=error.reason)
    match error:
        case UrlRefused():
            return Refused("media_url_refused", reason)
        case TooLarge():
            return Refused("media_too_large", reason)
        case _NotUsable():
            return Refused(error.code, reason)
        case FetchFailed(permanent=True):
            return Refused("media_not_fetched", reason)
        case FetchFailed():
            return TryLater("media_not_fetched", reason)

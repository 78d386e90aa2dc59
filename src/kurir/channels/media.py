"""Pictures and files to send: `image_url` and `file_url` become checked bytes on our disk, once per message.

A message's first try fetches; a retry or a restart finds the row in `media` and the file it names, so that what the
recipient gets cannot change between tries. Files are stored under their SHA-256 and shared by messages with the
same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.channels import inspection_process, previews
from kurir.channels.inspection_process import DiskFailed, InspectDocument, InspectPicture, Unusable, Usable
from kurir.foundation.clock import Clock
from kurir.foundation.confined import Confined, TooCostly, TooSlow
from kurir.foundation.database import LONG_WORK, Database, DatabaseUnavailable
from kurir.foundation.safe_fetch import Fetched, FetchFailed, SafeFetch, TooLarge
from kurir.foundation.tables import media, messages
from kurir.foundation.url_rules import UrlRefused
from kurir.messages.content import Document, Image, MediaFile
from kurir.messages.reports import Refused, TryLater
from kurir.settings import Settings

_OWN_TROUBLE = 5.0
"""Seconds until a file that our disk or database could not take is fetched again."""
_COLUMNS = [media.c[name] for name in MediaFile.__struct_fields__]


class MediaStore:
    """The media of outgoing messages, under `<data_dir>/media`."""

    def __init__(self, settings: Settings, database: Database, safe_fetch: SafeFetch, clock: Clock) -> None:
        self._folder = settings.data_dir.absolute() / "media"
        self._limits = {Image: settings.media_image_bytes, Document: settings.media_document_bytes}
        self._timeout = settings.media_timeout
        self._database = database
        self._safe_fetch = safe_fetch
        self._clock = clock
        largest = max(self._limits.values())
        self._inspection = Confined(
            inspection_process.__name__, settings.media_inspectors, inspection_process.limits(largest)
        )

    async def close(self) -> None:
        """Ends the processes that inspect files; a later file starts new ones."""
        await self._inspection.close()

    def check(self, url: str) -> None:
        """Raises UrlRefused when `url` can never be fetched; for the moment of acceptance, asks no network."""
        self._safe_fetch.check(url)

    async def prepare(
        self, account_id: int, message_id: int, content: Image | Document
    ) -> MediaFile | Refused | TryLater:
        """The message's file, fetched and checked now or earlier.

        Refused: the address, the answer or the file cannot be used. TryLater: the server or our disk may recover.
        """
        try:
            known = await self._database.read(lambda c: _row(c, account_id, message_id), of=account_id)
            if known is not None and await asyncio.to_thread(_is_whole, known):
                return known
            file = await self._fetch(account_id, content)
            row = {"account_id": account_id, "message_id": message_id, "url": content.url, "created_at": self._clock()}
            await self._database.write(lambda c: _store(c, row, file))
            return file
        except (UrlRefused, TooLarge, FetchFailed, _NotUsable) as error:
            return _verdict("image_url" if isinstance(content, Image) else "file_url", error)
        except TooSlow:
            return TryLater("media_not_inspected", "the file could not be inspected in time", after=_OWN_TROUBLE)
        except (DatabaseUnavailable, OSError) as error:
            why = f"the file could not be stored ({type(error).__name__})"
            return TryLater("media_not_stored", why, after=_OWN_TROUBLE, counted=False)

    async def is_known(self, account_id: int, message_id: int) -> bool:
        """Whether the message's file was ever fetched: before that, the message cannot have left.

        Raises DatabaseUnavailable.
        """
        return await self._database.read(lambda c: _row(c, account_id, message_id), of=account_id) is not None

    async def forget(self, before: float) -> int:
        """Removes the media of messages stored before that unix time and returns how many; shared files stay.

        What belongs to a message on its way stays too, whatever its age: a later try sends it, and it is evidence.
        """
        on_its_way = sa.exists().where(messages.c.id == media.c.message_id, messages.c.state.in_(["queued", "sending"]))

        def work(connection: Connection) -> int:
            old = connection.execute(
                sa.delete(media).where(media.c.created_at < before, ~on_its_way).returning(media.c.path)
            )
            paths = [path for (path,) in old]
            for path in set(paths):
                if not connection.execute(sa.select(sa.exists().where(media.c.path == path))).scalar():
                    Path(path).unlink(missing_ok=True)
                    previews.place(path).unlink(missing_ok=True)
            return len(paths)

        forgotten = await self._database.write(work, patience=LONG_WORK)
        await self._forget_files(before)
        return forgotten

    async def _forget_files(self, before: float) -> None:
        """Removes files here whose rows another gateway on the same database has removed."""
        old = await asyncio.to_thread(_older_than, self._folder, before)

        def unknown(connection: Connection) -> list[Path]:
            known = [sa.exists().where(media.c.path == str(p).removesuffix(previews.SUFFIX)) for p in old]
            return [p for p, found in zip(old, known, strict=True) if not connection.execute(sa.select(found)).scalar()]

        for path in await self._database.read(unknown, pool="lists") if old else ():
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _fetch(self, account_id: int, content: Image | Document) -> MediaFile:
        arriving = self._folder / f"arriving-{secrets.token_hex(8)}"
        limit = self._limits[type(content)]
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            fetched = await self._safe_fetch.fetch(
                content.url, arriving, max_bytes=limit, within=self._timeout, account=account_id
            )
            found = await self._inspected(account_id, content, fetched, limit)
            return await asyncio.to_thread(self._keep, arriving, found)
        finally:
            await asyncio.to_thread(arriving.unlink, missing_ok=True)

    async def _inspected(self, account_id: int, content: Image | Document, fetched: Fetched, limit: int) -> Usable:
        """What the fetched file is; a picture may have been rewritten in place. Raises _NotUsable, TooSlow, OSError."""
        path = str(fetched.path)
        match content:
            case Image():
                question = InspectPicture(path, content.url, limit)
            case Document():
                question = InspectDocument(path, fetched.size, fetched.sha256, content.url, content.file_name)
        try:
            answer = await self._inspection.run(account_id, inspection_process.encode(question))
        except TooCostly as verdict:
            raise _NotUsable("media_too_costly", f"the file cannot be opened: that takes {verdict}") from verdict
        match inspection_process.decode(answer):
            case Unusable(code, reason):
                raise _NotUsable(code, reason)
            case DiskFailed(kind):
                raise OSError(f"the file could not be inspected ({kind})")
            case found:
                return found

    def _keep(self, arrived: Path, found: Usable) -> MediaFile:
        """Moves the inspected file to its durable place."""
        place = self._folder / found.sha256[:2] / found.sha256
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if found.preview is not None:
            previews.store(place, found.preview)
        _flush(arrived)
        arrived.replace(place)
        _flush(place.parent)
        return MediaFile(str(place), found.mime, found.name, found.size, found.sha256)


class _NotUsable(Exception):  # noqa: N818 - a verdict, not a mistake
    """The file cannot be sent; `code` is a stable word, `reason` a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def _older_than(folder: Path, before: float) -> list[Path]:
    """The files in the folder's subfolders that were last written before that unix time."""
    return [path for path in folder.glob("??/*") if path.stat().st_mtime < before]


def _flush(path: Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    """Takes the place of a row whose file got lost."""
    same = (media.c.account_id == row["account_id"]) & (media.c.message_id == row["message_id"])
    connection.execute(sa.delete(media).where(same))
    connection.execute(sa.insert(media).values(**row, **msgspec.structs.asdict(file)))


def _verdict(field: str, error: UrlRefused | TooLarge | _NotUsable | FetchFailed) -> Refused | TryLater:
    reason = f"{field}: {error.reason}"
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

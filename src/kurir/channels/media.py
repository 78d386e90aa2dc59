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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.channels.media_inspection import NotUsable, inspect_document, inspect_picture
from kurir.foundation.clock import Clock
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
        # one at a time: a decoded picture may take 200 MB
        self._inspection = ThreadPoolExecutor(1, thread_name_prefix="media")

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
            file = await self._fetch(content)
            row = {"account_id": account_id, "message_id": message_id, "url": content.url, "created_at": self._clock()}
            await self._database.write(lambda c: _store(c, row, file))
            return file
        except (UrlRefused, TooLarge, NotUsable, FetchFailed) as error:
            return _verdict("image_url" if isinstance(content, Image) else "file_url", error)
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
            return len(paths)

        forgotten = await self._database.write(work, patience=LONG_WORK)
        await self._forget_files(before)
        return forgotten

    async def _forget_files(self, before: float) -> None:
        """Removes files here whose rows another gateway on the same database has removed."""
        old = await asyncio.to_thread(_older_than, self._folder, before)

        def unknown(connection: Connection) -> list[Path]:
            return [
                p for p in old if not connection.execute(sa.select(sa.exists().where(media.c.path == str(p)))).scalar()
            ]

        for path in await self._database.read(unknown, pool="lists") if old else ():
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _fetch(self, content: Image | Document) -> MediaFile:
        arriving = self._folder / f"arriving-{secrets.token_hex(8)}"
        limit = self._limits[type(content)]
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            fetched = await self._safe_fetch.fetch(content.url, arriving, max_bytes=limit, within=self._timeout)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._inspection, self._keep, content, fetched, limit)
        finally:
            await asyncio.to_thread(arriving.unlink, missing_ok=True)

    def _keep(self, content: Image | Document, fetched: Fetched, limit: int) -> MediaFile:
        """Inspects the fetched file and moves it, or what it was converted to, to its durable place."""
        match content:
            case Image():
                found = inspect_picture(fetched, content.url, limit)
            case Document():
                found = inspect_document(fetched, content.url, content.file_name)
        place = self._folder / found.sha256[:2] / found.sha256
        place.parent.mkdir(mode=0o700, exist_ok=True)
        _flush(fetched.path)
        fetched.path.replace(place)
        _flush(place.parent)
        return MediaFile(str(place), found.mime, found.name, found.size, found.sha256)


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


def _verdict(field: str, error: UrlRefused | TooLarge | NotUsable | FetchFailed) -> Refused | TryLater:
    reason = f"{field}: {error.reason}"
    match error:
        case UrlRefused():
            return Refused("media_url_refused", reason)
        case TooLarge():
            return Refused("media_too_large", reason)
        case NotUsable():
            return Refused(error.code, reason)
        case FetchFailed(permanent=True):
            return Refused("media_not_fetched", reason)
        case FetchFailed():
            return TryLater("media_not_fetched", reason)

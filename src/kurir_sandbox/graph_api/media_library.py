"""Media of the Cloud API: uploads by id, short-lived download addresses, links that are fetched, and handles.

The bytes lie in `MediaFiles`; the database keeps who owns an id and when it ends (uploads 30 days, media that came
in with a message 7 days). Kinds and sizes follow Meta's table "Supported media types".
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import aiohttp

from kurir_sandbox.graph_api.errors import GraphError
from kurir_sandbox.graph_api.identifiers import new_object_id
from kurir_sandbox.graph_api.outgoing import MediaSource
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.traffic import Media

MEGABYTE = 1024 * 1024
UPLOADED, INBOUND = 30 * 86400.0, 7 * 86400.0
_ADDRESS_LIFE = 300
_OFFICE = "application/vnd.openxmlformats-officedocument"
_IMAGES = ("image/jpeg", "image/png")
_AUDIO = ("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg")
_DOCUMENTS = (
    "text/plain",
    "application/pdf",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    f"{_OFFICE}.wordprocessingml.document",
    f"{_OFFICE}.spreadsheetml.sheet",
    f"{_OFFICE}.presentationml.presentation",
)
ALLOWED: dict[str, tuple[tuple[str, ...], int]] = {
    "image": (_IMAGES, 5 * MEGABYTE),
    "video": (("video/mp4", "video/3gpp"), 16 * MEGABYTE),
    "audio": (_AUDIO, 16 * MEGABYTE),
    "document": ((*_DOCUMENTS, *_IMAGES, *_AUDIO, "video/mp4", "video/3gpp"), 100 * MEGABYTE),
    "sticker": (("image/webp",), 500 * 1024),
}
_UPLOADABLE = {
    **dict.fromkeys(_DOCUMENTS, 100 * MEGABYTE),
    **{mime: size for kind, (mimes, size) in ALLOWED.items() if kind != "document" for mime in mimes},
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS media (
    id TEXT PRIMARY KEY, phone_number_id TEXT NOT NULL, mime TEXT NOT NULL, name TEXT NOT NULL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, ends REAL NOT NULL);
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, app_id TEXT NOT NULL, mime TEXT NOT NULL, size INTEGER NOT NULL, handle TEXT);
"""
_FETCH_TIMEOUT = aiohttp.ClientTimeout(total=30)


class MediaError(Exception):
    """The bytes of an accepted message cannot be had; becomes a `failed` status 131053."""


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """What is known of a media id; `size` in bytes, `ends` in unix seconds."""

    id: str
    phone_number_id: str
    mime: str
    name: str
    sha256: str
    size: int
    ends: float


class MediaLibrary:
    """Media ids and upload handles in the database `db`."""

    def __init__(self, db: sqlite3.Connection, files: MediaFiles, http: aiohttp.ClientSession) -> None:
        self._db = db
        self._files = files
        self._http = http
        self._address_key = secrets.token_bytes(32)
        db.executescript(_SCHEMA)

    def forget(self) -> None:
        """Forget every id and handle."""
        self._db.execute("DELETE FROM media")
        self._db.execute("DELETE FROM uploads")

    def upload(self, phone_number_id: str, mime: str, name: str, data: bytes) -> StoredMedia:
        """Keep an uploaded file for 30 days. Raises GraphError 100 or 131053 when kind or size is not allowed."""
        mime = mime.split(";", 1)[0].strip().lower()
        largest = _UPLOADABLE.get(mime)
        if largest is None:
            raise GraphError(
                100,
                message=f"(#100) Param file must be a file with one of the following types: "
                f"{', '.join(_UPLOADABLE)}. Received file of type '{mime[:80]}'.",
            )
        if not data:
            raise GraphError(100, message="(#100) Param file must not be empty")
        if len(data) > largest:
            raise GraphError(131053, f"Parameter 'file' has {len(data)} bytes; {mime} may have {largest}")
        return self.keep(phone_number_id, Media(mime, name, data), UPLOADED)

    def keep(self, phone_number_id: str, media: Media, life: float = INBOUND) -> StoredMedia:
        """Give `media` an id of the number that is valid for `life` seconds."""
        stored = StoredMedia(
            new_object_id(),
            phone_number_id,
            media.mime,
            media.name,
            self._files.keep(media.data),
            len(media.data),
            time.time() + life,
        )
        self._db.execute(
            "INSERT INTO media (id, phone_number_id, mime, name, sha256, size, ends) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (stored.id, phone_number_id, stored.mime, stored.name, stored.sha256, stored.size, stored.ends),
        )
        return stored

    def stored(self, media_id: str) -> StoredMedia | None:
        """What is known of a media id that has not ended."""
        row = self._db.execute(
            "SELECT id, phone_number_id, mime, name, sha256, size, ends FROM media WHERE id = ? AND ends > ?",
            (media_id, time.time()),
        ).fetchone()
        return None if row is None else StoredMedia(*row)

    def delete(self, media_id: str) -> None:
        """Forget a media id."""
        self._db.execute("DELETE FROM media WHERE id = ?", (media_id,))

    def read(self, stored: StoredMedia) -> bytes:
        """The bytes behind a media id."""
        return self._files.read(stored.sha256) or b""

    def ticket(self, media_id: str) -> str:
        """The last part of a download address: expiry and signature, good for five minutes."""
        expiry = int(time.time()) + _ADDRESS_LIFE
        return f"{expiry}-{self._mac(media_id, expiry)}"

    def admits(self, media_id: str, ticket: str) -> bool:
        """Whether `ticket` is a download address's for this media that has not ended."""
        expiry, _, mac = ticket.partition("-")
        if not expiry.isascii() or not expiry.isdigit() or int(expiry) < time.time():
            return False
        return hmac.compare_digest(mac.encode(), self._mac(media_id, int(expiry)).encode())

    async def obtain(self, source: MediaSource, phone_number_id: str) -> Media:
        """The media of a message, fetched from its link or taken from its id.

        Raises MediaError when there is none, or its kind or size is not allowed for the message type.
        """
        if source.id:
            stored = self.stored(source.id)
            if stored is None or stored.phone_number_id != phone_number_id:
                raise MediaError(f"Media id {source.id} does not exist any more")
            name = source.filename or (stored.name if source.type == "document" else "")
            media = Media(stored.mime, name, self.read(stored))
        else:
            media = await self._fetch(source)
        mimes, largest = ALLOWED[source.type]
        if media.mime not in mimes:
            raise MediaError(f"Unsupported {source.type} mime type {media.mime}")
        if len(media.data) > largest:
            raise MediaError(f"Media file size too big. Max file size we currently support: {largest} bytes.")
        return media

    async def _fetch(self, source: MediaSource) -> Media:
        largest = ALLOWED[source.type][1]
        try:
            async with self._http.get(source.link, timeout=_FETCH_TIMEOUT, max_redirects=5) as answer:
                if answer.status != 200:
                    raise MediaError(f"Downloading media from weblink failed with http code {answer.status}")
                data = bytearray()
                async for chunk in answer.content.iter_chunked(65536):
                    data += chunk
                    if len(data) > largest:
                        break
                mime = answer.content_type
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise MediaError(f"Downloading media from weblink failed: {type(error).__name__}") from error
        named = source.filename or unquote(urlsplit(source.link).path.rsplit("/", 1)[-1])
        return Media(mime, named if source.type == "document" else "", bytes(data))

    def start_upload(self, app_id: str, mime: str, size: int) -> str:
        """Open a resumable upload for a template sample; returns its id ("upload:…")."""
        upload_id = f"upload:{secrets.token_urlsafe(24)}"
        self._db.execute(
            "INSERT INTO uploads (id, app_id, mime, size) VALUES (?, ?, ?, ?)", (upload_id, app_id, mime, size)
        )
        return upload_id

    def finish_upload(self, upload_id: str, app_id: str, offset: int, data: bytes) -> str:
        """Take the bytes of an upload and return its handle. Raises GraphError 100 when they do not fit."""
        row = self._db.execute("SELECT app_id, size FROM uploads WHERE id = ?", (upload_id,)).fetchone()
        if row is None or row[0] != app_id:
            raise GraphError(100, message="(#100) Upload session does not exist")
        if offset != 0 or len(data) != row[1]:
            raise GraphError(
                100, message=f"(#100) Expected {row[1]} bytes from file_offset 0, got {len(data)} from {offset}"
            )
        handle = f"4::{secrets.token_urlsafe(48)}"
        self._db.execute("UPDATE uploads SET handle = ? WHERE id = ?", (handle, upload_id))
        return handle

    def knows_handle(self, handle: str) -> bool:
        """Whether a finished upload gave out this handle."""
        return self._db.execute("SELECT 1 FROM uploads WHERE handle = ?", (handle,)).fetchone() is not None

    def _mac(self, media_id: str, expiry: int) -> str:
        return hmac.new(self._address_key, f"{media_id}:{expiry}".encode(), hashlib.sha256).hexdigest()[:32]

"""A media store on a real database, and a stranger's web server with files for it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl
from PIL import Image as Pillow
from tests.sqlite import new_database

from kurir.accounts import accounts
from kurir.kit.safe_fetch import SafeFetch
from kurir.media import previews
from kurir.media.store import MediaStore
from kurir.messages.channel_reports import Refused, TryLater
from kurir.messages.content import Document, Image, MediaFile
from kurir.settings import Settings
from kurir.store.database import Database

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture of noise."""
    noise = Pillow.effect_noise(size, 80)
    image = Pillow.merge("RGBA", [noise] * 4) if mode == "RGBA" else noise.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size: a decompression bomb's outside."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def sheet() -> bytes:
    """An empty Excel file."""
    buffer = io.BytesIO()
    openpyxl.Workbook().save(buffer)
    return buffer.getvalue()


def archive() -> bytes:
    """A zip archive of one text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "hello")
    return buffer.getvalue()


@dataclass
class Stranger:
    """A web server with a few files; counts what it was asked for."""

    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def offers(self, path: str, body: bytes, status: int = 200) -> str:
        self.files[path] = (status, body)
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.asked.append(path)
            status, body = self.files.get(path, (404, b"nothing here"))
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@dataclass
class MediaHarness:
    """A store, its account, and the stranger whose files it fetches."""

    store: MediaStore
    database: Database
    stranger: Stranger
    folder: Path
    account_id: int
    settings: Settings
    fetch: SafeFetch
    _ids: itertools.count = field(default_factory=lambda: itertools.count(1))

    async def image(self, path: str, body: bytes, status: int = 200) -> MediaFile | Refused | TryLater:
        url = self.stranger.offers(path, body, status)
        return await self.store.prepare(self.account_id, next(self._ids), Image(url))

    async def document(self, path: str, body: bytes, file_name: str = "") -> MediaFile | Refused | TryLater:
        content = Document(self.stranger.offers(path, body), file_name)
        return await self.store.prepare(self.account_id, next(self._ids), content)


@asynccontextmanager
async def open_media_harness(folder: Path) -> AsyncIterator[MediaHarness]:
    """A media store in `folder` that may fetch from the stranger only."""
    stranger = Stranger()
    server = await asyncio.start_server(stranger.serve, "127.0.0.1", 0)
    stranger.port = server.sockets[0].getsockname()[1]
    settings = Settings(
        data_dir=folder,
        allowed_networks=(f"127.0.0.1:{stranger.port}",),
        media_image_bytes=200_000,
        media_document_bytes=300_000,
    )
    database = Database(new_database(settings.sqlite_path))
    await database.start()
    account = await database.write(lambda c: accounts.create(c, name="Toko", email="toko@example.com"))
    safe_fetch = SafeFetch(settings)
    await safe_fetch.start()
    store = MediaStore(settings, database, safe_fetch, lambda: 1_750_000_000.0)
    yield MediaHarness(store, database, stranger, folder / "media", account.id, settings, safe_fetch)
    await store.close()
    await safe_fetch.close()
    await database.close()
    server.close()
    await server.wait_closed()


def files(folder: Path) -> list[Path]:
    """The stored files, without previews."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != previews.SUFFIX)


def stored(found: MediaFile) -> bytes:
    """A stored file's bytes."""
    return Path(found.path).read_bytes()

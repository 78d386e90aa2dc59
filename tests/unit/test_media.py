"""From a URL to checked bytes on disk: once per message, by content and not by name, and never a bomb."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import os
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl
import pytest
import sqlalchemy as sa
from PIL import Image as Pillow
from tests.sentences import english, in_english
from tests.sqlite import new_database

from kurir.accounts import accounts
from kurir.kit.disk_reserve import DiskReserve
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.url_rules import UrlRefused
from kurir.media import inspection, previews
from kurir.media.inspection import NotUsable, inspect_document, inspect_picture
from kurir.media.store import MediaStore
from kurir.messages.channel_reports import Refused, TryLater
from kurir.messages.content import Document, Image, MediaFile
from kurir.numbers import numbers
from kurir.outbox.tables import media, messages
from kurir.reasons import as_written
from kurir.settings import Settings
from kurir.store.database import Database

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
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
    buffer = io.BytesIO()
    openpyxl.Workbook().save(buffer)
    return buffer.getvalue()


def archive() -> bytes:
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
class Harness:
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


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    stranger = Stranger()
    server = await asyncio.start_server(stranger.serve, "127.0.0.1", 0)
    stranger.port = server.sockets[0].getsockname()[1]
    settings = Settings(
        data_dir=tmp_path,
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
    yield Harness(store, database, stranger, tmp_path / "media", account.id, settings, safe_fetch)
    await store.close()
    await safe_fetch.close()
    await database.close()
    server.close()
    await server.wait_closed()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != previews.SUFFIX)


def stored(found: MediaFile) -> bytes:
    return Path(found.path).read_bytes()


# -- once per message --------------------------------------------------------------------------------------------------


async def test_a_picture_is_fetched_once_however_often_it_is_tried(harness: Harness) -> None:
    body = picture("JPEG")
    content = Image(harness.stranger.offers("/a.jpg", body), "caption")
    first = await harness.store.prepare(harness.account_id, 1, content)
    assert isinstance(first, MediaFile)
    assert (first.mime, first.name, first.size) == ("image/jpeg", "a.jpg", len(body))
    assert first.sha256 == hashlib.sha256(body).hexdigest()
    assert Path(first.path) == harness.folder / first.sha256[:2] / first.sha256
    harness.stranger.offers("/a.jpg", picture("PNG"))  # what the address holds later changes nothing
    assert await harness.store.prepare(harness.account_id, 1, content) == first
    restarted = MediaStore(harness.settings, harness.database, SafeFetch(harness.settings), lambda: 0.0)
    assert await restarted.prepare(harness.account_id, 1, content) == first
    assert harness.stranger.asked == ["/a.jpg"]
    assert files(harness.folder) == [Path(first.path)]


async def test_a_lost_or_cut_file_is_fetched_again(harness: Harness) -> None:
    content = Document(harness.stranger.offers("/a.pdf", PDF))
    first = await harness.store.prepare(harness.account_id, 1, content)
    assert isinstance(first, MediaFile)
    (harness.folder / first.sha256[:2] / first.sha256).write_bytes(b"cut")
    assert await harness.store.prepare(harness.account_id, 1, content) == first
    assert harness.stranger.asked == ["/a.pdf", "/a.pdf"]
    assert [path.read_bytes() for path in files(harness.folder)] == [PDF]


async def test_another_account_never_gets_a_messages_file(harness: Harness) -> None:
    other = await harness.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    content = Document(harness.stranger.offers("/a.pdf", PDF))
    await harness.store.prepare(harness.account_id, 1, content)
    harness.stranger.files.clear()
    assert isinstance(await harness.store.prepare(other.id, 1, content), Refused)


async def test_old_media_go_and_shared_files_stay(harness: Harness) -> None:
    first, second = await harness.document("/a.pdf", PDF), await harness.document("/b.pdf", PDF)
    lone = await harness.image("/c.png", picture("PNG"))
    assert isinstance(first, MediaFile) and isinstance(second, MediaFile) and isinstance(lone, MediaFile)
    assert first.path == second.path

    def age(message_id: int) -> None:
        harness.database.engine.dispose()

    await harness.database.write(
        lambda c: c.execute(sa.update(media).where(media.c.message_id != 2).values(created_at=5.0))
    )
    assert await harness.store.forget(before=10.0) == 2
    assert files(harness.folder) == [Path(second.path)]
    assert await harness.store.forget(before=2e9) == 1
    assert files(harness.folder) == []


@pytest.mark.parametrize("state", ["queued", "sending", "sent", "unconfirmed"])
async def test_the_file_of_a_message_on_its_way_stays_whatever_its_age(harness: Harness, state: str) -> None:
    number = await harness.database.write(lambda c: numbers.add_linked_device(c, harness.account_id))
    row = {"id": 1, "account_id": harness.account_id, "number_id": number.id, "recipient": "628111", "state": state}
    row |= {"kind": "document", "content": "{}", "due_at": 0.0, "expires_at": 0.0, "created_at": 0.0}
    await harness.database.write(lambda c: c.execute(sa.insert(messages).values(row)) and None)
    assert not await harness.store.was_fetched(harness.account_id, 1)
    found = await harness.document("/a.pdf", PDF)
    assert await harness.store.was_fetched(harness.account_id, 1)
    assert not await harness.store.was_fetched(harness.account_id + 1, 1)
    on_its_way = state in {"queued", "sending", "unconfirmed"}
    assert await harness.store.forget(before=2e9) == (0 if on_its_way else 1)
    assert await harness.store.was_fetched(harness.account_id, 1) == on_its_way
    assert isinstance(found, MediaFile)
    assert (files(harness.folder) == [Path(found.path)]) == on_its_way


async def test_old_files_go_also_when_another_gateway_has_removed_their_rows(harness: Harness) -> None:
    old, young = await harness.image("/a.png", picture("PNG")), await harness.document("/b.pdf", PDF)
    kept = await harness.image("/c.png", picture("PNG", size=(41, 30)))
    assert isinstance(old, MediaFile) and isinstance(young, MediaFile) and isinstance(kept, MediaFile)
    gone = sa.delete(media).where(media.c.path.in_([old.path, young.path]))
    await harness.database.write(lambda c: c.execute(gone) and None)
    for path in (old.path, kept.path):
        os.utime(path, (5.0, 5.0))
    await harness.store.forget(before=10.0)
    assert files(harness.folder) == sorted(Path(file.path) for file in (young, kept))


# -- outcomes ----------------------------------------------------------------------------------------------------------


async def test_what_the_server_says_becomes_an_outcome(harness: Harness) -> None:
    missing = await harness.image("/x", b"no", status=404)
    assert in_english(missing) == Refused(
        "media_not_fetched", as_written("image_url: the server answered with status 404")
    )
    assert in_english(await harness.image("/x", b"no", status=503)) == TryLater(
        "media_not_fetched", as_written("image_url: the server answered with status 503")
    )
    large = await harness.image("/x", picture("PNG") + bytes(200_000))
    assert in_english(large) == Refused(
        "media_too_large", as_written("image_url: the file is larger than 200000 bytes")
    )
    inner = await harness.store.prepare(harness.account_id, 99, Document("http://169.254.169.254/latest"))
    assert in_english(inner) == Refused(
        "media_url_refused", as_written("file_url: the URL's host is not on the public internet")
    )
    closed = await harness.store.prepare(harness.account_id, 98, Image("http://127.0.0.1:1/x.png"))
    assert isinstance(closed, Refused)
    assert files(harness.folder) == []


async def test_a_full_disk_is_a_reason_to_wait(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the folder should be")
    assert in_english(await harness.document("/a.pdf", PDF)) == TryLater(
        "media_not_stored", as_written("the file could not be stored (FileExistsError)"), after=5.0, counted=False
    )


async def test_a_closed_database_is_a_reason_to_wait(harness: Harness) -> None:
    await harness.database.close()
    assert isinstance(await harness.document("/a.pdf", PDF), TryLater)


def test_check_before_anything_is_stored(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    store = MediaStore(settings, Database(tmp_path / "kurir.db"), SafeFetch(settings), lambda: 0.0)
    store.check("https://example.com/a.png")
    with pytest.raises(UrlRefused, match="http"):
        store.check("file:///etc/passwd")
    assert files(tmp_path) == []


# -- pictures ----------------------------------------------------------------------------------------------------------


async def test_jpeg_and_png_travel_unchanged(harness: Harness) -> None:
    for kind, mime, name in (("JPEG", "image/jpeg", "p.jpg"), ("PNG", "image/png", "p.png")):
        body = picture(kind)
        found = await harness.image("/p.gif", body)
        assert isinstance(found, MediaFile)
        assert (found.mime, found.name, found.sha256) == (mime, name, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize(
    ("kind", "mode", "mime"),
    [
        ("WEBP", "RGB", "image/jpeg"),
        ("WEBP", "RGBA", "image/png"),
        ("GIF", "L", "image/jpeg"),
        ("BMP", "RGB", "image/jpeg"),
    ],
)
async def test_other_pictures_are_rewritten(harness: Harness, kind: str, mode: str, mime: str) -> None:
    found = await harness.image("/p", picture(kind, mode))
    assert isinstance(found, MediaFile)
    data = stored(found)
    assert (found.mime, found.size, found.sha256) == (mime, len(data), hashlib.sha256(data).hexdigest())
    with Pillow.open(io.BytesIO(data)) as image:
        assert (image.size, image.get_format_mimetype()) == ((40, 30), mime)


async def test_a_see_through_picture_too_large_as_png_becomes_jpeg(harness: Harness) -> None:
    buffer = io.BytesIO()
    noise = Pillow.merge("RGBA", [Pillow.effect_noise((260, 260), 60) for _ in range(4)])
    noise.save(buffer, "WEBP", quality=30)
    assert len(buffer.getvalue()) < 200_000
    found = await harness.image("/p.webp", buffer.getvalue())
    assert isinstance(found, MediaFile)
    assert found.mime == "image/jpeg"
    assert found.size <= 200_000


@pytest.mark.parametrize(
    ("width", "height"), [(50_000, 50_000), (8_000, 6_251), (2_000_000_000, 2_000_000_000), (10_000, 10_000)]
)
async def test_pixel_bombs(harness: Harness, width: int, height: int) -> None:
    found = await harness.image("/bomb.png", png_claiming(width, height))
    assert isinstance(found, Refused)
    assert found.code == "media_too_large"
    assert "pixels" in english(found.reason)


async def test_a_jpeg_of_endless_scans(harness: Harness) -> None:
    found = await harness.image("/bomb.jpg", picture("JPEG")[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 5000)
    assert in_english(found) == Refused(
        "media_damaged", as_written("image_url: the picture is built to take very long to decode")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_cut_pictures_are_reported(tmp_path: Path, kind: str) -> None:
    body = picture(kind, size=(300, 200))
    for end in (len(body) // 4, len(body) // 2, len(body) * 3 // 4, len(body) - 30):
        path = tmp_path / "cut"
        path.write_bytes(body[:end])
        with pytest.raises(NotUsable) as refused:
            inspect_picture(path, "http://a/p", 10**6)
        assert refused.value.code in {"media_damaged", "media_type"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (PAGE, "answers with a web page"),
        (PDF, "a file of type application/pdf"),
        (b"hello", "a file of type text/plain"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "a file of type image/svg+xml"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "a file of type video/mp4"),
        (b"MZ" + bytes(200), "a file of type"),
    ],
)
async def test_what_is_no_picture_whatever_its_name(harness: Harness, body: bytes, reason: str) -> None:
    found = await harness.image("/photo.jpg", body)
    assert isinstance(found, Refused)
    assert found.code == "media_type"
    assert english(found.reason).startswith("image_url: ")
    assert reason in english(found.reason)


@pytest.mark.parametrize(
    "body",
    [
        b"\x89PNG\r\n\x1a\n" + PAGE,
        b"\xff\xd8\xff\xe0" + PAGE,
        b"GIF89a" + b"=1;alert(1)//" * 20,
        b"RIFF\xff\xff\xff\xffWEBPVP8 " + PAGE,
        b"BM" + PAGE,
        picture("PNG")[:40] + archive(),
    ],
    ids=["png+html", "jpeg+html", "gif+js", "webp+html", "bmp+html", "png+zip"],
)
async def test_polyglots_that_only_begin_like_a_picture(harness: Harness, body: bytes) -> None:
    found = await harness.image("/p.png", body)
    assert isinstance(found, Refused)
    assert found.code in {"media_damaged", "media_type"}


def test_damaged_pictures_never_raise_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        body = picture(kind)
        for position in range(0, len(body), max(1, len(body) // 60)):
            damaged = bytearray(body)
            damaged[position] ^= 0xFF
            path.write_bytes(damaged)
            with contextlib.suppress(NotUsable):
                found = inspect_picture(path, "http://a/p", 10**6)
                assert found.mime in {"image/jpeg", "image/png"}


# -- documents ---------------------------------------------------------------------------------------------------------

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("path", "file_name", "body", "mime", "name"),
    [
        ("/invoice.pdf", "", PDF, "application/pdf", "invoice.pdf"),
        ("/invoice.pdf?token=1#x", "", PDF, "application/pdf", "invoice.pdf"),
        ("/d/invoice", "", PDF, "application/pdf", "invoice.pdf"),
        ("/", "", PDF, "application/pdf", "document.pdf"),
        ("/x.bin", "Tagihan Juli.pdf", PDF, "application/pdf", "Tagihan Juli.pdf"),
        ("/a%20b%20%C3%A9.pdf", "", PDF, "application/pdf", "a b é.pdf"),
        ("/data.xlsx", "", sheet(), XLSX, "data.xlsx"),
        ("/download", "", sheet(), XLSX, "download.xlsx"),
        ("/letter.docx", "", archive(), DOCX, "letter.docx"),
        ("/all.zip", "", archive(), "application/zip", "all.zip"),
        ("/notes.txt", "", b"hello there", "text/plain", "notes.txt"),
        ("/list.csv", "", b"name\nbudi\nani\n", "text/csv", "list.csv"),
        ("/report.pdf", "", picture("PNG"), "image/png", "report.pdf"),
        ("/evil.pdf", "", archive(), "application/zip", "evil.pdf"),
        ("/page.html", "", PAGE, "text/html", "page.html"),
        ("/x", "../../etc/passwd", PDF, "application/pdf", "passwd.pdf"),
        ("/x", "C:\\files\\a.pdf", PDF, "application/pdf", "a.pdf"),
        ("/..%2F..%2Fetc%2Fpasswd", "", PDF, "application/pdf", "passwd.pdf"),
        ("/x", "invoice\u202efdp.exe", PDF, "application/pdf", "invoicefdp.exe"),
        ("/x", "a\r\nb\x00.pdf", PDF, "application/pdf", "ab.pdf"),
        ("/x", 'a"b<c>.pdf', PDF, "application/pdf", "a_b_c_.pdf"),
        ("/x", "...", PDF, "application/pdf", "x.pdf"),
        ("/x", "n" * 500 + ".pdf", PDF, "application/pdf", "n" * 196 + ".pdf"),
    ],
)
async def test_documents_by_content_under_a_decent_name(
    harness: Harness, path: str, file_name: str, body: bytes, mime: str, name: str
) -> None:
    harness.stranger.offers(path.partition("#")[0], body)
    found = await harness.document(path, body, file_name)
    assert isinstance(found, MediaFile)
    assert (found.mime, found.name) == (mime, name)
    assert len(found.name) <= inspection.NAME_LENGTH
    assert stored(found) == body


async def test_a_sign_in_page_is_not_the_invoice(harness: Harness) -> None:
    for path, name in (("/invoice.pdf", ""), ("/download", "invoice.pdf"), ("/d", "")):
        found = await harness.document(path, PAGE, name)
        assert in_english(found) == Refused(
            "media_type", as_written("file_url: the address answers with a web page, not with a file")
        )


async def test_a_document_too_large(harness: Harness) -> None:
    found = await harness.document("/a.bin", bytes(300_001))
    assert in_english(found) == Refused("media_too_large", as_written("file_url: the file is larger than 300000 bytes"))


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", bytes(80_000_000))
    path = tmp_path / "bomb"
    path.write_bytes(buffer.getvalue())
    found = inspect_document(path, len(buffer.getvalue()), "00", "http://a/bomb.zip")
    assert found.mime == "application/zip"


# -- a disk that is nearly full ----------------------------------------------------------------------------------------


async def test_a_file_never_touches_the_reserve(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked without room; what is announced is too much; what comes is more than what there is room for."""
    room = 0
    monkeypatch.setattr(DiskReserve, "room", lambda _: room)
    for room, asked in ((0, 0), (len(PDF) - 1, 1)):
        found = await harness.document(f"/{room}.pdf", PDF)
        assert isinstance(found, TryLater)
        assert (found.code, found.counted, found.after) == ("media_not_stored", False, 10.0)
        assert english(found.reason) == "the file could not be stored: the disk is nearly full"
        assert len(harness.stranger.asked) == asked
        assert files(harness.folder) == []
    room = len(PDF)
    assert isinstance(await harness.document("/fits.pdf", PDF), MediaFile)


async def test_a_disk_that_fills_while_a_file_comes_ends_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rooms = iter([len(PDF), len(PDF), 1])  # before, when it is announced, and when it is written
    monkeypatch.setattr(DiskReserve, "room", lambda _: next(rooms))
    assert isinstance(await harness.document("/a.pdf", PDF), TryLater)
    assert next(rooms, None) is None
    assert files(harness.folder) == []

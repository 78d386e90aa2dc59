"""Media by content and not by name: pictures that are sent as they are or rewritten, documents, and what is refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image as Pillow
from tests.harness.media import (
    PAGE,
    PDF,
    MediaHarness,
    archive,
    open_media_harness,
    picture,
    png_claiming,
    sheet,
    stored,
)
from tests.sentences import english, in_english

from kurir.media import inspection
from kurir.messages.channel_reports import Refused
from kurir.messages.content import MediaFile
from kurir.reasons import as_written

pytestmark = pytest.mark.processes


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[MediaHarness]:
    async with open_media_harness(tmp_path) as harness:
        yield harness


async def test_jpeg_and_png_travel_unchanged(harness: MediaHarness) -> None:
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
async def test_other_pictures_are_rewritten(harness: MediaHarness, kind: str, mode: str, mime: str) -> None:
    found = await harness.image("/p", picture(kind, mode))
    assert isinstance(found, MediaFile)
    data = stored(found)
    assert (found.mime, found.size, found.sha256) == (mime, len(data), hashlib.sha256(data).hexdigest())
    with Pillow.open(io.BytesIO(data)) as image:
        assert (image.size, image.get_format_mimetype()) == ((40, 30), mime)


async def test_a_see_through_picture_too_large_as_png_becomes_jpeg(harness: MediaHarness) -> None:
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
async def test_pixel_bombs(harness: MediaHarness, width: int, height: int) -> None:
    found = await harness.image("/bomb.png", png_claiming(width, height))
    assert isinstance(found, Refused)
    assert found.code == "media_too_large"
    assert "pixels" in english(found.reason)


async def test_a_jpeg_of_endless_scans(harness: MediaHarness) -> None:
    found = await harness.image("/bomb.jpg", picture("JPEG")[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 5000)
    assert in_english(found) == Refused(
        "media_damaged", as_written("image_url: the picture is built to take very long to decode")
    )


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
async def test_what_is_no_picture_whatever_its_name(harness: MediaHarness, body: bytes, reason: str) -> None:
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
async def test_polyglots_that_only_begin_like_a_picture(harness: MediaHarness, body: bytes) -> None:
    found = await harness.image("/p.png", body)
    assert isinstance(found, Refused)
    assert found.code in {"media_damaged", "media_type"}


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
    harness: MediaHarness, path: str, file_name: str, body: bytes, mime: str, name: str
) -> None:
    harness.stranger.offers(path.partition("#")[0], body)
    found = await harness.document(path, body, file_name)
    assert isinstance(found, MediaFile)
    assert (found.mime, found.name) == (mime, name)
    assert len(found.name) <= inspection.NAME_LENGTH
    assert stored(found) == body


async def test_a_sign_in_page_is_not_the_invoice(harness: MediaHarness) -> None:
    for path, name in (("/invoice.pdf", ""), ("/download", "invoice.pdf"), ("/d", "")):
        found = await harness.document(path, PAGE, name)
        assert in_english(found) == Refused(
            "media_type", as_written("file_url: the address answers with a web page, not with a file")
        )

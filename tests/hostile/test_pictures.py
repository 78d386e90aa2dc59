"""Pictures that are built to cost: little bytes never take much memory or time, and what is refused says why.

The bound on memory is looked at from outside: the peak of the process that decodes, as the kernel counts it.
"""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import ExifTags, ImageOps
from PIL import Image as Pillow
from tests.harness.media import MediaHarness, open_media_harness
from tests.sentences import english, in_english

from kurir.kit.limited_process import Confined, Limits
from kurir.media import inspection_process, previews
from kurir.media.inspection import NotUsable, inspect_picture
from kurir.media.inspection_process import InspectPicture, Unusable, Usable
from kurir.media.picture_headers import read_header
from kurir.media.store import MediaStore
from kurir.messages.channel_reports import Refused
from kurir.messages.content import Image, MediaFile, Preview
from kurir.reasons import as_written

LIMIT = 5_000_000
PEAK = 420_000_000
"""Bytes that a decoding process may have at its worst moment; the bomb of 46 bytes took 1 GB."""
EXIF = b"Exif\0\0II*\0\x08\0\0\0"
"""The head of EXIF metadata; the first directory follows."""


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[MediaHarness]:
    async with open_media_harness(tmp_path) as opened:
        yield opened


def encoded(picture: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, depth: int = 8, colour: int = 6) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    rows = zlib.compressobj(9)
    row = b"\0" + bytes(width * {0: 1, 6: 4}[colour] * depth // 8)
    body = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def webp_lossless(width: int, height: int) -> bytes:
    """One colour: the size is stated in bits, so that the file has 46 bytes whatever it is."""
    tiny = bytearray(encoded(Pillow.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP", lossless=True, exact=True))
    at = tiny.index(b"VP8L") + 9
    bits = int.from_bytes(tiny[at : at + 4], "little") >> 28
    tiny[at : at + 4] = (width - 1 | (height - 1) << 14 | bits << 28).to_bytes(4, "little")
    return bytes(tiny)


def webp_canvas(width: int, height: int, frames: int) -> bytes:
    """An animation whose frames are tiny and whose canvas is not."""
    shown = [Pillow.new("RGBA", (8, 8), (n, 0, 0, 255)) for n in range(frames)]
    data = bytearray(encoded(shown[0], "WEBP", save_all=True, append_images=shown[1:], lossless=True))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def gif_canvas(width: int, height: int) -> bytes:
    data = bytearray(encoded(Pillow.new("P", (4, 4)), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    """Run-length coded: one byte pair says 255 pixels; the rest of the picture is left out."""
    body = b"\xff\x07" * 40 + b"\0\1"
    size = 14 + 40 + 1024 + len(body)
    head = struct.pack("<2sIHHI", b"BM", size, 0, 0, 14 + 40 + 1024)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return head + info + bytes(1024) + body


def progressive(side: int, more_scans: int = 0) -> bytes:
    data = encoded(Pillow.new("RGB", (side, side), (9, 9, 9)), "JPEG", progressive=True, subsampling=0)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * more_scans + data[-2:]


def scans_apart(side: int) -> bytes:
    """A sequential JPEG of one scan a component: no `progressive` anywhere, yet it is kept whole while it is read."""
    grey = encoded(Pillow.new("L", (side, side), 9), "JPEG")
    frame = grey.index(b"\xff\xc0")
    scan = grey.index(b"\xff\xda")
    parts = [grey[:frame]]
    sizes = grey[frame + 5 : frame + 9]
    table = b"".join(bytes([n, 0x11, 0]) for n in (1, 2, 3))
    parts.append(b"\xff\xc0" + struct.pack(">HB", 17, 8) + sizes + b"\x03" + table)
    parts.append(grey[frame + 13 : scan])
    coded = grey[scan + 10 : -2]
    parts += [b"\xff\xda\x00\x08\x01" + bytes([n, 0, 0, 63, 0]) + coded for n in (1, 2, 3)]
    return b"".join(parts) + b"\xff\xd9"


@asynccontextmanager
async def inspecting() -> AsyncIterator[Confined]:
    work = Confined(inspection_process.PROGRAM, 2, inspection_process.limits(100_000_000))
    try:
        yield work
    finally:
        await work.close()


async def inspected(work: Confined, folder: Path, data: bytes) -> Usable | Unusable:
    path = folder / "picture"
    path.write_bytes(data)
    answer = inspection_process.decode(
        await work.run(1, inspection_process.encode(InspectPicture(str(path), "http://a/p", LIMIT)))
    )
    assert isinstance(answer, Usable | Unusable)
    return answer


def peak(work: Confined) -> int:
    (pid,) = work.pids
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


# -- what costs too much is refused by its header ----------------------------------------------------------------------

TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "webp 7071²": lambda: webp_lossless(7071, 7071),
    "webp of the largest size": lambda: webp_lossless(16_384, 16_384),
    "webp 13 MP": lambda: webp_lossless(3_606, 3_606),
    "webp, high and narrow": lambda: webp_lossless(1_000, 12_400),
    "lossy webp": lambda: encoded(Pillow.new("RGB", (3_606, 3_606)), "WEBP", quality=1, method=0),
    "animated webp on a large canvas": lambda: webp_canvas(16_777_216, 100, 3),
    "gif on a large canvas": lambda: gif_canvas(6_000, 6_000),
    "gif on the largest canvas": lambda: gif_canvas(65_535, 65_535),
    "bmp": lambda: bmp(6_000, 6_000),
    "bmp from top to bottom": lambda: bmp(6_000, -6_000),
    "progressive jpeg": lambda: progressive(6_700),
    "jpeg with a scan a component": lambda: scans_apart(6_700),
    "png": lambda: png(7_100, 7_100, colour=0),
}


@pytest.mark.parametrize("bomb", TOO_LARGE.values(), ids=list(TOO_LARGE))
async def test_what_would_take_too_much_memory_is_not_decoded(tmp_path: Path, bomb: Callable[[], bytes]) -> None:
    data = bomb()
    async with inspecting() as work:
        usable = await inspected(work, tmp_path, encoded(Pillow.new("RGB", (8, 8)), "WEBP"))
        assert isinstance(usable, Usable)
        before = peak(work)
        outcome = await inspected(work, tmp_path, data)
        assert isinstance(outcome, Unusable)
        assert outcome.code == "media_too_large", outcome
        # the file itself, a few times, but no pixels
        assert peak(work) - before < 4_000_000 + 6 * len(data)


async def test_the_bomb_of_46_bytes_costs_nothing(harness: MediaHarness) -> None:
    data = webp_lossless(7071, 7071)
    assert len(data) <= 50
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    for _ in range(20):
        refusal = await harness.image("/p.webp", data)
        assert isinstance(refusal, Refused)
        assert refusal.code == "media_too_large"
        assert "send it as JPEG or PNG" in english(refusal.reason)
    assert time.monotonic() - began < 20  # it took 2.4 to 4 s each
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own < 50_000


# -- what is taken stays within its limits -----------------------------------------------------------------------------

COSTLY: dict[str, Callable[[], bytes]] = {
    "webp 12 MP": lambda: webp_lossless(3_460, 3_460),
    "lossy webp 12 MP": lambda: encoded(Pillow.new("RGB", (3_460, 3_460)), "WEBP", quality=1, method=0),
    "see-through noise": lambda: encoded(
        Pillow.merge("RGBA", [Pillow.effect_noise((1_000, 1_000), 90) for _ in range(4)]), "WEBP", quality=1
    ),
    "animated webp": lambda: webp_canvas(3_400, 3_400, 60),
    "gif 16 MP": lambda: encoded(Pillow.new("P", (4_000, 4_000)), "GIF", transparency=0),
    "bmp 19 MP": lambda: bmp(4_400, 4_400),
    "jpeg 49 MP": lambda: encoded(Pillow.new("RGB", (7_000, 7_000)), "JPEG", quality=5),
    "progressive jpeg": lambda: progressive(5_400),
    "jpeg with a scan a component": lambda: scans_apart(6_000),
    "50 scans": lambda: progressive(2_400, 40),
    "thousands of scans": lambda: progressive(64, 5_000),
    "png 49 MP": lambda: png(7_000, 7_000, colour=0),
    "png 28 MP, see-through": lambda: png(5_300, 5_300),
    "png of 16 bits": lambda: png(3_000, 3_000, depth=16),
    "png with a text that unpacks": lambda: png(9, 9, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
    "png with many such texts": lambda: png(
        9, 9, *([chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))] * 1_000)
    ),
    "png with a profile that unpacks": lambda: png(9, 9, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
    "png with 200,000 chunks": lambda: png(9, 9, *([chunk(b"tEXt", b"k\0v")] * 200_000)),
    "png with more pixels than it says": lambda: png(9, 9, chunk(b"IDAT", zlib.compress(bytes(80_000_000)))),
    "animated png": lambda: encoded(
        Pillow.new("RGB", (900, 900)),
        "PNG",
        save_all=True,
        append_images=[Pillow.new("RGB", (900, 900), (n, 0, 0)) for n in range(30)],
    ),
    "exif that points at itself": lambda: encoded(
        Pillow.new("RGB", (9, 9)),
        "JPEG",
        exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x04\0\xff\xff\xff\xff" * 5000,
    ),
}


@pytest.mark.parametrize("made", COSTLY.values(), ids=list(COSTLY))
async def test_whatever_a_picture_is_built_of_it_stays_within_its_limits(
    tmp_path: Path, made: Callable[[], bytes]
) -> None:
    data = made()
    assert len(data) <= LIMIT
    async with inspecting() as work:
        outcome = await inspected(work, tmp_path, data)  # within its processor time, or this would raise TooCostly
        assert peak(work) < PEAK
        if isinstance(outcome, Unusable):
            assert outcome.code in {"media_damaged", "media_too_large"}
            assert outcome.reason
        else:
            assert outcome.size <= LIMIT
            assert outcome.preview is not None and len(outcome.preview.jpeg) <= 20_000


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "PPM", "TGA", "PCX", "JPEG2000", "ICNS", "DDS", "AVIF", "SGI"])
async def test_other_formats_are_not_decoded_at_all(harness: MediaHarness, kind: str) -> None:
    size = (64, 64) if kind in {"ICO", "ICNS"} else (70, 50)
    refusal = await harness.image("/p.jpg", encoded(Pillow.new("RGB", size), kind))
    assert isinstance(refusal, Refused)
    assert refusal.code == "media_type"


def test_a_phones_photo_is_one_scan_whatever_it_contains_besides() -> None:
    small = encoded(Pillow.new("RGB", (64, 48)), "JPEG", progressive=True)
    photo = encoded(Pillow.effect_noise((300, 200), 90), "JPEG", comment=small, quality=95)
    header = read_header(photo + small)
    assert header is not None
    assert (header.width, header.height, header.scans, header.components) == (300, 200, 1, 1)
    whole = read_header(encoded(Pillow.new("RGB", (64, 48)), "JPEG", progressive=True))
    assert whole is not None
    assert whole.scans > 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_headers_say_what_the_decoder_says_and_cut_ones_nothing_else(kind: str) -> None:
    for size in ((1, 1), (640, 3), (3, 640), (333, 334)):
        for mode in ("L", "RGB"):
            data = encoded(Pillow.new(mode, size), kind)
            header = read_header(data)
            assert header is not None
            assert (header.format, header.width, header.height) == (kind, *size)
            for end in range(min(len(data), 64)):
                read_header(data[:end])  # raises nothing


# -- an inspector that dies --------------------------------------------------------------------------------------------


async def test_a_picture_that_takes_more_than_its_header_says_is_refused_and_the_next_one_is_taken(
    harness: MediaHarness,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # no picture is known that gets past the header and takes too much: here its process gets less than it needs
    monkeypatch.setattr(inspection_process, "limits", lambda file: Limits(60_000_000, cpu=5, seconds=20.0, file=file))
    store = MediaStore(harness.settings, harness.database, harness.fetch, lambda: 0.0)
    try:
        large = Image(harness.stranger.offers("/large.png", png(5_300, 5_300)))
        refusal = await store.prepare(harness.account_id, 1, large)
        assert in_english(refusal) == Refused(
            "media_too_costly", as_written("image_url: the file cannot be opened: that takes too much memory or time")
        )
        small = Image(harness.stranger.offers("/small.webp", webp_lossless(34, 34)))
        assert isinstance(await store.prepare(harness.account_id, 2, small), MediaFile)
    finally:
        await store.close()


# -- how it looks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def corner() -> Pillow.Image:
    """Red at the upper left, blue elsewhere, twice as wide as high."""
    picture = Pillow.new("RGB", (400, 200), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 200, 100))
    return picture


def _preview(folder: Path, data: bytes) -> Preview:
    path = folder / "picture"
    path.write_bytes(data)
    found = inspect_picture(path, "http://a/p", LIMIT).preview
    assert found is not None
    return found


def _corners(picture: Pillow.Image) -> list[str]:
    pixels = picture.convert("RGB")
    w, h = pixels.size
    seen = []
    for at in ((w // 8, h // 8), (w * 7 // 8, h // 8), (w // 8, h * 7 // 8), (w * 7 // 8, h * 7 // 8)):
        red, _, blue = pixels.getpixel(at)  # type: ignore[misc]
        seen.append("red" if red > blue else "blue")
    return seen


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_preview_stands_upright_and_so_do_width_and_height(
    tmp_path: Path, corner: Pillow.Image, kind: str, orientation: int
) -> None:
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(corner, kind, exif=exif)
    with Pillow.open(io.BytesIO(data)) as stored:
        wanted = ImageOps.exif_transpose(stored)
    found = _preview(tmp_path, data)
    assert (found.width, found.height) == wanted.size
    with Pillow.open(io.BytesIO(found.jpeg)) as small:
        assert max(small.size) == 100
        assert (small.width > small.height) == (wanted.width > wanted.height)
        assert _corners(small) == _corners(wanted)


@pytest.mark.filterwarnings("ignore:.*EXIF data")
@pytest.mark.parametrize("orientation", [b"\0", b"\xff" * 9, b"\x09\0"])
def test_nonsense_metadata_turn_nothing(tmp_path: Path, corner: Pillow.Image, orientation: bytes) -> None:
    exif = EXIF + b"\x01\0\x12\x01\x03\0\x01\0\0\0" + orientation
    found = _preview(tmp_path, encoded(corner, "JPEG", exif=exif))
    assert (found.width, found.height) == (400, 200)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [*((mode, kind) for mode in ("RGBA", "P") for kind in ("PNG", "WEBP", "GIF")), ("LA", "PNG"), ("LA", "WEBP")],
)
@pytest.mark.parametrize("side", [40, 900])
def test_what_is_see_through_is_white_in_the_preview(tmp_path: Path, mode: str, kind: str, side: int) -> None:
    clear = Pillow.new("RGBA", (side, side), (0, 0, 0, 0)).convert(mode)
    found = _preview(tmp_path, encoded(clear, kind, **({"transparency": 0} if mode == "P" else {})))
    with Pillow.open(io.BytesIO(found.jpeg)) as small:
        assert min(small.convert("L").getextrema()) > 240


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P", "LA", "RGB", "RGBA", "CMYK"])
def test_every_mode_has_a_preview(tmp_path: Path, mode: str) -> None:
    for side in (30, 700):
        data = encoded(Pillow.new(mode, (side, side)), "JPEG" if mode == "CMYK" else "PNG")
        assert _preview(tmp_path, data).jpeg


async def test_a_preview_is_kept_beside_its_picture_and_goes_with_it(harness: MediaHarness) -> None:
    stored = await harness.image("/p.png", encoded(Pillow.new("RGB", (300, 200)), "PNG"))
    assert isinstance(stored, MediaFile)
    found = previews.load(stored.path)
    assert found is not None
    assert (found.width, found.height) == (300, 200)
    previews.place(stored.path).write_bytes(b"\xc1 no preview")
    assert previews.load(stored.path) is None
    await harness.store.forget(before=2e9)
    assert not previews.place(stored.path).exists()


def test_a_picture_whose_header_lies_is_refused(tmp_path: Path) -> None:
    for data in _liars():
        path = tmp_path / "picture"
        path.write_bytes(data)
        with pytest.raises(NotUsable):
            inspect_picture(path, "http://a/p", LIMIT)


def _liars() -> Iterator[bytes]:
    """A small size where the bounds are checked, a large one where the decoder looks."""
    small, large = (encoded(Pillow.new("RGB", (side, side)), "WEBP") for side in (8, 3_000))
    yield small[:12] + b"VP8X" + struct.pack("<I", 10) + bytes(4) + bytes(6) + large[12:]
    jpeg = encoded(Pillow.new("RGB", (8, 8)), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    other = jpeg[frame : frame + 5] + struct.pack(">HH", 9_000, 9_000) + jpeg[frame + 9 : frame + 19]
    yield jpeg[:frame] + other + jpeg[frame:]

"""Inspects a fetched file: its type by content, whether a phone can show it, and the name it is sent under.

Works on a file in place; a picture of a type that WhatsApp does not show (WebP, GIF, BMP) is rewritten as PNG or JPEG.
The cost of decoding is computed from the header first. Runs in a child process (`inspection_program`): decoders never
see untrusted bytes inside the gateway. Limits: JPEG or PNG pictures (Cloud API, messages/image); documents of any type
(Cloud API, messages/document).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import mimetypes
import struct
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pylibmagic  # noqa: F401  # isort: skip  # brings libmagic where the system has none; must come before magic
import magic
from PIL import ExifTags
from PIL import Image as Pillow

from kurir.media.picture_headers import DECODED_BYTES, Header, read_header
from kurir.messages.content import Preview
from kurir.reasons import Reason, ReasonedError
from kurir.reasons import media as reasons

PIXELS = 50_000_000
"""Maximum pixels of a picture: beyond it, few bytes could unpack to more memory than a phone has."""
_BYTES_PER_PIXEL = {"WEBP": 21, "GIF": 16, "BMP": 13, "PNG": 9}
"""Peak bytes of memory per pixel while decoding, all copies together (measured with Pillow 13)."""
_BYTES_PER_COEFFICIENT = 2
"""Bytes per coefficient of a JPEG in several scans, which is kept whole until the last scan; one in a single scan is
not."""
_SCANS = 50
_SCANNED_PIXELS = 300_000_000
"""Maximum pixels of all scans of a JPEG together: each scan is a pass over the picture."""
PREVIEW_SIDE = 100
"""Pixels of a preview's longer side; it is part of the message, so it is small."""
_PREVIEW_BYTES = 20_000
_SIDEWAYS = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation that turn a picture by a quarter."""
_TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
"""The transformation that makes a picture upright, by EXIF orientation (Exif 2.32, tag 0x0112)."""
_REDUCED = frozenset({"L", "LA", "RGB", "RGBA", "CMYK"})
"""Modes that Pillow can shrink without converting them first."""
NAME_LENGTH = 200
_SNIFF = 1 << 18
_SHOWN = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png"}
_CONVERTED = ("WEBP", "GIF", "BMP")
_WEB_PAGE = frozenset({"text/html", "application/xhtml+xml"})

_OFFICE = "application/vnd.openxmlformats-officedocument."
_TYPES = mimetypes.MimeTypes()
for _mime, _extension in (
    (_OFFICE + "wordprocessingml.document", ".docx"),
    (_OFFICE + "spreadsheetml.sheet", ".xlsx"),
    (_OFFICE + "presentationml.presentation", ".pptx"),
    ("application/vnd.oasis.opendocument.text", ".odt"),
    ("application/vnd.oasis.opendocument.spreadsheet", ".ods"),
    ("application/vnd.android.package-archive", ".apk"),
    ("application/epub+zip", ".epub"),
    ("image/webp", ".webp"),
):
    _TYPES.add_type(_mime, _extension)
_REFINED = {
    "application/zip": (_OFFICE, "application/vnd.oasis.", "application/vnd.android.", "application/epub"),
    "application/cdfv2": ("application/msword", "application/vnd.ms-"),
    "application/x-ole-storage": ("application/msword", "application/vnd.ms-"),
    "text/plain": ("text/", "application/json"),
}
"""Container types that a file's extension may refine, and to which types (prefixes)."""


class NotUsable(ReasonedError):  # noqa: N818 - an outcome, not a mistake
    """The file cannot be sent; `code` is a stable word."""

    def __init__(self, code: str, reason: Reason) -> None:
        super().__init__(reason)
        self.code = code


class Found(NamedTuple):
    """The inspected file: its type by content, the name to show, its size in bytes, SHA-256 in hex, a picture's
    preview."""

    mime: str
    name: str
    size: int
    sha256: str
    preview: Preview | None = None


def inspect_picture(path: Path, url: str, limit: int) -> Found:
    """Checks that the file is a complete picture and converts it to a type that phones show, at most `limit` bytes.

    Raises NotUsable; OSError when the disk fails; MemoryError for a picture that takes more than its header states.
    """
    data = path.read_bytes()
    header = read_header(data)
    if header is not None and header.format == "WEBP":
        check_cost(header)  # its decoder takes memory when it is opened, those of the others when they decode
    try:
        with Pillow.open(io.BytesIO(data), formats=("JPEG", "PNG", *_CONVERTED)) as picture:
            if header is None or (picture.width, picture.height) != (header.width, header.height):
                raise NotUsable("media_damaged", reasons.PICTURE_DAMAGED())
            check_cost(header)
            mime = _SHOWN.get(picture.format or "")
            if mime is None:
                data, mime, preview = _convert(picture, limit)
                path.write_bytes(data)
            elif mime == "image/png":
                preview = _png_preview(picture, data, header)
            else:
                preview = _jpeg_preview(picture)
    except Pillow.UnidentifiedImageError as error:
        kind = _sniff(data[:_SNIFF])
        what = reasons.A_WEB_PAGE() if kind in _WEB_PAGE else reasons.A_FILE_OF_TYPE(kind=kind)
        raise NotUsable("media_type", reasons.PICTURE_EXPECTED(what=what)) from error
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise NotUsable("media_too_large", reasons.PICTURE_PIXELS(most=PIXELS)) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError) as error:
        raise NotUsable("media_damaged", reasons.PICTURE_DAMAGED()) from error
    name = PurePosixPath(_clean(_last_segment(url))).stem or "image"
    name += ".png" if mime == "image/png" else ".jpg"
    return Found(mime, name, len(data), hashlib.sha256(data).hexdigest(), preview)


def check_cost(header: Header) -> None:
    """Refuses, by its header alone, a picture that would take too much memory or time. Raises NotUsable."""
    if header.pixels > PIXELS:
        raise NotUsable("media_too_large", reasons.PICTURE_PIXELS(most=PIXELS))
    if header.format in _CONVERTED and header.pixels > (most := DECODED_BYTES // _BYTES_PER_PIXEL[header.format]):
        raise NotUsable("media_too_large", reasons.PICTURE_CONVERTED(format=header.format, most=most))
    if header.scans > 1 and header.pixels * header.components * _BYTES_PER_COEFFICIENT > DECODED_BYTES:
        raise NotUsable("media_too_large", reasons.PICTURE_PROGRESSIVE())
    if header.scans > _SCANS or header.pixels * header.scans > _SCANNED_PIXELS:
        raise NotUsable("media_damaged", reasons.PICTURE_BOMB())


def inspect_document(path: Path, size: int, sha256: str, url: str, file_name: str = "") -> Found:
    """The document's true type and its name: the caller's, else the URL's last part, with an extension.

    Raises NotUsable for a web page under another type of name: that is a login or error page, not the document.
    """
    with path.open("rb") as file:
        mime = _sniff(file.read(_SNIFF))
    name = _clean(file_name) or _clean(_last_segment(url)) or "document"
    named = _TYPES.guess_type(name, strict=False)[0]
    asked_for = _TYPES.guess_type(_last_segment(url), strict=False)[0] or named
    if mime in _WEB_PAGE and asked_for not in _WEB_PAGE:
        raise NotUsable("media_type", reasons.WEB_PAGE())
    if named is not None and named.startswith(_REFINED.get(mime, ("/",))):
        mime = named
    if not PurePosixPath(name).suffix:
        name += _TYPES.guess_extension(mime) or ""
    return Found(mime, name, size, sha256)


def _sniff(head: bytes) -> str:
    return magic.from_buffer(head, mime=True).lower()


def _convert(picture: Pillow.Image, limit: int) -> tuple[bytes, str, Preview]:
    """The first frame as PNG when it is transparent, else as JPEG; JPEG on white when the PNG exceeds `limit`."""
    picture.load()
    upright = _upright(picture, _orientation(picture))
    if "A" in upright.getbands() or "transparency" in upright.info:
        seen = upright if upright.mode == "RGBA" else upright.convert("RGBA")
        with contextlib.suppress(_Full):
            return _encoded(seen, "PNG", limit), "image/png", _preview(seen, 1, seen.size)
        flat = _on_white(seen)
    else:
        flat = upright if upright.mode == "RGB" else upright.convert("RGB")
    try:
        data = _encoded(flat, "JPEG", limit)
    except _Full as error:
        raise NotUsable("media_too_large", reasons.PICTURE_AS_JPEG(most=limit)) from error
    return data, "image/jpeg", _preview(flat, 1, flat.size)


def _jpeg_preview(picture: Pillow.Image) -> Preview:
    """Decodes a JPEG completely, which shows whether it is whole, but keeps few pixels. Raises what Pillow raises."""
    size, orientation = picture.size, _orientation(picture)
    picture.draft("RGB", (PREVIEW_SIDE, PREVIEW_SIDE))
    picture.load()
    return _preview(picture, orientation, size)


def _png_preview(picture: Pillow.Image, data: bytes, header: Header) -> Preview:
    """Checks a PNG's chunks and decodes it for the preview only when that is cheap. Raises what Pillow raises."""
    picture.verify()  # closes it
    if header.pixels * _BYTES_PER_PIXEL["PNG"] > DECODED_BYTES:
        return Preview(header.width, header.height)
    with Pillow.open(io.BytesIO(data), formats=("PNG",)) as again:
        again.load()
        return _preview(again, _orientation(again), again.size)


def _orientation(picture: Pillow.Image) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error):
        return 1  # unreadable metadata rotate nothing


def _upright(picture: Pillow.Image, orientation: int) -> Pillow.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _preview(picture: Pillow.Image, orientation: int, size: tuple[int, int]) -> Preview:
    """The preview of a decoded picture, upright, transparent parts on white; `size` is that of the picture as
    stored."""
    if orientation in _SIDEWAYS:
        size = size[1], size[0]
    try:
        small = picture
        if small.mode in _REDUCED and (factor := max(small.size) // (2 * PREVIEW_SIDE)) > 1:
            small = small.reduce(factor)
        if "A" in small.getbands() or "transparency" in small.info:
            small = _on_white(small.convert("RGBA"))
        small = _upright(small.convert("RGB"), orientation)
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        return Preview(*size, _encoded(small, "JPEG", _PREVIEW_BYTES, quality=60))
    except (ValueError, _Full):
        return Preview(*size)  # Pillow cannot convert this mode: the picture is sent without a preview


def _on_white(picture: Pillow.Image) -> Pillow.Image:
    white = Pillow.new("RGBA", picture.size, "white")
    return Pillow.alpha_composite(white, picture).convert("RGB")


class _Full(Exception):  # noqa: N818 - an outcome, not a mistake
    """The encoded data exceed their limit."""


class _Bounded(io.BytesIO):
    """A buffer that aborts an encoder once it has written more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > self._limit:
            raise _Full
        return super().write(data)


def _encoded(picture: Pillow.Image, kind: str, limit: int, quality: int = 90) -> bytes:
    buffer = _Bounded(limit)
    picture.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def _last_segment(url: str) -> str:
    return unquote(PurePosixPath(urlsplit(url).path).name, errors="replace")


def _clean(name: str) -> str:
    """A bare file name: no folders, no control or direction characters, no leading dots, at most `NAME_LENGTH` long."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    name = name.translate(str.maketrans('<>:"|?*', "_______")).strip(" .")
    suffix = PurePosixPath(name).suffix[:20]
    return name if len(name) <= NAME_LENGTH else Path(name).stem[: NAME_LENGTH - len(suffix)] + suffix

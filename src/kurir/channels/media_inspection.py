"""What a fetched file really is: its type by content, whether a phone can show it, and the name it travels under.

Works on a file in place; a picture of a kind that WhatsApp does not show (WebP, GIF, BMP) is rewritten as PNG or JPEG.
Limits: JPEG or PNG pictures (Cloud API, messages/image); documents of any type (Cloud API, messages/document).
"""

from __future__ import annotations

import hashlib
import io
import mimetypes
import unicodedata
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pylibmagic  # noqa: F401  # isort: skip  # brings libmagic where the system has none; must come before magic
import magic
from PIL import Image as Pillow
from PIL import ImageOps

from kurir.foundation.safe_fetch import Fetched

PIXELS = 50_000_000
"""Most pixels of a picture: beyond it, few bytes could unpack to more memory than a phone has."""
NAME_LENGTH = 200
_SCANS = 50
"""Most scans of a progressive JPEG; each one costs a pass over all pixels."""
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
"""Container types that a file name may make more precise, and to what (prefixes)."""


class NotUsable(Exception):  # noqa: N818 - a verdict, not a mistake
    """The file cannot be sent; `code` is a stable word, `reason` a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Found(NamedTuple):
    """What a file is: its type by content, the name to show, its size in bytes and SHA-256 in hex."""

    mime: str
    name: str
    size: int
    sha256: str


def inspect_picture(fetched: Fetched, url: str, limit: int) -> Found:
    """Checks that the file is a whole picture and makes it one that phones show, `limit` bytes at most.

    Raises NotUsable; OSError when the disk fails.
    """
    data = fetched.path.read_bytes()
    if data.count(b"\xff\xda") > _SCANS and data[:2] == b"\xff\xd8":
        raise NotUsable("media_damaged", "the picture is built to take very long to decode")
    try:
        with Pillow.open(io.BytesIO(data), formats=("JPEG", "PNG", *_CONVERTED)) as picture:
            if picture.width * picture.height > PIXELS:
                raise NotUsable("media_too_large", f"the picture has more than {PIXELS} pixels")
            mime = _SHOWN.get(picture.format or "")
            if mime is None:
                data, mime = _convert(picture, limit)
                fetched.path.write_bytes(data)
            elif mime == "image/png":
                picture.verify()
            else:
                picture.draft("RGB", _eighth(picture))  # reads every byte, keeps few pixels
                picture.load()
    except Pillow.UnidentifiedImageError as error:
        kind = _sniff(data[:_SNIFF])
        what = "a web page" if kind in _WEB_PAGE else f"a file of type {kind}"
        raise NotUsable("media_type", f"expected a JPEG or PNG picture, the address answers with {what}") from error
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise NotUsable("media_too_large", f"the picture has more than {PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError) as error:
        raise NotUsable("media_damaged", "the picture is damaged or incomplete") from error
    name = PurePosixPath(_clean(_last_segment(url))).stem or "image"
    return Found(mime, name + (".png" if mime == "image/png" else ".jpg"), len(data), hashlib.sha256(data).hexdigest())


def inspect_document(fetched: Fetched, url: str, file_name: str = "") -> Found:
    """The document's true type and its name: the caller's, else the URL's last part, with an extension.

    Raises NotUsable for a web page under another kind of name: that is a login or error page, not the document.
    """
    with fetched.path.open("rb") as file:
        mime = _sniff(file.read(_SNIFF))
    name = _clean(file_name) or _clean(_last_segment(url)) or "document"
    named = _TYPES.guess_type(name, strict=False)[0]
    asked_for = _TYPES.guess_type(_last_segment(url), strict=False)[0] or named
    if mime in _WEB_PAGE and asked_for not in _WEB_PAGE:
        raise NotUsable("media_type", "the address answers with a web page, not with a file")
    if named is not None and named.startswith(_REFINED.get(mime, ("/",))):
        mime = named
    if not PurePosixPath(name).suffix:
        name += _TYPES.guess_extension(mime) or ""
    return Found(mime, name, fetched.size, fetched.sha256)


def _sniff(head: bytes) -> str:
    return magic.from_buffer(head, mime=True).lower()


def _convert(picture: Pillow.Image, limit: int) -> tuple[bytes, str]:
    """The first frame as PNG when it is see-through, else as JPEG; JPEG on white when the PNG grows past `limit`."""
    upright = ImageOps.exif_transpose(picture)
    if "A" in upright.getbands() or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        data = _encoded(upright, "PNG")
        if len(data) <= limit:
            return data, "image/png"
        white = Pillow.new("RGBA", upright.size, "white")
        upright = Pillow.alpha_composite(white, upright)
    data = _encoded(upright.convert("RGB"), "JPEG")
    if len(data) > limit:
        raise NotUsable("media_too_large", f"the picture, as JPEG, is larger than {limit} bytes")
    return data, "image/jpeg"


def _eighth(picture: Pillow.Image) -> tuple[int, int]:
    return max(1, picture.width // 8), max(1, picture.height // 8)


def _encoded(picture: Pillow.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=90)
    return buffer.getvalue()


def _last_segment(url: str) -> str:
    return unquote(PurePosixPath(urlsplit(url).path).name, errors="replace")


def _clean(name: str) -> str:
    """A bare file name: no folders, no control or direction characters, no leading dots, `NAME_LENGTH` at most."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    name = name.translate(str.maketrans('<>:"|?*', "_______")).strip(" .")
    suffix = PurePosixPath(name).suffix[:20]
    return name if len(name) <= NAME_LENGTH else Path(name).stem[: NAME_LENGTH - len(suffix)] + suffix

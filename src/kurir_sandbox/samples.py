"""Sample files for messages: a picture, a document, and what a careless customer links to instead. Pure.

They are made here, the same each time, so that the sandbox needs no files of its own.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from functools import cache

from PIL import Image, ImageDraw

from kurir_sandbox.traffic import Media

_PAGE = """<!doctype html>
<html lang="id"><head><meta charset="utf-8"><title>Toko Kurir</title></head><body><h1>Toko Kurir</h1></body></html>
"""
_NOTES = "Catatan pengiriman\n- Alamat: Jl. Merdeka 17, Bandung\n- Penerima: Siti Rahmawati\n"
_INVOICE = ("Toko Kurir", "Invoice INV-2026-0001", "1 x Kemeja batik   Rp 250.000", "Total   Rp 250.000")


def sample(name: str) -> Media | None:
    """The sample file called `name`, or None. Names: see `NAMES`."""
    maker = _MAKERS.get(name)
    return None if maker is None else Media(maker[0], name, maker[1]())


@cache
def _promo() -> bytes:
    """A 640 x 360 PNG."""
    picture = Image.new("RGB", (640, 360), "#0b6e4f")
    draw = ImageDraw.Draw(picture)
    for step in range(0, 640, 40):
        draw.line([(step, 360), (step + 180, 0)], fill="#0d8a63", width=12)
    draw.rounded_rectangle([60, 90, 580, 270], radius=24, fill="#fff8e7")
    draw.text((110, 120), "PROMO", fill="#c1121f", font_size=64)
    draw.text((110, 200), "Gratis ongkir minggu ini", fill="#333333", font_size=32)
    return _png(picture)


@cache
def _large() -> bytes:
    """A PNG a bit over 5 MB: noise does not compress."""
    noise = random.Random(5).randbytes(1400 * 1300 * 3)  # noqa: S311 - a picture, not a secret
    return _png(Image.frombytes("RGB", (1400, 1300), noise))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@cache
def _invoice() -> bytes:
    """A one-page PDF 1.4 with a valid cross-reference table (ISO 32000-1, 7.5)."""
    lines = "".join(f"({line}) Tj 0 -26 Td\n" for line in _INVOICE)
    drawing = f"BT /F1 16 Tf 72 770 Td\n{lines}ET\n".encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%sendstream" % (len(drawing), drawing),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    pdf = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets: list[int] = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(pdf)
    pdf += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    pdf += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    pdf += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(pdf)


_MAKERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "promo.png": ("image/png", _promo),
    "large.png": ("image/png", _large),
    "invoice.pdf": ("application/pdf", _invoice),
    "notes.txt": ("text/plain", _NOTES.encode),
    "page.html": ("text/html", _PAGE.encode),
}
NAMES = tuple(_MAKERS)

"""Messages that every channel must carry alike. A new kind of message adds its samples here.

`seen` is what the person's phone must then hold (keys of the sandbox's inbox rows); files are the sandbox's samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kurir.messages.content import Content, Document, Image, Location, Text

LONG = ("Pesanan Anda sudah kami terima. " * 130)[:4096]


@dataclass(frozen=True)
class Sample:
    """`content` is made from the address of the sandbox's files; `file` names the one whose bytes must arrive."""

    name: str
    content: Callable[[str], Content]
    seen: dict[str, Any]
    file: str = ""
    media: dict[str, Any] = field(default_factory=dict)


SAMPLES = [
    Sample("text", lambda _: Text("Halo, ini pesan."), {"kind": "text", "text": "Halo, ini pesan."}),
    Sample(
        "text with line breaks, formatting and emoji",
        lambda _: Text("*Tebal*\n_miring_\n\n🎉👩‍👩‍👧 ≥ 100% \u200f عربى"),
        {"kind": "text", "text": "*Tebal*\n_miring_\n\n🎉👩‍👩‍👧 ≥ 100% \u200f عربى"},
    ),
    Sample("the longest text", lambda _: Text(LONG), {"kind": "text", "text": LONG}),
    Sample(
        "text that looks like a link and a mention",
        lambda _: Text("lihat https://example.com @6281234567801 120363000000000001@g.us"),
        {"kind": "text", "text": "lihat https://example.com @6281234567801 120363000000000001@g.us"},
    ),
    Sample("image", lambda files: Image(f"{files}/promo.png"), {"kind": "image", "caption": ""}, "promo.png"),
    Sample(
        "image with caption",
        lambda files: Image(f"{files}/promo.png", "Promo akhir tahun 🎁"),
        {"kind": "image", "caption": "Promo akhir tahun 🎁"},
        "promo.png",
        {"mime": "image/png"},
    ),
    Sample(
        "document",
        lambda files: Document(f"{files}/invoice.pdf"),
        {"kind": "document", "caption": ""},
        "invoice.pdf",
        {"mime": "application/pdf", "name": "invoice.pdf"},
    ),
    Sample(
        "document with a name and a caption",
        lambda files: Document(f"{files}/invoice.pdf", "Faktur No. 12 – Desember.pdf", "Terlampir"),
        {"kind": "document", "caption": "Terlampir"},
        "invoice.pdf",
        {"mime": "application/pdf", "name": "Faktur No. 12 – Desember.pdf"},
    ),
    Sample(
        "location",
        lambda _: Location(-6.2, 106.816666),
        {"kind": "location", "location": {"latitude": -6.2, "longitude": 106.816666, "name": "", "address": ""}},
    ),
    Sample(
        "location with a name and an address",
        lambda _: Location(-6.3555, 101.816, "Toko Pusat", "Jl. Contoh No.1, Jakarta"),
        {
            "kind": "location",
            "location": {
                "latitude": -6.3555,
                "longitude": 101.816,
                "name": "Toko Pusat",
                "address": "Jl. Contoh No.1, Jakarta",
            },
        },
    ),
]

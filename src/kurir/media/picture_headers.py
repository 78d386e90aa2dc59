"""Reads from a picture's header how much work decoding it takes, before any decoder sees the file. Pure.

Formats: JPEG (ITU-T T.81, Annex B: markers and scans), PNG (W3C PNG, `IHDR`), WebP (RFC 9649), GIF89a and Windows BMP.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP"]

DECODED_BYTES = 260_000_000
"""Maximum memory in bytes that decoding one picture may take, as computed from its header."""
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker that is neither a stuffed zero nor a restart marker: the end of a JPEG scan's data."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


class Header(msgspec.Struct, frozen=True):
    """Width and height in pixels as stored; `scans` and `components` are those of a JPEG, else 1."""

    format: Format
    width: int
    height: int
    scans: int = 1
    components: int = 1

    @property
    def pixels(self) -> int:
        """Pixels of the whole picture (of an animation: of its canvas)."""
        return self.width * self.height


def read_header(data: bytes) -> Header | None:
    """The header of a picture file; None when the file is of another format or its header is cut or damaged."""
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        return Header("PNG", int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:6] in {b"GIF87a", b"GIF89a"} and len(data) >= 10:
        return Header("GIF", _little(data, 6, 2), _little(data, 8, 2))
    if data[:2] == b"BM" and len(data) >= 26:
        return _bmp(data)
    return None


def _jpeg(data: bytes) -> Header | None:
    width = height = components = scans = 0
    at = 2
    while marker := _NEXT_MARKER.search(data, at):
        at, kind = marker.end(), data[marker.end() - 1]
        if kind == 0xD9:  # the end of the picture; phones append further ones
            break
        if kind in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2])
        if kind in _FRAMES and at + 8 <= len(data):
            height, width = int.from_bytes(data[at + 3 : at + 5]), int.from_bytes(data[at + 5 : at + 7])
            components = data[at + 7]
        elif kind == 0xDA:
            scans += 1
        at += max(length, 2)
    return Header("JPEG", width, height, scans, components) if components else None


def _webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return Header("WEBP", _little(data, 24, 3) + 1, _little(data, 27, 3) + 1)
    if kind == b"VP8L" and data[20:21] == b"\x2f" and len(data) >= 25:
        bits = _little(data, 21, 4)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        return Header("WEBP", _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF)
    return None


def _bmp(data: bytes) -> Header:
    if _little(data, 14, 4) == 12:
        return Header("BMP", _little(data, 18, 2), _little(data, 20, 2))
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return Header("BMP", abs(width), abs(height))


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")

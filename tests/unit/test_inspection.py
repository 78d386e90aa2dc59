"""The inspection of files by itself: damaged ones and bombs."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import pytest
from tests.harness.media import picture

from kurir.media.inspection import NotUsable, inspect_document, inspect_picture


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_cut_pictures_are_reported(tmp_path: Path, kind: str) -> None:
    body = picture(kind, size=(300, 200))
    for end in (len(body) // 4, len(body) // 2, len(body) * 3 // 4, len(body) - 30):
        path = tmp_path / "cut"
        path.write_bytes(body[:end])
        with pytest.raises(NotUsable) as refused:
            inspect_picture(path, "http://a/p", 10**6)
        assert refused.value.code in {"media_damaged", "media_type"}


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


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", bytes(80_000_000))
    path = tmp_path / "bomb"
    path.write_bytes(buffer.getvalue())
    found = inspect_document(path, len(buffer.getvalue()), "00", "http://a/bomb.zip")
    assert found.mime == "application/zip"

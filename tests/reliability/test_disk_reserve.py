"""Strangers' files leave the database its part of the disk; see `disk_reserve_scene`, played on a small disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.reliability.small_disk import in_small_disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SCENE = Path(__file__).with_name("disk_reserve_scene.py")


def test_a_stranger_cannot_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KURIR_STORM_DISK", "tmpfs")  # a limit on the size of files has no free space to look at
    played = in_small_disk(
        tmp_path / "disk", [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(SCENE)]
    )
    sys.stderr.write(played.stderr)
    assert played.returncode == 0, f"{played.stdout}\n{played.stderr}"
    assert "1 passed" in played.stdout

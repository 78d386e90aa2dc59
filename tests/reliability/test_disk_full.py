"""F10: the gateway's disk is full; see `disk_full_scene`, which is played on a small disk of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.reliability.small_disk import in_small_disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
SCENE = Path(__file__).with_name("disk_full_scene.py")


def test_a_full_disk_is_survived(tmp_path: Path):
    played = in_small_disk(
        tmp_path / "disk", [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(SCENE)]
    )
    sys.stderr.write(played.stderr)
    assert played.returncode == 0, f"{played.stdout}\n{played.stderr}"
    assert "1 passed" in played.stdout

"""Crash points: nothing happens unless armed, arming needs a sandbox, and an armed process dies at its n-th pass."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from kurir.kit import crash_points
from kurir.settings import Settings, SettingsError

PROGRAM = """
import sys
from kurir.kit import crash_points
crash_points.arm(sys.argv[1])
for name in sys.argv[2:]:
    crash_points.reach(name)
"""


def run(setting: str, *points: str) -> int:
    return subprocess.run([sys.executable, "-c", PROGRAM, setting, *points], timeout=30, check=False).returncode


def test_an_armed_process_dies_at_its_point_and_only_there():
    assert run("", *crash_points.POINTS) == 0
    assert run("send.begun", "send.answered", "claim.committed") == 0
    assert run("send.begun", "claim.committed", "send.begun") == -signal.SIGKILL
    assert run("send.begun:3", "send.begun", "send.begun") == 0
    assert run("send.begun:3", "send.begun", "send.begun", "send.begun") == -signal.SIGKILL


@pytest.mark.parametrize("setting", ["somewhere", "send.begun:0", "send.begun:x", "send.begun:-1", ":1"])
def test_a_setting_that_means_no_point_is_refused(setting: str):
    with pytest.raises(SettingsError, match="KURIR_CRASH_AT"):
        crash_points.arm(setting)
    crash_points.arm("")


def test_production_refuses_it():
    with pytest.raises(SettingsError, match="only with KURIR_SANDBOX"):
        Settings.load({"KURIR_CRASH_AT": "send.begun"})
    assert Settings.load({}).crash_at == ""

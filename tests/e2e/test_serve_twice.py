"""F16: a second gateway on one data folder refuses to start, and the first goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.demo_process import wait_until

from kurir.data_folder import read_ready_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def serve(folder: Path, log: Path, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
    """`kurir serve` on a free port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KURIR_")}
    environment |= {"KURIR_DATA_DIR": str(folder), "KURIR_PORT": "0", **settings}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "kurir", "serve", *arguments]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def test_a_second_gateway_on_one_folder_refuses_to_start(tmp_path: Path):
    folder, log = tmp_path / "data", tmp_path / "second.log"
    first = serve(folder, tmp_path / "first.log")
    try:
        wait_until(lambda: read_ready_file(folder) is not None, 60, (tmp_path / "first.log").read_text)
        ready = read_ready_file(folder)
        assert ready is not None
        began = time.monotonic()
        second = serve(folder, log)
        assert second.wait(60) == 1
        assert time.monotonic() - began < 30
        log_text = log.read_text()
        assert f"another gateway serves {folder}: stop it, or set KURIR_DATA_DIR to another folder" in " ".join(
            log_text.split()
        )
        assert "Traceback" not in log_text
        assert read_ready_file(folder) == ready
        with urllib.request.urlopen(f"{ready.url}/readyz") as answer:
            assert answer.status == 200
    finally:
        first.terminate()
        assert first.wait(40) == 0


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        ("api", "KURIR_ROLES: with SQLite one process does everything"),
        ("api,cook", "KURIR_ROLES: expected some of api, dispatch, webhooks, got cook"),
    ],
)
def test_roles_that_cannot_be_are_refused(tmp_path: Path, roles: str, sentence: str):
    log = tmp_path / "log"
    gateway = serve(tmp_path / "data", log, "--roles", roles)
    assert gateway.wait(60) == 1
    assert sentence in " ".join(log.read_text().split())
    assert "Traceback" not in log.read_text()

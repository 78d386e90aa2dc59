"""Starts on files and settings that are odd: one sentence that says what to do, exit code 1, no door open."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.demo_process import wait_until
from tests.e2e.test_serve_twice import serve

from kurir.data_folder import read_ready_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def ask(url: str, authorization: str) -> int:
    """The status of an answer of the operator API."""
    request = urllib.request.Request(f"{url}/api/v1/numbers", headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_an_empty_operator_token_opens_nothing(tmp_path: Path):
    folder, log = tmp_path / "data", tmp_path / "log"
    folder.mkdir(mode=0o700)
    (folder / "operator.token").touch(mode=0o600)
    gateway = serve(folder, log)
    try:
        wait_until(lambda: read_ready_file(folder) is not None, 60, log.read_text)
        ready = read_ready_file(folder)
        assert ready is not None
        for header in ("Bearer", "Bearer ", "Bearer  ", "Bearer \t", "Bearer x"):
            assert ask(ready.url, header) == 401, header
        assert ask(ready.url, "Bearer " + (folder / "operator.token").read_text().strip()) == 200
    finally:
        gateway.terminate()
        assert gateway.wait(40) == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"KURIR_HOST": "no-such-host.invalid"}, "KURIR_HOST: expected an address of this machine or its name"),
        ({"KURIR_HOST": "192.0.2.1"}, "KURIR_HOST: 192.0.2.1 is no address of this machine"),
        ({"KURIR_HOST": "." * 100}, "KURIR_HOST: "),
        ({"KURIR_DEVICE_GAP": "nan"}, "KURIR_DEVICE_GAP: expected 0 to 86400"),
        ({"KURIR_GRAPH_URL": "foo"}, "KURIR_GRAPH_URL: expected an address such as"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, settings: dict[str, str], sentence: str):
    refused(tmp_path, serve(tmp_path / "data", tmp_path / "log", **settings), sentence)


def test_an_operator_token_that_is_none_is_reported(tmp_path: Path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "operator.token").write_bytes("kunci-rahasia-é-lama".encode())
    refused(tmp_path, serve(tmp_path / "data", tmp_path / "log"), "operator.token holds no token")


@pytest.mark.parametrize("command", ["serve", "doctor", "demo", "migrate"])
def test_a_data_folder_that_is_a_file_is_reported_by_every_command(tmp_path: Path, command: str):
    file = tmp_path / "README.md"
    file.touch(mode=0o644)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KURIR_")}
    done = subprocess.run(
        [sys.executable, "-m", "kurir", command],
        env=environment | {"KURIR_DATA_DIR": str(file), "KURIR_PORT": "0", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = (done.stdout + done.stderr).strip()
    assert done.returncode == 1
    assert len(output.splitlines()) == 1
    assert f"KURIR_DATA_DIR: expected a folder, but {file} is a file" in output
    assert "chmod" not in output


def refused(tmp_path: Path, gateway: subprocess.Popen[bytes], sentence: str) -> None:
    """The start ends at once, and says why."""
    status = gateway.wait(60)
    output = " ".join((tmp_path / "log").read_text().split())
    assert status == 1, output
    assert sentence in output
    assert "Traceback" not in output
    assert "KURIR_PORT" not in output

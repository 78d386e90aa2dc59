"""A damaged database file: every command says in one sentence which file it is and what to do; a gateway goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.test_serve_twice import serve
from tests.harness.gateway import open_harness, tenant

from kurir.accounts import accounts
from kurir.cli import main
from kurir.data_folder import open_data_folder
from kurir.settings import Settings

EMAIL = "a@example.com"
COMMANDS = [
    ("account", "list"),
    ("account", "keys", EMAIL),
    ("number", "list"),
    ("number", "add", EMAIL),
    ("message", "list", EMAIL),
    ("message", "show", "msg_0000000000001"),
    ("quarantine", "list"),
    ("webhook", "list", EMAIL),
    ("webhook", "log", EMAIL),
    ("migrate",),
    ("backup", "{copy}"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with something in most tables that commands read."""
    folder = tmp_path_factory.mktemp("sound")
    database, sealing = open_data_folder(Settings(data_dir=folder))
    with database.transaction() as connection:
        tenant(connection, sealing, EMAIL)
        for index in range(200):
            accounts.create(connection, name=f"shop {index} " + "x" * 100, email=f"shop{index}@example.com")
    database.engine.dispose()
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process on a data folder: exit code, output, complaints."""

    def ran(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("KURIR_DATA_DIR", str(folder))
        monkeypatch.setenv("KURIR_PORT", "0")
        monkeypatch.setattr(
            sys, "argv", ["kurir", *(part.replace("{copy}", str(folder / "copy")) for part in arguments)]
        )
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return (code, *capfd.readouterr())

    return ran


def copied(sound: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(sound, to)
    return to / "kurir.db"


def overwrite(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as target:
        target.seek(offset)
        target.write(data)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def no_utf8(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE accounts SET name = CAST(x'ff41fe' AS TEXT)")
        connection.execute("UPDATE numbers SET name = CAST(x'ff41fe' AS TEXT)")


WHOLE = {
    "no database": lambda file: file.write_bytes(b"I am no database at all. " * 1_000),
    "a short text": lambda file: file.write_bytes(b"hello"),
    "header overwritten": lambda file: overwrite(file, 0, b"\xff" * 100),
    "truncated to a page": lambda file: os.truncate(file, 4096),
    "truncated to half": lambda file: os.truncate(file, file.stat().st_size // 2),
    "schema overwritten": lambda file: overwrite(file, 100, b"\xff" * 3_900),
    "empty": lambda file: os.truncate(file, 0),
    "a folder": a_folder,
}


@pytest.mark.parametrize("how", WHOLE, ids=str)
def test_every_command_says_which_file_and_what_to_do(run: Run, sound: Path, tmp_path: Path, how: str) -> None:
    for command in COMMANDS:
        file = copied(sound, tmp_path / "data")
        WHOLE[how](file)
        code, _, output = run(file.parent, *command)
        error_text = output.strip().splitlines()[-1]
        assert (code, "Traceback" in output) == (1, False), (command, output)
        assert error_text.startswith("kurir: "), (command, output)
        assert str(file) in error_text, (command, output)
        if command[0] != "backup":
            assert "put a backup back with `kurir restore <backup folder>`" in error_text, (command, output)


@pytest.mark.parametrize("how", WHOLE, ids=str)
def test_a_gateway_does_not_start_on_it(sound: Path, tmp_path: Path, how: str) -> None:
    file = copied(sound, tmp_path / "data")
    WHOLE[how](file)
    gateway = serve(file.parent, tmp_path / "log")
    try:
        assert gateway.wait(60) == 1
    finally:
        gateway.kill()
        gateway.wait()
    output = (tmp_path / "log").read_text()
    assert "Traceback" not in output
    assert f"kurir: {file} is damaged (" in output
    assert "put a backup back with `kurir restore <backup folder>`" in output


def test_a_text_that_is_none_is_not_shown(run: Run, sound: Path, tmp_path: Path) -> None:
    for command in (
        ("account", "list"),
        ("number", "list"),
        ("quarantine", "list"),
        ("number", "add", "shop3@example.com"),
    ):
        file = copied(sound, tmp_path / "data")
        no_utf8(file)
        code, _, output = run(file.parent, *command)
        assert code == 1, (command, output)
        assert f"{file} is damaged (a text in it is no UTF-8): stop the gateway" in output, (command, output)
        assert output.count("\n") == 1


def test_damage_anywhere_is_never_more_than_a_sentence(run: Run, sound: Path, tmp_path: Path) -> None:
    """A command may be well all the same: it looks at a part only, and not every byte is in use."""
    rng = random.Random(7)
    met = 0
    for _ in range(60):
        file = copied(sound, tmp_path / "data")
        size = file.stat().st_size
        for _ in range(rng.choice([1, 5, 50])):
            overwrite(file, rng.randrange(size), rng.randbytes(rng.choice([1, 16, 512, 4096])))
        for command in COMMANDS:
            code, _, output = run(file.parent, *command)
            assert "Traceback" not in output, (command, output)
            assert code in {0, 1}, (command, code, output)
            assert output.count("\n") <= 1, (command, output)
            met += "is damaged" in output
    assert met > 100


async def test_a_gateway_whose_file_is_damaged_meanwhile_answers_503(tmp_path: Path) -> None:
    rng = random.Random(8)
    async with open_harness(tmp_path) as harness:
        await harness.furnish()
        harness.devices.connected = False
        file = harness.gateway.settings.sqlite_path
        statuses: set[int] = set()
        for round in range(12):
            with contextlib.suppress(sqlite3.Error), sqlite3.connect(file, timeout=5) as beside:
                beside.execute("PRAGMA wal_checkpoint(PASSIVE)")
            for _ in range(1 + round * 4):
                overwrite(file, rng.randrange(4096, file.stat().st_size), rng.randbytes(512))
            if round == 11:
                overwrite(file, 100, b"\xff" * (file.stat().st_size - 100))
            harness.gateway.database.engine.dispose()  # what a connection has read it need not read again
            for path, fields in {
                "send_personal_message": {"phone_no": "6281234567890", "message": "x"},
                "get-list-contacts": {},
                "get-list-devices": {},
                "send_meta_personal_message": {"reciptient": "6281234567890", "message": "x"},
            }.items():
                answer = await harness.send(path, **fields)
                statuses.add(answer.status_code)
                assert answer.status_code < 500 or answer.status_code == 503, answer.text
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await harness.client.get(path)).status_code in {200, 503}
        assert 503 in statuses

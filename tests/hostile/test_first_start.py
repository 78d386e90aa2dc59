"""A first start that is killed, wherever, leaves a data folder that the next one goes on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kurir.data_folder import open_data_folder
from kurir.kit.sealing import SealError, find_master_key
from kurir.settings import Settings
from kurir.store.tables import installation

_FIRST_START = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from kurir import data_folder
from kurir.store import migrations
from kurir.settings import Settings

folder, last = sys.argv[1], int(sys.argv[2])
steps = 0

def step():
    global steps
    steps += 1
    if steps == last:
        os.kill(os.getpid(), signal.SIGKILL)

def audited(event, arguments):
    made = event in ("open", "os.mkdir", "os.link", "os.remove", "sqlite3.connect") and folder in str(arguments[0])
    if made or event == "sqlite3.connect/handle":  # the file is there now, with nothing in it
        step()

sys.addaudithook(audited)
sa.event.listen(sa.pool.Pool, "connect", lambda connection, _: connection.set_trace_callback(lambda _: step()))
with data_folder.sole_gateway(Path(folder)):
    data_folder.open_data_folder(Settings(data_dir=Path(folder)), serving=True)
print(steps)
"""


def first_start(folder: Path, killed_at: int = 0) -> subprocess.CompletedProcess[str]:
    """A gateway's first start in a process of its own, killed before its so-manieth step: a file made, a statement."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KURIR_")}
    command = [sys.executable, "-c", _FIRST_START, str(folder), str(killed_at)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def works(folder: Path) -> None:
    database, sealing = open_data_folder(Settings(data_dir=folder))
    with database.snapshot() as connection:
        noted = connection.execute(installation.select()).one().key_check
    database.engine.dispose()
    assert noted == sealing.hash("master key", "installation")


@pytest.mark.timeout(300)
def test_a_first_start_killed_at_any_step_is_no_loss(tmp_path: Path) -> None:
    steps = int(first_start(tmp_path / "whole").stdout)
    # the statements of the migrations are one transaction: of them every sixtieth
    around = {*range(1, 13), *range(steps - 13, steps + 1), *range(13, steps - 13, 60)}
    for step in sorted(around):
        folder = tmp_path / f"killed-{step}"
        died = first_start(folder, step)
        assert died.returncode == -signal.SIGKILL, (step, died.stderr)
        works(folder)


def test_an_empty_database_without_a_key_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "kurir.db").touch()
    works(tmp_path)


@pytest.mark.parametrize("text", ["", "00" * 31, "zz" * 32, "00" * 33])
def test_a_key_that_is_none_is_reported_before_anything_is_made(tmp_path: Path, text: str) -> None:
    (tmp_path / "master.key").write_text(text)
    with pytest.raises(SealError, match=r"master\.key: expected 64 hex digits"):
        open_data_folder(Settings(data_dir=tmp_path))
    assert not (tmp_path / "kurir.db").exists()


def test_a_key_that_somebody_else_made_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def slower(source: str, to: Path) -> None:
        to.write_text("ab" * 32)
        link(source, to)

    monkeypatch.setattr(os, "link", slower)
    works(tmp_path)
    assert find_master_key(tmp_path) == bytes.fromhex("ab" * 32)
    assert {path.name for path in tmp_path.glob("master.key*")} == {"master.key"}

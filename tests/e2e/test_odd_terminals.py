"""Commands on terminals of any size, in pipes, with any id, and where there is no data: never more than a sentence."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kurir.cli import main
from kurir.data_folder import NoData, open_data_folder, require_data
from kurir.settings import Settings, unknown_settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
EMAIL = "somebody.with.a.long.name@a-very-long-name-of-a-shop.example.com"


def environment(folder: Path, **more: str) -> dict[str, str]:
    left = {name: value for name, value in os.environ.items() if not name.startswith(("KURIR_", "COLUMNS", "LINES"))}
    return left | {"KURIR_DATA_DIR": str(folder)} | more


def kurir(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kurir", *arguments]
    return subprocess.run(  # noqa: PLW1510 - the test looks at the code
        command, env=environment(folder, **more), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


class Output(NamedTuple):
    """What a command in this process said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Output]:
    """Runs a command in this process, which is fifty times as fast."""

    def run(folder: Path, *arguments: str, **more: str) -> Output:
        for name, value in (more | {"KURIR_DATA_DIR": str(folder)}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["kurir", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Output(code, *capsys.readouterr())

    return run


def on_a_terminal(folder: Path, columns: int, *arguments: str, **more: str) -> tuple[int, str]:
    """Runs the command on a terminal of so many columns; its exit code and what it drew."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "kurir", *arguments],
        env=environment(folder, TERM="xterm", **more),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    try:
        while more_of_it := os.read(ours, 65_536):
            drawn += more_of_it
    except OSError:
        pass  # Linux says so when the other side has gone
    finally:
        os.close(ours)
    return process.wait(60), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())


def cells(drawn: str) -> str:
    """All cells of a table with one data row put together: what was folded is whole again."""
    rows = [line.strip().strip("│") for line in drawn.splitlines() if line.strip().startswith("│")]
    columns = zip(*(row.split("│") for row in rows), strict=True)
    return " ".join("".join(part.strip() for part in column) for column in columns)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A data folder with one account and one number; the number's id."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    assert kurir(folder, "account", "create", "--email", EMAIL).returncode == 0
    added = kurir(
        folder, "number", "add", EMAIL, "--name", "a name that makes the line of this number very long indeed"
    )
    found = re.search(r"number_id\s+(\S+)", added.stdout)
    assert found, added
    return folder, found[1]


SIZES = ["0", "1", "²", "", "99999999999"]


@pytest.mark.parametrize("columns", SIZES)
def test_a_pipe_gets_whole_lines_whatever_width_is_claimed(shop: tuple[Path, str], columns: str) -> None:
    folder, number = shop
    for arguments, whole in [
        (("number", "list"), number),
        (("--help",), "quarantine"),
    ]:
        done = kurir(folder, *arguments, COLUMNS=columns, LINES=columns)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
        assert any(whole in line for line in done.stdout.splitlines()), done.stdout


@pytest.mark.parametrize("columns", [0, 1, 20, 79])
def test_a_narrow_terminal_folds_ids_and_cuts_none(shop: tuple[Path, str], columns: int) -> None:
    folder, number = shop
    code, drawn = on_a_terminal(folder, columns, "number", "list")
    assert code == 0, drawn
    assert "Traceback" not in drawn
    assert "…" not in drawn
    assert number in cells(drawn), drawn


def test_a_terminal_that_claims_nothing_is_no_trouble(shop: tuple[Path, str]) -> None:
    for claimed in SIZES:
        code, drawn = on_a_terminal(shop[0], 1, "number", "list", COLUMNS=claimed)
        assert (code, "Traceback" in drawn) == (0, False), drawn


ODD = [
    "[/red]",
    "[red]",
    "[1",
    "99999999999999999999999999999",
    "-1",
    "0",
    "١٢",
    "",
    " ",
    "../x",
    "a/b?c#d",
    "%2e",
    "\n",
    "{}",
]
ODD_IDS = [
    ("quarantine", "replay", "{}"),
    ("quarantine", "discard", "1", "{}"),
    ("quarantine", "export", "{}", "/nonexistent/file"),
    ("message", "show", "{}"),
    ("message", "replay", "{}"),
    ("message", "cancel", "{}"),
    ("number", "pair", "{}"),
    ("number", "logout", "{}"),
    ("number", "resume", "{}"),
    ("contacts", "sync", "{}"),
    ("contacts", "check", "{}", "x"),
    ("webhook", "test", EMAIL, "{}"),
    ("webhook", "remove", EMAIL, "{}"),
    ("webhook", "replay", EMAIL, "--event", "{}"),
    ("webhook", "log", EMAIL, "--last", "{}"),
    ("account", "revoke", EMAIL, "{}"),
    ("quarantine", "list", "--limit", "{}"),
    ("message", "list", EMAIL, "--limit", "{}"),
]


@pytest.mark.parametrize("command", ODD_IDS, ids=lambda command: " ".join(command[:2]))
def test_odd_ids_are_one_sentence(
    here: Callable[..., Output], shop: tuple[Path, str], command: tuple[str, ...]
) -> None:
    for odd in ODD:
        done = here(shop[0], *(odd if part == "{}" else part for part in command))
        message = done.stderr.strip()
        if command[-2] in {"--limit", "--last"} and done.returncode == 0:
            continue  # it was a number after all
        assert (done.returncode, message.count("\n")) == (1, 0), (odd, done)
        assert message.startswith("kurir: "), (odd, message)
        assert "mistake of Kurir" not in message, (odd, message)
        assert "Error" not in message, (odd, message)
        if command[1] in {"pair", "logout", "sync", "check"} and not re.fullmatch("[0-9-]+", odd, re.ASCII):
            assert "number_id: " in message, (odd, message)  # it never becomes part of an address


READING = [
    ("account", "list"),
    ("account", "key", EMAIL),
    ("number", "list"),
    ("number", "add", EMAIL),
    ("message", "list", EMAIL),
    ("message", "show", "msg_0123456789abc"),
    ("quarantine", "list"),
    ("quarantine", "export", "1", "x"),
    ("webhook", "list", EMAIL),
    ("contacts", "import", EMAIL, "x.csv"),
    ("migrate",),
    ("restore",),
    ("backup", "elsewhere"),
    ("number", "logout", "BO-1"),
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_nothing_is_made_where_there_is_no_data(
    here: Callable[..., Output], tmp_path: Path, command: tuple[str, ...]
) -> None:
    folder = tmp_path / "mistyped"
    done = here(folder, *command)
    assert (done.returncode, done.stderr.strip().count("\n")) == (1, 0), done
    assert str(folder) in done.stderr
    assert not folder.exists()


def test_the_doctor_makes_nothing_and_says_what_is_not_there(tmp_path: Path) -> None:
    done = kurir(tmp_path / "mistyped", "doctor", KURIR_DATA_DRI="x")
    assert "mistyped does not exist yet: set KURIR_DATA_DIR" in done.stdout
    assert (
        "KURIR_DATA_DRI in the environment is no setting of Kurir and changes nothing; did you mean KURIR_DATA_DIR?"
        in (done.stdout)
    )
    assert not (tmp_path / "mistyped").exists()


def test_a_postgres_gateway_has_its_key_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or in the environment; without either a command would make a new key, which fits no database."""
    settings = Settings(data_dir=tmp_path / "mistyped", database_url="postgresql://nobody@127.0.0.1:1/x")
    monkeypatch.delenv("KURIR_MASTER_KEY", raising=False)
    with pytest.raises(NoData, match="there is no Kurir data in"):
        open_data_folder(settings, create=False)
    assert not settings.data_dir.exists()
    monkeypatch.setenv("KURIR_MASTER_KEY", "00" * 32)
    require_data(settings)


def test_unknown_settings_are_named_with_the_closest_one(tmp_path: Path) -> None:
    file = tmp_path / "kurir.env"
    file.write_text("KURIR_HOTS=127.0.0.1\nPORT=1\nKURIR_PORT=0\n")
    known = {"KURIR_CONFIG": str(file), "KURIR_MASTER_KEY": "x", "KURIR_DATA_DIR": "x", "HOME": "x"}
    message = unknown_settings(known | {"KURIR_MASTER_KYE": "secret", "kurir_port": "1", "KURIR_ZZZZZZZZZ": "1"})
    assert [line.split()[0] for line in message] == [
        "KURIR_HOTS",
        "KURIR_MASTER_KYE",
        "KURIR_ZZZZZZZZZ",
        "PORT",
        "kurir_port",
    ]
    assert message[0].endswith(f"in {file} is no setting of Kurir and changes nothing; did you mean KURIR_HOST?")
    assert message[1].endswith("did you mean KURIR_MASTER_KEY?")
    assert message[2].endswith("changes nothing")
    assert message[4].endswith("did you mean KURIR_PORT?")
    assert "secret" not in "".join(message)

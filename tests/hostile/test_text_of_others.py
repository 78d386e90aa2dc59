"""Names, cells, reasons and answers of others are data: neither a terminal nor a log line obeys them."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

import kurir
from kurir import cli
from kurir.accounts import accounts, api_keys
from kurir.cli import account, message, number, terminal, webhook
from kurir.cli import quarantine as quarantine_commands
from kurir.data_folder import open_data_folder
from kurir.events.tables import events
from kurir.kit.ids import MessageIds, public_message_id
from kurir.kit.logs import configure_logging, redact_text
from kurir.kit.plain_text import visible
from kurir.kit.url_rules import Allowed
from kurir.messages.channel_reports import Quarantined
from kurir.numbers import numbers
from kurir.outbox.tables import attempts, messages
from kurir.quarantine import quarantine
from kurir.reasons import as_written
from kurir.settings import Settings
from kurir.webhooks import endpoints
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries

EVIL = [
    "[/red]",
    "[bold]x[/bold][link=http://evil.example]",
    "Toko [/x]",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "a\nkurir: everything is fine",
    "a\rb\x08c",
    "\u202egnp.exe\u202c",
    "\u2066x\u2069\u200f",
    "\u2028\ufeff\u00ad\U000e0041",
    ":smile: [@click=f()]y[/]",
    "\\[/red]",
]
EMAIL = "owner@example.com"


def acting(text: str) -> set[str]:
    """Characters in it that a terminal may obey; ends of lines are ours."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {one for one in text if unicodedata.category(one) in kinds and one not in "\n\u200c\u200d"}


@given(st.text())
@example("".join(EVIL))
@example("\ud800")
def test_nothing_in_a_visible_text_acts(text: str) -> None:
    shown = visible(text)
    assert not acting(shown) and "\n" not in shown
    if not acting(text) and "\n" not in text:
        assert shown == text


def test_no_command_hands_a_text_to_rich() -> None:
    """Rich reads markup in plain strings: only `terminal` may touch it, and it hands over Text."""
    folder = Path(kurir.__file__).parent / "cli"
    found = []
    for file in sorted(folder.glob("*.py")):
        if file.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if any(name.split(".")[0] == "rich" for name in [module, *names]) or (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            ):
                found.append(f"{file.name}:{getattr(node, 'lineno', 0)}")
    assert not found


# -- every list, on a real database ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KURIR_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def fill(folder: Path, texts: list[str]) -> list[str]:
    """Puts each text wherever somebody else's words can stand; returns the messages' ids."""
    database, sealing = open_data_folder(Settings(data_dir=folder))
    ids = []
    with database.transaction() as connection:
        owner = accounts.by_email(connection, EMAIL) or accounts.create(connection, name="Toko", email=EMAIL)
        endpoint, _ = endpoints.add(
            connection, sealing, owner.id, "https://93.184.216.34/hook", allowed=Allowed.parse(()), now=1.0
        )
        for text in texts:
            api_keys.create(connection, sealing, owner.id, text)
            device = numbers.add_linked_device(connection, owner.id, text)
            numbers.set_state(connection, owner.id, device.id, "logged_out", reason=as_written(text), at=1.0)
            message_id = MessageIds().next()
            row = {"id": message_id, "account_id": owner.id, "number_id": device.id, "recipient": text, "kind": "text"}
            row |= {"content": "{}", "state": "failed", "error_reason": text, "remote_id": text}
            row |= {"created_at": 1.0, "due_at": 1.0, "expires_at": 1.0}
            connection.execute(sa.insert(messages).values(row))
            tried = {"account_id": owner.id, "message_id": message_id, "number": 1, "ended_at": 1.0}
            connection.execute(sa.insert(attempts).values(**tried, outcome=text, code=text, reason=text))
            quarantine.add(connection, Quarantined(owner.id, device.id, "inbox", text, text, b""), 1.0)
            event = {"account_id": owner.id, "number_id": device.id, "key": f"evt_{message_id}", "created_at": 1.0}
            event_id = connection.execute(sa.insert(events).values(**event, type=text, body="{}"))
            reported = {
                "account_id": owner.id,
                "endpoint_id": endpoint.id,
                "event_id": event_id.inserted_primary_key[0],
            }
            reported |= {"number_id": device.id, "chat": text, "state": "failed", "due_at": 1.0, "created_at": 1.0}
            delivery = connection.execute(sa.insert(webhook_deliveries).values(**reported))
            answer = {"account_id": owner.id, "endpoint_id": endpoint.id, "number": 1, "at": 1.0, "seconds": 0.1}
            answer |= {"delivery_id": delivery.inserted_primary_key[0], "succeeded": 0, "status": 0, "reason": text}
            connection.execute(sa.insert(webhook_attempts).values(**answer))
            endpoints.disable(connection, owner.id, endpoint.id, as_written(text))
            ids.append(public_message_id(message_id))
    database.engine.dispose()
    return ids


def lists(ids: list[str]) -> list[Callable[[], Any]]:
    return [
        account.list_,
        lambda: account.keys(EMAIL),
        number.list_,
        lambda: number.list_(EMAIL),
        lambda: message.list_(EMAIL),
        lambda: message.show(ids[-1]),
        lambda: webhook.list_(EMAIL),
        lambda: webhook.log(EMAIL),
        quarantine_commands.list_,
    ]


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30), min_size=4, max_size=8))
@example(EVIL)
def test_every_list_shows_what_others_wrote(folder: Path, capsys: pytest.CaptureFixture[str], texts: list[str]) -> None:
    ids = fill(folder, texts)
    capsys.readouterr()
    for command in lists(ids):
        command()
        captured = capsys.readouterr()
        assert not acting(captured.out + captured.err), command
        assert "kurir: everything is fine" not in [line.strip() for line in captured.out.splitlines()]


def test_a_list_shows_markup_as_it_was_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_out", Console(highlight=False, width=400))
    fill(folder, ["[bold]x[/bold]", "Toko [/x]", ":smile:"])
    number.list_()
    shown = capsys.readouterr().out
    for text in ("[bold]x[/bold]", "Toko [/x]", ":smile:"):
        assert text in shown


def test_errors_and_lines_show_theirs_too(capsys: pytest.CaptureFixture[str]) -> None:
    for text in EVIL:
        terminal.say("name ", text)
        terminal.print_error(text)
        with terminal.waiting(text):
            pass
    captured = capsys.readouterr()
    assert not acting(captured.out + captured.err)
    assert captured.out.count("\n") == len(EVIL), "one line each"


# -- whatever is typed -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str]]]:
    """One `kurir …` on a data folder: its exit code and all that it wrote."""

    def command(*arguments: str, **environment: str) -> tuple[int, str]:
        for name, value in {"KURIR_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "300", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["kurir", *arguments])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    before = os.umask(0o077)
    yield command
    os.umask(before)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["message", "list", "[/x]@x\x1b[2J"], {}),
        (["doctor"], {"KURIR_PORT": "x[/red]\x1b[2J"}),
        (["[/x]\x1b[2J"], {}),
        (["message", "list", EMAIL, "--limit", "[/x]\x1b[2J"], {}),
        (["account", "create", "--email", "\udcff@example.com"], {}),
        (["account", "list"], {"KURIR_CONFIG": "NOT_TEXT"}),
        (["account", "list"], {"KURIR_DATABASE_URL": "postgresql://u:geheim@[/x]:1/x"}),
        (["account", "list"], {"KURIR_DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/[/x]"}),
        (["contacts", "import", EMAIL, "/"], {}),
        (["backup", "/proc/[/x]"], {}),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, run: Callable[..., tuple[int, str]], arguments: list[str], environment: dict[str, str]
) -> None:
    if environment.get("KURIR_CONFIG"):
        (tmp_path / "settings").write_bytes(b"KURIR_PORT=\xff\xaa")
        environment = {"KURIR_CONFIG": str(tmp_path / "settings")}
    code, output = run(*arguments, **environment)
    assert code == 1, output
    assert "Traceback" not in output and "mistake of Kurir" not in output
    assert not acting(output)
    assert "geheim" not in output


def test_an_import_goes_on_after_a_hostile_cell(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    run("account", "create", "--email", EMAIL, "--name", "Toko [/x]")
    file = tmp_path / "people.csv"
    rows = ["name,phone", "Sari,[/red]", "Budi,[bold]x[/bold][link=x]", "Ani,\x1b[2J", "Citra,6281234567890"]
    file.write_text("\n".join(rows), encoding="utf-8")
    code, output = run("contacts", "import", EMAIL, str(file))
    assert code == 0, output
    assert "1 people stored" in output and "3 rows refused" in output
    assert "[/red]" in output and "[bold]x[/bold][link=x]" in output
    assert not acting(output)


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["json", "console"])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(Settings(log_format=request.param, log_level="debug"), stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_no_log_line_acts(written: io.StringIO) -> None:
    log = structlog.get_logger("kurir.test")
    for text in EVIL:
        log.info("seen", path=text, nested={"name": text, "all": [text]})
        log.warning(text)
        logging.getLogger("library").error("%s", text)
        try:
            raise ValueError(text)  # noqa: TRY301 - the log shows its words
        except ValueError:
            log.exception("failed")
    assert not acting(written.getvalue().replace("\t", " "))


def test_json_lines_are_whole(written: io.StringIO) -> None:
    structlog.get_logger("kurir.test").info("two\nlines", name="\x9b31m\u202e")
    if written.getvalue().startswith("{"):
        (line,) = written.getvalue().splitlines()
        assert json.loads(line)["event"] == "two\nlines"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("{'secret_key': 'canary'}", "canary"),
        ("licenses_key=WB-canary&x=1", "canary"),
        ("private-key: canary7", "canary7"),
        ("could not connect to postgresql://kurir:canary@db:5432/kurir", "canary"),
        ("postgresql+psycopg://kurir:canary%2F@db/kurir is away", "canary"),
        ("password: canary", "canary"),
        ("called 0812-3456-7890", "3456"),
        ("called 0812 3456 7890 twice", "3456"),
        ("called 62 812-3456-7890", "3456"),
        ("message=canary&number_id=1", "canary"),
        ('"message": "Kode canary anda"', "canary"),
        ("token: a1canary", "canary"),
    ],
)
def test_secrets_in_sentences_are_hidden(text: str, hidden: str) -> None:
    assert hidden not in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "a malformed message: unexpected end of file",
        "the callback has no message: it was ignored",
        "Error in message: Can't parse it",
        "wrong password: expected at least twelve characters",
        "token: expired an hour ago",
        "http://127.0.0.1:8080/healthz?to=a@b answered 200",
        "2026-07-31 08:12:00 started, 0 of 12 done",
    ],
)
def test_ordinary_sentences_stay_readable(text: str) -> None:
    assert redact_text(text) == text

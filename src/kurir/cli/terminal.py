"""What the commands share: the database for a moment, the running gateway's operator API, and the terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as RichTable
from rich.text import Text
from sqlalchemy import Connection

from kurir.accounts import accounts
from kurir.accounts.accounts import Account
from kurir.foundation.data_folder import open_data_folder, read_ready_file
from kurir.foundation.database import Database
from kurir.foundation.plain_text import visible
from kurir.foundation.sealing import Sealing
from kurir.settings import Settings

T = TypeVar("T")
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


class CommandError(Exception):
    """A command cannot do what was asked; the message says why and what to do."""


def bold(value: object, *, good: bool = False) -> Text:
    """A part of a line that stands out."""
    return Text(visible(str(value)), style="bold green" if good else "bold")


def mark(fine: bool) -> Text:
    """A tick or a cross."""
    return Text("✓", style="green") if fine else Text("✗", style="red")


def say(*parts: str | Text) -> None:
    """Prints one line. Whatever a text holds is shown, never obeyed: no markup, no escape codes, no line breaks."""
    _out.print(_line(parts), soft_wrap=True)


def complain(sentence: str) -> None:
    """One line of error."""
    _err.print(_line((Text("kurir:", style="bold red"), " ", sentence)), soft_wrap=True)


def draw(picture: str) -> None:
    """Prints a picture that this program made itself, such as a QR code."""
    _out.print(Text(picture), soft_wrap=True)


def _line(parts: Sequence[str | Text]) -> Text:
    return Text().join(part if isinstance(part, Text) else Text(visible(part)) for part in parts)


class Table:
    """Rows under headings; cells are shown as `say` shows texts."""

    def __init__(self, *headings: str) -> None:
        self._table = RichTable(*headings)

    def add_row(self, *cells: str) -> None:
        """One more row."""
        self._table.add_row(*(Text(visible(cell)) for cell in cells))

    def show(self) -> None:
        """Prints the table."""
        _out.print(self._table)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], object]]:
    """A progress bar without an end; the function that is given takes how much is done."""
    with Progress(console=_err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done: progress.update(task, completed=done)


def with_database(work: Callable[[Connection, Sealing], T]) -> T:
    """Runs `work` in one transaction of its own; safe beside a running gateway."""
    database, sealing = open_data_folder(Settings.load())
    with database.transaction() as connection:
        result = work(connection, sealing)
    database.engine.dispose()
    return result


def with_snapshot(work: Callable[[Connection, Sealing], T]) -> T:
    """Runs `work`, which only looks, on the data as of this moment; a running gateway goes on writing meanwhile."""
    database, sealing = open_data_folder(Settings.load())
    with database.snapshot() as connection:
        result = work(connection, sealing)
    database.engine.dispose()
    return result


def with_async_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Runs asynchronous `work` with a started database."""

    async def run() -> T:
        database, _ = open_data_folder(Settings.load())
        await database.start()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def account_of(connection: Connection, email: str) -> Account:
    """The account of an e-mail address. Raises CommandError."""
    account = accounts.by_email(connection, email)
    if account is None:
        known = ", ".join(a.email for a in accounts.everyone(connection)) or "none yet"
        raise CommandError(f"there is no account for {email} (accounts: {known}); see `kurir account create --help`")
    return account


def operator(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Asks the running gateway's operator API. Raises CommandError when it does not run or refuses."""
    return asyncio.run(_operator(method, path, body))


async def _operator(method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    settings = Settings.load()
    ready = read_ready_file(settings.data_dir)
    if ready is None:
        raise CommandError(f"no gateway is running on {settings.data_dir}: start it with `kurir serve` first")
    try:
        token = (settings.data_dir / "operator.token").read_text(encoding="ascii").strip()
    except OSError as error:
        raise CommandError(f"cannot read the operator token in {settings.data_dir}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"operator.token in {settings.data_dir} holds no token: restart the gateway") from error
    try:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
            session.request(method, ready.url + "/api/v1" + path, json=body) as answer,
        ):
            data = await answer.json(content_type=None)
            if answer.status >= 400:
                error = data.get("error") or {}
                raise CommandError(str(error.get("message") or f"HTTP {answer.status}"))
            return data
    except (aiohttp.ClientError, ValueError) as error:
        raise CommandError(f"the gateway at {ready.url} does not answer: {error}") from error


@contextmanager
def waiting(sentence: str):
    """A spinner while something takes its time."""
    with _err.status(Text(visible(sentence))):
        yield

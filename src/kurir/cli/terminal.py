"""What the commands share: the services over the data folder, the running gateway's operator API, and the terminal."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress
from rich.table import Table as RichTable
from rich.text import Text

from kurir.cli.language import language
from kurir.data_folder import read_ready_file
from kurir.kit.plain_text import visible
from kurir.kit.tokens import read_token
from kurir.reasons import sentence
from kurir.services.errors import Invalid, ServiceError
from kurir.services.stored_services import StoredServices, over_data_folder
from kurir.settings import Settings

T = TypeVar("T")
_LEAST, _MOST = 40, 1_000
"""Bounds of the terminal's width, whatever size it reports."""
_ANY_WIDTH = 1_000_000
_ASKED = {"access_token": "the access token", "app_secret": "the app secret"}
"""Values that commands prompt for instead of taking an option, by their names in the services."""
_LEAST_CELL = 4
"""Minimum characters of a table's column; longer words continue on the next line."""


def _sound_size() -> None:
    """Sets COLUMNS to a usable width: the library does not check it, and fails on 0 or ²."""
    claimed = os.environ.pop("COLUMNS", "")
    if claimed.isascii() and claimed.isdigit() and len(claimed) < 10 and int(claimed):
        os.environ["COLUMNS"] = str(min(max(int(claimed), _LEAST), _MOST))
    elif (columns := shutil.get_terminal_size((80, 24)).columns) < _LEAST:
        os.environ["COLUMNS"] = str(max(columns, _LEAST))
    if not os.environ.get("LINES", "1").isascii():
        del os.environ["LINES"]


_sound_size()
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
    """Prints one line. Markup, escape codes and line breaks in it are shown, not interpreted."""
    _out.print(_line(parts), soft_wrap=True)


def print_error(text: str) -> None:
    """One line of error."""
    _err.print(_line((Text("kurir:", style="bold red"), " ", text)), soft_wrap=True)


def draw(picture: str) -> None:
    """Prints a picture that this program made itself, such as a QR code."""
    _out.print(Text(picture), soft_wrap=True)


def _line(parts: Sequence[str | Text]) -> Text:
    return Text().join(part if isinstance(part, Text) else Text(visible(part)) for part in parts)


class Table:
    """Rows under headings; cells are shown as `say` shows texts, and nothing is cut: ids are there to be copied.

    On a terminal lines have its width, and long words continue below; elsewhere a row is one line.
    """

    def __init__(self, *headings: str) -> None:
        self._table = RichTable()
        for heading in headings:
            self._table.add_column(heading, overflow="fold", min_width=_LEAST_CELL)

    def add_row(self, *cells: str) -> None:
        """One more row."""
        self._table.add_row(*(Text(visible(cell)) for cell in cells))

    def show(self) -> None:
        """Prints the table."""
        wanted = Measurement.get(_out, _out.options.update(max_width=_ANY_WIDTH), self._table).maximum
        least = len(self._table.columns) * (_LEAST_CELL + 3) + 1
        self._table.width = max(min(wanted, _out.width), least) if _out.is_terminal else wanted
        _out.print(self._table, crop=False)


@contextmanager
def counting(what: str) -> Generator[Callable[[int], object]]:
    """A progress bar without a total; yields a function that takes how much is done."""
    with Progress(console=_err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done: progress.update(task, completed=done)


def over_data(work: Callable[[StoredServices], Awaitable[T]], *, create: bool = False) -> T:
    """Runs `work` with the services over the data folder; safe beside a running gateway, which sees it within seconds.

    Only with `create` the data folder is made where there is none; else NoData is raised. Raises CommandError for what
    a service refuses.
    """

    async def run() -> T:
        async with over_data_folder(Settings.load(), create=create) as services:
            return await work(services)

    try:
        return asyncio.run(run())
    except Invalid as error:
        field = _ASKED.get(error.field) or "--" + error.field.replace("_", "-")
        raise CommandError(f"{field}: {sentence(error.reason, language())}") from error
    except ServiceError as error:
        raise CommandError(sentence(error.reason, language())) from error


def is_running() -> bool:
    """Whether a gateway serves the data folder; commands about its process then use its operator API."""
    return read_ready_file(Settings.load().data_dir) is not None


def in_path(what: str, key: str) -> str:
    """Checks a key or id that becomes part of a URL. Raises CommandError, naming `what`, for an invalid one."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", key):
        raise CommandError(f"{what}: {key!r} is none; expected letters, digits, _ and - only")
    return key


def operator(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Asks the running gateway's operator API. Raises CommandError when it does not run or refuses."""
    return asyncio.run(_operator(method, path, body))


async def _operator(method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    settings = Settings.load()
    ready = read_ready_file(settings.data_dir)
    if ready is None:
        raise CommandError(f"no gateway is running on {settings.data_dir}: start it with `kurir serve` first")
    try:
        token = read_token(settings.data_dir)
    except OSError as error:
        raise CommandError(f"cannot read the operator token in {settings.data_dir}: {error.strerror}") from error
    try:
        async with (
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {token}", "Accept-Language": language()}
            ) as session,
            session.request(method, ready.url + "/api/v1" + path, json=body) as answer,
        ):
            data = await answer.json(content_type=None)
            if answer.status >= 400:
                refusal: dict[str, object] = data.get("error") or {}
                raise CommandError(str(refusal.get("message") or f"HTTP {answer.status}"))
            return data
    except (aiohttp.ClientError, ValueError) as error:
        raise CommandError(f"the gateway at {ready.url} does not answer: {error}") from error


@contextmanager
def waiting(text: str):
    """A spinner during slow work."""
    with _err.status(Text(visible(text))):
        yield

"""One run's means: its options, load and programs built on the spot, and the sites that its rows need."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import psycopg
from psycopg import sql

from kurir.bench.figures import Sample
from kurir.bench.load import Kind, Loader, Requests
from kurir.bench.processes import cpu
from kurir.bench.program import BenchError, Program, python, running
from kurir.bench.site import Site, new_site
from kurir.store import postgres

_PROGRAMS = Path(__file__).parent / "programs"
_WARM_UP = 1.0
"""Seconds at most of load before the first round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person may choose. `seconds` of one round; `database_url` of a PostgreSQL server, "" for SQLite; `rivals`:
    addresses of other programs by name, `rival_bodies` and `rival_headers` what they are sent."""

    seconds: float = 3.0
    rounds: int = 5
    rows: tuple[str, ...] = ()
    load: Kind = "wrk"
    database_url: str = ""
    rivals: dict[str, str] = field(default_factory=dict[str, str])
    rival_bodies: dict[str, str] = field(default_factory=dict[str, str])
    rival_headers: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    backlog: int = 2_000
    stored: int = 200_000


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load: its address, and the process whose time counts."""

    url: str
    pid: int


class Counts(msgspec.Struct, frozen=True):
    """What has reached the Graph stub."""

    messages: int
    events: int


@dataclass(frozen=True, slots=True)
class Stub:
    """A running Graph stub, which is also the receiver of webhooks."""

    program: Program
    url: str

    async def counts(self) -> Counts:
        """What has reached it so far."""
        async with aiohttp.ClientSession() as session, session.get(self.url + "/counts") as answer:
            return msgspec.json.decode(await answer.read(), type=Counts)


class Run:
    """The means of one run, in a folder of its own."""

    def __init__(self, options: Options, folder: Path, load: Loader, report: Callable[[str], None]) -> None:
        self.options = options
        self.folder = folder
        self.load = load
        self.report = report
        self._names = itertools.count(1)
        self._stub: Path | None = None

    async def compiled(self, name: str, *flags: str) -> Path:
        """A program of ours, compiled once with the system's C compiler. Raises BenchError."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise BenchError("no C compiler: `apt-get install gcc` (Debian, Ubuntu) to build the Graph stub")
        target = self.folder / name
        if not target.exists():
            process = await asyncio.create_subprocess_exec(
                compiler, "-O2", *flags, "-o", str(target), str(_PROGRAMS / f"{name}.c"), stderr=asyncio.subprocess.PIPE
            )
            _, errors = await process.communicate()
            if process.returncode:
                raise BenchError(f"{name}.c does not compile:\n{errors.decode(errors='replace')[-1_000:]}")
        return target

    @asynccontextmanager
    async def stub(self, latency_ms: float = 0.0) -> AsyncGenerator[Stub]:
        """A Graph stub that answers after so many milliseconds."""
        program = await self.compiled("graph_stub")
        async with running("graph stub", [program, f"{latency_ms:g}"], self.folder) as stub:
            yield Stub(stub, f"http://127.0.0.1:{await stub.port()}")

    @asynccontextmanager
    async def hello(self) -> AsyncGenerator[Target]:
        """The hello-world on the gateway's own server."""
        async with running("hello", python("kurir.bench.hello"), self.folder) as program:
            yield Target(f"http://127.0.0.1:{await program.port()}", program.pid)

    @asynccontextmanager
    async def site(self, *, officials: int = 20) -> AsyncGenerator[Site]:
        """A new site, on a new database of its own."""
        async with self._database() as url:
            yield await new_site(self.folder, url, officials=officials)

    @asynccontextmanager
    async def _database(self) -> AsyncGenerator[str]:
        if not self.options.database_url:
            yield ""
            return
        where = postgres.address(self.options.database_url)
        name = f"kurir_bench_{self.folder.name[-8:].lower().replace('-', '_')}_{next(self._names)}"
        try:
            with contextlib.closing(postgres.connected(where)) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise BenchError(f"--database: cannot create a database of its own: {error}") from error
        try:
            # psycopg's spelling of the scheme is not the one that the settings take
            yield where.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
        finally:
            with contextlib.closing(postgres.connected(where)) as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    async def measured(self, target: Target, requests: Requests, connections: int) -> Sample:
        """One round of load on a server."""
        before = cpu(target.pid)
        outcome = await self.load.run(target.url, requests, connections, self.options.seconds)
        return Sample.of(outcome, cpu(target.pid).since(before))

    async def warm(self, target: Target, requests: Requests, connections: int) -> None:
        """A short load before the first round: imports, caches and connections of the first requests are not
        measured."""
        await self.load.run(target.url, requests, connections, min(_WARM_UP, self.options.seconds))

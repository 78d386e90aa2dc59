"""Load on an HTTP server: a file of requests, and `wrk` or this program's own client to send them.

`wrk` is a C program that leaves the machine to what is measured. The client in Python takes more processor time than
the gateway's accept path itself; its figures are comparable only with each other, and are named so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from kurir.bench.program import BenchError

Kind = Literal["wrk", "python"]
INSTALL = "wrk is not installed: `apt-get install wrk` (Debian, Ubuntu), or measure with `--load python`"
_SCRIPT = Path(__file__).parent / "programs" / "requests.lua"
_LONGEST = 900
"""Seconds that requests which are sent once may take in all."""
_TIMEOUT = 30


class Requests(msgspec.Struct, frozen=True):
    """POST requests to one path. In a body `{n}` becomes eight digits that count up.

    `signatures`: one for each body, or none. `once`: each is sent once, and the load ends with the last answer; else
    they are sent round and round. `headers` are the same for all.
    """

    path: str
    bodies: Sequence[str]
    signatures: Sequence[str] = ()
    headers: dict[str, str] = {}
    once: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """What a load came to. `lost`: no answer or a broken connection; `refused`: answers with another status than 2xx
    or 3xx; both times in milliseconds."""

    done: int
    seconds: float
    p50_ms: float
    p99_ms: float
    lost: int = 0
    refused: int = 0

    @property
    def per_second(self) -> float:
        """Answered requests a second, refused ones left out."""
        return max(0, self.done - self.refused) / self.seconds if self.seconds else 0.0


class Loader(Protocol):
    """What can send requests. `name` stands in the report."""

    name: str

    async def run(self, url: str, requests: Requests, connections: int, seconds: float) -> Outcome:
        """Sends to the server at `url` over so many connections, one request at a time on each, for `seconds`, or, with
        `once`, until all are answered."""
        ...


def loader(kind: Kind) -> Loader:
    """The load of that kind. Raises BenchError when `wrk` is missing."""
    if kind == "python":
        return PythonLoad()
    if shutil.which("wrk") is None:
        raise BenchError(INSTALL)
    return Wrk()


class Wrk:
    """`wrk` with one thread."""

    name = "wrk"

    async def run(self, url: str, requests: Requests, connections: int, seconds: float) -> Outcome:
        """See `Loader`. Raises BenchError when wrk fails."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".requests") as file:
            _write(file.file, requests)
            process = await asyncio.create_subprocess_exec(
                "wrk", "-t1", f"-c{connections}", f"-d{_LONGEST}s", f"--timeout={_TIMEOUT}s", *_headers(requests),
                "-s", str(_SCRIPT), url, "--", file.name,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                text, finished = await _output(process, _LONGEST if requests.once else seconds)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        figures = re.search(r"^\{.*\}$", text, re.MULTILINE)
        if figures is None:
            raise BenchError(f"wrk failed:\n{text[-1_000:]}")
        outcome = msgspec.json.decode(figures[0], type=Outcome)
        if requests.once and not finished:
            raise BenchError(
                f"{requests.path}: {outcome.done} of {len(requests.bodies)} requests were answered: {outcome}"
            )
        return msgspec.structs.replace(outcome, seconds=finished) if finished else outcome


async def _output(process: asyncio.subprocess.Process, seconds: float) -> tuple[str, float]:
    """All that wrk prints, which is ended after `seconds` or when all is answered; in how many seconds that was."""
    assert process.stdout is not None
    lines: list[str] = []
    finished = 0.0

    async def read_lines(output: asyncio.StreamReader) -> None:
        nonlocal finished
        while line := (await output.readline()).decode(errors="replace"):
            lines.append(line)
            if line.startswith("all answered "):
                finished = float(line.split()[2])
                process.send_signal(signal.SIGINT)

    reading = asyncio.create_task(read_lines(process.stdout))
    await asyncio.wait({reading}, timeout=seconds)
    if not reading.done():
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)  # wrk itself knows whole seconds only
    async with asyncio.timeout(_TIMEOUT * 2):
        await reading
    return "".join(lines), finished


def _write(file: IO[str], requests: Requests) -> None:
    file.write(f"POST {requests.path}\t{'once' if requests.once else 'endless'}\n")
    for signature, body in itertools.zip_longest(requests.signatures, requests.bodies, fillvalue=""):
        file.write(f"{signature}\t{body}\n")
    file.flush()
    os.fsync(file.fileno())  # not while the server's own flushes are measured


def _headers(requests: Requests) -> Iterator[str]:
    for name, value in requests.headers.items():
        yield "-H"
        yield f"{name}: {value}"


class PythonLoad:
    """This program's own client: one task for each connection."""

    name = "python (not wrk: its own processor time is part of what is measured)"

    async def run(self, url: str, requests: Requests, connections: int, seconds: float) -> Outcome:
        """See `Loader`."""
        where = urlsplit(url)
        sending = _Sending(requests, time.perf_counter() + (_LONGEST if requests.once else seconds))
        began = time.perf_counter()
        await asyncio.gather(
            *(sending.work(where.hostname or "127.0.0.1", where.port or 80) for _ in range(connections))
        )
        waited = sorted(sending.waited)
        return Outcome(
            len(waited), time.perf_counter() - began, _at(waited, 0.5), _at(waited, 0.99), sending.lost, sending.refused
        )


class _Sending:
    def __init__(self, requests: Requests, until: float) -> None:
        self.waited: list[float] = []
        self.lost = 0
        self.refused = 0
        self._until = until
        self._next = self._numbered(requests)
        fields = {"Content-Type": "application/json", **requests.headers}
        self._head = f"POST {requests.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in fields.items()
        )

    @staticmethod
    def _numbered(requests: Requests) -> Iterator[tuple[str, str]]:
        pairs = list(itertools.zip_longest(requests.signatures, requests.bodies, fillvalue=""))
        for count, (signature, body) in enumerate(pairs if requests.once else itertools.cycle(pairs), 1):
            yield signature, body.replace("{n}", f"{count:08d}")

    async def work(self, host: str, port: int) -> None:
        """One connection, until the time is up or there is nothing more to send."""
        reader, writer = await asyncio.open_connection(host, port)
        try:
            while time.perf_counter() < self._until and (request := next(self._next, None)) is not None:
                signature, body = request
                raw = body.encode()
                signed = f"X-Hub-Signature-256: {signature}\r\n" if signature else ""
                began = time.perf_counter()
                writer.write(f"{self._head}{signed}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
                status = await _answer(reader)
                self.waited.append((time.perf_counter() - began) * 1e3)
                self.refused += not 200 <= status < 400
        except (OSError, EOFError, ValueError):
            self.lost += 1
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is None:
        raise ValueError("an answer without a length")
    await reader.readexactly(int(length[1]))
    return int(head.split(b" ", 2)[1])


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0

"""Runs work on untrusted bytes in child processes with limits on memory, processor time, time and file size.

A decoder that takes gigabytes, hangs or crashes ends only its child process: the job fails with the reason, and the
next job gets a new child. Children start on demand, are reused, and end after a minute without work. They get none of
the gateway's environment but the paths, and run at low priority. Accounts share the children by turns.

`Confined` is the parent's side; the child's program calls `serve`. They exchange length-prefixed frames over a
socketpair: a job, and as its answer one status byte (`_DONE`, `_NO_MEMORY`, `_BROKE`) and the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from kurir.kit.fair_sharing import Turns

_DONE, _NO_MEMORY, _BROKE = b"D", b"M", b"B"
_START = 20.0
"""Seconds that a new child may take to start, added to its first job's time."""
_IDLE = 60.0
"""Seconds without work after which a child is ended."""
_MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}
"""Makes glibc return large blocks to the system as soon as they are freed."""
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH")

log = structlog.get_logger(__name__)


class Limits(msgspec.Struct, frozen=True):
    """Limits of one job: `memory` and `file` in bytes, `cpu` and `seconds` (wall clock) in seconds.

    `memory` is added to what the program uses at its start; `file` is the largest file it may write; `answer` is the
    largest answer in bytes.
    """

    memory: int
    cpu: int
    seconds: float
    file: int = 0
    answer: int = 64_000_000


class TooCostly(Exception):  # noqa: N818 - a property of the job, not a mistake
    """The job exceeded its memory or processor time, or crashed its process; a retry would fail as well."""


class TooSlow(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """The job was not finished, possibly for reasons outside it: the machine is busy or short of memory."""


class Confined:
    """A pool of up to `processes` children that run `python -m module`. Belongs to one event loop."""

    def __init__(self, module: str, processes: int, limits: Limits, idle: float = _IDLE) -> None:
        self._module = module
        self._limits = limits
        self._idle_after = idle
        self._turns = Turns(processes)
        self._idle: list[_Child] = []
        self._leaving: list[_Child] = []
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, account: int, job: bytes) -> bytes:
        """Runs `job` in a child when it is the account's turn and returns the answer.

        Raises TooCostly, TooSlow; OSError when no child can be started; RuntimeError when the program failed.
        """
        async with self._turns.place(account):
            child = self._idle.pop() if self._idle else await _Child.start(self._module, self._limits)
            try:
                answer = await self._asked(child, job)
            except BaseException:
                self._end(child)
                raise
            self._idle.append(child)
            self._wait_for_idleness()
        kind, body = answer[:1], answer[1:]
        if kind == _DONE:
            return body
        if kind == _NO_MEMORY:
            raise TooCostly("too much memory")
        raise RuntimeError(f"{self._module} broke: {body.decode(errors='replace')}")

    async def close(self) -> None:
        """Ends all children; jobs in progress fail."""
        if self._timer is not None:
            self._timer.cancel()
        self._end_idle()
        for child in self._leaving:
            await child.process.wait()
        self._leaving.clear()

    @property
    def pids(self) -> list[int]:
        """Process ids of the idle children."""
        return [child.process.pid for child in self._idle]

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _asked(self, child: _Child, job: bytes) -> bytes:
        within = self._limits.seconds + (0 if child.proven else _START)
        try:
            async with asyncio.timeout(within):
                answer = await child.ask(job, self._limits.answer)
        except TimeoutError as error:
            log.warning("confined_job_timed_out", program=self._module, seconds=within)
            raise TooSlow("it was not done in time") from error
        except (EOFError, OSError, ValueError) as error:
            child.kill()
            status = await child.process.wait()
            log.warning("confined_process_exited", program=self._module, pid=child.process.pid, status=status)
            if not child.proven and status not in _LIMIT_SIGNALS:
                raise OSError(f"{self._module} did not start (status {status})") from error
            if status == -signal.SIGKILL and not isinstance(error, ValueError):
                # Kurir never kills it this way: the machine is short of memory, possibly because of other processes
                raise TooSlow("its process was killed") from error
            why = "too much processor time" if status == -signal.SIGXCPU else "more than it may take"
            raise TooCostly(why) from error
        child.proven = True
        return answer

    def _wait_for_idleness(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle_after, self._end_idle)

    def _end_idle(self) -> None:
        while self._idle:
            self._end(self._idle.pop())

    def _end(self, child: _Child) -> None:
        child.kill()
        self._leaving = [other for other in self._leaving if other.process.returncode is None] + [child]


_LIMIT_SIGNALS = frozenset({-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS})


class _Child:
    """One child process; `proven` once it has answered a job."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.proven = False
        self._pidfd: int | None = os.pidfd_open(process.pid)
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, module: str, limits: Limits) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", module),
                    *(str(n) for n in (theirs.fileno(), limits.memory, limits.cpu, limits.file)),
                    pass_fds=(theirs.fileno(),),
                    env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _MALLOC,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    async def ask(self, job: bytes, most: int) -> bytes:
        """Sends a job and returns the child's answer. Raises EOFError or OSError when it died, ValueError for an answer
        above `most`."""
        self._writer.write(len(job).to_bytes(4) + job)
        await self._writer.drain()
        length = int.from_bytes(await self._reader.readexactly(4))
        if length > most:
            raise ValueError("the answer is too long")
        return await self._reader.readexactly(length)

    def kill(self) -> None:
        """Kills the process at once; idempotent."""
        if self._pidfd is None:
            return
        # by pidfd: the process may have ended meanwhile, and asyncio's own kill would consume its exit status
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        self._pidfd = None
        self._writer.close()


# -- in the child ------------------------------------------------------------------------------------------------------


def serve(handle: Callable[[bytes], bytes]) -> None:
    """Main loop of the child's program: answers jobs until the parent closes the socket. Takes its arguments from
    `_Child.start`."""
    descriptor, memory, cpu, file = (int(argument) for argument in sys.argv[1:5])
    _confine(memory, file)
    with socket.socket(fileno=descriptor) as parent, parent.makefile("rb") as jobs:
        while header := jobs.read(4):
            job = jobs.read(int.from_bytes(header))
            _allow_cpu(cpu)
            answer = _answer(handle, job)
            parent.sendall(len(answer).to_bytes(4) + answer)


def _answer(handle: Callable[[bytes], bytes], job: bytes) -> bytes:
    try:
        return _DONE + handle(job)
    except MemoryError:
        return _NO_MEMORY
    except Exception as error:
        return _BROKE + f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace")


def _confine(memory: int, file: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    own = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + memory, own + memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)


def _allow_cpu(seconds: int) -> None:
    """Allows `seconds` more of processor time; beyond that SIGXCPU ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))

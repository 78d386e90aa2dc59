"""One engine host as the gateway sees it: a child process, a socket, and calls that are answered or lost with it.

The child's standard output and error are the engine's noise: they are logged line by line at debug level, with what
could identify a person or open a session masked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog

from kurir.channels.linked_device.engine import (
    Answer,
    Command,
    News,
    Ping,
    Reply,
    Request,
    body_length,
    decode_upward,
    frame,
)
from kurir.foundation.tasks import TaskHealth, Tasks

log = structlog.get_logger(__name__)

_LAST_WORDS = 1.0
_LINE_LIMIT = 1 << 20
_SECRETIVE = re.compile(r"\d{6,}|[A-Za-z0-9+/=_-]{20,}")
_PING_EVERY = 15.0
_PING_PATIENCE = 30.0


class HostLostError(Exception):
    """The host died, or was killed because it did not answer, before it answered this call. It is dead by now."""


class HostProcess:
    """A running host. Make it with `launch`; it is gone for good after `ended`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_news: Callable[[News], Awaitable[None]],
        health: TaskHealth | None = None,
    ) -> None:
        self.pid = process.pid
        self.why_lost = "the engine host ended"
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._reader = reader
        self._writer = writer
        self._on_news = on_news
        self._calls = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._over = asyncio.Event()
        self._tasks = Tasks(health)
        key = str(process.pid)
        self._listening = self._tasks.spawn("host-frames", self._listen(), key=key)
        self._draining = self._tasks.spawn("host-output", self._drain(), key=key)
        self._watching = self._tasks.spawn("host-check", self._watch(), key=key)

    @classmethod
    async def launch(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        on_news: Callable[[News], Awaitable[None]],
        health: TaskHealth | None = None,
    ) -> HostProcess:
        """Starts `argv` with the socket's file descriptor as its last argument. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    env=dict(environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    limit=_LINE_LIMIT,
                )
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)
        return cls(process, reader, writer, on_news, health)

    async def call(self, command: Command, patience: float) -> Answer:
        """The host's answer. A host that gives none within `patience` seconds is killed. Raises HostLostError."""
        if self._over.is_set():
            raise HostLostError(self.why_lost)
        number = next(self._calls)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(frame(Request(number, command)))
            # not wait_for: on Python 3.11 it swallows a cancellation that meets the answer, and whoever waits for
            # the canceled task would then wait for ever
            async with asyncio.timeout(patience):
                return await future
        except TimeoutError:
            self.why_lost = f"the engine host did not answer within {patience:.0f} s and was ended"
            self.kill()
            await self.ended()
            raise HostLostError(self.why_lost) from None
        finally:
            self._waiting.pop(number, None)

    def tell(self, command: Command) -> None:
        """Has the host carry out a command whose answer does not matter."""
        if not self._over.is_set():
            self._writer.write(frame(Request(next(self._calls), command)))

    async def quiet(self, patience: float) -> None:
        """Waits until the calls under way have been answered, at most `patience` seconds."""
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()), timeout=patience)

    def kill(self) -> None:
        """Ends the process at once. Sessions are transactional: nothing is damaged."""
        if self._over.is_set():
            return
        # by pidfd: the process may have ended meanwhile, and asyncio's own kill would take its status away
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def ended(self) -> None:
        """Waits until the process is gone and every call has been answered or lost."""
        await self._over.wait()

    async def _listen(self) -> None:
        try:
            while True:
                body = await self._reader.readexactly(body_length(await self._reader.readexactly(4)))
                upward = decode_upward(body)
                if isinstance(upward, Reply):
                    future = self._waiting.get(upward.call)
                    if future is not None and not future.done():
                        future.set_result(upward.answer)
                else:
                    await self._on_news(upward.news)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the process ended
        except (ValueError, msgspec.MsgspecError) as error:
            log.warning("engine_host_sent_no_frame", pid=self.pid, error=str(error))
        finally:
            await asyncio.shield(self._bury())

    async def _bury(self) -> None:
        self.kill()
        status = await self._process.wait()
        # what it said last, and the end of its output, so that nothing of the pipe is left open
        await asyncio.wait({self._draining}, timeout=_LAST_WORDS)
        self._writer.close()
        os.close(self._pidfd)
        self._over.set()
        log.info("engine_host_ended", pid=self.pid, status=status, reason=self.why_lost)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HostLostError(self.why_lost))
        self._draining.cancel()
        self._watching.cancel()

    async def _drain(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                continue  # a line beyond all measure; its rest follows
            if not line:
                return
            log.debug("engine_said", pid=self.pid, line=masked(line.decode(errors="replace").rstrip()))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PING_EVERY)
            try:
                await self.call(Ping(), _PING_PATIENCE)
            except HostLostError:
                return


def masked(line: str) -> str:
    """A line of the engine's output without phone numbers, ids, keys and codes."""
    return _SECRETIVE.sub("…", line)

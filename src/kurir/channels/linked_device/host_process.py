"""One engine host as the gateway sees it: a child process, two sockets, and calls that are answered or fail with it.

Answers and events come on separate sockets: while events have to wait (the inbox is full, the database away), the
kernel holds them back on their socket, and answers, pings, and the end of the process are handled all the same.

The child's standard output and error are logged line by line at debug level, with everything masked that could identify
a person or open a session.
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

from kurir.channels.linked_device.protocol import (
    Alive,
    Command,
    HostReply,
    JournalState,
    News,
    Notice,
    Ping,
    Reply,
    Request,
    body_length,
    decode_upward,
    frame,
)
from kurir.kit.tasks import TaskHealth, Tasks
from kurir.reasons import ReasonedError
from kurir.reasons import numbers as reasons

log = structlog.get_logger(__name__)

_LAST_WORDS = 1.0
_LINE_LIMIT = 1 << 20
_SECRETIVE = re.compile(r"\d{6,}|[A-Za-z0-9+/=_-]{20,}")
_PING_EVERY = 15.0
_PING_TIMEOUT = 30.0


Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_DEVICE_THREAD = "device-thread"
"""The task name under which failing threads of a host are reported to `TaskHealth`."""


class HostLostError(ReasonedError):
    """The host ended, or was killed because it did not answer, before it answered this call. It is dead by now."""


class HostProcess:
    """A running host. Create it with `launch`; it never restarts after `ended`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        calls: Wire,
        news: Wire,
        on_news: Callable[[News], Awaitable[None]],
        health: TaskHealth | None = None,
    ) -> None:
        self.pid = process.pid
        self.why_lost = reasons.HOST_ENDED()
        self.killed_from_outside = False
        """Whether it ended by a SIGKILL that this gateway did not send: out of memory, or a person."""
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._reader, self._writer = calls
        self._news_reader, self._news_writer = news
        self._on_news = on_news
        self.journals: dict[int, JournalState] = {}
        self.unreadable = 0
        """Number of frames that could not be read."""
        self._calls = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[HostReply]] = {}
        self._over = asyncio.Event()
        self._health = health or TaskHealth()
        self._failing_threads: dict[str, str] = {}
        self._tasks = Tasks(self._health)
        key = str(process.pid)
        self._tasks.spawn("host-answers", self._listen(), key=key)
        self._hearing = self._tasks.spawn("host-news", self._or_kill(self._hear), key=key)
        self._draining = self._tasks.spawn("host-output", self._or_kill(self._drain), key=key)
        self._watching = self._tasks.spawn("host-check", self._or_kill(self._watch), key=key)

    @classmethod
    async def launch(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        on_news: Callable[[News], Awaitable[None]],
        health: TaskHealth | None = None,
    ) -> HostProcess:
        """Starts `argv` with two file descriptors as its last arguments: calls, news. Raises OSError."""
        calls, their_calls = socket.socketpair()
        news, their_news = socket.socketpair()
        passed = (their_calls.fileno(), their_news.fileno())
        with their_calls, their_news:
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    *map(str, passed),
                    pass_fds=passed,
                    env=dict(environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    limit=_LINE_LIMIT,
                )
            except BaseException:
                calls.close()
                news.close()
                raise
        try:
            answering = await asyncio.open_connection(sock=calls, limit=_LINE_LIMIT)
            news_stream = await asyncio.open_connection(sock=news, limit=_LINE_LIMIT)
        except BaseException:  # cancelled in between: nobody else would end the process and wait for it
            process.kill()
            calls.close()
            news.close()
            await process.wait()
            raise
        return cls(process, answering, news_stream, on_news, health)

    async def call(self, command: Command, timeout: float) -> HostReply:
        """The host's answer. A host that does not answer within `timeout` seconds is killed. Raises HostLostError."""
        if self._over.is_set():
            raise HostLostError(self.why_lost)
        number = next(self._calls)
        future: asyncio.Future[HostReply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(frame(Request(number, command)))
            # not wait_for: on Python 3.11 it swallows a cancellation that coincides with the answer, and a task
            # that waits for the cancelled one would then wait for ever
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            self.why_lost = reasons.HOST_SILENT(seconds=round(timeout))
            self.kill()
            await self.ended()
            raise HostLostError(self.why_lost) from None
        finally:
            self._waiting.pop(number, None)

    def post(self, command: Command) -> None:
        """Sends a command whose answer is ignored."""
        if not self._over.is_set():
            self._writer.write(frame(Request(next(self._calls), command)))

    async def quiet(self, timeout: float) -> None:
        """Waits until pending calls have been answered, at most `timeout` seconds."""
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()), timeout=timeout)

    def stop(self) -> None:
        """Ends the process because it is not needed any more."""
        if self.why_lost == reasons.HOST_ENDED():
            self.why_lost = reasons.HOST_STOPPED()
        self.kill()

    def kill(self) -> None:
        """Ends the process at once. Sessions are transactional: nothing is damaged."""
        if self._over.is_set():
            return
        # by pidfd: the process may have ended meanwhile, and asyncio's own kill would consume its exit status
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def ended(self) -> None:
        """Waits until the process is gone and every call has been answered or failed."""
        await self._over.wait()

    async def _listen(self) -> None:
        """Passes answers to the calls that wait for them; ends with the process."""
        try:
            while True:
                upward = await self._frame(self._reader)
                if isinstance(upward, Reply):
                    if isinstance(upward.answer, Alive):
                        self.journals = {journal.device: journal for journal in upward.answer.journals}
                        self._note_threads(upward.answer.failing)
                    future = self._waiting.get(upward.call)
                    if future is not None and not future.done():
                        future.set_result(upward.answer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the process ended
        except ValueError as error:
            self._lost_step(error)
        except Exception:
            self.why_lost = reasons.HOST_BROKE()
            raise
        finally:
            await asyncio.shield(self._reap())

    async def _or_kill(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` and kills the host when it fails, so that a new host is started."""
        try:
            await work()
        except Exception:
            self.why_lost = reasons.HOST_BROKE()
            self.kill()
            raise

    def _lost_step(self, error: ValueError) -> None:
        log.warning("engine_frame_invalid", pid=self.pid, error=str(error))
        self.why_lost = reasons.HOST_NO_FRAMES()

    def _note_threads(self, failing: Mapping[str, str]) -> None:
        """Reports the host's threads that began to fail since the last ping, and those that recovered."""
        before, self._failing_threads = self._failing_threads, dict(failing)
        for name in before.keys() - failing.keys():
            self._health.recovered(_DEVICE_THREAD, f"{name} of {self.pid}")
        for name in failing.keys() - before.keys():
            self._health.failed(_DEVICE_THREAD, f"{name} of {self.pid}", failing[name])

    async def _hear(self) -> None:
        """Passes events on one by one, however long each has to wait."""
        try:
            while True:
                upward = await self._frame(self._news_reader)
                if isinstance(upward, Notice):
                    try:
                        await self._on_news(upward.news)
                    except Exception:
                        # an event that cannot be handled must not block the others; messages are in the journal
                        log.exception("engine_event_failed", pid=self.pid, news=type(upward.news).__name__)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the process ended, which `_listen` handles
        except ValueError as error:
            self._lost_step(error)
            self.kill()

    async def _frame(self, reader: asyncio.StreamReader) -> Reply | Notice | None:
        """The next frame; None for one that cannot be read, which is counted and skipped.

        Raises ValueError when the frame boundaries are lost, IncompleteReadError and OSError at the end.
        """
        body = await reader.readexactly(body_length(await reader.readexactly(4)))
        try:
            return decode_upward(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self.unreadable += 1
            log.warning("engine_problem", pid=self.pid, what="a frame could not be read", error=str(error))
            return None

    async def _reap(self) -> None:
        self.kill()
        # waiting news are dropped: connection states are obsolete, and messages are in the journal
        self._hearing.cancel()
        status = await self._process.wait()
        self.killed_from_outside = status == -signal.SIGKILL and self.why_lost == reasons.HOST_ENDED()
        # read its last output to the end, so that the pipe is closed
        await asyncio.wait({self._draining}, timeout=_LAST_WORDS)
        for writer in (self._writer, self._news_writer):
            writer.transport.abort()
        await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn
        os.close(self._pidfd)
        self._over.set()
        log.info("engine_host_ended", pid=self.pid, status=status, reason=self.why_lost.code)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HostLostError(self.why_lost))
        for task in (self._draining, self._watching):
            task.cancel()
        self._note_threads({})

    async def _drain(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                continue  # an overlong line; its rest follows
            if not line:
                return
            log.debug("engine_output", pid=self.pid, line=masked(line.decode(errors="replace").rstrip()))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PING_EVERY)
            try:
                await self.call(Ping(), _PING_TIMEOUT)
            except HostLostError:
                return


def masked(line: str) -> str:
    """A line of the engine's output without phone numbers, ids, keys and codes."""
    return _SECRETIVE.sub("…", line)

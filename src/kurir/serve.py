"""The production process: runs one gateway until SIGTERM or SIGINT.

When it answers it writes `<data_dir>/gateway.json` (`pid`, `url`), which `kurir number …` and `kurir demo` read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import NoReturn

import structlog
import uvicorn.config
import uvicorn.server
from starlette.types import ASGIApp

from kurir.app import running
from kurir.data_folder import READY_FILE, ReadyFile, write_ready_file
from kurir.kit.tasks import GaveUpError, TaskHealth, Tasks
from kurir.settings import Settings, SettingsError
from kurir.web.http.connection_limits import HttpFront, Limits
from kurir.web.server import build

_GRACE = 25.0
"""Seconds that sends in flight may take to finish after SIGTERM; later ones are settled by evidence at the next
start."""
_LAST_ANSWERS = 3
"""Additional seconds for the callers who waited for them."""
_TICKS_A_SECOND = 10
"""How often uvicorn calls `on_tick`."""
_SWEEP_AT_THE_END = 0.5
"""Seconds between two checks of the connections while the server stops."""
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)
_MANY_FILES = 1_000_000
_OTHER_FILES = 512
"""Open files reserved for everything but callers' connections: database, engine hosts, fetches, webhooks."""

log = structlog.get_logger(__name__)


class Server(uvicorn.server.Server):
    """uvicorn without its signal handling, which would kill the process before the gateway has stopped in order."""

    def __init__(self, front: HttpFront, config: uvicorn.config.Config) -> None:
        super().__init__(config)
        self._front = front

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            self._sweep()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for all connections to end, as uvicorn does, which ticks no longer: they are checked all the same."""
        self._front.stop(asyncio.get_running_loop().time())
        tasks = Tasks()
        tasks.spawn("last-connections", self._sweep_on())
        try:
            await super().shutdown(sockets)
        finally:
            await tasks.close()

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_AT_THE_END)
            self._sweep()

    def _sweep(self) -> None:
        try:
            self._front.sweep(asyncio.get_running_loop().time())
        except Exception:  # uvicorn's loop must go on
            log.exception("connection_sweep_failed")

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def serve(settings: Settings, start_anew: Callable[[], Awaitable[NoReturn]] | None = None) -> None:
    """Runs the gateway until it is stopped; a process that has migrated the database ends by `start_anew` instead.

    Raises what `running` raises, SettingsError for a host that is not of this machine, OSError for a port in use, and
    GaveUpError when a vital task kept failing.
    """
    stop = _Stop()
    try:
        hopeless = await _served(settings, stop, start_anew)
    except asyncio.CancelledError:
        if not stop.requested.is_set():
            raise
        log.info("server_stopped", while_="starting")
        return
    if hopeless:
        raise GaveUpError(f"{hopeless} keeps failing (see the log); a supervisor such as systemd should start it again")


def server_config(app: ASGIApp, front: HttpFront, settings: Settings) -> uvicorn.config.Config:
    """How uvicorn serves the gateway, and whatever the gateway's speed is compared with."""
    return uvicorn.config.Config(
        app,
        loop="none",
        http=front.protocol(),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        date_header=True,
        timeout_graceful_shutdown=int(_GRACE) + _LAST_ANSWERS,
        backlog=2048,
    )


class _Stop:
    """SIGTERM or SIGINT: the first one cancels the start or sets `requested`; further ones change nothing."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self._starting = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._request)

    def started(self) -> None:
        """Ends the start phase: a signal is only recorded from now on."""
        self._starting = None

    def _request(self) -> None:
        if not self.requested.is_set() and self._starting is not None:
            self._starting.cancel()  # what was started is closed in order
        self.requested.set()


async def _served(settings: Settings, stop: _Stop, start_anew: Callable[[], Awaitable[NoReturn]] | None) -> str:
    """Serves until it is stopped, or a vital task keeps failing: returns that task's name, else ""."""
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    hopeless = ""
    url = f"http://{_host_in_url(settings.host)}:{port}"
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(listener)
        gateway = await stack.enter_async_context(running(settings, settings.gateway_url or url, start_anew=start_anew))
        front = HttpFront(_front_limits(settings))
        server = Server(front, server_config(build(gateway, settings.public_url or url), front, settings))
        stop.started()
        tasks = Tasks(gateway.health)
        work = tasks.spawn("http-server", server.serve(sockets=[listener]))
        while not server.started and not work.done():  # noqa: ASYNC110 - uvicorn only sets a flag
            await asyncio.sleep(0.01)
        if server.started:
            gc.freeze()  # what is loaded stays: no collection looks at it again
            gc.enable()  # `kurir serve` switches it off while it loads
            write_ready_file(settings.data_dir, ReadyFile(os.getpid(), url))
            log.info("server_started", url=url, data_dir=str(settings.data_dir))
            if settings.sandbox:
                log.warning("SANDBOX IS ON: linked devices talk to a simulated WhatsApp, not to the real one")
            hopeless = await _until_stop_requested(stop.requested, work, gateway.health)
            log.info("server_stopping", reason=hopeless or None)
            server.should_exit = True  # no new connections; requests in progress continue
            cut = await gateway.stop_sending(_GRACE)
            log.info("sends_finished", cut_off=cut)
        await work
        await tasks.close()
        (settings.data_dir / READY_FILE).unlink(missing_ok=True)
    return hopeless


async def _until_stop_requested(stop_requested: asyncio.Event, work: asyncio.Task[None], health: TaskHealth) -> str:
    """Waits for a signal, the end of the server, or a vital task that keeps failing; returns the task's name or ""."""
    tasks = Tasks()
    signal_came = tasks.spawn("signal", stop_requested.wait())
    hopeless = tasks.spawn("hopeless", health.hopeless())
    await asyncio.wait({signal_came, hopeless, work}, return_when=asyncio.FIRST_COMPLETED)
    gave_up = hopeless.result() if hopeless.done() else ""
    await tasks.close()
    return gave_up


def _front_limits(settings: Settings) -> Limits:
    """The limits of the HTTP server, as far as open files allow; both are logged."""
    files = _raise_file_limit()
    connections = max(64, min(settings.max_connections, files - _OTHER_FILES))
    log.info(
        "connection_limits", open_files=files, connections=connections, per_address=settings.max_connections_per_address
    )
    return Limits(
        head_bytes=settings.max_head_bytes,
        head_seconds=settings.head_timeout,
        idle_seconds=settings.keep_alive_timeout,
        connections=connections,
        per_address=settings.max_connections_per_address,
        trusted=settings.trusted_proxies,
    )


def _raise_file_limit() -> int:
    """Raises the process's limit of open files to the hard limit; returns the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft if soft != resource.RLIM_INFINITY else _MANY_FILES


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (socket.gaierror, UnicodeError) as error:
        listener.close()
        raise SettingsError(f"KURIR_HOST: expected an address of this machine or its name, got {host!r}") from error
    except OSError as error:
        listener.close()
        if error.errno in _NO_SUCH_ADDRESS:
            raise SettingsError(f"KURIR_HOST: {host} is no address of this machine") from error
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror} (set KURIR_PORT to another port)") from error
    listener.setblocking(False)
    return listener


def _host_in_url(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host

"""The production start: one process with all parts and doors, until SIGTERM or SIGINT.

When it answers it writes `<data_dir>/gateway.json` (`pid`, `url`), which `kurir number …` and `kurir demo` read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import structlog
import uvicorn

from kurir.app import running
from kurir.foundation.data_folder import READY_FILE, ReadyFile, write_ready_file
from kurir.foundation.tasks import GaveUpError, TaskHealth, Tasks
from kurir.settings import Settings
from kurir.web.server import build

_GRACE = 25.0
"""Seconds that sends in flight may take to finish after SIGTERM; what takes longer is settled by evidence next time."""
_LAST_ANSWERS = 3
"""Seconds more for the callers who waited for them."""

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: it would kill the process before our parts have stopped in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Runs the gateway until it is told to stop.

    Raises what `running` raises, OSError for a port in use, and GaveUpError when a vital task could not be helped.
    """
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    hopeless = ""
    url = f"http://{_host_in_url(settings.host)}:{port}"
    async with running(settings, settings.gateway_url or url) as gateway:
        server = _Server(
            uvicorn.Config(
                build(gateway, settings.public_url or url),
                loop="none",
                http="httptools",
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
        )
        told_to_stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        tasks = Tasks(gateway.health)
        work = tasks.spawn("http-server", server.serve(sockets=[listener]))
        while not server.started and not work.done():  # noqa: ASYNC110 - uvicorn tells it by a flag only
            await asyncio.sleep(0.01)
        if server.started:
            write_ready_file(settings.data_dir, ReadyFile(os.getpid(), url))
            log.info("serving", url=url, data_dir=str(settings.data_dir))
            if settings.sandbox:
                log.warning("SANDBOX IS ON: linked devices talk to a simulated WhatsApp, not to the real one")
            hopeless = await _until_told(told_to_stop, work, gateway.health)
            log.info("stopping", reason=hopeless or None)
            server.should_exit = True  # no new connections; requests under way go on
            if gateway.leases is not None:
                gateway.leases.stop_taking()
            cut = await gateway.dispatcher.stop(_GRACE)
            gateway.outbox.dismiss()
            log.info("sends_finished", cut_off=cut)
        await work
        await tasks.close()
        (settings.data_dir / READY_FILE).unlink(missing_ok=True)
    if hopeless:
        raise GaveUpError(f"{hopeless} keeps failing (see the log); a supervisor such as systemd should start it again")


async def _until_told(told_to_stop: asyncio.Event, work: asyncio.Task[None], health: TaskHealth) -> str:
    """Waits for a signal, for a server that ends of itself, or for a vital task that cannot be helped: its name."""
    tasks = Tasks()
    signal_came = tasks.spawn("signal", told_to_stop.wait())
    hopeless = tasks.spawn("hopeless", health.hopeless())
    await asyncio.wait({signal_came, hopeless, work}, return_when=asyncio.FIRST_COMPLETED)
    gave_up = hopeless.result() if hopeless.done() else ""
    await tasks.close()
    return gave_up


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror} (set KURIR_PORT to another port)") from error
    listener.setblocking(False)
    return listener


def _host_in_url(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host

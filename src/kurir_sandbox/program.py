"""The sandbox as a program: one HTTP server with the control API on `/` and the Graph API on `/graph`.

When it is ready it writes `<data>/sandbox.json`, with the addresses for a gateway and tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from kurir_sandbox.control.server import application as control_application
from kurir_sandbox.graph_api.routes import application as graph_application
from kurir_sandbox.sandbox import Sandbox
from kurir_sandbox.seed import SeedName

READY_FILE = "sandbox.json"

log = structlog.get_logger(__name__)


async def run(data: Path, host: str, port: int, seed_name: SeedName, with_web: bool) -> None:
    """Run until SIGTERM or SIGINT. With port 0 a free port is taken, and taken again at the next start.

    Raises OSError when the port is not free.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ready_file = data / READY_FILE
    ready_file.unlink(missing_ok=True)
    sandbox = Sandbox(data, host, seed_name, with_web)
    try:
        listener = _listen(host, port or int(sandbox.world.state.get("ports", "http") or 0), fallback=port == 0)
        bound = listener.getsockname()[1]
        sandbox.world.state.put("ports", "http", str(bound).encode())
        await sandbox.start()
        app = control_application(sandbox)
        app.add_subapp("/graph", graph_application(sandbox.graph))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        _write_atomically(ready_file, _whereabouts(sandbox, f"http://{host}:{bound}"))
        log.info("sandbox_ready", url=f"http://{host}:{bound}", data=str(data))
        await stop.wait()
        log.info("sandbox_stopping")
        ready_file.unlink(missing_ok=True)
        await runner.cleanup()
    finally:
        await sandbox.stop()


def _listen(host: str, port: int, fallback: bool) -> socket.socket:
    """A listening socket on `port`; with `fallback` any free port when that one is taken."""
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError:
        if not fallback or port == 0:
            raise
        return socket.create_server((host, 0), backlog=1024)


def _whereabouts(sandbox: Sandbox, url: str) -> dict[str, Any]:
    network = sandbox.web
    return {
        "pid": os.getpid(),
        "url": url,
        "graph_url": f"{url}/graph",
        "proxy_url": network.proxy_url if network else None,
        "ca_file": str(network.ca_file) if network else None,
        "noise_root": network.noise_root.hex() if network else None,
        "businesses": [asdict(business) for business in sandbox.world.businesses()],
    }


def _write_atomically(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".part")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(content, indent=2))
    partial.replace(path)

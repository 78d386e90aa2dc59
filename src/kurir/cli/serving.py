"""`kurir serve`: loads and runs the gateway, with no more in memory than it needs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from typing import NoReturn

from kurir.kit.deferred_imports import deferred
from kurir.settings import Settings, unknown_settings

_SELDOM_USED = ("rich", "rich.console", "rich.pretty", "rich.traceback", "uvicorn.main", "limits.aio")
"""What structlog (for tracebacks in colour), uvicorn (for its own command line) and limits import."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TAKEN = 0.01
"""Seconds in which the event loop takes a signal that came just before."""


def serve(*, roles: str = "") -> None:
    """Start the gateway for production: no sandbox, settings from the environment (see README).

    Args:
        roles: What this process does, as in KURIR_ROLES: some of api, dispatch, webhooks, with commas between.
    """
    gc.disable()  # until the gateway runs: nothing of what is loaded becomes garbage
    with deferred(*_SELDOM_USED):
        import kurir.serve  # noqa: PLC0415 - it takes a second, and what concerns the whole process comes first
    import structlog  # noqa: PLC0415
    import uvloop  # noqa: PLC0415

    from kurir.kit.logs import configure_logging  # noqa: PLC0415

    settings = Settings.load({**os.environ, "KURIR_ROLES": roles} if roles else None)
    configure_logging(settings)
    for sentence in unknown_settings():
        structlog.get_logger("kurir.settings").warning("unknown_setting", reason=sentence)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(kurir.serve.serve(settings, start_anew=_start_anew))


async def _start_anew() -> NoReturn:
    """Replaces the process by a new one with the same arguments, environment and process id; no signal is lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)  # they wait until the new program takes them
    try:
        await asyncio.sleep(_TAKEN)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own program
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)

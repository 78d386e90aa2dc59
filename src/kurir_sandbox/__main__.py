"""`python -m kurir_sandbox`: start the sandbox."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

import structlog

from kurir_sandbox.program import run


def main() -> None:
    """Reads the command line and runs until stopped."""
    parser = argparse.ArgumentParser(prog="kurir_sandbox", description="A WhatsApp that fits in one process.")
    parser.add_argument("--data", type=Path, required=True, help="folder for its databases and media")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8090, help="port, 0 for a free one (default 8090)")
    parser.add_argument("--seed", choices=("default", "empty"), default="default", help="who exists at first")
    parser.add_argument("--no-web", action="store_true", help="leave out the linked-device wire")
    parser.add_argument("--verbose", action="store_true", help="log debug messages too")
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        parser.error("--port must be from 0 to 65535")
    _log_to_stderr(logging.DEBUG if options.verbose else logging.INFO)
    try:
        asyncio.run(run(options.data, options.host, options.port, options.seed, with_web=not options.no_web))
    except OSError as problem:
        parser.exit(1, f"kurir_sandbox: {problem}\n")


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(stream=sys.stderr, level=level, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()

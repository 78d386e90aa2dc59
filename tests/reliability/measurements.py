"""What a large run came to, for `docs/measurements.md`: with its date, machine and commit.

`KURIR_MEASUREMENTS=<file>` appends each result there (`make storm` and `make soak` set it); they are always printed.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path


def report(title: str, figures: str) -> None:
    """Prints the figures (lines of text) and appends them to the file of measurements, if one is named."""
    sys.stderr.write(f"\n{title}\n{figures}\n")
    if file := os.environ.get("KURIR_MEASUREMENTS"):
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        with Path(file).open("a", encoding="utf-8") as book:
            book.write(f"\n## {when} · {title}\n\n{_machine()}, commit {_commit()}\n\n```\n{figures}\n```\n")


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[1]
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load of the last five minutes {load:.1f}"
    )


def _commit() -> str:
    here = Path(__file__).parent
    named = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=here, capture_output=True, text=True, check=False
    )
    return named.stdout.strip() or "unknown"

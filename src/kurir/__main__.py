"""The `kurir` command, also as `python -m kurir`.

`kurir serve` can be stopped at any moment: while it loads its program nothing is open, and the process simply ends.
After that `serve` handles the signals itself.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] == ["serve"]:
        for number in _STOP_SIGNALS:
            signal.signal(number, _end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)  # one may have come while the program started anew
    from kurir.cli import main as command  # noqa: PLC0415 - takes a second, in which a signal may come

    command()


def _end(_number: int, _frame: object) -> NoReturn:
    os._exit(0)  # an exception could be lost in whatever is being imported


if __name__ == "__main__":
    main()

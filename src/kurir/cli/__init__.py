"""The `kurir` command: runs one command, and ends in one sentence where it cannot do what was asked.

`kurir serve` is run without the libraries that parse command lines and draw: it keeps for months what it loads.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """Runs the command line; a user's error ends in one sentence and exit code 1, never in a traceback."""
    os.umask(0o077)  # created files may hold messages
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that cannot show a character still shows the rest
    try:
        _run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from kurir.cli.failures import report  # noqa: PLC0415 - it knows every error, and imports what raises them

        sys.exit(report(error))


def _run(arguments: list[str]) -> None:
    match arguments:
        case ["serve"]:
            roles = ""
        case ["serve", "--roles", roles] if not roles.startswith("-"):
            pass
        case _:
            from kurir.cli.commands import run  # noqa: PLC0415 - see above

            run(arguments)
            return
    from kurir.cli.serving import serve  # noqa: PLC0415 - a signal may come while it is loaded

    serve(roles=roles)

"""`kurir serve` whose statements are counted: for the budget of a benchmark.

`python -m kurir.bench.counted_gateway FILE` writes the counts so far to FILE for each line of its standard input; they
come with the line as `asked`.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import msgspec
import uvloop

from kurir.kit.logs import configure_logging
from kurir.serve import serve
from kurir.settings import Settings
from kurir.store.statement_counts import Counted, StatementCounts, counting


class Answer(msgspec.Struct, frozen=True):
    """The counts, and the line that asked for them."""

    asked: str
    counted: Counted


def answer_all(counts: StatementCounts, file: Path) -> None:
    """Answers every line until there are no more."""
    part = file.with_suffix(".part")
    for line in sys.stdin:
        part.write_bytes(msgspec.json.encode(Answer(line.strip(), counts.now())))
        part.replace(file)  # without a flush, which would count as the gateway's own


def main() -> None:
    """Serves until SIGTERM."""
    settings = Settings.load()
    configure_logging(settings)
    with counting() as counts:
        threading.Thread(target=answer_all, args=(counts, Path(sys.argv[1])), daemon=True).start()
        uvloop.run(serve(settings))


if __name__ == "__main__":
    main()

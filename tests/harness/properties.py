"""How many examples a property test draws: a small dose in `make check`, the full one in `make test`."""

from __future__ import annotations

import os

FULL = os.environ.get("KURIR_EXAMPLES", "full") == "full"


def examples(full: int = 100) -> int:
    """`full`, or a fifth of it (at least ten) where a small dose was asked for by KURIR_EXAMPLES=few."""
    return full if FULL else min(full, max(10, full // 5))

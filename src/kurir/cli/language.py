"""The language of reasons on the command line: the terminal's."""

from __future__ import annotations

import os


def language() -> str:
    """`id` when LC_ALL, LC_MESSAGES or LANG (the first that is set) is Indonesian, else `en`."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name, ""):
            return "id" if value.lower().startswith(("id", "in_")) else "en"
    return "en"

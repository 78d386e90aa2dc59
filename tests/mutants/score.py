"""Prints how many mutants the tests killed, by module, from what `mutmut run` left in `mutants/`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

TARGET = 0.85
_MEANINGS = {0: "survived", 5: "survived", 33: "survived", None: "not run", 34: "not run"}
_MEANINGS |= dict.fromkeys((24, -24, 36, 152, 255), "timed out")
"""By exit code of the tests of a mutant, or of their lack: a mutant that no test reaches has survived. Every other code
is a failed test. What timed out counts for nothing: it may never end, or the machine was busy."""


def counted(folder: Path) -> dict[str, Counter[str]]:
    """Mutants by module and by what became of them."""
    found: dict[str, Counter[str]] = {}
    for file in sorted(folder.rglob("*.meta")):
        codes = json.loads(file.read_text())["exit_code_by_key"].values()
        if codes:
            name = str(file.relative_to(folder / "src").with_suffix("").with_suffix("")).replace("/", ".")
            found[name] = Counter(_MEANINGS.get(code, "killed") for code in codes)
    return found


def line(name: str, counts: Counter[str]) -> str:
    """A row of the table: killed of those whose tests ended, and how many others there are."""
    run = counts["killed"] + counts["survived"]
    share = f"{counts['killed'] / run:.0%}" if run else "–"
    return f"| {name} | {counts['killed']} of {run} | {share} | {counts['timed out']} | {counts['not run']} |"


def main() -> None:
    """Prints the table, and exits with 1 when the target is missed or nothing was run."""
    modules = counted(Path("mutants"))
    total = sum(modules.values(), Counter[str]())
    print("| module | killed | score | timed out | not run |\n| --- | --- | --- | --- | --- |")  # noqa: T201
    for name, counts in modules.items():
        print(line(name, counts))  # noqa: T201
    print(line("all", total))  # noqa: T201
    run = total["killed"] + total["survived"]
    sys.exit(not run or total["killed"] / run < TARGET)


if __name__ == "__main__":
    main()

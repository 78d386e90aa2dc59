"""The log is told once a minute what lasts, or what anybody may cause."""

from __future__ import annotations

import ast
import asyncio
import threading
from pathlib import Path

import pytest

import kurir
from kurir.kit import log_limit
from kurir.kit.log_limit import LogLimit
from kurir.kit.log_summary import LogSummary


def test_each_thing_is_logged_once_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(log_limit.time, "monotonic", lambda: now[0])
    limit = LogLimit()
    assert [limit.is_due(), limit.is_due(), limit.is_due("other"), limit.is_due("other")] == [True, False, True, False]
    now[0] += 30
    assert not limit.is_due()
    now[0] += 30
    assert [limit.is_due(), limit.is_due()] == [True, False], "a look in between does not put it off"
    now[0] += 3_600
    limit.is_due("one more")
    assert set(limit._logged_at) == {"one more"}, "what was said long ago takes no memory"


def test_of_many_threads_one_says_it() -> None:
    limit, start, output = LogLimit(), threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        output.extend(what for what in range(500) if limit.is_due(what))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(output) == list(range(500))


async def test_a_flood_is_summed_up_and_the_next_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_limit, "EVERY", 0.05)
    output: list[dict[str, int]] = []
    summary = LogSummary(output.append)
    for expected in ({"a": 500, "b": 1}, {"b": 2}):
        output.clear()
        for what, count in expected.items():
            for _ in range(count):
                summary.note(what)
        async with asyncio.timeout(5):
            while not output:
                await asyncio.sleep(0.005)
        assert output == [expected]


def test_nobody_else_counts_the_minute() -> None:
    """A module that has its own figure for how often something is said does by hand what this one does."""
    root = Path(kurir.__file__).parent
    found = [
        f"{file.relative_to(root)}:{node.lineno}"
        for file in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store)
        if (node.id if isinstance(node, ast.Name) else node.attr)
        .lower()
        .endswith(("say_at", "said_at", "say_again", "say_every"))
        and file != root / "kit" / "log_limit.py"
    ]
    assert not found, found

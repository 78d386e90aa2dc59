"""`kit/backoff`: pauses grow to a limit and begin small again."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kurir
from kurir.channels.linked_device import logins
from kurir.kit.backoff import Backoff, pause_after

SOURCE = Path(kurir.__file__).parent


def test_pauses_double_up_to_the_limit() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.after_failure() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_reset_begins_with_the_first_pause() -> None:
    backoff = Backoff(0.5, 30.0)
    backoff.after_failure()
    backoff.after_failure()
    backoff.reset()
    assert backoff.last == 0.0
    assert backoff.after_failure() == 0.5
    assert backoff.last == 0.5


def test_no_pause_is_longer_than_the_limit() -> None:
    assert Backoff(5.0, 2.0).after_failure() == 2.0


@pytest.mark.parametrize("failures", [65, 1_025, 10**9])
def test_what_fails_for_weeks_waits_the_longest_pause(failures: int) -> None:
    assert pause_after(failures, 1.0, 3_600.0) == 3_600.0
    assert logins._LONGEST <= logins.pause(failures) <= logins._LONGEST * (1 + logins._JITTER)


def test_pauses_are_doubled_in_one_place() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in sorted(SOURCE.rglob("*.py"))
        if file != SOURCE / "kit" / "backoff.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and ast.unparse(node.left) in {"2", "2.0"}
        if not isinstance(node.right, ast.Constant)  # a bound
    ]
    assert not found, found

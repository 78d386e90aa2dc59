"""Deferred imports: the module is executed when one of its names is used, and not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kurir.kit.deferred_imports import deferred

PACKAGE = """
import builtins
builtins.slow_was_loaded += 1
from .values import ANSWER
def add(a, b): return a + b
"""
PARTS = """
ANSWER = 42
class Part:
    KIND = "part"
    def __enter__(self): return self
    def __exit__(self, *_): pass
"""
FILES = {
    "__init__.py": PACKAGE,
    "parts.py": PARTS,
    "values.py": "ANSWER = 42",
    "unused.py": "raise RuntimeError('this was loaded')",
}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How often the package `slow` was executed; it is deferred, as are its parts."""
    folder = tmp_path / "slow"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.slow_was_loaded", 0, raising=False)
    with deferred("slow", "slow.parts"):
        yield lambda: sys.modules["builtins"].__dict__["slow_was_loaded"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "slow"]:
        del sys.modules[name]


def test_importing_executes_nothing_and_the_first_call_does(loaded: Callable[[], int]) -> None:
    import slow  # pyright: ignore[reportMissingImports]
    from slow import add  # pyright: ignore[reportMissingImports]

    import_again = importlib.import_module("slow")
    assert import_again is slow
    assert loaded() == 0
    assert add(1, 2) == 3
    assert slow.add(1, 2) == 3
    assert slow.ANSWER == 42
    assert loaded() == 1
    assert type(slow) is type(sys)


def test_a_class_and_a_submodule_are_looked_into_when_they_are_used(loaded: Callable[[], int]) -> None:
    from slow import parts  # pyright: ignore[reportMissingImports]
    from slow.parts import Part  # pyright: ignore[reportMissingImports]

    assert loaded() == 0
    assert Part.KIND == "part"
    with Part() as part:
        assert isinstance(part, parts.Part)
    assert parts.ANSWER == 42


def test_a_submodule_that_is_not_deferred_is_loaded_at_once(loaded: Callable[[], int]) -> None:
    with pytest.raises(RuntimeError, match="this was loaded"):
        import slow.unused  # noqa: F401  # pyright: ignore[reportMissingImports]


def test_what_cannot_be_loaded_says_so_each_time(loaded: Callable[[], int], tmp_path: Path) -> None:
    (tmp_path / "slow" / "__init__.py").write_text("import no_such_library_anywhere\ndef add(a, b): return a + b\n")
    from slow import add  # pyright: ignore[reportMissingImports]

    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_library_anywhere"):
            add(1, 2)


def test_a_name_that_the_module_lacks_is_an_error_of_its_use(loaded: Callable[[], int]) -> None:
    from slow import nothing  # pyright: ignore[reportMissingImports]

    with pytest.raises(AttributeError, match="nothing"):
        nothing()


def test_a_module_that_does_not_exist_is_not_found(loaded: Callable[[], int]) -> None:
    with deferred("no_such_library_anywhere"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_library_anywhere")


def test_after_the_block_everybody_gets_the_real_module(loaded: Callable[[], int]) -> None:
    from slow import add  # pyright: ignore[reportMissingImports]

    with deferred("slow.values"):
        import slow.values  # pyright: ignore[reportMissingImports]

        placeholder = slow.values.ANSWER
    from slow.values import ANSWER  # pyright: ignore[reportMissingImports]

    assert ANSWER == 42
    assert placeholder.bit_length() == 6
    assert add(1, 2) == 3

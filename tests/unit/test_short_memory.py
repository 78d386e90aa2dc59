"""What was looked up is remembered for as long as `cachetools` would remember it, and never too much of it."""

from __future__ import annotations

from cachetools import TTLCache
from hypothesis import given
from hypothesis import strategies as st

from kurir.kit.short_memory import ShortMemory

steps = st.lists(st.tuples(st.floats(0, 3), st.sampled_from("abc"), st.sampled_from(["get", "put", "drop"])))


@given(steps)
def test_it_remembers_as_long_as_the_library(steps: list[tuple[float, str, str]]) -> None:
    now = [1_000.0]
    memory: ShortMemory[str, int] = ShortMemory(10, 5.0)
    library: TTLCache[str, int] = TTLCache(10, 5.0, lambda: now[0])
    for number, (pause, key, step) in enumerate(steps):
        now[0] += pause
        if step == "put":
            memory.put(key, number, now[0])
            library[key] = number
        elif step == "drop":
            memory.drop(key)
            library.pop(key, None)
        assert memory.get(key, now[0]) == library.get(key)


def test_with_too_many_the_oldest_go() -> None:
    memory: ShortMemory[int, str] = ShortMemory(3, 5.0)
    for key in range(5):
        memory.put(key, "x", 1.0)
    memory.put(2, "again", 1.5)
    memory.put(5, "new", 2.0)
    assert [memory.get(key, 2.0) for key in range(6)] == [None, None, "again", None, "x", "new"]


def test_nothing_that_has_ended_stays_in_memory() -> None:
    memory: ShortMemory[str, str] = ShortMemory(1_000, 5.0)
    for number in range(100):
        memory.put(f"key {number}", "x", 1.0)
    memory.put("later", "x", 6.0)
    assert len(memory) == 1
    assert memory.get("later", 11.0) is None
    assert len(memory) == 0

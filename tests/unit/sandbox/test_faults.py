"""The plan of faults: whom it matches, how often it strikes, and that chance is repeatable."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir_sandbox.fault_effects import EFFECTS
from kurir_sandbox.faults import Fault, Faults, Occasion, magic

HERE = Occasion("cloud_api", "62811", "62812", "send")


def struck(times: int, *faults: Fault, at: Occasion = HERE) -> list[str]:
    """The effects that strike at `times` equal occasions."""
    plan = Faults()
    for fault in faults:
        plan.add(fault)
    hits = [plan.strike(at, *EFFECTS) for _ in range(times)]
    return [hit.effect if hit else "" for hit in hits]


@pytest.mark.parametrize(
    ("match", "strikes"),
    [
        ({}, True),
        ({"channel": "cloud_api", "number": "62811", "phone": "62812", "kind": "send"}, True),
        ({"channel": "linked_device"}, False),
        ({"number": "62812"}, False),
        ({"phone": "62811"}, False),
        ({"kind": "upload"}, False),
    ],
)
def test_it_strikes_only_whom_it_matches(match: dict[str, Any], strikes: bool) -> None:
    fault = Fault("error", **match)
    assert struck(1, fault) == (["error"] if strikes else [""])
    assert (fault.seen, fault.hits) == ((1, 1) if strikes else (0, 0))


def test_what_is_not_known_yet_matches_nothing_that_is_asked_for() -> None:
    assert struck(1, Fault("error", phone="62812"), at=Occasion("cloud_api", "62811")) == [""]


def test_the_next_ones_after_some_that_pass() -> None:
    fault = Fault("error", skip=2, count=3)
    assert struck(7, fault) == ["", "", "error", "error", "error", "", ""]
    assert (fault.seen, fault.hits) == (5, 3)


def test_the_first_that_strikes_decides_and_the_others_wait() -> None:
    first, second = Fault("http", count=1), Fault("error", count=1)
    assert struck(3, first, second) == ["http", "error", ""]


def test_only_the_effects_asked_for() -> None:
    plan = Faults()
    plan.add(Fault("lose"))
    assert plan.strike(HERE, "error", "http") is None
    assert plan.all()[0].seen == 0


@given(st.integers(0, 2**62), st.floats(0, 1))
def test_chance_is_repeatable_whatever_stands_beside_it(seed: int, probability: float) -> None:
    alone = struck(30, Fault("error", seed=seed, probability=probability))
    bystander = Fault("error", phone="62899", probability=0.5)
    assert struck(30, bystander, Fault("error", seed=seed, probability=probability)) == alone
    if probability in (0, 1):
        assert set(alone) == {"error" if probability else ""}


def test_chance_keeps_its_odds() -> None:
    assert 200 <= struck(1000, Fault("error", probability=0.25)).count("error") <= 300


def test_faults_end_one_by_one_by_effect_or_all() -> None:
    plan = Faults()
    first, second, third = (plan.add(Fault(effect)) for effect in ("lose", "error", "lose"))
    assert [first.id, second.id, third.id] == [1, 2, 3]
    assert plan.end(2)
    assert not plan.end(2)
    fourth = plan.add(Fault("error"))
    plan.clear("lose")
    assert plan.all() == [fourth]
    plan.clear()
    assert plan.all() == []


@pytest.mark.parametrize(
    ("phone", "fate"),
    [
        ("62819990131026", ("fail", 131026)),
        ("62819991130429", ("error", 130429)),
        ("6281999999901", None),
        ("6281999013102", None),
        ("628199901310260", None),
        ("6281234567801", None),
        ("", None),
    ],
)
def test_magic_numbers(phone: str, fate: tuple[str, int] | None) -> None:
    assert magic(phone) == fate

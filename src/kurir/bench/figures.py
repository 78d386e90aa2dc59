"""What a run finds: one figure for each line of the report, with every round of it."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from kurir.bench.load import Outcome
from kurir.bench.processes import Cpu


class Goal(msgspec.Struct, frozen=True):
    """What a figure is held to: `of` its ratio to the peer or its own value; `less` when less is better."""

    of: Literal["ratio", "value"]
    floor: float | None = None
    aim: float | None = None
    less: bool = False


class Sample(msgspec.Struct, frozen=True):
    """One round: what the load came to, and the processor time of the server per request, in microseconds."""

    outcome: Outcome
    loop_us: float
    threads_us: float
    children_us: float

    @classmethod
    def of(cls, outcome: Outcome, spent: Cpu) -> Sample:
        """From the processor time of a whole round."""
        each = spent.each(outcome.done)
        return cls(outcome, each.loop, each.threads, each.children)


class Side(msgspec.Struct, frozen=True):
    """One side of a comparison: medians of its rounds. Times in milliseconds, processor time in microseconds of the
    event loop's thread, of the other threads and of child processes, per message."""

    name: str
    value: float
    rounds: list[float]
    p50_ms: float | None = None
    p99_ms: float | None = None
    loop_us: float | None = None
    threads_us: float | None = None
    children_us: float | None = None
    lost: int = 0
    refused: int = 0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report. `ratio` is the median of the ratios of the pairs; `missing` says why there is no peer,
    or no value at all."""

    row: str
    what: str
    unit: str
    ours: Side | None = None
    peer: Side | None = None
    ratio: float | None = None
    ratios: list[float] = []
    goal: Goal | None = None
    missing: str = ""
    note: str = ""

    @property
    def judged(self) -> float | None:
        """The number that the goal is about."""
        if self.goal is not None and self.goal.of == "ratio":
            return self.ratio
        return self.ours.value if self.ours else None

    def reached(self) -> str:
        """`aim`, `floor` or `below`; "" without a goal or a number."""
        value, goal = self.judged, self.goal
        if goal is None or value is None:
            return ""
        for name, bound in (("aim", goal.aim), ("floor", goal.floor)):
            if bound is not None and (value <= bound if goal.less else value >= bound):
                return name
        return "below"


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one message takes on a path, on average: see `store/statement_counts`; `flushes` of files to the disk."""

    path: str
    connections: int
    messages: int
    transactions: float
    statements: float
    control: float
    reads: float
    on_loop: float
    flushes: float


Round = Callable[[], Awaitable[Sample]]


async def in_pairs(rounds: int, ours: Round, peer: Round) -> tuple[list[Sample], list[Sample]]:
    """Rounds of both sides in turn, each side first in every other pair, so that the machine's moods hit both alike."""
    mine: list[Sample] = []
    theirs: list[Sample] = []
    for i in range(rounds):
        for side, found in [(ours, mine), (peer, theirs)][:: 1 if i % 2 == 0 else -1]:
            found.append(await side())
    return mine, theirs


def side_of(name: str, samples: Sequence[Sample]) -> Side:
    """Medians of rounds, in requests a second."""
    rates = [sample.outcome.per_second for sample in samples]
    median = statistics.median
    return Side(
        name,
        median(rates),
        rates,
        median(sample.outcome.p50_ms for sample in samples),
        median(sample.outcome.p99_ms for sample in samples),
        median(sample.loop_us for sample in samples),
        median(sample.threads_us for sample in samples),
        median(sample.children_us for sample in samples),
        sum(sample.outcome.lost for sample in samples),
        sum(sample.outcome.refused for sample in samples),
    )


def values_of(name: str, values: Sequence[float]) -> Side:
    """The median of plain values."""
    return Side(name, statistics.median(values), list(values))


def compared(  # noqa: PLR0917 - the columns of a line
    row: str, what: str, ours: Side, peer: Side, goal: Goal | None, unit: str = "/s", note: str = ""
) -> Figure:
    """A figure of two sides measured in pairs."""
    ratios = [mine / theirs for mine, theirs in zip(ours.rounds, peer.rounds, strict=True) if theirs]
    ratio = statistics.median(ratios) if ratios else None
    return Figure(row=row, what=what, unit=unit, ours=ours, peer=peer, ratio=ratio, ratios=ratios, goal=goal, note=note)

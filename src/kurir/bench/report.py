"""A run's figures as a table for people and as JSON for programs."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from kurir.bench.figures import Cost, Figure, Goal, Side
from kurir.bench.machine import Machine

_ANY_WIDTH = 1_000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run: the JSON that `--json` writes."""

    machine: Machine
    seconds: float
    rounds: int
    figures: list[Figure]
    costs: list[Cost]


def show(report: Report, console: Console) -> None:
    """Prints the machine, the figures and the processor time per message."""
    machine = report.machine
    median, highest = machine.flush_ms
    console.print(
        " · ".join(
            (
                machine.date,
                f"commit {machine.commit}",
                f"{machine.cores} cores ({machine.processor}), {machine.memory_gib:g} GiB",
                f"{machine.system}, Python {machine.python}",
                f"{machine.database} on {machine.file_system}, flush {median:.2f} ms (p99 {highest:.1f})",
                f"load {machine.load:g} before the run, {machine.stolen:.0%} of the processor time stolen by the host",
                f"requests by {machine.load_program}",
                f"{report.rounds} rounds of {report.seconds:g} s, medians",
            )
        ),
        soft_wrap=True,
    )
    if report.figures:
        _print(console, _figures(report.figures))
    if report.costs:
        _print(console, _costs(report.costs))
    if budget := [figure for figure in report.figures if figure.ours and figure.ours.loop_us is not None]:
        _print(console, _processor_time(budget))
    console.print(
        "Only ratios of one run are comparable with those of another run; processor time moves with the clock alone.",
        soft_wrap=True,
    )


def _print(console: Console, table: Table) -> None:
    """On a terminal in its width; elsewhere a row is one line."""
    wanted = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).maximum
    table.width = min(wanted, console.width) if console.is_terminal else wanted
    console.print(table, crop=False)


def _figures(figures: list[Figure]) -> Table:
    table = Table("row", "what", "Kurir", "p50 / p99 ms", "peer", "ratio", "floor / aim", "reached")
    for figure in figures:
        table.add_row(
            figure.row,
            figure.what + (f" ({figure.note})" if figure.note else ""),
            f"{_number(figure.ours.value)} {figure.unit}" if figure.ours else "–",
            _waits(figure.ours),
            _peer(figure),
            f"{figure.ratio:.3g}" if figure.ratio is not None else "",
            _goal(figure.goal, figure.unit),
            figure.reached(),
        )
    return table


def _costs(costs: list[Cost]) -> Table:
    table = Table(
        "counts a message (SQLite)", "connections", "transactions", "statements", "of control", "reads (thread hops)",
        "statements on the loop", "flushes",
    )  # fmt: skip
    for cost in costs:
        values = (cost.transactions, cost.statements, cost.control, cost.reads, cost.on_loop, cost.flushes)
        table.add_row(cost.path, str(cost.connections), *(f"{value:.2f}" for value in values))
    return table


def _processor_time(figures: list[Figure]) -> Table:
    table = Table("processor time, µs a message", "loop", "other threads", "children", "peer, all")
    for figure in figures:
        ours, peer = figure.ours, figure.peer
        assert ours is not None
        all_of_peer = _all(peer) if peer is not None else None
        table.add_row(
            figure.row,
            _number(ours.loop_us or 0.0),
            _number(ours.threads_us or 0.0),
            _number(ours.children_us or 0.0),
            _number(all_of_peer) if all_of_peer else "",
        )
    return table


def _all(side: Side) -> float:
    return sum(filter(None, (side.loop_us, side.threads_us, side.children_us)))


def _peer(figure: Figure) -> str:
    if figure.missing:
        return figure.missing
    return f"{figure.peer.name}: {_number(figure.peer.value)} {figure.unit}" if figure.peer else ""


def _waits(side: Side | None) -> str:
    if side is None or side.p50_ms is None or side.p99_ms is None:
        return ""
    trouble = f"; {side.refused} refused, {side.lost} lost" if side.refused or side.lost else ""
    return f"{_number(side.p50_ms)} / {_number(side.p99_ms)}{trouble}"


def _goal(goal: Goal | None, unit: str) -> str:
    if goal is None:
        return ""
    bounds = " / ".join("–" if bound is None else f"{bound:g}" for bound in (goal.floor, goal.aim))
    return f"{'≤' if goal.less else '≥'} {bounds}{'×' if goal.of == 'ratio' else ' ' + unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

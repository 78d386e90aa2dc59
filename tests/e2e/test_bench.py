"""`kurir bench` as a person runs it, and the programs that it measures with."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres import Postgres

from kurir.bench import deliver
from kurir.bench.bench import bench
from kurir.bench.figures import Figure, Goal, Sample, Side, in_pairs
from kurir.bench.load import Kind, Outcome, PythonLoad, Requests, loader
from kurir.bench.program import BenchError
from kurir.bench.run import Options, Run

WRK = shutil.which("wrk") is not None
KINDS: list[Any] = [
    pytest.param("wrk", marks=pytest.mark.skipif(not WRK, reason="wrk is not installed")), "python",
]  # fmt: skip
pytestmark = pytest.mark.processes
needs_compiler = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KURIR_")}
    return subprocess.run(
        [sys.executable, "-m", "kurir", "bench", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )


def test_a_short_run_of_the_accept_row(tmp_path: Path):
    file = tmp_path / "bench.json"
    load = "wrk" if WRK else "python"
    done = command("--rows", "accept", "--seconds", "0.3", "--rounds", "1", "--load", load, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "accept c=64" in done.stdout
    report = json.loads(file.read_bytes())
    assert report["rounds"] == 1
    assert report["machine"]["load_program"].startswith(load)
    assert report["machine"]["commit"]
    figures = {figure["row"]: figure for figure in report["figures"]}
    for row in ("accept c=64", "accept c=1"):
        ours, peer = figures[row]["ours"], figures[row]["peer"]
        assert ours["value"] > 0
        assert peer["value"] > 0
        assert figures[row]["ratio"] == pytest.approx(ours["value"] / peer["value"])
        assert (ours["lost"], ours["refused"], peer["lost"], peer["refused"]) == (0, 0, 0, 0)
        assert ours["p99_ms"] >= ours["p50_ms"] > 0
    assert figures["accept c=1 p50"]["ours"]["value"] == figures["accept c=1"]["ours"]["p50_ms"]


def test_on_postgresql_it_takes_databases_of_its_own_and_drops_them(postgres: Postgres, tmp_path: Path):
    file = tmp_path / "bench.json"
    arguments = ("--rows", "start", "--seconds", "0.3", "--rounds", "1", "--load", "python", "--json", str(file))
    done = command(*arguments, "--database", postgres.url("postgres"))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_bytes())
    assert report["machine"]["database"] == "PostgreSQL"
    assert report["figures"][0]["ours"]["value"] > 0
    with psycopg.connect(postgres.url("postgres")) as connection:
        assert connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'kurir_bench%'").fetchall() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--rows", "sing"), "--rows: there is no row 'sing'"),
        (("--rival", "other"), "--rival: expected NAME=URL, got 'other'"),
        (("--rounds", "0"), "--rounds: expected 1 or more"),
        (("--seconds", "0"), "--seconds: expected more than 0"),
        (("--rows", "start", "--load", "python", "--database", "mysql://x"), "--database:"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(arguments: tuple[str, ...], sentence: str):
    done = command(*arguments)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@needs_compiler
@pytest.mark.timeout(400)
def test_a_short_run_of_the_delivery_row_and_the_counts(tmp_path: Path):
    file = tmp_path / "bench.json"
    arguments = ("--rows", "deliver,budget", "--seconds", "0.5", "--rounds", "1", "--json", str(file))
    done = command(*arguments, "--load", "wrk" if WRK else "python")
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_bytes())
    [figure] = report["figures"]
    assert figure["ours"]["value"] > 0
    if deliver.PEER_PYTHON.exists():
        assert figure["peer"]["value"] > 0
    else:
        assert (figure["peer"], figure["ratio"]) == (None, None)
        assert "not installed" in figure["missing"]
    costs = {(cost["path"], cost["connections"]): cost for cost in report["costs"]}
    assert len(costs) == 10
    for cost in costs.values():
        assert cost["statements"] > 0
        assert cost["flushes"] > 0
    assert costs["linked send, accepted", 64]["flushes"] < costs["linked send, accepted", 1]["flushes"]


def test_a_send_counts_as_delivered_once_graph_has_it():
    sample = Sample(Outcome(100, 2.0, 1.0, 1.0, refused=10), 1.0, 1.0, 0.0)
    assert deliver.delivered(sample, 60).outcome.per_second == 30
    assert deliver.delivered(sample, 95).outcome.per_second == 45


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("connections", [1, 8])
async def test_requests_are_sent_once_each(tmp_path: Path, kind: Kind, connections: int):
    run = Run(Options(), tmp_path, loader(kind), lambda _: None)
    async with run.stub() as stub:
        requests = Requests("/hook", [f'{{"n":{i}}}' for i in range(37)], ["sha256=x"] * 37, once=True)
        outcome = await run.load.run(stub.url, requests, connections, 0.0)
        assert (outcome.done, outcome.lost, outcome.refused) == (37, 0, 0)
        assert (await stub.counts()).events == 37


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
async def test_refusals_are_counted_and_not_as_done(tmp_path: Path, kind: Kind):
    run = Run(Options(), tmp_path, loader(kind), lambda _: None)
    async with run.stub() as stub:
        outcome = await run.load.run(stub.url, Requests("/nowhere", ["{}"]), 2, 0.2)
        assert outcome.refused == outcome.done > 0
        assert outcome.per_second == 0


@needs_compiler
async def test_the_stub_answers_as_meta_does_and_late_if_asked(tmp_path: Path):
    run = Run(Options(), tmp_path, PythonLoad(), lambda _: None)
    async with run.stub(latency_ms=30) as stub:
        ids: set[str] = set()
        for i in range(3):
            body = json.dumps({"messaging_product": "whatsapp", "to": f"62812{i}", "type": "text"}).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", int(stub.url.rpartition(":")[2]))
            head = f"POST /v25.0/1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            began = asyncio.get_running_loop().time()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"}]}")
            assert asyncio.get_running_loop().time() - began >= 0.03
            writer.close()
            found = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert found["contacts"] == [{"input": f"62812{i}", "wa_id": f"62812{i}"}]
            ids.add(found["messages"][0]["id"])
        assert len(ids) == 3
        assert all(wamid.startswith("wamid.") for wamid in ids)


async def test_pairs_alternate_in_who_is_first():
    order: list[str] = []

    def side(name: str) -> Callable[[], Any]:
        async def one() -> Sample:
            order.append(name)
            return Sample(Outcome(1, 1.0, 1.0, 1.0), 0.0, 0.0, 0.0)

        return one

    ours, peer = await in_pairs(3, side("a"), side("b"))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert (len(ours), len(peer)) == (3, 3)


@pytest.mark.parametrize(
    ("goal", "value", "reached"),
    [
        (Goal("value", floor=10, aim=20), 20, "aim"), (Goal("value", floor=10, aim=20), 19, "floor"),
        (Goal("value", floor=10, aim=20), 9, "below"), (Goal("value", floor=10, aim=5, less=True), 5, "aim"),
        (Goal("value", floor=10, aim=5, less=True), 10, "floor"), (Goal("value", floor=10, less=True), 11, "below"),
        (None, 1, ""),
    ],
)  # fmt: skip
def test_goals(goal: Goal | None, value: float, reached: str):
    figure = Figure(row="r", what="w", unit="/s", ours=Side("kurir", value, [value]), goal=goal)
    assert figure.reached() == reached


def test_serving_does_not_load_it():
    code = "import sys, kurir.serve, kurir.cli; sys.exit(any(m.startswith('kurir.bench') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_a_row_that_fails_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def fails(_run: Run) -> list[Figure]:
        raise BenchError("no such thing")

    async def works(_run: Run) -> list[Figure]:
        return [Figure(row="works", what="a row", unit="/s", ours=Side("kurir", 7.0, [7.0]))]

    monkeypatch.setattr("kurir.bench.bench.ROWS", {"fails": fails, "works": works})
    with pytest.raises(BenchError, match="fails: no such thing"):
        await bench(Options(load="python"), tmp_path / "bench.json")
    found = {figure["row"]: figure for figure in json.loads((tmp_path / "bench.json").read_bytes())["figures"]}
    assert found["works"]["ours"]["value"] == 7.0
    assert (found["fails"]["ours"], found["fails"]["missing"]) == (None, "no such thing")
    assert "no such thing" in capsys.readouterr().out

"""Rows: what many rows cost: a claim among many finished messages, and pages of a long list."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

import msgspec

from kurir.bench import meta
from kurir.bench.deliver import checked
from kurir.bench.figures import Figure, Goal, Side
from kurir.bench.load import Requests
from kurir.bench.run import Run
from kurir.bench.site import Site, serving
from kurir.contacts.contacts import Person
from kurir.data_folder import database_of
from kurir.numbers import numbers
from kurir.outbox.claim import claim
from kurir.outbox.tables import messages
from kurir.services.stored_services import over_data_folder
from kurir.store.database import Batch, Database

_CLAIM = Goal("value", floor=10.0, aim=3.0, less=True)
_PAGE = Goal("value", floor=100.0, aim=30.0, less=True)
_CLAIMS, _AT_ONCE = 200, 5_000
_ids = itertools.count(1)
_COLUMNS = ("id", "account_id", "number_id", "recipient", "kind", "content", "created_at", "due_at", "expires_at")
_QUEUED = Batch(messages, _COLUMNS)
_FINISHED = Batch(messages, (*_COLUMNS, "state", "attempts", "remote_id", "sent_at", "delivered_at"))
_CONTENT = '["text",{"body":"Your order has left our shop"}]'


async def claims(run: Run) -> list[Figure]:
    """The claim's statement alone, before and after the finished messages are there."""
    async with run.site(officials=1) as site:
        database = database_of(site.settings)
        try:
            few = _claims(database, site)
            _finish(database, site, run.options.stored)
            many = _claims(database, site)
        finally:
            database.engine.dispose()
    count, ours = run.options.stored, _side("kurir", many)
    peer = _side("without them", few)
    return [
        Figure(
            row="claim p99",
            what=f"claim of one of 300 queued messages among {count:,} finished ones",
            unit="ms",
            ours=ours,
            peer=peer,
            ratio=ours.value / peer.value if peer.value else None,
            goal=_CLAIM,
            note="the goal is for 10,000,000",
        )
    ]


def _side(name: str, waited: list[float]) -> Side:
    waited.sort()
    at = waited[int(len(waited) * 0.99)]
    return Side(name, at, [at], statistics.median(waited), at)


def _claims(database: Database, site: Site) -> list[float]:
    """Milliseconds of each claim."""
    account, number = site.account_id, _number(database, site)
    now, waited = time.time(), list[float]()
    rows = [(next(_ids), account, number, meta.person(0, i), "text", _CONTENT, now, now, now + 1e6) for i in range(300)]
    with database.transaction() as connection:
        _QUEUED.insert(connection, rows)
    for _ in range(_CLAIMS):
        with database.transaction() as connection:
            began = time.perf_counter()
            found = claim(connection, account, number, 1, now, ready=(), deep=False)
            waited.append((time.perf_counter() - began) * 1e3)
            assert len(found) == 1
    with database.transaction() as connection:
        connection.execute(messages.delete().where(messages.c.state.in_(("queued", "sending"))))
    return waited


def _finish(database: Database, site: Site, count: int) -> None:
    account, number, at = site.account_id, _number(database, site), time.time() - 86_400

    def rows() -> Iterator[tuple[object, ...]]:
        for i in range(count):
            yield (
                next(_ids), account, number, meta.person(0, i % 100_000), "text", _CONTENT, at, at, at + 86_400,
                "delivered", 1, f"wamid.HBgN{i:012d}", at, at,
            )  # fmt: skip

    waiting = rows()
    while some := list(itertools.islice(waiting, _AT_ONCE)):
        with database.transaction() as connection:
            _FINISHED.insert(connection, some)


def _number(database: Database, site: Site) -> int:
    with database.snapshot() as connection:
        found = numbers.by_key(connection, site.account_id, site.officials[0].key)
    assert found is not None
    return found.id


async def pages(run: Run) -> list[Figure]:
    """The first page, the last page and a search in a list of people, one caller."""
    count = run.options.stored
    people = [Person(meta.person(i // 1_000_000, i % 1_000_000), f"Person {i:07d}") for i in range(count)]
    async with run.site(officials=0) as site:
        async with over_data_folder(site.settings) as services:
            made = await services.contacts.create(site.account_id, "Customers", people)
        del people
        asked = {
            "first page": {"start": 0, "length": 10},
            "last page": {"start": count - 10, "length": 10},
            "search": {"start": 0, "length": 10, "search": f"Person {count - 1:07d}"},
        }
        figures: list[Figure] = []
        async with serving(site) as gateway:
            for name, fields in asked.items():
                body = msgspec.json.encode({"api_key": site.api_key, "contact_id": made.key, **fields}).decode()
                requests = Requests("/public/v1/get-list-audiences", [body])
                outcomes = [
                    await run.load.run(gateway.url, requests, 1, run.options.seconds)
                    for _ in range(run.options.rounds + 1)
                ][1:]
                for outcome in outcomes:
                    checked(outcome, "list pages")
                waits = [outcome.p99_ms for outcome in outcomes]
                ours = Side(
                    "kurir", statistics.median(waits), waits, statistics.median(o.p50_ms for o in outcomes),
                    statistics.median(waits),
                )  # fmt: skip
                figures.append(
                    Figure(
                        row=f"list, {name} p99",
                        what=f"list of {count:,} people",
                        unit="ms",
                        ours=ours,
                        goal=_PAGE,
                        note="the goal is for 1,000,000",
                    )
                )
    return figures

"""A lane looks only at what waits: its statements use the indexes of waiting messages, however many are finished."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.harness.outbox import OutboxHarness

from kurir.messages.channel_reports import InDoubt, Sent, StatusChanged
from kurir.outbox import accept, claim
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.schema import metadata
from kurir.store.database import LONG_WORK

FINISHED = 20_000
WAITING = 200
SHORT = {
    "ix_messages_queue",
    "ix_messages_files",
    "ix_messages_due",
    "ix_messages_doubt",
    "uq_messages_in_flight",
    "ix_messages_lane",
    "ix_messages_expiry",
    "ix_messages_remote",
    "pk_messages",
    "PRIMARY KEY",
}
"""Indexes of waiting messages only, and the keys by which one message is found."""
ONE_MESSAGE = re.compile(
    r"ix_messages_account_id_id (\(account_id=\? AND id=\?\)|on .*\n *Index Cond: .*AND \(id = .*)"
)
"""The account's index when it is asked for an id too."""


@pytest.fixture
async def full(harness: OutboxHarness) -> OutboxHarness:
    """A desk whose table holds a hundred times more finished messages than waiting ones."""

    def row(index: int) -> tuple:
        number = (harness.number.id, harness.other.id)[index % 2]
        fixed = (harness.number.account_id, number, f"628{index % 5000:07d}", "text", '{"type":"text","body":"x"}')
        return (index, *fixed, 0, 0, 5, "api", None, 1.0, 1.0, 2e9)

    def work(connection: Connection) -> None:
        accept.insert(connection, [row(index) for index in range(1, FINISHED + 1)])
        connection.execute(messages.update().values(state="delivered"))
        accept.insert(connection, [row(index) for index in range(FINISHED + 1, FINISHED + WAITING + 1)])

    await harness.database.write(work, timeout=LONG_WORK)
    return harness


async def all_statements(harness: OutboxHarness) -> list[tuple[str, Any]]:
    """Everything that a lane asks of the database, as (statement, parameters)."""
    asked: dict[str, Any] = {}

    def note(_connection, _cursor, statement: str, parameters: Any, *_more: Any) -> None:
        if re.match(r"\s*(SELECT|UPDATE|WITH)\b", statement) and "messages" in statement:
            asked.setdefault(statement, parameters)

    sa.event.listen(harness.database.engine, "before_cursor_execute", note)
    outbox, number = harness.outbox, (harness.number.account_id, harness.number.id)
    await outbox.count_waiting()
    await outbox.waiting_numbers()
    await outbox.left_in_flight(*number)
    await outbox.settle_doubts(*number, since=harness.time.now, timeout=60.0)
    sent, doubtful = (await harness.claim())[:2]
    await outbox.record(sent, Sent("wamid.1"))
    await outbox.record(doubtful, InDoubt(as_written("no answer")), 60.0)
    event = StatusChanged(*number, "wamid.1", "delivered", harness.time.now)
    await harness.database.write(lambda c: outbox.receipt(c, event, harness.time.now))
    await outbox.claim(*number, 1, ready=[1, 2, 3])
    await outbox.claim(*number, 1, deep=True)
    await outbox.claim(*number, 1, ready=[1, 2, 3], deep=True)
    await outbox.upcoming(*number, harness.time.now)
    await outbox.upcoming(*number, harness.time.now, deep=True)
    await outbox.expire()
    sa.event.remove(harness.database.engine, "before_cursor_execute", note)
    assert len(asked) >= 15
    return list(asked.items())


async def test_nothing_a_lane_asks_reads_the_finished_messages(full: OutboxHarness):
    statements = await all_statements(full)
    if full.database.engine.dialect.name == "sqlite":  # nobody gathers statistics there; PostgreSQL does it by itself
        await only_short_indexes(full, statements, "EXPLAIN QUERY PLAN")
    with full.database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE messages")
    explain = "EXPLAIN QUERY PLAN" if full.database.engine.dialect.name == "sqlite" else "EXPLAIN"
    await only_short_indexes(full, statements, explain)


async def only_short_indexes(harness: OutboxHarness, statements: list[tuple[str, Any]], explain: str) -> None:
    for statement, parameters in statements:
        work = functools.partial(_explained, sql=f"{explain} {statement}", parameters=parameters)
        found = ONE_MESSAGE.sub("PRIMARY KEY", await harness.database.read(work))
        used = set(re.findall(r"(?:ix|uq|pk)_messages\w*|PRIMARY KEY", found))
        assert used, f"{statement}\n{found}"
        assert used <= SHORT, f"{statement}\n{found}"
        assert "Seq Scan on messages" not in found, f"{statement}\n{found}"
        within = "next|turn|any_kind|first" + ("|m" if "FROM first AS m" in statement else "")
        assert not re.search(rf"SCAN (?!(?:{within})$)\w+$", found, re.M), f"{statement}\n{found}"


def _explained(connection: Connection, sql: str, parameters: Any) -> str:
    return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(sql, parameters))


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("people", [1, 10, 10_000], ids=lambda count: f"{count} people")
@pytest.mark.parametrize("in_flight", [False, True])
def test_a_claim_costs_the_same_however_many_wait(tmp_path: Path, kind: str, people: int, in_flight: bool):
    """Steps of SQLite's machine, which do not depend on what else the computer does."""

    def cost(waiting: int) -> int:
        engine = sa.create_engine(f"sqlite:///{tmp_path / f'{waiting}.db'}")
        metadata.create_all(engine)
        fixed = (kind, '{"type":"text","body":"x"}', 0, 0, 5, "api", None, 1.0, 1.0, 2e9)
        rows = [(index, 1, 1, f"628{index % people:09d}", *fixed) for index in range(1, waiting + 1)]
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        with engine.begin() as connection:
            accept.insert(connection, rows)
            if in_flight:
                connection.execute(messages.update().where(messages.c.id == 1).values(state="sending"))
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_progress_handler(step, 100)
            claim.files_ahead(connection, 1, 1, 10.0, deep=False)
            claim.left(connection, 1, 1, 10.0)
            claim.claim(connection, 1, 1, 32, 10.0, ready=[2, 3, 4, 5], deep=False)
        engine.dispose()
        return steps

    assert cost(10_000) <= 1.2 * cost(1_000) + 20

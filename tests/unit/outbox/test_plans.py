"""A lane looks only at what waits: its statements use the indexes of waiting messages, however many are finished."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.unit.outbox.desk import Desk

from kurir.foundation.tables import messages
from kurir.outbox import accept, claim, record

FINISHED = 20_000
WAITING = 200
PARAMETERS = {"account": 1, "number": 1, "limit": 10, "now": 1_800_000_000.0, "remote_id": "wamid.1"}
SHORT = {"ix_messages_queue", "ix_messages_lane", "ix_messages_expiry", "pk_messages", "PRIMARY KEY"}
"""Indexes of waiting messages only, and the key by which a row that was found is changed."""


@pytest.fixture
async def full(desk: Desk) -> Desk:
    """A desk whose table holds a hundred times more finished messages than waiting ones."""

    def row(index: int) -> tuple:
        number = (desk.number.id, desk.other.id)[index % 2]
        fixed = (desk.number.account_id, number, f"628{index % 5000:07d}", "text", '{"type":"text","body":"x"}')
        return (index, *fixed, 0, 0, 5, "api", None, 1.0, 1.0, 2e9)

    def work(connection: Connection) -> None:
        accept.insert(connection, [row(index) for index in range(1, FINISHED + 1)])
        connection.execute(messages.update().values(state="delivered"))
        accept.insert(connection, [row(index) for index in range(FINISHED + 1, FINISHED + WAITING + 1)])

    await desk.database.write(work)
    return desk


def plan(connection: Connection, statement: sa.TextClause) -> str:
    """The plan's lines."""
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    rows = connection.execute(sa.text(f"{explain} {statement.text}"), PARAMETERS)
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("analyzed", [False, True], ids=["without statistics", "with statistics"])
async def test_statements_of_a_lane_read_no_finished_messages(full: Desk, analyzed: bool):
    if analyzed:
        with full.database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE messages")
    for statement in (claim._CLAIM, claim._NEXT_DUE, claim._WAITING_NUMBERS, claim._EXPIRE):
        found = await full.database.read(lambda c, s=statement: plan(c, s))
        used = set(re.findall(r"(?:ix|uq|pk)_\w+|PRIMARY KEY", found))
        assert used, found
        assert used <= {"ix_messages_queue", "ix_messages_lane", "ix_messages_expiry", "pk_messages", "PRIMARY KEY"}, (
            found
        )
        assert "Seq Scan on messages" not in found
        assert not re.search(r"SCAN \w+$", found.replace("SCAN next", ""), re.M), found
    by_remote_id = record._BY_REMOTE_ID
    found = await full.database.read(lambda c: plan(c, by_remote_id))
    assert "ix_messages_remote" in found

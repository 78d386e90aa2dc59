"""What is old goes in portions until none of it is left; what is just as old as the limit, or still needed, stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness, open_outbox_harness

from kurir.events.tables import events
from kurir.kit.ids import first_id_at
from kurir.otp import ledger
from kurir.otp import retention as otp
from kurir.otp.tables import otp_checks, otps
from kurir.outbox.tables import attempts, early_receipts, idempotency, messages
from kurir.store import chunked_deletes
from kurir.webhooks import history
from kurir.webhooks.tables import webhook_attempts, webhook_deliveries, webhook_endpoints

MINUTES = 60.0
BEFORE = 1_800_000_000.0
"""The limit, in unix seconds: what is older goes."""
PORTION = 2
Row = dict[str, Any]


@pytest.fixture
async def harness(where: Path | str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OutboxHarness]:
    for name in ("FIRST", "LEAST", "MOST"):
        monkeypatch.setattr(chunked_deletes, name, PORTION)
    async with open_outbox_harness(where) as found:
        yield found


@dataclass
class Kind:
    """Rows of a table that are forgotten: `row` makes the n-th, from that time; `with_it` are rows that go with it."""

    table: sa.Table
    row: Callable[[OutboxHarness, int, float], Row]
    forget: Callable[[OutboxHarness], Awaitable[int]]
    with_it: tuple[sa.Table, Callable[[OutboxHarness, int], Row]] | None = None


def message(harness: OutboxHarness, n: int, at: float) -> Row:
    return {
        "id": first_id_at(at) + n,
        "account_id": harness.number.account_id,
        "number_id": harness.number.id,
        "recipient": f"6281{n}",
        "kind": "text",
        "content": "{}",
        "state": "read",
        "created_at": at,
        "due_at": at,
        "expires_at": at,
    }


def attempt(harness: OutboxHarness, message_id: int) -> Row:
    own = {"account_id": harness.number.account_id, "message_id": message_id}
    return own | {"number": 1, "ended_at": 1.0, "outcome": "sent"}


def request(harness: OutboxHarness, n: int, at: float) -> Row:
    return {"account_id": harness.number.account_id, "key_hash": f"k{n}", "accepted": "", "created_at": at}


def receipt(harness: OutboxHarness, n: int, at: float) -> Row:
    own = {"account_id": harness.number.account_id, "number_id": harness.number.id}
    # several receipts of one message are rows of their own
    status = ("sent", "delivered", "read")[n % 3]
    return own | {"remote_id": f"w{n // 3}", "status": status, "at": at, "stored_at": at}


def delivery(harness: OutboxHarness, n: int, at: float) -> Row:
    own = {"account_id": harness.number.account_id, "number_id": harness.number.id, "chat": "628"}
    return own | {
        "id": n + 1,
        "endpoint_id": 1,
        "event_id": n + 1,
        "state": "delivered",
        "due_at": 1.0,
        "created_at": 1.0,
        "ended_at": at,
    }


def delivery_attempt(harness: OutboxHarness, delivery_id: int) -> Row:
    own = {"account_id": harness.number.account_id, "endpoint_id": 1, "delivery_id": delivery_id}
    return own | {"number": 1, "at": 1.0, "seconds": 0.1, "succeeded": 1, "status": 200}


def code(harness: OutboxHarness, n: int, at: float) -> Row:
    own = {"account_id": harness.number.account_id, "phone": "628", "code_hash": f"c{n}", "request_hash": f"r{n}"}
    return own | {"created_at": at - 60, "expires_at": at}


def check(harness: OutboxHarness, n: int, at: float) -> Row:
    own = {"account_id": harness.number.account_id, "scope": ("account", "phone", "request")[n % 3]}
    return own | {"digits": 6 + n // 3, "minute": ledger.minute_of(at), "process": n}


KINDS = {
    "messages": Kind(messages, message, lambda h: h.outbox.forget_messages(BEFORE), (attempts, attempt)),
    "requests": Kind(idempotency, request, lambda h: h.outbox.forget_requests(BEFORE)),
    "early receipts": Kind(early_receipts, receipt, lambda h: h.outbox.forget_early_receipts(BEFORE)),
    "deliveries": Kind(
        webhook_deliveries,
        delivery,
        lambda h: history.forget(h.database, BEFORE),
        (webhook_attempts, delivery_attempt),
    ),
    "codes": Kind(otps, code, lambda h: otp.forget(h.database, BEFORE)),
    "checks of codes": Kind(otp_checks, check, lambda h: otp.forget(h.database, BEFORE)),
}


@pytest.mark.parametrize("old", [0, PORTION, 2 * PORTION + 1])
@pytest.mark.parametrize("name", KINDS)
async def test_all_that_is_older_goes_and_nothing_else(harness: OutboxHarness, name: str, old: int) -> None:
    kind = KINDS[name]
    ages = [MINUTES * (n + 1) for n in range(old)] + [0.0, -MINUTES]
    rows = [kind.row(harness, n, BEFORE - age) for n, age in enumerate(ages)]

    def furnish(connection: sa.Connection) -> None:
        connection.execute(sa.insert(webhook_endpoints), [endpoint(harness)])
        connection.execute(sa.insert(events), [event(harness, n + 1) for n in range(len(rows))])
        connection.execute(sa.insert(kind.table), rows)
        if kind.with_it is not None:
            table, belongs = kind.with_it
            connection.execute(sa.insert(table), [belongs(harness, row["id"]) for row in rows])

    await harness.database.write(furnish)
    assert await kind.forget(harness) == old
    keys = list(kind.row(harness, 0, BEFORE))

    def left(connection: sa.Connection) -> list[Row]:
        return [dict(row._mapping) for row in connection.execute(sa.select(*(kind.table.c[key] for key in keys)))]

    found = await harness.database.read(left)
    assert sorted(map(repr, found)) == sorted(map(repr, rows[old:]))
    if kind.with_it is not None:
        column = kind.with_it[0].c[next(k for k in ("message_id", "delivery_id") if k in kind.with_it[0].c)]
        also = await harness.database.read(lambda c: c.execute(sa.select(column)).scalars().all())
        assert sorted(also) == sorted(row["id"] for row in rows[old:])
    assert await kind.forget(harness) == 0


def endpoint(harness: OutboxHarness) -> Row:
    own = {"id": 1, "account_id": harness.number.account_id, "key": "ep_1", "url": "http://a.test/"}
    return own | {"secret_sealed": "", "old_secret_sealed": "", "active_since": 1.0, "created_at": 1.0}


def event(harness: OutboxHarness, n: int) -> Row:
    own = {"id": n, "account_id": harness.number.account_id, "number_id": harness.number.id, "chat": "628"}
    return own | {"key": f"evt_{n}", "type": "incoming_chat", "body": "{}", "created_at": 1.0}

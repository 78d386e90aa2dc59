"""What an earlier release left: a database at an older schema, with a queue in it. Written through the schema itself,
so that a column of today is not needed.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.messages.content import Text
from kurir.store.database import Database
from kurir.store.migrations import migrate

QUEUE = {
    1: {"state": "queued"},
    2: {"state": "queued", "recipient": "628222"},
    3: {"state": "sending", "recipient": "628333", "attempts": 1},
    4: {"state": "sending", "recipient": "628444", "attempts": 1},
    5: {"state": "unconfirmed", "recipient": "628555", "attempts": 1},
    6: {"state": "unconfirmed", "recipient": "628666", "attempts": 1, "doubt_until": 1.0, "origin": "otp"},
    7: {"state": "delivered", "recipient": "628777", "attempts": 1, "remote_id": "3EB0AA"},
    8: {"state": "queued", "number_id": 2, "recipient": "628888"},
    9: {"state": "queued", "recipient": "628999", "expires_at": 2.0},
}
"""The messages by id, as far as they differ from a waiting text."""
ENDS = {
    1: "sent",
    2: "sent",
    3: "sent",  # its evidence: it never left
    4: "unconfirmed",  # its evidence: unknown, and the account holds
    5: "unconfirmed",
    6: "sent",  # a code without a receipt goes out once more
    7: "delivered",
    8: "sent",
    9: "expired",
}
"""Where they must end."""
NEVER_LEFT = 3
PAUSED_FOR = "the access token is not accepted"
"""Why the official number WB-1 is paused."""
DELIVERIES = {
    11: ("628111", "waiting"),
    12: ("628111", "pending"),
    13: ("628111", "waiting"),
    14: ("628222", "sending"),
    15: ("628222", "waiting"),
    16: ("628333", "delivered"),
    17: ("628333", "failed"),
    18: ("628333", "pending"),
}
"""Webhook deliveries under way and ended, by their event: its chat and the delivery's state. Of the first chat event
11 was replayed, so it waits behind 12 and yet is the older one."""
STILL_TO_COME = {"628111": [12, 11, 13], "628222": [14, 15], "628333": [18]}
"""What a receiver must still get of each chat, in order."""


def make(database: Database, version: str) -> None:
    """A database at that version of the schema with an account, two devices, a paused official number, and `QUEUE`."""
    with database.schema_change() as connection:
        migrate(connection, version)
        tables = sa.MetaData()
        tables.reflect(connection)
        _fill(connection, tables.tables, time.time())


def body(event_id: int) -> str:
    """What a receiver gets for an event."""
    return f'{{"type":"incoming_chat","data":{{"message_body":"event {event_id}"}}}}'


def _fill(connection: Connection, tables: Any, now: float) -> None:
    def put(table: str, **values: Any) -> None:
        connection.execute(sa.insert(tables[table]).values(**values))

    times = {"package_from": now, "package_until": now + 1e8, "created_at": now}
    put("accounts", name="old", email="old@example.com", **times)
    for key in ("BO-1", "BO-2"):
        put("numbers", account_id=1, key=key, channel="linked_device", created_at=now)
    official = {"channel": "cloud_api", "phone": "628300", "phone_number_id": "77", "created_at": now}
    if "paused_at" in tables["numbers"].c:  # since 0014; before, it was the state of the number
        pause = {"state": "connected", "paused_at": now, "pause_reason": PAUSED_FOR}
    else:
        pause = {"state": "paused", "state_reason": PAUSED_FOR}
    put("numbers", account_id=1, key="WB-1", **official, **pause)
    for message_id, changes in QUEUE.items():
        row = {
            "id": message_id,
            "account_id": 1,
            "number_id": 1,
            "recipient": "628111",
            "kind": "text",
            "content": msgspec.json.encode(Text(f"message {message_id}")).decode(),
            "created_at": now,
            "due_at": now,
            "expires_at": now + 3600,
        }
        put("messages", **(row | changes))
    endpoint = {"account_id": 1, "url": "https://receiver.test/hook", "active_since": now, "created_at": now}
    if logged := "events" in tables:  # since 0012; before, events were the webhooks' own
        endpoint["after_event"] = max(DELIVERIES)
    put("webhook_endpoints", key="ep_old", events='["incoming_chat","message_status"]', **endpoint)
    put("webhook_endpoints", key="ep_gone", state="disabled", **endpoint)
    for event_id, (chat, state) in DELIVERIES.items():
        event = {"account_id": 1, "number_id": 1, "created_at": now}
        described = {"key": f"evt_{event_id}", "type": "incoming_chat", "body": body(event_id)}
        if logged:
            put("events", id=event_id, chat=chat, **described, **event)
        else:
            put("webhook_events", id=event_id, **described, **event)
        ended = now if state in ("delivered", "failed") else None
        delivery = {"endpoint_id": 1, "event_id": event_id, "chat": chat, "state": state, "due_at": now - 60}
        put("webhook_deliveries", ended_at=ended, **delivery, **event)
    if logged and connection.dialect.name == "postgresql":  # the ids above did not come from it
        connection.execute(sa.text(f"SELECT setval(pg_get_serial_sequence('events', 'id'), {max(DELIVERIES)})"))
    put("attempts", account_id=1, message_id=7, number=1, ended_at=now, outcome="sent")
    put("otps", account_id=1, code_hash="h", request_hash="r", phone="628111", created_at=now, expires_at=now + 300)

"""Messages on the Cloud API: accepted ones until they reach the phone, and inbound ones."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict, dataclass
from typing import Literal

from kurir_sandbox.content_fields import describe, rebuild
from kurir_sandbox.graph_api.outgoing import MediaSource, Outgoing
from kurir_sandbox.traffic import Content

SendState = Literal["accepted", "delivered", "failed", "lost"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sends (
    wire_id TEXT PRIMARY KEY, phone_number_id TEXT NOT NULL, person TEXT NOT NULL, content TEXT NOT NULL,
    source TEXT, category TEXT, opaque TEXT, too_late INTEGER NOT NULL, state TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS sends_by_state ON sends (state) WHERE state = 'accepted';
CREATE TABLE IF NOT EXISTS inbound (
    wire_id TEXT PRIMARY KEY, phone_number_id TEXT NOT NULL, person TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS inbound_by_person ON inbound (phone_number_id, person, at);
"""
_SENDS = "SELECT wire_id, phone_number_id, person, content, source, category, opaque, too_late, at FROM sends"


@dataclass(frozen=True, slots=True)
class Send:
    """A message that was answered with 200.

    `category` is the template's in lower case, None for a free-form message; `source` names media to obtain;
    `too_late`: the window was closed when it was accepted.
    """

    wire_id: str
    phone_number_id: str
    person: str
    content: Content
    source: MediaSource | None
    category: str | None
    opaque: str | None
    too_late: bool
    at: float


class Sends:
    """The accepted and the inbound messages in the database `db`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.executescript(_SCHEMA)

    def forget(self) -> None:
        """Forget every message; all windows close."""
        self._db.execute("DELETE FROM sends")
        self._db.execute("DELETE FROM inbound")

    def accept(
        self, wire_id: str, phone_number_id: str, wanted: Outgoing, category: str | None, too_late: bool
    ) -> Send:
        """Write an accepted message down; it is committed when this returns."""
        send = Send(
            wire_id,
            phone_number_id,
            wanted.to,
            wanted.content,
            wanted.source,
            category,
            wanted.opaque,
            too_late,
            time.time(),
        )
        self._db.execute(
            "INSERT INTO sends"
            " (wire_id, phone_number_id, person, content, source, category, opaque, too_late, state, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'accepted', ?)",
            (
                wire_id,
                phone_number_id,
                send.person,
                json.dumps(describe(send.content), ensure_ascii=False),
                json.dumps(asdict(send.source)) if send.source else None,
                category,
                send.opaque,
                int(too_late),
                send.at,
            ),
        )
        return send

    def settle(self, wire_id: str, state: SendState) -> None:
        """Records that an accepted message was delivered to the phone, failed, or was lost (by a fault)."""
        self._db.execute("UPDATE sends SET state = ? WHERE wire_id = ?", (state, wire_id))

    def send(self, wire_id: str) -> Send | None:
        """The accepted message with this id."""
        return next(iter(self._select("wire_id = ?", wire_id)), None)

    def unsettled(self) -> list[Send]:
        """What was accepted and not settled yet, in order."""
        return self._select("state = ?", "accepted")

    def note_inbound(self, wire_id: str, phone_number_id: str, person: str, at: float) -> None:
        """Note a person's message; it opens the window."""
        self._db.execute(
            "INSERT INTO inbound (wire_id, phone_number_id, person, at) VALUES (?, ?, ?, ?)",
            (wire_id, phone_number_id, person, at),
        )

    def last_inbound(self, phone_number_id: str, person: str) -> float | None:
        """When the person last wrote to the number (unix seconds)."""
        return self._db.execute(
            "SELECT max(at) FROM inbound WHERE phone_number_id = ? AND person = ?", (phone_number_id, person)
        ).fetchone()[0]

    def writer_of(self, wire_id: str, phone_number_id: str) -> str | None:
        """Who wrote the inbound message with this id to the number."""
        row = self._db.execute(
            "SELECT person FROM inbound WHERE wire_id = ? AND phone_number_id = ?", (wire_id, phone_number_id)
        ).fetchone()
        return None if row is None else row[0]

    def _select(self, where: str, value: str) -> list[Send]:
        rows = self._db.execute(
            f"{_SENDS} WHERE {where} ORDER BY rowid",
            (value,),
        )
        return [
            Send(
                wire_id,
                number,
                person,
                rebuild(json.loads(content), None),
                MediaSource(**json.loads(source)) if source else None,
                category,
                opaque,
                bool(too_late),
                at,
            )
            for wire_id, number, person, content, source, category, opaque, too_late, at in rows
        ]

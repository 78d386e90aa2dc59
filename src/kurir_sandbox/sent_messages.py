"""What people sent to linked devices, in the ledger's database, to check what a gateway received."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from kurir_sandbox.group_commit import GroupCommit

SCHEMA = """
CREATE TABLE IF NOT EXISTS sent (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL,
    wire_id TEXT NOT NULL, kind TEXT NOT NULL, plaintext BLOB NOT NULL, form TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message as a person sent it.

    to: a phone number or a group's id. kind: the content's, or "raw". plaintext: a serialised protobuf `Message`, or
    whatever the sender took for one. form: what of the stanza the sender chose, as JSON values.
    """

    sender: str
    to: str
    wire_id: str
    kind: str
    plaintext: bytes
    form: dict[str, Any]


class SentMessages:
    """The table `sent`; `writer` is the one writer of `reader`'s database."""

    def __init__(self, writer: GroupCommit, reader: sqlite3.Connection) -> None:
        self._writer, self._db = writer, reader

    async def add(self, sent: SentMessage) -> int:
        """Writes `sent` down; returns its id when it is on disk."""
        row = (time.time(), sent.sender, sent.to, sent.wire_id, sent.kind, sent.plaintext, json.dumps(sent.form))
        statement = (
            "INSERT INTO sent (at, sender, recipient, wire_id, kind, plaintext, form) VALUES (?, ?, ?, ?, ?, ?, ?)"
        )

        def insert(db: sqlite3.Connection) -> int:
            return db.execute(statement, row).lastrowid or 0

        return await self._writer.apply(insert)

    def rows(
        self, after: int = 0, limit: int = 100, sender: str | None = None, to: str | None = None
    ) -> list[dict[str, Any]]:
        """The rows above the id `after`, oldest first, as the control API shows them; `raw` is base64."""
        rows = self._db.execute(
            "SELECT id, at, sender, recipient, wire_id, kind, plaintext, form FROM sent"
            " WHERE id > ? AND (? IS NULL OR sender = ?) AND (? IS NULL OR recipient = ?) ORDER BY id LIMIT ?",
            (after, sender, sender, to, to, limit),
        )
        names = ("id", "at", "from", "to", "wire_id", "kind")
        return [
            {
                **dict(zip(names, plain, strict=True)),
                "raw": base64.b64encode(plaintext).decode(),
                "form": json.loads(form),
            }
            for *plain, plaintext, form in rows
        ]

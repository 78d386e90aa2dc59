"""The ledger: every message that truly reached a phone, in a database of its own (`<data>/ledger.db`).

Every reliability claim about a gateway is checked against it, so a row is flushed to disk before anything is answered
about it, and rows are only added; a receipt the phone sent is noted beside its row. A phone shows a message once: what
comes again under the same wire id from the same sender is counted as a duplicate, not added. Beside it: what people
sent to linked devices (`sent_messages.py`).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kurir_sandbox.content_fields import content_hash, describe, rebuild
from kurir_sandbox.group_commit import GroupCommit
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.sent_messages import SCHEMA, SentMessages
from kurir_sandbox.traffic import Arrival, Content, Entry, Media, ReceiptKind

_SCHEMA = """
CREATE TABLE IF NOT EXISTS arrivals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, channel TEXT NOT NULL, phone TEXT NOT NULL,
    sender TEXT NOT NULL, chat TEXT NOT NULL, wire_id TEXT NOT NULL, kind TEXT NOT NULL,
    content TEXT NOT NULL, words TEXT NOT NULL, content_hash TEXT NOT NULL, delivered REAL, read REAL);
CREATE INDEX IF NOT EXISTS arrivals_by_phone ON arrivals (phone, id);
CREATE INDEX IF NOT EXISTS arrivals_by_wire_id ON arrivals (wire_id);
CREATE TABLE IF NOT EXISTS duplicates (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, first INTEGER NOT NULL, content_hash TEXT NOT NULL);
"""
_COLUMNS = "id, at, channel, phone, sender, chat, wire_id, kind, content, content_hash, delivered, read"


@dataclass(frozen=True, slots=True)
class Record:
    """A ledger row without the media's bytes, for listings.

    `content` is what `describe` returns; its `media` is {mime, name, size, sha256} or None.
    """

    id: int
    at: float
    channel: str
    phone: str
    sender: str
    chat: str
    wire_id: str
    kind: str
    content: dict[str, Any]
    content_hash: str
    receipts: dict[ReceiptKind, float]


@dataclass(frozen=True, slots=True)
class Search:
    """Which rows of the ledger; None or empty does not narrow. `text` is found anywhere in the words."""

    phone: str | None = None
    channel: str | None = None
    sender: str | None = None
    wire_id: str | None = None
    since: float | None = None
    after: int = 0
    upto: int | None = None
    text: str = ""
    lacks: ReceiptKind | None = None


class Ledger:
    """The rows of `<data>/ledger.db`; media bytes lie in `MediaFiles`. Writing needs a running event loop."""

    def __init__(self, data: Path, files: MediaFiles) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._files = files
        self._writer = GroupCommit(data / "ledger.db")
        self._db = sqlite3.connect(data / "ledger.db", isolation_level=None)
        self._db.executescript(_SCHEMA + SCHEMA)
        self.sent = SentMessages(self._writer, self._db)

    async def close(self) -> None:
        """Close the database after what is being written."""
        await self._writer.close()
        self._db.close()

    async def clear(self) -> None:
        """Forget every row. Ids go on from where they were, so that a reader's `after` stays right."""
        await self._writer.apply(_clear)

    async def write(self, arrival: Arrival) -> Entry | None:
        """Write `arrival` down; it is on disk, media included, when this returns.

        None when the phone has it already: then it is counted as a duplicate of the row that it has.
        """
        return await self._writer.apply(lambda db: self._add(db, arrival))

    async def note_receipt(self, entry_id: int, kind: ReceiptKind) -> None:
        """Note that the phone sent a receipt for the row; the first time counts."""
        column, at = {"delivered": "delivered", "read": "read"}[kind], time.time()
        statement = f"UPDATE arrivals SET {column} = coalesce({column}, ?) WHERE id = ?"  # noqa: S608 - from above

        def note(db: sqlite3.Connection) -> None:
            db.execute(statement, (at, entry_id))

        await self._writer.apply(note)

    def entry(self, entry_id: int) -> Entry | None:
        """The row with its media bytes, as it was delivered."""
        found = self._select("id = ?", [entry_id], limit=1)
        return self._entry(found[0]) if found else None

    def find(self, phone: str, wire_id: str) -> Entry | None:
        """The first row on `phone` with this wire id, if it arrived."""
        found = self._select("phone = ? AND wire_id = ?", [phone, wire_id], limit=1)
        return self._entry(found[0]) if found else None

    def records(self, search: Search, limit: int = 1000, newest: bool = False) -> list[Record]:
        """The rows that match, by ascending id: the first `limit`, or with `newest` the last `limit`."""
        where, values = _conditions(search)
        found = self._select(where, values, limit, "DESC" if newest else "ASC")
        return found[::-1] if newest else found

    def count(self, search: Search) -> int:
        """How many rows match."""
        where, values = _conditions(search)
        return self._db.execute(f"SELECT count(*) FROM arrivals WHERE {where}", values).fetchone()[0]  # noqa: S608

    def duplicates(self, search: Search) -> int:
        """How often a message came again that one of the matching rows holds."""
        where, values = _conditions(search)
        return self._db.execute(
            f"SELECT count(*) FROM duplicates WHERE first IN (SELECT id FROM arrivals WHERE {where})",  # noqa: S608
            values,
        ).fetchone()[0]

    def _add(self, db: sqlite3.Connection, arrival: Arrival) -> Entry | None:
        """Runs in the writer's thread."""
        content, at = arrival.content, time.time()
        digest = self._files.keep(content.media.data) if content.media else ""
        fields = describe(content, digest)
        known = db.execute(
            "SELECT id FROM arrivals WHERE wire_id = ? AND phone = ? AND sender = ? AND chat = ? AND channel = ?",
            (arrival.wire_id, arrival.phone, arrival.sender, arrival.chat, arrival.channel),
        ).fetchone()
        if known is not None:
            db.execute(
                "INSERT INTO duplicates (at, first, content_hash) VALUES (?, ?, ?)",
                (at, known[0], content_hash(fields)),
            )
            return None
        cursor = db.execute(
            "INSERT INTO arrivals"
            " (at, channel, phone, sender, chat, wire_id, kind, content, words, content_hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                at,
                arrival.channel,
                arrival.phone,
                arrival.sender,
                arrival.chat,
                arrival.wire_id,
                content.kind,
                json.dumps(fields, ensure_ascii=False),
                "\n".join(part for part in (content.text, content.caption, content.bubble) if part),
                content_hash(fields),
            ),
        )
        assert cursor.lastrowid is not None
        return Entry(cursor.lastrowid, at, arrival)

    def _select(self, where: str, values: list[Any], limit: int, order: str = "ASC") -> list[Record]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM arrivals WHERE {where} ORDER BY id {order} LIMIT ?",  # noqa: S608
            [*values, limit],
        )
        return [_record(row) for row in rows]

    def _entry(self, record: Record) -> Entry:
        arrival = Arrival(
            phone=record.phone,
            channel=record.channel,  # pyright: ignore[reportArgumentType] - written from an Arrival
            sender=record.sender,
            chat=record.chat,
            wire_id=record.wire_id,
            content=self._content(record.content),
        )
        return Entry(record.id, record.at, arrival, record.receipts)

    def _content(self, fields: dict[str, Any]) -> Content:
        media = fields["media"]
        if media is None:
            return rebuild(fields, None)
        return rebuild(fields, Media(media["mime"], media["name"], self._files.read(media["sha256"]) or b""))


def _clear(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM arrivals")
    db.execute("DELETE FROM duplicates")
    db.execute("DELETE FROM sent")


def _conditions(search: Search) -> tuple[str, list[Any]]:
    pairs: Iterable[tuple[str, Any]] = (
        ("phone = ?", search.phone),
        ("channel = ?", search.channel),
        ("sender = ?", search.sender),
        ("wire_id = ?", search.wire_id),
        ("at >= ?", search.since),
        ("id > ?", search.after),
        ("id <= ?", search.upto),
        ("instr(words, ?) > 0", search.text or None),
    )
    chosen = [(condition, value) for condition, value in pairs if value is not None]
    conditions = [condition for condition, _ in chosen]
    if search.lacks:
        conditions.append({"delivered": "delivered IS NULL", "read": "read IS NULL"}[search.lacks])
    return " AND ".join(conditions), [value for _, value in chosen]


def _record(row: tuple[Any, ...]) -> Record:
    *plain, content, digest, delivered, read = row
    receipts: dict[ReceiptKind, float] = {}
    if delivered is not None:
        receipts["delivered"] = delivered
    if read is not None:
        receipts["read"] = read
    return Record(*plain, content=json.loads(content), content_hash=digest, receipts=receipts)

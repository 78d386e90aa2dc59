"""Recognizes a repeated request by its key or its content, so that it sends nothing again.

With an `Idempotency-Key` a client names its request; the first one accepted under a key is remembered for 24 hours in
the same transaction as its messages, so that a repetition can never slip between the two. Without a key an account's
repeat guard recognises the same content from the same number to the same recipient for a few seconds.
What is remembered is sealed: an OTP's answer contains its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.kit.sealing import Sealing
from kurir.outbox.message_rows import Draft
from kurir.outbox.tables import idempotency
from kurir.store.inserts import insert_into

KEPT = 86_400.0
"""Seconds for which a key is remembered."""


class Once(msgspec.Struct, frozen=True):
    """How a request is recognized for `seconds`. An empty `key_hash` means by the content of its messages."""

    account_id: int
    seconds: float
    key_hash: str = ""
    request_hash: str = ""


class Remembered(msgspec.Struct, frozen=True):
    """What an earlier request led to: its messages, and the rest of its answer."""

    ids: list[int]
    facts: dict[str, str]


class KeptAnswer(msgspec.Struct, frozen=True):
    """An answer as it was given: the JSON body, our headers, and the HTTP status where it is not the body's code."""

    body: dict[str, Any]
    headers: dict[str, str]
    status: int | None


class Earlier(msgspec.Struct, frozen=True):
    """An earlier request of the same name; `answer` is None while it has not been answered for good."""

    request_hash: str
    remembered: Remembered
    answer: KeptAnswer | None


class Repeated(Exception):  # noqa: N818 - a state of the world, not a mistake
    """The request was accepted before, as `earlier` says; nothing was stored now."""

    def __init__(self, earlier: Earlier) -> None:
        super().__init__("the request was accepted before")
        self.earlier = earlier


def name_of(sealing: Sealing, once: Once, drafts: Sequence[Draft]) -> str:
    """The name under which a request is remembered."""
    if once.key_hash:
        return once.key_hash
    content = [(draft.number_id, draft.recipient, draft.content) for draft in drafts]
    return sealing.hash(msgspec.json.encode(content).decode(), "repeat")


def remember(
    connection: Connection, sealing: Sealing, once: Once, *, name: str, remembered: Remembered, now: float
) -> None:
    """Takes the name for this request, within the transaction that stores its messages. Raises Repeated."""
    mine = _mine(once.account_id, name)
    connection.execute(sa.delete(idempotency).where(*mine, idempotency.c.created_at <= now - once.seconds))
    taken = connection.execute(
        insert_into(connection, idempotency)
        .values(
            account_id=once.account_id,
            key_hash=name,
            request_hash=once.request_hash,
            accepted=_seal(sealing, once.account_id, name, remembered),
            answer="",
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(idempotency.c.key_hash)
    )
    if taken.first() is not None:
        return
    earlier = find(connection, sealing, once.account_id, name, now - once.seconds)
    assert earlier is not None, "the name is taken, and what took it has just been committed"
    raise Repeated(earlier)


def find(connection: Connection, sealing: Sealing, account_id: int, name: str, since: float) -> Earlier | None:
    """The request that was accepted under this name after `since` (unix seconds), or None."""
    row = connection.execute(
        sa.select(idempotency).where(*_mine(account_id, name), idempotency.c.created_at > since)
    ).first()
    if row is None:
        return None
    context = _context(account_id, name)
    answer = msgspec.json.decode(sealing.open(row.answer, context), type=KeptAnswer) if row.answer else None
    remembered = msgspec.json.decode(sealing.open(row.accepted, context), type=Remembered)
    return Earlier(row.request_hash, remembered, answer)


def keep(connection: Connection, sealing: Sealing, account_id: int, name: str, answer: KeptAnswer) -> None:
    """Remembers the answer, unless one was given before or nothing was accepted under this name."""
    connection.execute(
        sa.update(idempotency)
        .where(*_mine(account_id, name), idempotency.c.answer == "")
        .values(answer=_seal(sealing, account_id, name, answer))
    )


def _mine(account_id: int, name: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return idempotency.c.account_id == account_id, idempotency.c.key_hash == name


def _seal(sealing: Sealing, account_id: int, name: str, value: msgspec.Struct) -> str:
    return sealing.seal(msgspec.json.encode(value).decode(), _context(account_id, name))


def _context(account_id: int, name: str) -> str:
    return f"idempotency:{account_id}:{name}"

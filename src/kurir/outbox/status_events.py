"""Appends to the event log each state that a message settles in, and that its device sent it.

This is done in the transaction that moved the message.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection

from kurir.accounts import accounts
from kurir.events import bodies
from kurir.events.append import append
from kurir.kit.ids import public_message_id
from kurir.messages.content import Content
from kurir.messages.lifecycle import SETTLED, MessageState
from kurir.outbox.message_rows import Snapshot
from kurir.store.statements import Statement

_UNSENT: frozenset[MessageState] = frozenset({"queued", "sending", "unconfirmed"})
_ON_ITS_WAY: frozenset[MessageState] = frozenset({"sent", "delivered", "read"})

# run at every move of every message: one query for all that an event needs
_ABOUT = Statement("""
SELECT n.key, n.channel, m.content, m.sealed, f.mime, f.name
FROM messages m JOIN numbers n ON n.id = m.number_id AND n.account_id = m.account_id
LEFT JOIN media f ON f.message_id = m.id AND f.account_id = m.account_id
WHERE m.account_id = :account AND m.id = :id
""")


def publish_status(
    connection: Connection, before: MessageState, after: Snapshot, now: float, at: float | None = None
) -> None:
    """Publishes a message's move from the state `before`; nothing when it did not move.

    `now` and `at`, when it happened by the network's clock (None: now), in unix seconds.
    """
    at = now if at is None else at
    if after.state == before or after.state not in SETTLED:
        return
    account_id, number_id, chat = after.account_id, after.number_id, after.recipient
    about = _ABOUT.first(connection, account=account_id, id=after.id)
    if about is None:
        return
    if before in _UNSENT and after.state in _ON_ITS_WAY and about.channel == "linked_device":
        append(
            connection,
            account_id,
            number_id,
            "incoming_chat",
            chat,
            body=lambda: _own_chat(about, after, at),
            now=now,
        )
    append(
        connection,
        account_id,
        number_id,
        "message_status",
        chat,
        body=lambda: _status(about.key, after, at, accounts.sentence_for(connection, account_id, after.error_reason)),
        now=now,
    )


def _status(number_key: str, message: Snapshot, at: float, reason: str) -> bodies.MessageStatus:
    return bodies.MessageStatus(
        message_id=public_message_id(message.id),
        remote_id=message.remote_id or "",
        number_id=number_key,
        chat_id=bodies.chat_id(message.recipient),
        status=message.state,
        error_code=message.error_code,
        error_reason=reason,
        reason_code=message.error_reason.code,
        timestamp=int(at),
    )


def _own_chat(about: Any, message: Snapshot, at: float) -> bodies.IncomingChat:
    # sealed content (OTP codes) leaves the gateway only in the message itself
    content = None if about.sealed else msgspec.json.decode(about.content, type=Content)
    return bodies.own(
        message.recipient, message.remote_id or "", content, at=at, mime=about.mime or "", name=about.name or ""
    )

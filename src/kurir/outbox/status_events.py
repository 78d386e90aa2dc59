"""What an account's webhooks are told about a message: each state it settles in, and that its device sent it.

Written in the transaction that moved the message.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.kit.ids import public_message_id
from kurir.messages.content import Content
from kurir.messages.lifecycle import SETTLED, MessageState
from kurir.numbers import numbers
from kurir.outbox.rows import Snapshot
from kurir.outbox.tables import media, messages
from kurir.webhooks import endpoints, events
from kurir.webhooks.deliveries import publish

_UNSENT: frozenset[MessageState] = frozenset({"queued", "sending", "unconfirmed"})
_ON_ITS_WAY: frozenset[MessageState] = frozenset({"sent", "delivered", "read"})


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
    if not endpoints.listening(connection, account_id):
        return
    number = numbers.by_id(connection, account_id, number_id)
    if number is None:
        return
    if before in _UNSENT and after.state in _ON_ITS_WAY and number.channel == "linked_device":
        publish(
            connection,
            account_id,
            number_id,
            "incoming_chat",
            chat,
            body=lambda: _own_chat(connection, after, at),
            now=now,
        )
    publish(
        connection,
        account_id,
        number_id,
        "message_status",
        chat,
        body=lambda: _status(number.key, after, at),
        now=now,
    )


def _status(number_key: str, message: Snapshot, at: float) -> events.MessageStatus:
    return events.MessageStatus(
        message_id=public_message_id(message.id),
        remote_id=message.remote_id or "",
        number_id=number_key,
        chat_id=events.chat_id(message.recipient),
        status=message.state,
        error_code=message.error_code,
        error_reason=message.error_reason,
        timestamp=int(at),
    )


def _own_chat(connection: Connection, message: Snapshot, at: float) -> events.IncomingChat:
    row = connection.execute(
        sa.select(messages.c.content, messages.c.sealed).where(
            messages.c.account_id == message.account_id, messages.c.id == message.id
        )
    ).one()
    # what is sealed (OTP codes) leaves the gateway in the message itself and in no other way
    content = None if row.sealed else msgspec.json.decode(row.content, type=Content)
    file = connection.execute(
        sa.select(media.c.mime, media.c.name).where(
            media.c.account_id == message.account_id, media.c.message_id == message.id
        )
    ).first()
    mime, name = (file.mime, file.name) if file else ("", "")
    return events.own(message.recipient, message.remote_id or "", content, at=at, mime=mime, name=name)

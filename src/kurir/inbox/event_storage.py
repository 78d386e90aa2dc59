"""Stores an event's parts with their entries in the event log, in the caller's transaction: messages, media, raw
callbacks."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.accounts import accounts
from kurir.events.append import append
from kurir.events.bodies import MediaStatus, media_status, received
from kurir.inbox.raw_callbacks import size_of
from kurir.inbox.tables import incoming
from kurir.messages.addresses import is_group
from kurir.messages.channel_reports import IncomingMedia, MediaFetched, Received
from kurir.numbers import numbers
from kurir.outbox import restrictions
from kurir.reasons import read
from kurir.store.statements import Statement

_CALLBACK = Statement("""
INSERT INTO callbacks (account_id, number_id, fingerprint, body, size, stored_at)
VALUES (:account, :number, :fingerprint, :body, :size, :now)
ON CONFLICT DO NOTHING RETURNING id
""")
_MESSAGE = Statement("""
INSERT INTO incoming (account_id, number_id, remote_id, chat, sender, sender_name, at, stored_at, kind, text, media,
    location, from_me, forwarded)
VALUES (:account, :number, :remote_id, :chat, :sender, :sender_name, :at, :now, :kind, :text, :media, :location,
    :from_me, :forwarded)
ON CONFLICT DO NOTHING RETURNING id
""")
# an older message that comes late must not close the window earlier
_WINDOW = Statement("""
INSERT INTO windows (account_id, number_id, person, last_incoming_at) VALUES (:account, :number, :person, :at)
ON CONFLICT (number_id, person) DO UPDATE SET last_incoming_at = excluded.last_incoming_at
WHERE excluded.last_incoming_at > windows.last_incoming_at
""")


def store_callback(connection: Connection, number: tuple[int, int], fingerprint: str, raw: str, now: float) -> bool:
    """Stores a raw callback of a number (account_id, number_id) under its fingerprint; False when it was there.

    `raw` is text that is bounded already; "" for a further event of a callback that is kept with another.
    """
    stored = _CALLBACK.first(
        connection,
        account=number[0],
        number=number[1],
        fingerprint=fingerprint,
        body=raw,
        size=size_of(raw),
        now=now,
    )
    return stored is not None


def store_media(connection: Connection, event: MediaFetched, now: float) -> None:
    """Stores the result of fetching a message's media, once; a message that was removed meanwhile has none.

    Media that were gone may be stored after all, by a replay of their quarantined entry.
    """
    candidates = connection.execute(
        sa.select(incoming.c.id, incoming.c.media, incoming.c.sender).where(
            incoming.c.number_id == event.number_id,
            incoming.c.chat == event.chat,
            incoming.c.remote_id.in_([event.remote_id, _own_id(event.remote_id, event.sender)]),
            incoming.c.account_id == event.account_id,
        )
    ).all()
    of_sender = [row for row in candidates if row.sender == event.sender]
    # the sender's address may have become known since; then there is only one message that can be meant
    maybe = [row for row in candidates if not _is_another(event.chat, row.sender, event.sender)]
    before = of_sender[0] if of_sender else maybe[0] if len(maybe) == 1 else None
    if before is None or not before.media:
        return
    was = msgspec.json.decode(before.media, type=IncomingMedia).state
    if was != "pending" and (was, event.media.state) != ("gone", "stored"):
        return
    media = msgspec.json.encode(event.media).decode()
    connection.execute(incoming.update().where(incoming.c.id == before.id).values(media=media))

    def body() -> MediaStatus:
        number = numbers.by_id(connection, event.account_id, event.number_id)
        reason = read(event.media.reason)
        words = accounts.sentence_for(connection, event.account_id, reason)
        return media_status(event, number.key if number else "", words, reason.code, now)

    append(
        connection,
        event.account_id,
        event.number_id,
        "media_status",
        event.chat,
        body=body,
        now=now,
    )


def _own_id(remote_id: str, sender: str) -> str:
    """The id for storing a group member's message whose id another member has used before."""
    return f"{remote_id}/{sender}"


def _is_another(chat: str, known: str, sender: str) -> bool:
    """Whether two senders in a chat are surely two members of a group. A LID beside a phone number may be one person,
    and older entries of a journal do not say whose media they fetched."""
    return is_group(chat) and bool(sender) and known != sender and known.isdigit() == sender.isdigit()


def _insert_message(connection: Connection, event: Received, remote_id: str, now: float) -> bool:
    stored = _MESSAGE.first(
        connection,
        account=event.account_id,
        number=event.number_id,
        remote_id=remote_id,
        chat=event.chat,
        sender=event.sender,
        sender_name=event.sender_name,
        at=float(event.at),  # SQLite would store anything
        now=now,
        kind=event.kind,
        text=event.text,
        media=msgspec.json.encode(event.media).decode() if event.media else "",
        location=msgspec.json.encode(event.location).decode() if event.location else "",
        from_me=int(event.from_me),
        forwarded=int(event.forwarded),
    )
    return stored is not None


def _is_taken_by_another(connection: Connection, event: Received) -> bool:
    """Whether another member of the group has written under this id: a sender's client chooses its messages' ids."""
    if not is_group(event.chat):
        return False
    sender = connection.execute(
        sa.select(incoming.c.sender).where(
            incoming.c.account_id == event.account_id,
            incoming.c.number_id == event.number_id,
            incoming.c.chat == event.chat,
            incoming.c.remote_id == event.remote_id,
        )
    ).scalar()
    return sender is not None and _is_another(event.chat, sender, event.sender)


def store_message(connection: Connection, event: Received, now: float) -> None:
    """Stores a message and its window, and publishes a new one."""
    is_new = _insert_message(connection, event, event.remote_id, now)
    if not is_new and _is_taken_by_another(connection, event):
        is_new = _insert_message(connection, event, _own_id(event.remote_id, event.sender), now)
    if not event.from_me:
        _open_window(connection, event, now)
    if is_new:
        append(
            connection,
            event.account_id,
            event.number_id,
            "incoming_chat",
            event.chat,
            body=lambda: received(event),
            now=now,
        )


def _open_window(connection: Connection, event: Received, now: float) -> None:
    restrictions.release(connection, event.number_id, event.chat, now)
    _WINDOW.change(
        connection, account=event.account_id, number=event.number_id, person=event.sender, at=float(event.at)
    )

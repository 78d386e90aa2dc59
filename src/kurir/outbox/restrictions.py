"""First contacts while WhatsApp restricts a number: which messages wait, and how the restriction ends.

WhatsApp lets a restricted number write only to people it has been in contact with. A recipient is a first contact as
long as no message of that person has come in on this number and none of ours has reached them. While the number is
restricted, their queued messages are put off to its end, so that a claim passes over them; messages to everybody else
and to groups go on, each recipient's in order.

When the time is over one first contact is claimed as a trial, one without a file where there is one, as a file may
take its time; until that is claimed the others are looked at again soon, and then wait once more. The trial's success
ends the restriction, a refusal doubles its time (`next_length`).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.messages.addresses import is_group
from kurir.numbers import numbers
from kurir.numbers import status as number_status
from kurir.reasons import stored
from kurir.reasons.messages import FIRST_CONTACT_WAITS
from kurir.store.statements import Statement

CODE = "restricted"
"""`error_code` of a message that waits for the end of a restriction."""
_LONGEST = 86_400.0
_AT_ONCE = 1_000
_LOOK_AGAIN = 30.0
"""Seconds for which the others are put off while the trial has not been claimed: it may wait for its file."""
_REASON = stored(FIRST_CONTACT_WAITS())

_UNKNOWN = """
    NOT EXISTS (SELECT 1 FROM incoming AS i WHERE i.number_id = :number AND i.chat = m.recipient AND i.from_me = 0)
    AND NOT EXISTS (
        SELECT 1 FROM messages AS k
        WHERE k.number_id = :number AND k.recipient = m.recipient AND k.state IN ('delivered','read')
    )
"""
_PUT_OFF = sa.text(f"""
UPDATE messages
SET due_at = CASE WHEN expires_at < :until THEN expires_at ELSE :until END, error_code = :code, error_reason = :reason
WHERE state = 'queued' AND id IN (
    SELECT m.id FROM messages AS m
    WHERE m.number_id = :number AND +m.account_id = :account AND m.state = 'queued' AND m.due_at <= :now
      AND m.expires_at > :now AND m.recipient NOT LIKE '%@g.us' AND {_UNKNOWN}
    ORDER BY CASE WHEN m.kind IN ('image','document') THEN 1 ELSE 0 END, m.priority, m.id LIMIT :limit OFFSET :kept)
""")  # noqa: S608 - our own condition
_KNOWN_ONE = Statement(f"""
SELECT 1 FROM (SELECT CAST(:recipient AS TEXT) AS recipient) AS m WHERE {_UNKNOWN}
""")  # noqa: S608 - our own condition
_RELEASE_ONE = Statement("""
UPDATE messages SET due_at = :now, error_code = '', error_reason = ''
WHERE number_id = :number AND recipient = :recipient AND state = 'queued' AND error_code = :code
""")
_RELEASE = sa.text("""
UPDATE messages SET due_at = :now, error_code = '', error_reason = ''
WHERE number_id = :number AND +account_id = :account AND state = 'queued' AND error_code = :code
""")


def next_length(shortest: float, last: float | None, *, trial: bool) -> float:
    """Seconds of a restriction from now on: `last` is its length so far, None when it begins; `trial`: what was refused
    was its trial. Pure."""
    if last is None:
        return shortest
    return min(last * 2, _LONGEST) if trial else last


def is_first_contact(connection: Connection, number_id: int, recipient: str) -> bool:
    """Whether the number has not been in contact with this recipient."""
    if is_group(recipient):
        return False
    return _KNOWN_ONE.first(connection, number=number_id, recipient=recipient) is not None


def begin(
    connection: Connection, account_id: int, number_id: int, shortest: float, now: float, *, trial: bool
) -> float:
    """WhatsApp refused a first contact, maybe the `trial`: the number is restricted; returns until when (unix seconds).

    `shortest`: seconds of a first restriction.
    """
    current = numbers.restriction(connection, account_id, number_id)
    if current is not None and current.until > now and not trial:
        return current.until  # of several in flight each is refused
    length = next_length(shortest, current.seconds if current else None, trial=trial)
    until = now + length
    number_status.restrict(connection, account_id, number_id, numbers.Restriction(until, length), now)
    return until


def put_off(
    connection: Connection, account_id: int, number_id: int, now: float
) -> tuple[bool, numbers.Restriction | None]:
    """Puts off first contacts that are due; call it before a claim, in the same transaction.

    Returns whether all have been looked at (else claim nothing and call again), and the restriction whose time is over,
    if so: then one first contact, the next to leave, was kept as a trial.
    """
    current = numbers.restriction(connection, account_id, number_id)
    if current is None:
        return True, None
    over = current.until <= now
    until = now + min(current.seconds, _LOOK_AGAIN) if over else current.until
    values = {
        "number": number_id,
        "account": account_id,
        "now": now,
        "until": until,
        "code": CODE,
        "reason": _REASON,
        "limit": _AT_ONCE,
        "kept": int(over),
    }
    changed = connection.execute(_PUT_OFF, values).rowcount
    return changed < _AT_ONCE, current if over else None


def try_one(connection: Connection, account_id: int, number_id: int, over: numbers.Restriction, now: float) -> None:
    """A trial has been claimed: until it is over the others wait as before."""
    numbers.set_restriction(connection, account_id, number_id, numbers.Restriction(now + over.seconds, over.seconds))


def release(connection: Connection, number_id: int, person: str, now: float) -> None:
    """`person` has written to the number: releases what waited for them."""
    _RELEASE_ONE.change(connection, number=number_id, recipient=person, code=CODE, now=now)


def end(connection: Connection, account_id: int, number_id: int, now: float) -> None:
    """A first contact was reached: releases everything that waited."""
    number_status.restrict(connection, account_id, number_id, None, now)
    connection.execute(_RELEASE, {"account": account_id, "number": number_id, "code": CODE, "now": now})

"""Stores a sender number's changes of state and appends them to the event log, in the caller's transaction."""

from __future__ import annotations

from typing import cast

from sqlalchemy import Connection

from kurir.accounts import accounts
from kurir.events.append import append
from kurir.events.bodies import DeviceStatus
from kurir.messages.channel_reports import ConnectionChanged, NumberState
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.reasons import Reason, ReasonedError
from kurir.reasons.administration import NOT_PAUSED
from kurir.reasons.numbers import RESTRICTED_UNTIL
from kurir.reasons.states import state


class NotPaused(ReasonedError):  # noqa: N818 - a state of the world, not a mistake
    """Only a paused number can be resumed; the reason gives its state."""


def change(connection: Connection, event: ConnectionChanged, now: float) -> None:
    """Stores a number's new connection state; an unchanged state is not published. `now` in unix seconds.

    `paused` is no state of a connection: such an event, by which Meta's callbacks stop a number, pauses it.
    """
    if event.state == "paused":
        pause(connection, event.account_id, event.number_id, event.reason, now)
        return
    before = numbers.by_id(connection, event.account_id, event.number_id)
    numbers.set_state(
        connection,
        event.account_id,
        event.number_id,
        cast("NumberState", event.state),
        reason=event.reason,
        at=event.at,
        phone=event.phone,
        jid="" if event.state == "logged_out" else event.jid or None,
    )
    if before is None or before.state == event.state:
        return
    if before.paused and event.state == "connected":  # whoever reads `connected` would expect it to send
        event = ConnectionChanged(
            event.account_id, event.number_id, "paused", before.pause_reason, event.at, phone=event.phone
        )
    _publish(connection, before, event, now)


def pause(connection: Connection, account_id: int, number_id: int, reason: Reason, now: float) -> None:
    """Pauses the number until a person resumes it: its messages stay queued, its connection stays as it is.

    Of a number that is paused already only the reason changes.
    """
    before = numbers.by_id(connection, account_id, number_id)
    numbers.set_pause(connection, account_id, number_id, reason, now)
    if before is not None and not before.paused:
        _publish(connection, before, ConnectionChanged(account_id, number_id, "paused", reason, now), now)


def resume(connection: Connection, number: Number, now: float) -> None:
    """Resumes a paused number; its lane notices within half a minute. The event has the state of its connection.

    Raises NotPaused.
    """
    if not number.paused:
        raise NotPaused(NOT_PAUSED(key=number.key, state=state(number.state)))
    numbers.end_pause(connection, number.account_id, number.id)
    event = ConnectionChanged(number.account_id, number.id, number.state, number.state_reason, now)
    _publish(connection, number, event, now)


def restrict(
    connection: Connection, account_id: int, number_id: int, restriction: numbers.Restriction | None, now: float
) -> None:
    """Records that first contacts have to wait, or (None) no longer; an event is appended when that is new.
    `now` in unix seconds."""
    before = numbers.by_id(connection, account_id, number_id)
    numbers.set_restriction(connection, account_id, number_id, restriction)
    if before is None or (before.restricted_until is None) == (restriction is None):
        return
    if restriction is None:
        event = ConnectionChanged(account_id, number_id, before.state, before.state_reason, now)
    else:
        reason = RESTRICTED_UNTIL(until=restriction.until)
        event = ConnectionChanged(account_id, number_id, "restricted", reason, now)
    _publish(connection, before, event, now)


def _publish(connection: Connection, number: Number, event: ConnectionChanged, now: float) -> None:
    def body() -> DeviceStatus:
        return DeviceStatus(
            number_id=number.key,
            phone=event.phone or number.phone,
            name=number.name,
            state=event.state,
            reason=accounts.sentence_for(connection, event.account_id, event.reason),
            reason_code=event.reason.code,
            timestamp=int(event.at),
        )

    append(connection, event.account_id, event.number_id, "device_status", "", body=body, now=now)

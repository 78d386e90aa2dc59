"""What an attempt's outcome changes: its message, the number's state, and the restriction of a linked device.

One function within the caller's transaction; `retries.decide` (pure) has decided before what follows for the message.
"""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.messages.channel_reports import Halted, Outcome, Restricted, Sent
from kurir.numbers import status as number_status
from kurir.outbox import doubt, early_receipts, record, recovery, restrictions
from kurir.outbox.message_rows import Claimed, Snapshot
from kurir.outbox.retries import Decision, Requeue, Settled


def write(
    connection: Connection,
    claimed: Claimed,
    outcome: Outcome,
    decision: Decision,
    *,
    now: float,
    timeout: float,
    restriction: float,
) -> Snapshot:
    """Writes the outcome and the receipts that came before it; returns the message as it is then.

    `timeout`: seconds in which a receipt may still settle a message in doubt; `restriction`: seconds of a number's
    first restriction.
    """
    doubt_until = None
    if isinstance(decision, Settled) and decision.state == "unconfirmed":
        setting = recovery.doubt_setting(connection, claimed.account_id)
        if doubt.may_resend(setting, claimed.origin):
            doubt_until = now + doubt.timeout(claimed.origin, timeout)
    if isinstance(outcome, Halted):
        number_status.pause(connection, claimed.account_id, claimed.number_id, outcome.reason, now)
    follows = decision
    if isinstance(outcome, Restricted) and restrictions.is_first_contact(
        connection, claimed.number_id, claimed.recipient
    ):
        until = restrictions.begin(
            connection, claimed.account_id, claimed.number_id, restriction, now, trial=claimed.first_contact
        )
        due_at = min(until, claimed.expires_at)
        follows = Requeue(due_at, counted=False, code=restrictions.CODE, reason=outcome.reason)
    elif isinstance(outcome, Sent) and claimed.first_contact:
        restrictions.end(connection, claimed.account_id, claimed.number_id, now)
    name = str(type(outcome).__struct_config__.tag)
    after = record.record(connection, claimed, name, follows, now=now, doubt_until=doubt_until)
    assert after is not None
    remote_id = getattr(outcome, "remote_id", None)
    if remote_id:
        for event in early_receipts.take(connection, claimed.account_id, claimed.number_id, remote_id):
            after = record.receipt(connection, after, event, now)
    return after

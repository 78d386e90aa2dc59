"""The states of a message, the allowed moves, and the rank that keeps receipts from moving it back.

    queued ──claim──▶ sending ──▶ sent ──▶ delivered ──▶ read
      ▲  │               │         │           │
      │  ├─▶ expired     ├─ retry ─┘           └─ late or reordered receipts never move a message down
      │  └─▶ canceled    ├─▶ failed
      └──────────────────┤
                         └─▶ unconfirmed ──▶ queued | sent | delivered | read | failed | canceled

Final states: failed, expired, canceled; read is the last successful one. `unconfirmed`: the message may or may not have
left; it is held until evidence, the account's setting or a person decides.

A receipt proves that some try left, so it also settles a message that is queued for another try. Only a person's replay
takes a message out of a final state: it is queued again with its tries reset.
"""

from __future__ import annotations

from typing import Literal, get_args

MessageState = Literal["queued", "sending", "sent", "delivered", "read", "failed", "expired", "canceled", "unconfirmed"]
STATES: tuple[MessageState, ...] = get_args(MessageState)
ReceiptStatus = Literal["sent", "delivered", "read", "failed"]

MOVES: dict[MessageState, tuple[MessageState, ...]] = {
    "queued": ("sending", "sent", "delivered", "read", "expired", "canceled", "unconfirmed"),
    "sending": ("queued", "sent", "delivered", "read", "failed", "expired", "unconfirmed"),
    "sent": ("delivered", "read", "failed"),
    "delivered": ("read",),
    "read": (),
    "failed": (),
    "expired": (),
    "canceled": (),
    "unconfirmed": ("queued", "sent", "delivered", "read", "failed", "canceled"),
}
"""The moves that the outbox's statements make, besides a person's replay (a test compares both). A queued message
becomes unconfirmed only in a database restored from a backup."""
RANK: dict[MessageState, int] = {
    "queued": 0,
    "sending": 1,
    "unconfirmed": 1,
    "sent": 2,
    "delivered": 3,
    "read": 4,
}
ENDS: frozenset[MessageState] = frozenset({"failed", "expired", "canceled"})
SETTLED: frozenset[MessageState] = frozenset(
    {"sent", "delivered", "read", "failed", "expired", "canceled", "unconfirmed"}
)
"""States in which the dispatcher sends nothing more on its own, except an `unconfirmed` message of an account that
chose `resend`."""
REPLAYABLE: frozenset[MessageState] = frozenset({"failed", "expired", "unconfirmed"})
"""States from which a person may send the message again."""
CANCELABLE: frozenset[MessageState] = frozenset({"queued", "unconfirmed"})
"""States in which a person may cancel the message."""


def after_receipt(state: MessageState, receipt: ReceiptStatus) -> MessageState:
    """The state after a receipt: receipts only move up in rank; `failed` only ends a message that no phone has shown
    yet.

    A receipt proves that the message left, so it also settles `queued` (for another attempt), `sending` and
    `unconfirmed`; a failed earlier attempt does not affect a queued message.
    """
    if state in ENDS:
        return state
    if receipt == "failed":
        return "failed" if state != "queued" and RANK[state] <= RANK["sent"] else state
    return receipt if RANK[receipt] > RANK[state] else state

"""Receipts only move a message up, and only along allowed moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir.messages.lifecycle import ENDS, MOVES, RANK, SETTLED, STATES, MessageState, after_receipt

receipts = st.sampled_from(["sent", "delivered", "read", "failed"])


@given(st.sampled_from(STATES), receipts)
def test_a_receipt_takes_an_allowed_move_or_none(state, receipt):
    after = after_receipt(state, receipt)
    assert after == state or after in MOVES[state]


@given(st.sampled_from([s for s in STATES if s in RANK]), st.lists(receipts))
def test_rank_never_falls(state, sequence):
    for receipt in sequence:
        after = after_receipt(state, receipt)
        if after in ENDS:
            return
        assert RANK[after] >= RANK[state]
        state = after


@given(st.permutations(["sent", "delivered", "read"]))
def test_every_order_of_receipts_ends_at_read(order):
    state = "sending"
    for receipt in order:
        state = after_receipt(state, receipt)
    assert state == "read"


def test_every_state_is_named_once():
    assert set(MOVES) == set(STATES)
    assert set(STATES) >= SETTLED
    assert {move for moves in MOVES.values() for move in moves} <= set(STATES)


@pytest.mark.parametrize(
    ("state", "after"),
    [
        ("queued", "queued"),
        ("sending", "failed"),
        ("unconfirmed", "failed"),
        ("sent", "failed"),
        ("delivered", "delivered"),
        ("read", "read"),
    ],
)
def test_a_failure_ends_what_no_phone_has_shown_yet(state: MessageState, after: MessageState):
    assert after_receipt(state, "failed") == after

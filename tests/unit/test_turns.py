"""Shares of places: nobody starves, nobody takes all, and places are neither lost nor given twice."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir.kit.fair_sharing import Shares, Turns

STEPS = st.lists(st.tuples(st.sampled_from(["ask", "leave", "withdraw"]), st.integers(0, 5)), max_size=120)


class Crowd:
    """Accounts that ask, leave and give up as a random list of steps says."""

    def __init__(self, places: int) -> None:
        self.shares = Shares(places)
        self.waiting: list[tuple[int, int]] = []
        self.holding: list[int] = []
        self.asked = 0

    def take(self, given: list) -> None:
        for ticket in given:
            free_before = self.shares.places - len(self.holding)
            assert self.holding.count(ticket[0]) < free_before, "an account took more than was left for others"
            self.waiting.remove(ticket)
            self.holding.append(ticket[0])

    def ask(self, account: int) -> None:
        self.asked += 1
        ticket = (account, self.asked)
        self.waiting.append(ticket)
        self.take(self.shares.ask(account, ticket))

    def leave(self, account: int) -> None:
        if account in self.holding:
            self.holding.remove(account)
            self.take(self.shares.leave(account))

    def withdraw(self, account: int) -> None:
        mine = [ticket for ticket in self.waiting if ticket[0] == account]
        if mine:
            self.waiting.remove(mine[-1])
            self.shares.withdraw(account, mine[-1])


@given(places=st.integers(1, 9), steps=STEPS)
def test_whatever_happens_places_are_shared(places: int, steps: list[tuple[str, int]]) -> None:
    crowd = Crowd(places)
    for verb, account in steps:
        getattr(crowd, verb)(account)
        free = crowd.shares.free
        assert free == places - len(crowd.holding) >= 0
        for waiting, _ in crowd.waiting:  # who waits has either its share or nothing is left
            assert crowd.holding.count(waiting) >= free
    # whoever waits gets a place in the end, however the others hold on to theirs and ask again
    while crowd.waiting:
        before = len(crowd.waiting)
        for account in sorted(set(crowd.holding)):
            crowd.leave(account)
        assert len(crowd.waiting) < before
    for account in list(crowd.holding):
        crowd.leave(account)
    assert crowd.shares.idle


@given(places=st.integers(2, 64), busy=st.integers(1, 8))
def test_busy_accounts_leave_a_place_for_a_newcomer(places: int, busy: int) -> None:
    shares = Shares(places)
    for n in range(200):
        for account in range(busy):
            shares.ask(account, (account, n))
    held = [shares.held[account] for account in range(busy)]
    if busy < places:
        assert shares.free >= 1
        assert max(held) - min(held) <= 1
        assert shares.ask("newcomer", "n") == ["n"]
    else:
        assert max(held) == 1


def test_a_lone_account_takes_half_and_keeps_its_order() -> None:
    shares = Shares(8)
    assert [t for n in range(8) for t in shares.ask("a", n)] == [0, 1, 2, 3]
    assert shares.leave("a") == [4]
    assert shares.leave("a") == [5]


def test_accounts_that_wait_take_turns() -> None:
    shares = Shares(1)
    shares.ask("a", "a0")
    for n in range(1, 100):
        shares.ask("a", f"a{n}")
    shares.ask("b", "b1")
    shares.ask("c", "c1")
    order = []
    holder = "a"
    for _ in range(4):
        (ticket,) = shares.leave(holder)
        order.append(ticket)
        holder = str(ticket)[0]
    assert order == ["a1", "b1", "c1", "a2"]


def test_no_places_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Shares(0)


@pytest.mark.parametrize("given_first", [True, False])
async def test_a_place_and_a_cancellation_in_the_same_moment(given_first: bool) -> None:
    turns = Turns(1)
    await turns.enter("a")
    waiting = [asyncio.ensure_future(_use(turns, "b")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    if given_first:
        turns.leave("a")
        waiting[1].cancel()
    else:
        waiting[1].cancel()
        turns.leave("a")
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True, True, False]
    assert turns.idle


async def test_a_failure_gives_the_place_back() -> None:
    turns = Turns(1)
    with pytest.raises(RuntimeError):
        async with turns.place("a"):
            raise RuntimeError
    assert turns.idle


async def _use(turns: Turns, account: str) -> None:
    async with turns.place(account):
        await asyncio.sleep(0)

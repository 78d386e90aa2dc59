"""Fair sharing of a limited number of places between accounts, so that no account can take all of them.

The next place is assigned by *dynamic thresholds* (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998;
used for the shared buffers of network switches): an account may take a further place while it holds fewer than are
free. One busy account therefore takes half of the places, n busy accounts take 1/(n+1) each, and an account that holds
none finds a free place as long as fewer accounts than there are places keep the others busy. Waiting accounts take
turns; within an account the order is first come, first served.

`Shares` is the rule, `Turns` applies it on an event loop, `shared_threads` to threads.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Collection, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Ticket = TypeVar("Ticket", bound=Hashable)


class Shares(Generic[Ticket]):
    """Holders of and waiters for `places` places. Pure: waiters are tickets, any objects of the caller's."""

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError("expected at least one place")
        self.places = places
        self.held: Counter[Hashable] = Counter()
        self.waiting: OrderedDict[Hashable, deque[Ticket]] = OrderedDict()

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self.places - self.held.total()

    def full_with(self, account: Hashable, held: Collection[Hashable]) -> bool:
        """Whether the account would have to wait if only these places were held, each by the named account."""
        return sum(one == account for one in held) >= self.places - len(held)

    @property
    def idle(self) -> bool:
        """Whether nobody holds or waits."""
        return not self.held and not self.waiting

    def ask(self, account: Hashable, ticket: Ticket) -> list[Ticket]:
        """Queues `ticket` for a place for the account; returns the tickets that now get one."""
        self.waiting.setdefault(account, deque()).append(ticket)
        return self._given()

    def leave(self, account: Hashable) -> list[Ticket]:
        """Returns one of the account's places; returns the tickets that now get one."""
        self.held[account] -= 1
        if not self.held[account]:
            del self.held[account]
        return self._given()

    def withdraw(self, account: Hashable, ticket: Ticket) -> bool:
        """Removes a waiting `ticket`; False when it has a place already."""
        queue = self.waiting.get(account, deque())
        if ticket not in queue:
            return False
        queue.remove(ticket)
        if not queue:
            del self.waiting[account]
        return True

    def _given(self) -> list[Ticket]:
        given: list[Ticket] = []
        while (turn := self._turn()) is not None:
            account, queue = turn
            given.append(queue.popleft())
            self.held[account] += 1
            if queue:
                self.waiting.move_to_end(account)
            else:
                del self.waiting[account]
        return given

    def _turn(self) -> tuple[Hashable, deque[Ticket]] | None:
        """The account that gets the next place, and its tickets."""
        free = self.free
        if not free:  # else all who wait would be looked at; who is passed over below holds a place
            return None
        return next((one for one in self.waiting.items() if self.held[one[0]] < free), None)


class Turns:
    """`Shares` for one event loop: `async with turns.place(account)` waits for a place."""

    def __init__(self, places: int) -> None:
        self._shares: Shares[asyncio.Future[None]] = Shares(places)

    @property
    def idle(self) -> bool:
        """Whether nobody holds or waits for a place."""
        return self._shares.idle

    @asynccontextmanager
    async def place(self, account: Hashable) -> AsyncGenerator[None]:
        """Holds a place for the account within the block, waiting for it first."""
        await self.enter(account)
        try:
            yield
        finally:
            self.leave(account)

    async def enter(self, account: Hashable) -> None:
        """Waits for a place and holds it until `leave`; for work whose end nobody awaits."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._admit(self._shares.ask(account, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not self._shares.withdraw(account, turn):  # the place was assigned in the same moment
                self.leave(account)
            raise

    def leave(self, account: Hashable) -> None:
        """Returns a place of the account's."""
        self._admit(self._shares.leave(account))

    def _admit(self, given: list[asyncio.Future[None]]) -> None:
        for turn in given:
            if not turn.done():  # else it was cancelled, and its task gives the place back
                turn.set_result(None)

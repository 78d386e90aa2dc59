"""Who has to look when a number has something to do: its lane here, or the gateway that carries it."""

from __future__ import annotations

from kurir.dispatch.dispatcher import Dispatcher
from kurir.foundation.bell import LOOK, Bell, Ring
from kurir.foundation.database import Database
from kurir.leases import Leases


class Wakes:
    """Passes on what commits set off. `dispatcher` comes later than the first commits: until then nothing sleeps."""

    def __init__(self, database: Database, leases: Leases | None) -> None:
        self.dispatcher: Dispatcher | None = None
        self._leases = leases
        self._bell = Bell(database, self._heard) if leases is not None else None

    def start(self) -> None:
        """Begins to listen to other gateways, where there may be any."""
        if self._bell is not None:
            self._bell.start()

    async def close(self) -> None:
        """Tells what is still to be told, then listens no more."""
        if self._bell is not None:
            await self._bell.close()

    def woken(self, account_id: int, number_id: int) -> None:
        """After a commit: the number may have something to send, or may have become ready."""
        if self._leases is not None and self._bell is not None and not self._leases.holds(number_id):
            self._bell.ring(Ring(account_id, number_id))
        elif self.dispatcher is not None:
            self.dispatcher.wake(account_id, number_id)

    def freed(self) -> None:
        """Numbers were given up: the other gateways should look at the leases."""
        if self._bell is not None:
            self._bell.ring(LOOK)

    def _heard(self, ring: Ring) -> None:
        if ring == LOOK and self._leases is not None:
            self._leases.look()
        elif self.dispatcher is not None:
            self.dispatcher.wake(ring.account_id, ring.number_id)

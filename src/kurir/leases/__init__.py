"""Leases: which gateway holds which number. Several gateways may share one PostgreSQL; each number is held by one of
them.

A sending gateway is a row of `gateways`, alive while its heartbeat (every 5 s) advances `expires_at` (database time, 20
s ahead). It holds a number through a row of `leases`; each change of holder raises the lease's token. A gateway that
misses its heartbeats is deleted by another, which then acquires its numbers; it cannot continue under its old name, and
by its own clock it has stopped sending before that moment. `Hold.guard` checks name and token inside the transaction
that claims messages: that is the fence. Numbers are distributed evenly; a gateway with too many releases some in order.
With SQLite there is one gateway and no leases: `Alone`.
"""

from kurir.leases.leases import HEARTBEAT, LEASE, LeaseHandlers, Leases
from kurir.leases.ownership import Alone, Hold, Ownership

__all__ = ["HEARTBEAT", "LEASE", "Alone", "Hold", "LeaseHandlers", "Leases", "Ownership"]

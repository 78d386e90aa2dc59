"""Which gateway carries which number. Several gateways may share one PostgreSQL; each number is carried by one of them.

A gateway that sends is a row of `gateways`, alive while its heartbeat (every 5 s) moves `expires_at` (database time,
20 s ahead). It holds a number through a row of `leases`; each change of hands raises the lease's token. A gateway that
misses its heartbeats is struck off by another, which then takes its numbers; it can never come back to life under its
old name, and before that moment it has stopped by its own clock. `Hold.guard` checks name and token inside the
transaction that claims messages: that is the fence. Numbers are shared out evenly; a gateway with too many gives some
up in order. With SQLite there is one gateway and nothing of this: `Alone`.
"""

from kurir.leases.leases import HEARTBEAT, LEASE, LeaseHandlers, Leases
from kurir.leases.ownership import Alone, Hold, Ownership

__all__ = ["HEARTBEAT", "LEASE", "Alone", "Hold", "LeaseHandlers", "Leases", "Ownership"]

"""The SQL statements of leases on PostgreSQL. All times are the database's, so that the gateways' clocks need not
agree."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

_NOW = "extract(epoch FROM clock_timestamp())"

_REGISTER = sa.text(f"INSERT INTO gateways (key, url, expires_at) VALUES (:me, :url, {_NOW} + :lease)")  # noqa: S608
_RENEW = sa.text(f"UPDATE gateways SET expires_at = {_NOW} + :lease WHERE key = :me AND expires_at > {_NOW}")  # noqa: S608
_LEAVE = sa.text("DELETE FROM gateways WHERE key = :key")
_LEAVE_ALL = sa.text("DELETE FROM gateways")
_STRIKE_OFF = sa.text(f"DELETE FROM gateways WHERE expires_at <= {_NOW}")  # noqa: S608 - our own words
_COUNTS = sa.text(f"""
SELECT (SELECT count(*) FROM numbers WHERE removed_at IS NULL), (SELECT count(*) FROM gateways),
    coalesce((SELECT min(expires_at) FROM gateways WHERE key <> :me) - {_NOW}, 'Infinity'),
    (SELECT count(*) FROM numbers AS n WHERE n.removed_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM leases AS l JOIN gateways AS g ON g.key = l.gateway WHERE l.number_id = n.id))
""")  # noqa: S608 - our own words
_ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtext('kurir leases'))")
_TAKE = sa.text("""
INSERT INTO leases (number_id, gateway, token)
SELECT n.id, :me, 1 FROM numbers AS n
WHERE n.removed_at IS NULL AND (:only = 0 OR n.id = :only) AND NOT EXISTS (
    SELECT 1 FROM leases AS l JOIN gateways AS g ON g.key = l.gateway WHERE l.number_id = n.id)
ORDER BY n.id LIMIT :most
ON CONFLICT (number_id) DO UPDATE SET gateway = excluded.gateway, token = leases.token + 1
RETURNING number_id, (SELECT account_id FROM numbers WHERE id = number_id), token
""")
_GIVE_UP = sa.text("UPDATE leases SET gateway = '' WHERE number_id = :number AND gateway = :me AND token = :token")
_SET_FREE = sa.text("UPDATE leases SET gateway = '' WHERE gateway = :me AND NOT number_id = ANY(:held)")
_FENCE = sa.text(f"""
SELECT 1 FROM leases AS l JOIN gateways AS g ON g.key = l.gateway
WHERE l.number_id = :number AND l.gateway = :me AND l.token = :token AND g.expires_at > {_NOW}
FOR SHARE OF l
""")  # noqa: S608 - our own words
_HOLDER = sa.text(f"""
SELECT g.url FROM leases AS l JOIN gateways AS g ON g.key = l.gateway
WHERE l.number_id = :number AND g.expires_at > {_NOW}
""")  # noqa: S608 - our own words


class Taken(NamedTuple):
    """A number that was just acquired; `token` counts its changes of holder."""

    number_id: int
    account_id: int
    token: int


class Counts(NamedTuple):
    """Numbers in total, gateways that hold them, seconds until the first other gateway expires without a heartbeat, and
    free numbers."""

    numbers: int
    gateways: int
    next_death: float
    free: int


def register(connection: Connection, me: str, url: str, before: str, lease: float) -> None:
    """Inserts a gateway and deletes the name of its earlier run, which has ended."""
    connection.execute(_LEAVE, {"key": before})
    connection.execute(_REGISTER, {"me": me, "url": url, "lease": lease})


def renew(connection: Connection, me: str, lease: float) -> bool:
    """Records a heartbeat; False when it came too late and the name is lost for good."""
    return connection.execute(_RENEW, {"me": me, "lease": lease}).rowcount > 0


def leave(connection: Connection, me: str) -> None:
    """Deletes a gateway at its own request: all its numbers become free."""
    connection.execute(_LEAVE, {"key": me})


def leave_all(connection: Connection) -> None:
    """Deletes every gateway: those of a copied database do not exist, even if they were alive when it was copied."""
    connection.execute(_LEAVE_ALL)


def count(connection: Connection, me: str, held: list[int]) -> Counts:
    """Deletes expired gateways, frees numbers that a gateway has in the table but does not hold, and counts."""
    connection.execute(_SET_FREE, {"me": me, "held": held})
    connection.execute(_STRIKE_OFF)
    return Counts(*connection.execute(_COUNTS, {"me": me}).one())


def take(connection: Connection, me: str, most: int, only: int = 0) -> list[Taken]:
    """Acquires up to `most` free numbers, or the number `only` if it is free; waits for claims of earlier holders."""
    connection.execute(_ONE_AT_A_TIME)  # the next statement sees everything acquired before
    return [Taken(*row) for row in connection.execute(_TAKE, {"me": me, "most": most, "only": only}).all()]


def give_up(connection: Connection, me: str, number_id: int, token: int) -> None:
    """Frees one number."""
    connection.execute(_GIVE_UP, {"number": number_id, "me": me, "token": token})


def fence(connection: Connection, me: str, number_id: int, token: int) -> bool:
    """Whether this gateway still holds the number; if so, nobody acquires it before the transaction ends."""
    return connection.execute(_FENCE, {"number": number_id, "me": me, "token": token}).first() is not None


def holder(connection: Connection, number_id: int) -> str | None:
    """The address of the gateway that holds the number, None when none does."""
    return connection.execute(_HOLDER, {"number": number_id}).scalar()

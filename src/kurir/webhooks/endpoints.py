"""An account's webhook endpoints: addresses with a filter and a secret each.

An endpoint takes the events it asked for, of one number or of all. While its secret is rotated both secrets sign, so
that the receiver can change over without a lost event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.events import read
from kurir.events.bodies import WEBHOOK_EVENTS, WebhookEvent
from kurir.kit.ids import opaque_id
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed, check_url
from kurir.reasons import Reason, ReasonedError, stored
from kurir.reasons.administration import NO_EVENT, UNKNOWN_EVENT
from kurir.store.statements import Statement
from kurir.webhooks.signing import new_secret
from kurir.webhooks.tables import webhook_endpoints as endpoints

DEFAULT_EVENTS: tuple[WebhookEvent, ...] = ("incoming_chat",)
"""An endpoint's events by default: old receivers get nothing new."""
OVERLAP = 24 * 3600.0
"""Seconds that the old secret goes on signing after a rotation."""


class EndpointError(ReasonedError):
    """An endpoint's values are invalid: the field, and what it is expected to be."""

    def __init__(self, field: str, reason: Reason) -> None:
        super().__init__(reason)
        self.field = field


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint. `number_id` None: of every number of the account; `state_reason` says why it is disabled, as
    `reasons.stored` writes it."""

    id: int
    account_id: int
    key: str
    url: str
    number_id: int | None
    events: tuple[WebhookEvent, ...]
    state: Literal["active", "disabled"]
    state_reason: str
    created_at: float


class Address(msgspec.Struct, frozen=True):
    """An endpoint's address and its live secrets (the newest first): never log it."""

    key: str
    url: str
    secrets: list[str]

    def __repr__(self) -> str:
        return f"Address({self.key})"


_COLUMNS = [endpoints.c[name] for name in Endpoint.__struct_fields__]
_SECRETS = [endpoints.c.secret_sealed, endpoints.c.old_secret_sealed, endpoints.c.old_secret_until]
_ACTIVE = (endpoints.c.state == "active", endpoints.c.removed_at.is_(None))

# asked at every delivery: built once
_ADDRESS = Statement(
    sa.select(endpoints.c.key, endpoints.c.url, *_SECRETS).where(endpoints.c.id == sa.bindparam("endpoint"), *_ACTIVE)
)


def add(
    connection: Connection,
    sealing: Sealing,
    account_id: int,
    url: str,
    *,
    allowed: Allowed,
    now: float,
    number_id: int | None = None,
    events: Sequence[str] = DEFAULT_EVENTS,
) -> tuple[Endpoint, str]:
    """A new endpoint and its secret (`whsec_…`). `number_id` must be the account's.

    Raises UrlRefused for an address that Kurir would not post to, EndpointError for an unknown type of event.
    """
    checked = str(check_url(url, allowed))
    for event in events:
        if event not in WEBHOOK_EVENTS:
            raise EndpointError("event", UNKNOWN_EVENT(words=", ".join(WEBHOOK_EVENTS), found=repr(event)))
    if not events:
        raise EndpointError("event", NO_EVENT())
    result = connection.execute(
        endpoints.insert().values(
            account_id=account_id,
            key="ep_" + opaque_id(16),
            url=checked,
            number_id=number_id,
            events=msgspec.json.encode(list(dict.fromkeys(events))).decode(),
            active_since=now,
            after_event=read.newest(connection, account_id),
            created_at=now,
        )
    )
    assert result.inserted_primary_key is not None
    endpoint_id = result.inserted_primary_key[0]
    secret = new_secret()
    connection.execute(_own(account_id, endpoint_id).values(secret_sealed=sealing.seal(secret, _context(endpoint_id))))
    found = _one(connection, account_id, endpoints.c.id == endpoint_id)
    assert found is not None
    return found, secret


def of_account(connection: Connection, account_id: int) -> list[Endpoint]:
    """The account's endpoints, oldest first."""
    rows = connection.execute(
        sa.select(*_COLUMNS)
        .where(endpoints.c.account_id == account_id, endpoints.c.removed_at.is_(None))
        .order_by(endpoints.c.id)
    )
    return [_endpoint(row) for row in rows]


def by_key(connection: Connection, account_id: int, key: str) -> Endpoint | None:
    """The account's endpoint with that key (`ep_…`), or None."""
    return _one(connection, account_id, endpoints.c.key == key)


def address(connection: Connection, sealing: Sealing, endpoint_id: int, now: float) -> Address | None:
    """What is needed to post to an endpoint of whatever account; None when it is disabled. For the deliverer only."""
    row = _ADDRESS.first(connection, endpoint=endpoint_id)
    if row is None:
        return None
    return Address(row.key, row.url, _opened(sealing, endpoint_id, row, now))


def secrets(connection: Connection, sealing: Sealing, account_id: int, endpoint_id: int, now: float) -> list[str]:
    """The endpoint's live secrets, the newest first: one, or two while it is rotated."""
    row = connection.execute(
        sa.select(*_SECRETS).where(endpoints.c.account_id == account_id, endpoints.c.id == endpoint_id)
    ).one()
    return _opened(sealing, endpoint_id, row, now)


def _opened(sealing: Sealing, endpoint_id: int, row: Any, now: float) -> list[str]:
    live = [row.secret_sealed]
    if row.old_secret_sealed and row.old_secret_until > now:
        live.append(row.old_secret_sealed)
    return [sealing.open(sealed, _context(endpoint_id)) for sealed in live]


def rotate(connection: Connection, sealing: Sealing, endpoint: Endpoint, now: float) -> str:
    """Gives the endpoint a new secret and returns it; the one before goes on signing for `OVERLAP` seconds."""
    secret = new_secret()
    connection.execute(
        _own(endpoint.account_id, endpoint.id).values(
            old_secret_sealed=endpoints.c.secret_sealed,
            old_secret_until=now + OVERLAP,
            secret_sealed=sealing.seal(secret, _context(endpoint.id)),
        )
    )
    return secret


def disable(connection: Connection, account_id: int, endpoint_id: int, reason: Reason) -> None:
    """Disables the endpoint until it is enabled again."""
    connection.execute(_own(account_id, endpoint_id).values(state="disabled", state_reason=stored(reason)))


def enable(connection: Connection, account_id: int, endpoint_id: int, now: float) -> None:
    """Enables the endpoint for events from now on, and resets its failures."""
    connection.execute(
        _own(account_id, endpoint_id).values(
            state="active", state_reason="", active_since=now, after_event=read.newest(connection, account_id)
        )
    )


def remove(connection: Connection, account_id: int, endpoint_id: int, now: float) -> None:
    """Removes the endpoint and its secrets."""
    connection.execute(
        _own(account_id, endpoint_id).values(
            state="disabled", state_reason="removed", removed_at=now, secret_sealed="", old_secret_sealed=""
        )
    )


def _own(account_id: int, endpoint_id: int) -> sa.Update:
    return endpoints.update().where(endpoints.c.account_id == account_id, endpoints.c.id == endpoint_id)


def _one(connection: Connection, account_id: int, condition: sa.ColumnElement[bool]) -> Endpoint | None:
    row = connection.execute(
        sa.select(*_COLUMNS).where(endpoints.c.account_id == account_id, endpoints.c.removed_at.is_(None), condition)
    ).first()
    return _endpoint(row) if row else None


def _endpoint(row: Any) -> Endpoint:
    values: dict[str, Any] = dict(row._mapping)
    values["events"] = tuple(msgspec.json.decode(row.events))
    return Endpoint(**values)


def _context(endpoint_id: int) -> str:
    return f"webhook_endpoints.secret:{endpoint_id}"

"""Sender numbers: linked devices (`BO-…` keys) and official numbers (`WB-…` keys), their owner and their state.

More than 300 lines: the queries and changes of one table, each a few lines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.kit.clock import Clock, system_clock
from kurir.kit.ids import opaque_id
from kurir.kit.sealing import SealError, Sealing
from kurir.messages.channel_reports import NumberState
from kurir.numbers.tables import numbers
from kurir.reasons import NOTHING, Reason, read, stored
from kurir.reasons.numbers import RESTRICTED_UNTIL
from kurir.store.statements import Statement, json_array

ChannelKind = Literal["linked_device", "cloud_api"]

KEY_PREFIX: dict[ChannelKind, str] = {"linked_device": "BO-", "cloud_api": "WB-"}


class Number(msgspec.Struct, frozen=True):
    """A sender number of an account. `phone` in digits, "" while a device has not been paired.

    `state` and `state_reason` are those of its connection. `paused_at` (unix seconds): nothing is sent until a person
    resumes it, for `pause_reason`; it stays connected and receives.
    """

    id: int
    account_id: int
    key: str
    channel: ChannelKind
    phone: str
    name: str
    state: NumberState
    state_reason: Reason
    last_connected_at: float | None
    jid: str
    phone_number_id: str
    waba_id: str
    app_id: str
    created_at: float
    restricted_until: float | None = None
    paused_at: float | None = None
    pause_reason: Reason = NOTHING

    @property
    def paused(self) -> bool:
        """Whether its messages wait until a person resumes it."""
        return self.paused_at is not None


class Restriction(msgspec.Struct, frozen=True):
    """Until when (unix seconds) a number may write to no first contacts, and how many seconds that was from its start.
    When the time is over it still applies until a first contact was reached."""

    until: float
    seconds: float


class CloudCredentials(msgspec.Struct, frozen=True):
    """A number's Cloud API credentials, decrypted: never log them, never keep them longer than a call."""

    access_token: str
    app_secret: str

    def __repr__(self) -> str:
        return "CloudCredentials(…)"


class Signer(msgspec.Struct, frozen=True):
    """An official number and the secret of the Meta app that signs its callbacks: never log it."""

    number: Number
    app_secret: str

    def __repr__(self) -> str:
        return f"Signer({self.number.key}, …)"


_COLUMNS = [numbers.c[name] for name in Number.__struct_fields__]
_NAMES = ", ".join(Number.__struct_fields__)
_SELECT = f"SELECT {_NAMES} FROM numbers WHERE account_id = :account AND removed_at IS NULL"  # noqa: S608 - our own
_BY_ID = Statement(f"{_SELECT} AND id = :id")
_OFFICIAL = f"SELECT {_NAMES}, app_secret_sealed FROM numbers WHERE channel = 'cloud_api' AND removed_at IS NULL"  # noqa: S608
_ALL_SIGNERS = Statement(f"{_OFFICIAL} ORDER BY id LIMIT :limit")
_SIGNERS = Statement(
    f"{_OFFICIAL} AND (phone_number_id IN each_text(:phones) OR waba_id IN each_text(:businesses)) "
    "ORDER BY id LIMIT :limit"
)
_BY_KEY = Statement(f"{_SELECT} AND key = :key")
_REASONS = [Number.__struct_fields__.index(name) for name in ("state_reason", "pause_reason")]


def _number(row: Any) -> Number:
    values = list(row)
    for place in _REASONS:
        values[place] = read(values[place])
    return Number(*values)


def add_linked_device(
    connection: Connection, account_id: int, name: str = "", *, clock: Clock = system_clock
) -> Number:
    """A new, unpaired linked device of the account."""
    return _insert(connection, account_id, "linked_device", created_at=clock(), name=name)


def add_official(
    connection: Connection,
    sealing: Sealing,
    account_id: int,
    *,
    phone: str,
    phone_number_id: str,
    waba_id: str,
    app_id: str,
    access_token: str,
    app_secret: str,
    verify_token: str,
    name: str = "",
    clock: Clock = system_clock,
) -> Number:
    """A new official number; its token and app secret are sealed, its verify token hashed."""
    number = _insert(
        connection,
        account_id,
        "cloud_api",
        created_at=clock(),
        name=name,
        phone=phone,
        phone_number_id=phone_number_id,
        waba_id=waba_id,
        app_id=app_id,
        state="connected",
    )
    connection.execute(
        numbers.update()
        .where(numbers.c.account_id == account_id, numbers.c.id == number.id)
        .values(
            access_token_sealed=sealing.seal(access_token, f"numbers.access_token:{number.id}"),
            app_secret_sealed=sealing.seal(app_secret, f"numbers.app_secret:{number.id}"),
            verify_token_hash=sealing.hash(verify_token, "verify_token"),
        )
    )
    return number


def _insert(connection: Connection, account_id: int, channel: ChannelKind, **values: Any) -> Number:
    row = {
        "key": KEY_PREFIX[channel] + opaque_id(16),
        "channel": channel,
        **values,
    }
    result = connection.execute(numbers.insert().values(account_id=account_id, **row))
    assert result.inserted_primary_key is not None
    number = by_id(connection, account_id, result.inserted_primary_key[0])
    assert number is not None
    return number


def by_key(connection: Connection, account_id: int, key: str) -> Number | None:
    """The account's number with that `number_id` / `licenses_key`, or None (also for another account's)."""
    row = _BY_KEY.first(connection, account=account_id, key=key)
    return _number(row) if row else None


def by_any_key(connection: Connection, key: str) -> Number | None:
    """The number with that key, of whichever account, or None: for the operator only."""
    row = connection.execute(sa.select(*_COLUMNS).where(numbers.c.key == key, numbers.c.removed_at.is_(None))).first()
    return _number(row) if row else None


def by_id(connection: Connection, account_id: int, number_id: int) -> Number | None:
    """The account's number with that internal id, or None."""
    row = _BY_ID.first(connection, account=account_id, id=number_id)
    return _number(row) if row else None


def of_account(connection: Connection, account_id: int) -> list[Number]:
    """All numbers of the account, oldest first."""
    rows = connection.execute(
        sa.select(*_COLUMNS)
        .where(numbers.c.account_id == account_id, numbers.c.removed_at.is_(None))
        .order_by(numbers.c.id)
    )
    return [_number(row) for row in rows]


def all_of_channel(connection: Connection, channel: ChannelKind) -> list[Number]:
    """Every account's numbers of one channel: for the process that connects them, never for a caller."""
    rows = connection.execute(
        sa.select(*_COLUMNS).where(numbers.c.channel == channel, numbers.c.removed_at.is_(None)).order_by(numbers.c.id)
    )
    return [_number(row) for row in rows]


def signers(
    connection: Connection, sealing: Sealing, phone_number_ids: Collection[str], waba_ids: Collection[str], limit: int
) -> list[Signer]:
    """Up to `limit` official numbers that Meta calls by one of these ids, or whose business account has one of those
    (callbacks name no account), oldest first."""
    rows = _SIGNERS.all(connection, phones=json_array(phone_number_ids), businesses=json_array(waba_ids), limit=limit)
    return _opened_signers(sealing, rows)


def all_signers(connection: Connection, sealing: Sealing, limit: int) -> list[Signer]:
    """Up to `limit` official numbers, oldest first."""
    return _opened_signers(sealing, _ALL_SIGNERS.all(connection, limit=limit))


def _opened_signers(sealing: Sealing, rows: Sequence[Any]) -> list[Signer]:
    found: list[Signer] = []
    for *columns, sealed in rows:
        number = _number(columns)
        with contextlib.suppress(SealError):  # its secret was sealed with another master key
            found.append(Signer(number, sealing.open(sealed, f"numbers.app_secret:{number.id}")))
    return found


def credentials(connection: Connection, sealing: Sealing, account_id: int, number_id: int) -> CloudCredentials:
    """An official number's token and app secret, opened. Raises KeyError when there is no such number."""
    row = connection.execute(
        sa.select(numbers.c.access_token_sealed, numbers.c.app_secret_sealed).where(
            numbers.c.account_id == account_id, numbers.c.id == number_id, numbers.c.removed_at.is_(None)
        )
    ).first()
    if row is None:
        raise KeyError(number_id)
    return CloudCredentials(
        access_token=sealing.open(row[0], f"numbers.access_token:{number_id}"),
        app_secret=sealing.open(row[1], f"numbers.app_secret:{number_id}"),
    )


def set_name(connection: Connection, account_id: int, number_id: int, name: str) -> bool:
    """Renames the account's number; False when that is its name already."""
    here = sa.and_(numbers.c.account_id == account_id, numbers.c.id == number_id)
    renamed = connection.execute(numbers.update().where(here, numbers.c.name != name).values(name=name))
    return renamed.rowcount > 0


def remove(connection: Connection, account_id: int, number_id: int, now: float) -> bool:
    """Removes the account's number and erases its secrets; its row stays for its messages. False when it was removed
    before."""
    here = sa.and_(numbers.c.account_id == account_id, numbers.c.id == number_id)
    removed = connection.execute(
        numbers.update()
        .where(here, numbers.c.removed_at.is_(None))
        .values(removed_at=now, access_token_sealed="", app_secret_sealed="", verify_token_hash="")
    )
    return removed.rowcount > 0


def set_access_token(connection: Connection, sealing: Sealing, account_id: int, number_id: int, token: str) -> None:
    """Replaces an official number's access token by a new one, sealed."""
    connection.execute(
        numbers.update()
        .where(numbers.c.account_id == account_id, numbers.c.id == number_id)
        .values(access_token_sealed=sealing.seal(token, f"numbers.access_token:{number_id}"))
    )


def set_state(
    connection: Connection,
    account_id: int,
    number_id: int,
    state: NumberState,
    *,
    reason: Reason,
    at: float,
    phone: str = "",
    jid: str | None = None,
) -> None:
    """Records a connection state; `phone` and `jid` when a device was just paired (`jid=""` forgets the pairing)."""
    values: dict[str, Any] = {"state": state, "state_reason": stored(reason)}
    if state == "connected":
        values["last_connected_at"] = at
    if phone:
        values["phone"] = phone
    if jid is not None:
        values["jid"] = jid
    connection.execute(
        numbers.update().where(numbers.c.account_id == account_id, numbers.c.id == number_id).values(**values)
    )


def set_pause(connection: Connection, account_id: int, number_id: int, reason: Reason, at: float) -> None:
    """Records that the number is paused, for this reason; the time of an earlier pause stays."""
    connection.execute(
        numbers.update()
        .where(numbers.c.account_id == account_id, numbers.c.id == number_id)
        .values(paused_at=sa.func.coalesce(numbers.c.paused_at, at), pause_reason=stored(reason))
    )


def end_pause(connection: Connection, account_id: int, number_id: int) -> None:
    """Records that the number is not paused."""
    connection.execute(
        numbers.update()
        .where(numbers.c.account_id == account_id, numbers.c.id == number_id)
        .values(paused_at=None, pause_reason="")
    )


def restriction(connection: Connection, account_id: int, number_id: int) -> Restriction | None:
    """The number's restriction, or None."""
    row = connection.execute(
        sa.select(numbers.c.restricted_until, numbers.c.restricted_seconds).where(
            numbers.c.account_id == account_id, numbers.c.id == number_id
        )
    ).first()
    return Restriction(row[0], row[1]) if row is not None and row[0] is not None else None


def set_restriction(connection: Connection, account_id: int, number_id: int, restriction: Restriction | None) -> None:
    """Records a restriction, or its end."""
    until, seconds = (restriction.until, restriction.seconds) if restriction is not None else (None, 0.0)
    connection.execute(
        numbers.update()
        .where(numbers.c.account_id == account_id, numbers.c.id == number_id)
        .values(restricted_until=until, restricted_seconds=seconds)
    )


def restricted_count(connection: Connection) -> int:
    """How many numbers of all accounts are restricted."""
    of_accounts = (
        sa.select(numbers.c.account_id, sa.func.count())
        .where(numbers.c.restricted_until.is_not(None), numbers.c.removed_at.is_(None))
        .group_by(numbers.c.account_id)
    )
    return sum(row[1] for row in connection.execute(of_accounts))


def shown_state(number: Number, state: NumberState, reason: Reason) -> tuple[NumberState, Reason]:
    """The state that people see of a number whose connection is in `state` for `reason`: `paused` or `restricted` when
    that is all that keeps a connected number from sending."""
    if state != "connected":
        return state, reason
    if number.paused:
        return "paused", number.pause_reason
    if number.restricted_until is not None:
        return "restricted", RESTRICTED_UNTIL(until=number.restricted_until)
    return state, reason


def verify_token_matches(connection: Connection, sealing: Sealing, verify_token: str) -> bool:
    """Whether any official number was set up with this webhook verify token."""
    if not verify_token:  # of a number that was set up without one
        return False
    wanted = sealing.hash(verify_token, "verify_token")
    return (
        connection.execute(
            sa.select(numbers.c.id)
            .where(numbers.c.verify_token_hash == wanted, numbers.c.removed_at.is_(None))
            .limit(1)
        ).first()
        is not None
    )

"""Reads a whole signed body, within bounds. Pure; for a large body it takes a good part of a second.

A valid signature does not prove that the body is Meta's: every tenant with an official number knows the app secret.
Meta puts at most a thousand updates into one callback; a body with many more is quarantined whole, as one entry, and so
costs other tenants no more than any other entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from kurir.channels.cloud_api.callbacks import (
    Change,
    TooMuch,
    changes_of,
    owners_among,
    quarantined,
    quarantined_whole,
    read,
)
from kurir.messages import bounds
from kurir.messages.channel_reports import Event, Quarantined
from kurir.numbers.numbers import Number

CHANGES = 1_000
"""Maximum changes of one callback that are read."""
PIECES = 40_000
"""Maximum objects, lists and commas of one callback; with more it is not parsed, which would block the whole process.
Commas in texts count too: a thousand updates of Meta's have some 25,000 of all these."""
PARTS = 5_000
"""Maximum events and unsupported items that are read from one callback."""

ENTRIES = 100
"""Maximum changes of one callback that are quarantined one by one; with more the whole body is, once."""


class Parts(msgspec.Struct, frozen=True):
    """The content of a body. `is_json`: whether it is a JSON object; one that is not, or has too much in it, is in
    `entries` as a whole and nothing else. `raw` is the body as text that can be stored, `fingerprint` identifies it."""

    raw: str
    fingerprint: str
    events: list[tuple[Event, str]]
    unread: frozenset[str]
    entries: list[Quarantined]
    is_json: bool = True


def taken_apart(body: bytes, signers: Sequence[Number], now: float) -> Parts:
    """Reads a body that was signed with the app secret of `signers`. `now`: unix seconds."""
    pieces = sum(map(body.count, (b"{", b"[", b",")))
    if pieces > PIECES:
        return _whole(body, signers, f"the callback has {pieces} objects, lists and commas, more than {PIECES}")
    changes = changes_of(body)
    if changes is None:
        return _whole(body, signers, "the body is not a JSON object", is_json=False)
    if len(changes) > CHANGES:
        return _whole(body, signers, f"the callback has {len(changes)} changes, more than {CHANGES}")
    owners = owners_among(signers)
    try:
        reading = read(changes, owners, now, most=PARTS)
    except TooMuch:
        return _whole(body, signers, f"the callback has more than {PARTS} events")
    strange = [change for change in changes if change.phone_number_id and not owners(change)]
    if (count := len(reading.broken) + len(strange)) > ENTRIES:
        entries = _bodies(
            body, signers, f"{count} of its changes cannot be read or are about numbers that are not set up"
        )
    else:
        entries = [*reading.broken, *(_of_unknown_number(change, signers[0]) for change in strange)]
    return Parts(
        raw=bounds.text(body, len(body)),
        fingerprint=f"body:{hashlib.sha256(body).hexdigest()}",
        events=[(found.event, found.fingerprint) for found in reading.events],
        unread=frozenset(reading.unread),
        entries=entries,
    )


def _whole(body: bytes, signers: Sequence[Number], reason: str, *, is_json: bool = True) -> Parts:
    return Parts("", "", [], frozenset(), _bodies(body, signers, reason), is_json)


def _bodies(body: bytes, signers: Sequence[Number], reason: str) -> list[Quarantined]:
    """The body as an entry for each account whose secret signed it."""
    accounts = {number.account_id: number.id for number in reversed(signers)}
    return [quarantined_whole(body, account_id, number_id, reason) for account_id, number_id in accounts.items()]


def _of_unknown_number(change: Change, signer: Number) -> Quarantined:
    """An entry for a change about a number that is not set up here, for a replay when it is."""
    return quarantined(change, signer.account_id, 0, f"no number of this gateway has the id {change.phone_number_id}")

"""`kurir quarantine …`: what could not be processed and was set aside; replay or discard it."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from cyclopts import App

from kurir.accounts import accounts
from kurir.cli.terminal import CommandError, Table, account_of, operator, say, with_snapshot
from kurir.numbers import numbers
from kurir.quarantine import quarantine

app = App(name="quarantine", help="What could not be processed and was set aside: list, export, replay, discard.")


@app.command(name="list")
def list_(email: str = "", *, limit: int = 50) -> None:
    """List what was set aside, newest first.

    Args:
        email: Only of this account.
        limit: How many at most.
    """
    if not 1 <= limit <= 10_000:
        raise CommandError("--limit: expected 1 to 10000")

    def work(connection, _sealing) -> tuple[list[quarantine.Line], dict[int, str], dict[int, str]]:
        account = account_of(connection, email) if email else None
        found = quarantine.lines(connection, account.id if account else None, limit=limit)
        owners = {one.id: one.email for one in accounts.list_all(connection)}
        keys = {number.id: number.key for owner in owners for number in numbers.of_account(connection, owner)}
        return found, owners, keys

    found, owners, keys = with_snapshot(work)
    if not found:
        say("Nothing is in the quarantine.")
        return
    table = Table("entry", "since", "account", "number", "queue", "reference", "reason")
    for entry in found:
        cells = (
            str(entry.id),
            datetime.fromtimestamp(entry.stored_at).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            owners.get(entry.account_id, "unknown"),
            keys.get(entry.number_id, "unknown"),
            entry.queue,
            entry.reference,
            entry.reason,
        )
        table.add_row(*cells)
    table.show()
    say("`kurir quarantine replay <entry>` tries one again, `kurir quarantine discard <entry>` removes it.")


@app.command
def export(entry: str, file: Path) -> None:
    """Write what was set aside into a file, for a bug report or a look. It is somebody's message: handle it so.

    Args:
        entry: Its number in `kurir quarantine list`.
        file: Where to write it; must not exist.
    """
    number = _entry(entry)
    found = with_snapshot(lambda connection, _sealing: quarantine.by_id(connection, number))
    if found is None:
        raise CommandError(f"there is no entry {entry} in the quarantine")
    with file.open("xb") as target:
        target.write(found.payload)
    say(f"{len(found.payload)} bytes written to {file}.")


@app.command
def replay(*entries: str) -> None:
    """Put entries back into their queues; the gateway must be running. What fails again is set aside again.

    Args:
        entries: Their numbers in `kurir quarantine list`.
    """
    _decide(entries, "replay", "is back in its queue")


@app.command
def discard(*entries: str) -> None:
    """Remove entries for good; the gateway must be running.

    Args:
        entries: Their numbers in `kurir quarantine list`.
    """
    _decide(entries, "discard", "was removed")


def _decide(entries: tuple[str, ...], decision: str, done: str) -> None:
    """Decides all of them; those that cannot be are named at the end."""
    if not entries:
        raise CommandError("name at least one entry: `kurir quarantine list` shows them")
    refused: list[str] = []
    for entry in [_entry(text) for text in entries]:
        try:
            operator("POST", f"/quarantine/{entry}/{decision}")
        except CommandError as error:
            refused.append(f"entry {entry}: {error}")
        else:
            say(f"Entry {entry} {done}.")
    if refused:
        raise CommandError("; ".join(refused))


def _entry(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,17}", text):
        raise CommandError(f"{text!r} is no entry: expected its number in `kurir quarantine list`")
    return int(text)

"""`kurir quarantine …`: what could not be processed; list, replay or discard it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cyclopts import App

from kurir.cli.language import language
from kurir.cli.terminal import CommandError, Table, operator, over_data, say
from kurir.quarantine.quarantine import Entry
from kurir.reasons import read, sentence
from kurir.services.quarantine import NamedLine
from kurir.services.stored_services import StoredServices

app = App(name="quarantine", help="What could not be processed and was quarantined: list, export, replay, discard.")


@app.command(name="list")
def list_(email: str = "", *, limit: int = 50) -> None:
    """List what was quarantined, newest first.

    Args:
        email: Only of this account.
        limit: How many at most.
    """

    async def work(services: StoredServices) -> list[NamedLine]:
        account_id = (await services.accounts.by_email(email)).id if email else None
        return await services.quarantine.list(account_id, limit=limit)

    found = over_data(work)
    if not found:
        say("Nothing is in the quarantine.")
        return
    table = Table("entry", "since", "account", "number", "queue", "reference", "reason")
    for one in found:
        entry = one.line
        cells = (
            str(entry.id),
            datetime.fromtimestamp(entry.stored_at).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            one.email or "unknown",
            one.number_key or "unknown",
            entry.queue,
            entry.reference,
            sentence(read(entry.reason), language()),
        )
        table.add_row(*cells)
    table.show()
    say("`kurir quarantine replay <entry>` tries one again, `kurir quarantine discard <entry>` removes it.")


@app.command
def export(entry: str, file: Path) -> None:
    """Write what was quarantined into a file, for a bug report. It is personal: it holds a message.

    Args:
        entry: Its number in `kurir quarantine list`.
        file: Where to write it; must not exist.
    """
    number = _entry(entry)

    async def work(services: StoredServices) -> Entry:
        return await services.quarantine.get_of_any(number)

    found = over_data(work)
    with file.open("xb") as target:
        target.write(found.payload)
    say(f"{len(found.payload)} bytes written to {file}.")


@app.command
def replay(*entries: str) -> None:
    """Put entries back into their queues; the gateway must be running. What fails again is quarantined again.

    Args:
        entries: Their numbers in `kurir quarantine list`.
    """
    _decide(entries, lambda entry: operator("POST", f"/quarantine/{entry}/replay"), "is back in its queue")


@app.command
def discard(*entries: str) -> None:
    """Remove entries for good.

    Args:
        entries: Their numbers in `kurir quarantine list`.
    """
    _decide(entries, lambda entry: over_data(lambda services: services.quarantine.discard_of_any(entry)), "was removed")


def _decide(entries: tuple[str, ...], decide: Callable[[int], object], done: str) -> None:
    """Applies the action to all; reports at the end those that failed."""
    if not entries:
        raise CommandError("name at least one entry: `kurir quarantine list` shows them")
    refused: list[str] = []
    for entry in [_entry(text) for text in entries]:
        try:
            decide(entry)
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

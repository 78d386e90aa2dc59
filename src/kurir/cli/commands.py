"""All commands but the running of a gateway, parsed and documented by cyclopts."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import NoReturn

from cyclopts import App

from kurir import __version__
from kurir.cli import account, contacts, message, number, quarantine, webhook
from kurir.cli.backups import backup, restore
from kurir.cli.bench import bench
from kurir.cli.doctor import doctor
from kurir.cli.serving import serve
from kurir.cli.terminal import CommandError, say
from kurir.data_folder import open_data_folder
from kurir.kit import crash_points
from kurir.settings import Settings
from kurir.store.tables import SCHEMA_VERSION

app = App(
    name="kurir",
    version=__version__,
    help="A self-hosted WhatsApp gateway: linked devices and the official Cloud API behind one durable outbox.",
)
app.command(account.app)
app.command(number.app)
app.command(contacts.app)
app.command(message.app)
app.command(webhook.app)
app.command(quarantine.app)
app.command(serve)
app.command(doctor)
app.command(backup)
app.command(restore)
app.command(bench)


@app.command
def demo() -> None:
    """Try everything on this machine: gateway, sandbox network, a demo account. No phone, no internet."""
    import uvloop  # noqa: PLC0415 - the other commands do without

    from kurir.demo.demo import demo as show  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(show())


@app.command
def sandbox(*arguments: str) -> NoReturn:
    """Start only the sandbox network (see `kurir sandbox -- --help`)."""
    os.execv(sys.executable, [sys.executable, "-m", "kurir_sandbox", *arguments])  # noqa: S606 - our own program


@app.command
def migrate() -> None:
    """Bring the database to the newest schema (`kurir serve` does it too). Stop every gateway before."""
    settings = Settings.load()
    crash_points.arm(settings.crash_at)
    database, _ = open_data_folder(settings, create=bool(settings.database_url), report=say)
    say(f"The database has the newest schema ({SCHEMA_VERSION}): {database.name}")


def run(arguments: list[str]) -> None:
    """Runs one command. Raises CycloptsError for arguments that no command has, and what the command raises."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandError(f"{argument!r} is not valid UTF-8: type it anew, or rename the file") from None
    app(arguments, print_error=False, exit_on_error=False)

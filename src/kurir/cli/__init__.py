"""The `kurir` command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from io import TextIOWrapper
from typing import Any, NoReturn

from cyclopts import App, CycloptsError

from kurir import __version__
from kurir.cli import account, contacts, message, number, quarantine, webhook
from kurir.cli.backups import backup, restore
from kurir.cli.doctor import doctor
from kurir.cli.terminal import CommandError, print_error, say
from kurir.data_folder import AlreadyRunning, NoData, SchemaError, open_data_folder
from kurir.demo.scene import DemoError
from kurir.kit import crash_points
from kurir.kit.sealing import SealError
from kurir.kit.tasks import GaveUpError
from kurir.kit.tokens import TokenError
from kurir.settings import Settings, SettingsError, unknown_settings
from kurir.store.backups import BackupError
from kurir.store.database import DatabaseUnavailable
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
app.command(doctor)
app.command(backup)
app.command(restore)


@app.command
def serve(*, roles: str = "") -> None:
    """Start the gateway for production: no sandbox, settings from the environment (see README).

    Args:
        roles: What this process does, as in KURIR_ROLES: some of api, dispatch, webhooks, with commas between.
    """
    import structlog  # noqa: PLC0415

    from kurir.kit.logs import configure_logging  # noqa: PLC0415 - keeps `kurir --help` fast
    from kurir.serve import serve as run  # noqa: PLC0415

    settings = Settings.load({**os.environ, "KURIR_ROLES": roles} if roles else None)
    configure_logging(settings)
    for sentence in unknown_settings():
        structlog.get_logger("kurir.settings").warning("unknown_setting", reason=sentence)
    _run(run(settings))


@app.command
def demo() -> None:
    """Try everything on this machine: gateway, sandbox network, a demo account. No phone, no internet."""
    from kurir.demo.demo import demo as run  # noqa: PLC0415

    _run(run())


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


def _run(work: Coroutine[Any, Any, object]) -> None:
    import uvloop  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def main() -> None:
    """Runs the command line; a user's error ends in one sentence and exit code 1, never in a traceback."""
    os.umask(0o077)  # created files may hold messages
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that cannot show a character still shows the rest
    try:
        _check_arguments(sys.argv[1:])
        app(sys.argv[1:], print_error=False, exit_on_error=False)
    except CycloptsError as error:
        print_error(" ".join(str(error).split()))
        sys.exit(1)
    except (
        CommandError,
        DemoError,
        SettingsError,
        SealError,
        AlreadyRunning,
        NoData,
        SchemaError,
        BackupError,
        TokenError,
        DatabaseUnavailable,
        OSError,
    ) as error:
        print_error(str(error))
        sys.exit(1)
    except GaveUpError as error:
        print_error(str(error))
        sys.exit(os.EX_SOFTWARE)
    except KeyboardInterrupt:
        sys.exit(130)
    except EOFError:
        print_error("the input ended before everything was answered; nothing was changed")
        sys.exit(1)
    except Exception as error:
        if sentence := _damage():
            print_error(sentence)
            sys.exit(1)
        if os.environ.get("KURIR_LOG_LEVEL", "").lower() == "debug":
            raise
        from kurir.kit.logs import redact_text  # noqa: PLC0415 - keeps `kurir --help` fast

        what = redact_text(f"{type(error).__name__}: {error}")
        print_error(f"a mistake of Kurir's: {what} (KURIR_LOG_LEVEL=debug shows where it arose)")
        sys.exit(os.EX_SOFTWARE)


def _damage() -> str | None:
    """Whether an error results from a damaged database, whose rows may hold anything."""
    from kurir.store.sqlite import damage  # noqa: PLC0415 - keeps `kurir --help` fast

    try:
        settings = Settings.load()
        if settings.database_url or not settings.sqlite_path.exists():
            return None
        return damage(settings.sqlite_path)
    except (SettingsError, OSError):
        return None


def _check_arguments(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandError(f"{argument!r} is not valid UTF-8: type it anew, or rename the file") from None

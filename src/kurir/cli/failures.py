"""Reports why a command failed: the sentence for each kind of error, and the exit code."""

from __future__ import annotations

import os

from cyclopts import CycloptsError

from kurir.cli.language import language
from kurir.cli.refusals import refusal_of
from kurir.cli.terminal import CommandError, print_error
from kurir.data_folder import AlreadyRunning, NoData, SchemaError
from kurir.demo.scene import DemoError
from kurir.kit.logs import redact_text
from kurir.kit.sealing import SealError
from kurir.kit.tasks import GaveUpError
from kurir.kit.tokens import TokenError
from kurir.reasons import sentence
from kurir.settings import Settings, SettingsError
from kurir.store.backups import BackupError
from kurir.store.database import DatabaseUnavailable
from kurir.store.sqlite import damage

_EXPECTED = (
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
)
"""Errors whose text is a sentence for the user."""


def report(error: Exception) -> int:
    """Prints the error's sentence and returns the exit code.

    Raises a mistake of Kurir's own when KURIR_LOG_LEVEL is debug.
    """
    match error:
        case CycloptsError():
            print_error(sentence(refusal_of(error), language()))
        case GaveUpError():
            print_error(str(error))
            return os.EX_SOFTWARE
        case EOFError():
            print_error("the input ended before everything was answered; nothing was changed")
        case _ if isinstance(error, _EXPECTED):
            print_error(str(error))
        case _ if damaged := _damage():
            print_error(damaged)
        case _:
            if os.environ.get("KURIR_LOG_LEVEL", "").lower() == "debug":
                raise error
            what = redact_text(f"{type(error).__name__}: {error}")
            print_error(f"a mistake of Kurir's: {what} (KURIR_LOG_LEVEL=debug shows where it arose)")
            return os.EX_SOFTWARE
    return 1


def _damage() -> str | None:
    """Whether an error results from a damaged database, whose rows may hold anything."""
    try:
        settings = Settings.load()
        if settings.database_url or not settings.sqlite_path.exists():
            return None
        return damage(settings.sqlite_path)
    except (SettingsError, OSError):
        return None

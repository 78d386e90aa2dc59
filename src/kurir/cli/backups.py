"""`kurir backup` and `kurir restore`: copy a running gateway, and restore the copy without sending twice."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from kurir.cli.terminal import CommandError, say
from kurir.data_folder import check_key, database_of, refuse_emptied, renew_schema, require_data, sole_gateway
from kurir.events import restored as events
from kurir.kit.sealing import Sealing, load_master_key
from kurir.leases.statements import leave_all
from kurir.otp import check as otp
from kurir.outbox import hold_after_restore
from kurir.settings import Settings
from kurir.store import backups
from kurir.store.database import Database

_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'kurir' AND pid <> pg_backend_pid()
"""


def backup(folder: Path) -> None:
    """Copy the database and the master key into a new folder, also while the gateway runs (SQLite).

    The copy opens every account: keep it as safe as the data folder. Device sessions are not in it.

    Args:
        folder: A folder that does not exist yet.
    """
    settings = Settings.load()
    if settings.database_url:
        raise CommandError("the database is on a PostgreSQL server: back it up with pg_dump (see docs/operating.md)")
    refuse_emptied(settings)
    size = backups.save(settings.data_dir, folder, time.time())
    say(f"Copied to {folder} ({size / 1e6:,.1f} MB): database and keys.")
    say("Not in it: device sessions (after a restore each linked device is paired again) and media.")


def restore(folder: Path | None = None, *, resume_queue: bool = False) -> None:
    """Put a backup back, while no gateway runs. What was queued in it is held: it may have been sent since.

    Args:
        folder: What `kurir backup` made; without it, the database was restored by other means (pg_restore, a snapshot)
        and only its queue is dealt with. resume_queue: Keep the queue going. Only when nothing was sent after the
        backup was taken.
    """
    settings = Settings.load()
    if folder is None:
        require_data(settings)
    with sole_gateway(settings.data_dir):
        if folder is None:
            held = _put_right(settings, resume_queue)
        elif settings.database_url:
            raise CommandError(
                "the database is on a PostgreSQL server: put it back with pg_restore, then run this "
                "command without a folder (see docs/operating.md)"
            )
        else:
            place, label = backups.unpack(folder, settings.data_dir)
            database = Database(place)
            renew_schema(database)
            check_key(database, Sealing(load_master_key(settings.data_dir)))
            held = _deal_with_queue(database, resume_queue)
            backups.settle(place, settings.data_dir)
            taken = datetime.fromtimestamp(label.taken_at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
            say(f"The gateway is as it was at {taken}.")
    if held:
        say(f"{held} messages that were waiting are held as unconfirmed: they may have been sent since.")
        say("`kurir message list <email> --state unconfirmed` shows them, `kurir message replay <id>` sends one.")
    say("Pair linked devices again whose session is not in this data folder: `kurir number pair <number_id>`.")


def _put_right(settings: Settings, resume_queue: bool) -> int:
    """Handles the queue of a database that was restored in place."""
    database = database_of(settings)
    renew_schema(database)
    if database.shared:
        with database.transaction() as connection:
            if connection.exec_driver_sql(_OTHERS).scalar():
                raise CommandError(f"a gateway serves the {database.name}: stop it first")
            leave_all(connection)
    return _deal_with_queue(database, resume_queue)


def _deal_with_queue(database: Database, resume_queue: bool) -> int:
    now = time.time()
    with database.transaction() as connection:
        # a code may have been used since, and is worth nothing after a restore
        otp.close_open_codes(connection, now)
        held = 0 if resume_queue else hold_after_restore.hold(connection, now)
        events.leave_gap(connection)
        if backups.is_marked(connection):
            backups.unmark(connection)
    database.engine.dispose()  # closing the last connection leaves one complete file
    return held

"""`kurir doctor`: checks what a gateway needs and reports what to do about problems."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.channels.linked_device.engine_host.journal import read_backlog
from kurir.cli.terminal import mark, say
from kurir.data_folder import database_of, read_ready_file
from kurir.kit.disk_reserve import DiskReserve
from kurir.maintenance import kept
from kurir.numbers.numbers import restricted_count
from kurir.quarantine import quarantine
from kurir.settings import Settings, SettingsError, unknown_settings
from kurir.store.database import DatabaseUnavailable
from kurir.store.sqlite import damaged

_LEAST_FREE = 500_000_000
_LONGEST_BACKLOG = 300.0
"""Seconds that something received may wait to be stored before it is reported."""


class Finding(NamedTuple):
    """The result of one check: fine or not, and what to do."""

    what: str
    fine: bool
    detail: str


def doctor() -> None:
    """Check this machine and the data folder; exit code 1 when something must be done."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        say(mark(False), f" settings: {error}")
        sys.exit(1)
    findings = [finding for look in _LOOKS for finding in look(settings)]
    for what, fine, detail in findings:
        say(mark(fine), f" {what}: {detail}")
    if not all(finding.fine for finding in findings):
        sys.exit(1)


def _python(_settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version + ("" if sys.version_info >= (3, 11) else ": 3.11+"))


def _engine(_settings: Settings) -> Iterator[Finding]:
    # in a child: loading the engine starts its threads, and a broken library must not crash this command
    script = "import pylibmagic, neonize.client, neonize; print(neonize.__version__)"
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    detail = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else done.stderr.strip().splitlines()[-1:]
    yield Finding("WhatsApp Web engine (neonize)", done.returncode == 0, " ".join(detail) or "does not load")


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    if not folder.exists():
        advice = "set KURIR_DATA_DIR if it is elsewhere; `kurir serve` makes it"
        yield Finding("data folder", True, f"{folder} does not exist yet: {advice}")
        return
    for path in (folder, folder / "master.key", folder / "devices", folder / "operator.token"):
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            fine = not mode & 0o077
            yield Finding(str(path), fine, f"mode {mode:o}" + ("" if fine else f": run `chmod go-rwx {path}`"))
    free = shutil.disk_usage(folder).free
    yield Finding("disk", free >= _LEAST_FREE, f"{free // 1_000_000:,} MB free")
    reserve = DiskReserve(folder, settings.disk_reserve)
    room, kept = reserve.room(), f"{reserve.size() // 1_000_000:,} MB are for the database (KURIR_DISK_RESERVE)"
    detail = (
        f"{room // 1_000_000:,} MB; {kept}" if room else f"none, so files wait and only texts go: make room; {kept}"
    )
    yield Finding("room for files", room > 0, detail)


def _database(settings: Settings) -> Iterator[Finding]:
    if not settings.database_url and not settings.sqlite_path.exists():
        yield Finding("database", True, "none yet; the first start makes it")
        return
    try:
        with database_of(settings).snapshot() as connection:  # a check of the whole file takes its time
            yield from _look_into(connection, settings)
    except (SettingsError, DatabaseUnavailable) as error:
        yield Finding("database", False, str(error))


def _look_into(connection: Connection, settings: Settings) -> Iterator[Finding]:
    if connection.dialect.name == "sqlite":
        outcome = connection.exec_driver_sql("PRAGMA quick_check").scalar()
        wrong = ", ".join(str(outcome).splitlines())
        yield Finding("database", wrong == "ok", wrong if wrong == "ok" else damaged(settings.sqlite_path, wrong))
    else:
        version, flushes = connection.exec_driver_sql(
            "SELECT current_setting('server_version'), current_setting('fsync')"
        ).one()
        yield Finding("database", True, f"PostgreSQL {version}")
        advice = "" if flushes == "on" else ": an accepted message can be lost in a power failure; set fsync = on"
        yield Finding("PostgreSQL flushes commits (fsync)", flushes == "on", flushes + advice)
    if not sa.inspect(connection).has_table("quarantine"):
        yield Finding("schema", True, "none yet; the first start makes it")
        return
    doubtful = connection.exec_driver_sql("SELECT count(*) FROM messages WHERE state = 'unconfirmed'").scalar()
    yield Finding("messages in doubt", True, f"{doubtful}")
    waiting = {queue: count for queue, count in quarantine.counts(connection).items() if count}
    seen = ", ".join(f"{count} from {queue}" for queue, count in waiting.items())
    yield Finding("quarantine", True, f"{seen}: see `kurir quarantine list`" if seen else "empty")
    if any(column["name"] == "restricted_until" for column in sa.inspect(connection).get_columns("numbers")):
        restricted = restricted_count(connection)
        advice = ": they write only to people they have been in contact with; first contacts wait" if restricted else ""
        yield Finding("numbers that WhatsApp restricts", not restricted, f"{restricted}{advice}")


def kept_findings(settings: Settings) -> list[Finding]:
    """Which data are kept, and how long."""
    found: list[Finding] = []
    for one in kept(settings):
        time = f"{one.days} day{'s' if one.days != 1 else ''}" if one.days else "for ever"
        found.append(Finding(f"kept: {one.what}", True, f"{time} (KURIR_{one.setting.upper()})"))
    return found


def _kept(settings: Settings) -> Iterator[Finding]:
    yield from kept_findings(settings)


def _gateway(settings: Settings) -> Iterator[Finding]:
    ready = read_ready_file(settings.data_dir)
    yield Finding("gateway", True, f"runs at {ready.url} (process {ready.pid})" if ready else "is not running")
    if settings.sandbox:
        yield Finding("sandbox", False, "KURIR_SANDBOX is on: never in production")


def _journals(settings: Settings) -> Iterator[Finding]:
    """What linked devices have received and no gateway has stored."""
    entries, oldest, now = 0, None, time.time()
    for path in sorted((settings.data_dir / "journals").glob("*.db")):
        try:
            backlog = read_backlog(path)
        except sqlite3.Error as error:
            yield Finding(str(path), False, f"{error}: move the file away if it is damaged")
            continue
        entries += backlog.entries
        oldest = min((at for at in (oldest, backlog.oldest_at) if at is not None), default=None)
    if not entries:
        yield Finding("received and not stored yet", True, "nothing")
        return
    age = max(0.0, now - oldest) if oldest is not None else 0.0
    fine = age < _LONGEST_BACKLOG
    advice = "" if fine else ": look for devices that are not connected, and at the gateway's log"
    yield Finding("received and not stored yet", fine, f"{entries}, the oldest for {age:,.0f} s{advice}")


def _trust(settings: Settings) -> Iterator[Finding]:
    """Which proxies are trusted, and who sees the status page: both are easily set too wide."""
    proxies = settings.trusted_proxies
    everybody = "*" in proxies or any(part.endswith("/0") for part in proxies)
    advice = (
        ": anybody can claim any client address, so limits per address do not hold; name the proxies only"
        if everybody
        else "; each must overwrite X-Forwarded-For, or clients choose their address (docs/operating.md)"
    )
    yield Finding("proxies whose X-Forwarded-For is believed", not everybody, (", ".join(proxies) or "none") + advice)
    if settings.status_page == "open":
        inside = settings.host in {"127.0.0.1", "::1", "localhost"}
        detail = "KURIR_STATUS_PAGE is open: whoever reaches the gateway sees every number"
        yield Finding("status page", inside, detail + (" (it listens on loopback only)" if inside else ""))


def _names(_settings: Settings) -> Iterator[Finding]:
    """Settings that are unknown."""
    for sentence in unknown_settings():
        yield Finding("settings", True, sentence)


_LOOKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _names,
    _python,
    _engine,
    _folder,
    _database,
    _kept,
    _journals,
    _gateway,
    _trust,
)

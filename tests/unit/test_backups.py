"""Backups and the way back, without a network: what is copied, what is refused, what is held."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.outbox import open_outbox_harness
from tests.harness.webhooks import open_webhook_harness
from tests.sqlite import new_database

from kurir.cli import backups as commands
from kurir.cli.terminal import CommandError
from kurir.data_folder import AlreadyRunning, SchemaError, open_data_folder, sole_gateway
from kurir.kit.sealing import SealError
from kurir.messages.channel_reports import InDoubt, Sent
from kurir.otp.check import close_open_codes
from kurir.otp.tables import otps
from kurir.outbox import hold_after_restore
from kurir.outbox.operator_actions import NotPossible, tries
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.settings import Settings
from kurir.store.backups import BackupError, save


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a database and its keys; the commands work on it."""
    data_dir = tmp_path / "data"
    new_database(data_dir / "kurir.db")
    open_data_folder(Settings(data_dir=data_dir))[0].engine.dispose()
    monkeypatch.setenv("KURIR_DATA_DIR", str(data_dir))
    return data_dir


@pytest.fixture
def elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another, empty data folder, on which the commands work from now on; `tmp_path/backup` is a copy of the first."""
    commands.backup(tmp_path / "backup")
    monkeypatch.setenv("KURIR_DATA_DIR", str(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def test_a_copy_taken_while_others_write_is_one_moment(folder: Path, tmp_path: Path):
    """A writer adds rows in pairs, each pair in a transaction: no copy may hold half of one."""
    over = threading.Event()
    with closing(sqlite3.connect(folder / "kurir.db")) as connection:
        connection.execute("CREATE TABLE pairs (text TEXT)")

    def write() -> None:
        with closing(sqlite3.connect(folder / "kurir.db", isolation_level=None, timeout=30)) as connection:
            while not over.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO pairs VALUES (?)", ("x" * 5000,))
                connection.execute("INSERT INTO pairs VALUES (?)", ("x" * 5000,))
                connection.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = []
        for i in range(5):
            save(folder, tmp_path / f"copy-{i}", 1.0)
            with closing(sqlite3.connect(tmp_path / f"copy-{i}" / "kurir.db")) as copy:
                counts.append(copy.execute("SELECT count(*) FROM pairs").fetchone()[0])
                assert copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    finally:
        over.set()
        writer.join()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert all(count % 2 == 0 for count in counts)


def test_it_is_private_and_never_written_over(folder: Path, tmp_path: Path):
    commands.backup(tmp_path / "backup")
    for path in [tmp_path / "backup", *(tmp_path / "backup").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    with pytest.raises(BackupError, match="new folder"):
        commands.backup(tmp_path / "backup")


def test_it_opens_with_the_same_keys(folder: Path, elsewhere: Path, tmp_path: Path):
    sealed = open_data_folder(Settings(data_dir=folder))[1].seal("secret", "a row")
    commands.restore(tmp_path / "backup")
    assert open_data_folder(Settings(data_dir=elsewhere))[1].open(sealed, "a row") == "secret"


def test_a_copy_is_not_served_before_it_is_put_back(folder: Path, elsewhere: Path, tmp_path: Path):
    shutil.copytree(tmp_path / "backup", elsewhere)  # as somebody in a hurry would
    with pytest.raises(SchemaError, match="kurir restore"):
        open_data_folder(Settings(data_dir=elsewhere))
    commands.restore()
    open_data_folder(Settings(data_dir=elsewhere))


def test_it_takes_nobodys_place(folder: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KURIR_DATA_DIR", str(folder))
    with pytest.raises(BackupError, match="holds a database"):
        commands.restore(tmp_path / "backup")
    with sole_gateway(folder), pytest.raises(AlreadyRunning):
        commands.restore()
    (elsewhere / "kurir.db-wal").parent.mkdir()
    (elsewhere / "kurir.db-wal").touch()
    monkeypatch.setenv("KURIR_DATA_DIR", str(elsewhere))
    with pytest.raises(BackupError, match="db-wal"):  # it would be taken for the restored database's own
        commands.restore(tmp_path / "backup")


def test_a_wrong_key_is_reported_and_nothing_is_put_in_place(elsewhere: Path, tmp_path: Path):
    elsewhere.mkdir()
    (elsewhere / "master.key").write_text("00" * 32)
    with pytest.raises(SealError, match="master key"):
        commands.restore(tmp_path / "backup")
    assert not (elsewhere / "kurir.db").exists()
    (elsewhere / "master.key").unlink()
    (tmp_path / "backup" / "master.key").unlink()
    with pytest.raises(BackupError, match="KURIR_MASTER_KEY"):
        commands.restore(tmp_path / "backup")
    assert not (elsewhere / "master.key").exists()


def test_what_is_no_backup_is_reported(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BackupError, match="no backup"):
        commands.restore(folder)
    monkeypatch.setenv("KURIR_DATABASE_URL", "postgresql://u@127.0.0.1/db")
    with pytest.raises(CommandError, match="pg_dump"):
        commands.backup(tmp_path / "backup")
    with pytest.raises(CommandError, match="pg_restore"):
        commands.restore(folder)


async def test_everything_that_a_lane_would_send_is_held(where: Path | str):
    async with open_outbox_harness(where) as harness:
        drafts = [
            harness.draft("628111"),
            harness.draft("628222"),
            harness.draft("628333"),
            harness.draft("628444", origin="otp"),
        ]
        sealed = [harness.draft("628555", sealed=True)]
        (in_flight_ids, sent, doubtful, code), (secret,) = [
            (await harness.outbox.accept(part)).ids for part in (drafts, sealed)
        ]
        claimed = {message.id: message for message in await harness.claim(4)}
        await harness.outbox.record(claimed[sent], Sent("3EB0AA"))
        await harness.outbox.record(claimed[doubtful], InDoubt(as_written("cut off")))
        await harness.outbox.record(claimed[code], InDoubt(as_written("cut off")), 60)  # would go out once more
        waiting = (await harness.outbox.accept([harness.draft("628111")])).ids[0]
        held = await harness.database.write(lambda c: hold_after_restore.hold(c, harness.time()))
        assert held == 3
        for message_id in (in_flight_ids, doubtful, code, waiting, secret):
            assert await harness.state(message_id) == "unconfirmed"
        assert await harness.state(sent) == "sent"
        assert await harness.outbox.waiting_numbers() == []
        account_id = harness.number.account_id
        assert (await harness.database.read(lambda c: tries(c, account_id, waiting)))[-1].code == "restored"
        await harness.outbox.count_waiting()
        await harness.outbox.replay(account_id, waiting)
        with pytest.raises(NotPossible, match="one-time password"):
            await harness.outbox.replay(account_id, secret)
        assert [message.id for message in await harness.claim()] == [waiting]
        columns = sa.select(messages.c.content).where(messages.c.id == secret)
        assert await harness.database.read(lambda c: c.execute(columns).scalar_one()) == ""


async def test_the_caller_is_notified(where: Path | str):
    async with open_webhook_harness(where) as webhook_harness:
        endpoint, _ = await webhook_harness.endpoint(events=["message_status"])
        await webhook_harness.harness.outbox.accept([webhook_harness.harness.draft()])
        await webhook_harness.database.write(lambda c: hold_after_restore.hold(c, webhook_harness.time()))
        delivery = await webhook_harness.claim(endpoint)
        assert delivery is not None
        assert '"unconfirmed"' in delivery.body


async def test_codes_that_were_open_are_over(where: Path | str):
    async with open_outbox_harness(where) as harness:
        now, account_id = harness.time(), harness.number.account_id
        row = {"account_id": account_id, "request_hash": "r", "phone": "628111", "created_at": now}

        def put(connection: sa.Connection) -> list[float]:
            for lifetime in (300, -300):
                connection.execute(sa.insert(otps).values(code_hash=f"h{lifetime}", expires_at=now + lifetime, **row))
            close_open_codes(connection, now)
            return list(connection.execute(sa.select(otps.c.expires_at).order_by(otps.c.id)).scalars())

        assert await harness.database.write(put) == [now, now - 300]

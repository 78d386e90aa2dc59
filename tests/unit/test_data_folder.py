"""A data folder: made on first use, served by one gateway, its schema the newest."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from kurir.accounts import accounts
from kurir.cli import account, message, number, quarantine, webhook
from kurir.cli.doctor import _database
from kurir.data_folder import (
    AlreadyRunning,
    ReadyFile,
    open_data_folder,
    read_ready_file,
    sole_gateway,
    write_ready_file,
)
from kurir.kit.sealing import SealError
from kurir.numbers import numbers
from kurir.schema import metadata
from kurir.settings import Settings
from kurir.store import migrations
from kurir.store.tables import SCHEMA_VERSION


def test_the_schema_version_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_VERSION


def test_migrations_make_exactly_the_tables(tmp_path: Path):
    database, _ = open_data_folder(Settings(data_dir=tmp_path))
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_it_is_private_and_opens_again_with_the_same_keys(tmp_path: Path):
    settings = Settings(data_dir=tmp_path / "new" / "folder")
    _, sealing = open_data_folder(settings)
    sealed = sealing.seal("secret", "a row")
    _, again = open_data_folder(settings)
    assert again.open(sealed, "a row") == "secret"
    assert settings.data_dir.stat().st_mode & 0o077 == 0
    assert (settings.data_dir / "master.key").stat().st_mode & 0o077 == 0


def test_a_database_belongs_to_one_master_key(where: Path | str, tmp_path: Path):
    """Two gateways on one database; on SQLite a data folder whose key was lost."""
    shared = where if isinstance(where, str) else ""
    first = Settings(data_dir=tmp_path / "first", database_url=shared)
    open_and_close(first)
    key = (first.data_dir / "master.key").read_text()
    second = first if not shared else Settings(data_dir=tmp_path / "second", database_url=shared)
    (second.data_dir / "master.key").unlink(missing_ok=True)
    with pytest.raises(SealError, match=r"another master key: copy master\.key"):
        open_and_close(second)
    (second.data_dir / "master.key").write_text(key)
    open_and_close(second)
    open_and_close(first)


def open_and_close(settings: Settings) -> None:
    database, _ = open_data_folder(settings)
    database.engine.dispose()


def test_one_gateway_serves_it(tmp_path: Path):
    with sole_gateway(tmp_path), pytest.raises(AlreadyRunning, match="another gateway"), sole_gateway(tmp_path):
        pass
    with sole_gateway(tmp_path):
        pass


def test_the_ready_file_says_where(tmp_path: Path):
    assert read_ready_file(tmp_path) is None
    write_ready_file(tmp_path, ReadyFile(7, "http://127.0.0.1:1"))
    assert read_ready_file(tmp_path) == ReadyFile(7, "http://127.0.0.1:1")


def test_commands_that_only_look_need_no_turn_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gateway writes waits for no look, and a look for nothing that a gateway writes."""
    monkeypatch.setenv("KURIR_DATA_DIR", str(tmp_path))
    settings = Settings.load()
    database, _ = open_data_folder(settings)
    with database.transaction() as connection:
        owner = accounts.create(connection, name="Toko", email="owner@example.com")
        numbers.add_linked_device(connection, owner.id, "Toko")
    with database.transaction():  # the one write at a time that SQLite allows; who wants it too waits ten seconds
        account.list_()
        account.keys(owner.email)
        number.list_()
        message.list_(owner.email)
        webhook.list_(owner.email)
        webhook.log(owner.email)
        quarantine.list_()
        assert all(finding.fine for finding in _database(settings))
    database.engine.dispose()

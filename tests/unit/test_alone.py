"""One gateway per PostgreSQL database: the second is refused, a dead one leaves nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.postgres import Postgres

from kurir.foundation import alone
from kurir.foundation.alone import alone_on
from kurir.foundation.data_folder import AlreadyRunning
from kurir.foundation.database import Database


def never() -> None:
    raise AssertionError("nothing was lost")


async def test_a_second_gateway_is_refused_until_the_first_is_gone(where: Path | str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alone, "_PATIENCE", 0.3)
    first, second = Database(where), Database(where)
    async with alone_on(first, never):
        if first.shared:
            with pytest.raises(AlreadyRunning, match="another gateway"):
                await alone_on(second, never).__aenter__()
    async with alone_on(second, never):
        pass
    first.engine.dispose()
    second.engine.dispose()


async def test_a_broken_connection_takes_the_lock_again(postgres: Postgres, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alone, "_EVERY", 0.05)
    url = postgres.new_database("kurir")
    database, rival, lost = Database(url), Database(url), asyncio.Event()
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
    )
    async with alone_on(database, lost.set):
        with rival.engine.connect() as connection:
            connection.exec_driver_sql(cut)
            async with asyncio.timeout(10):  # it comes back by itself
                while not _held(rival):
                    await asyncio.sleep(0.02)
            assert not lost.is_set()
    database.engine.dispose()
    rival.engine.dispose()
    postgres.drop(url)


def _held(database: Database) -> bool:
    with database.engine.connect() as connection:
        return bool(
            connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted").scalar()
        )

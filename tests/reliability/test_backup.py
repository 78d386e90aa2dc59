"""F17: a backup taken under load, more is sent, the machine is lost, the backup put back: nothing arrives twice.

`KURIR_STORM_MESSAGES` raises the dose.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
import sqlalchemy as sa
from tests.harness.webhooks import Receiver
from tests.postgres import Postgres
from tests.reliability.accountant import arrivals, balance, quiet, serial_of
from tests.reliability.load import Callers
from tests.reliability.site import Site, move_in, open_site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
MESSAGES = int(os.environ.get("KURIR_STORM_MESSAGES", "300"))
SLOW = {"KURIR_DEVICE_GAP": "1", "KURIR_CLOUD_WINDOW": "1"}  # two devices: two messages a second, so a queue grows
QUEUED, SENT_SINCE = 60, 10  # messages that wait on devices before the backup, and those of the backup sent after it
DEVICE_QUEUE = """
SELECT count(*) FROM messages JOIN numbers ON numbers.id = messages.number_id
WHERE messages.state = 'queued' AND numbers.channel = 'linked_device'
"""


def kurir(site: Site, *arguments: str) -> str:
    """Runs `kurir …` on the site's gateway; returns what it says."""
    command = [sys.executable, "-m", "kurir", *arguments]
    done = subprocess.run(command, env=site.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Copied(Protocol):
    """A way to back up and to put back; `address` is where the copy can be asked, as SQLAlchemy takes it."""

    def take(self, site: Site, folder: Path) -> str:
        """Copies the gateway's data while it serves; returns the copy's address."""
        ...

    def put_back(self, site: Site, folder: Path) -> str:
        """Makes the copy the site's data, in a new data folder; returns what `kurir restore` says."""
        ...


class ByKurir:
    """`kurir backup` and `kurir restore <folder>`, as SQLite is backed up."""

    def take(self, site: Site, folder: Path) -> str:
        output = kurir(site, "backup", str(folder))
        assert str(folder) in output.replace("\n", "")
        return f"sqlite:///{folder / 'kurir.db'}"

    def put_back(self, site: Site, folder: Path) -> str:
        return kurir(site, "restore", str(folder))


class ByDump:
    """`pg_dump`, a copy of the master key, `pg_restore`, and `kurir restore` without a folder (docs/operating.md)."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._restored = ""

    def take(self, site: Site, folder: Path) -> str:
        folder.mkdir()
        self._postgres.tool(
            "pg_dump",
            "--format=custom",
            "--exclude-schema=device_*",
            f"--file={folder / 'dump'}",
            f"--dbname={site.settings.database_url}",
        )
        shutil.copy(site.settings.data_dir / "master.key", folder)
        self._restored = self._postgres.new_database()
        self._postgres.tool("pg_restore", "--exit-on-error", f"--dbname={self._restored}", str(folder / "dump"))
        return self._restored.replace("postgresql:", "postgresql+psycopg:")

    def put_back(self, site: Site, folder: Path) -> str:
        site.settings = msgspec.structs.replace(site.settings, database_url=self._restored)
        site.environment["KURIR_DATABASE_URL"] = self._restored
        site.settings.data_dir.mkdir(mode=0o700)
        shutil.copy(folder / "master.key", site.settings.data_dir)
        return kurir(site, "restore")


def waiting_in(address: str) -> set[str]:
    """The serials that were queued or in flight when the copy was taken."""
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.connect() as copy:
        rows = copy.execute(sa.text("SELECT content FROM messages WHERE state IN ('queued', 'sending')"))
        return {serial_of(msgspec.json.decode(content)["body"]) for (content,) in rows}


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest) -> Iterator[tuple[Copied, str]]:
    """How a gateway's data are backed up, and the database's address in its settings."""
    if request.param == "sqlite":
        yield ByKurir(), ""
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database("kurir")
    yield ByDump(server), url
    server.drop(url)


async def test_what_was_sent_after_the_backup_is_not_sent_again(
    tmp_path: Path, receiver: Receiver, home: tuple[Copied, str]
):
    backup, (copied, url) = tmp_path / "backup", home
    async with open_site(tmp_path, people=8, receiver=receiver.url("/"), database_url=url) as site:
        assert await asyncio.to_thread(site.stop) == 0
        await asyncio.to_thread(site.start, **SLOW)
        before = Callers(site, "before")
        calling = asyncio.create_task(before.go(MESSAGES))
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(site.rows, DEVICE_QUEUE))[0][0] < QUEUED:
                await asyncio.sleep(0.05)
        answered = [call.serial for call in before.log if call.code == "200"]
        waiting = waiting_in(await asyncio.to_thread(copied.take, site, backup))
        assert len(waiting) > SENT_SINCE
        async with asyncio.timeout(120):
            while len({serial_of(entry["text"]) for entry in await arrivals(site)} & waiting) < SENT_SINCE:
                await asyncio.sleep(0.1)
        await asyncio.to_thread(site.kill)
        before.stop()
        await calling

        site.settings = msgspec.structs.replace(site.settings, data_dir=tmp_path / "restored")
        site.environment["KURIR_DATA_DIR"] = str(site.settings.data_dir)
        output = await asyncio.to_thread(copied.put_back, site, backup)
        assert f"{len(waiting)} messages" in output.replace("\n", " ")
        await asyncio.to_thread(site.start)
        await move_in(site)
        after = Callers(site, "after")
        await after.go(60)
        await quiet(site, 120)

        sheet = await balance(site, before.log + after.log, receiver.webhook_calls)
        sys.stderr.write(f"\n{sheet.render()}\n")
        lost = set(sheet.wrong["1 lost acceptance"])
        assert not lost & {*answered, *(call.serial for call in after.log)}, sheet.render()
        for check in ("2 lost message", "3 sent twice", "4 ghosts", "5 limbo", "7 altered", "8 stored twice"):
            assert not sheet.wrong[check], f"{check}\n{sheet.render()}\n{site.explain()}"
        for check in ("9 wrong tenant", "11 books do not balance", "14 one id, two bodies", "15 not signed"):
            assert not sheet.wrong[check], f"{check}\n{sheet.render()}\n{site.explain()}"
        found = site.rows("SELECT content, state FROM messages")
        states = {serial_of(msgspec.json.decode(content)["body"]): state for content, state in found}
        # all are held but those of which Meta's callback, which carries our id, has come since
        assert {states[serial] for serial in waiting} <= {"unconfirmed", "sent", "delivered", "read"}
        assert any(states[serial] == "unconfirmed" for serial in waiting)
        assert sum(call.code == "200" for call in after.log) == 60

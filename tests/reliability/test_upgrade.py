"""F15: the data of every earlier schema, with a queue in it, goes on under this program; a renewal may be cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.gateway import open_harness
from tests.postgres import Postgres
from tests.reliability import old_data
from tests.sentences import english

from kurir.data_folder import AlreadyRunning, SchemaError, open_data_folder, schema_version, sole_gateway
from kurir.events import read
from kurir.events.append import append
from kurir.events.bodies import received
from kurir.messages.channel_reports import Evidence, NeverLeft, Received, Unknown
from kurir.messages.content import Outgoing
from kurir.numbers import numbers
from kurir.numbers.numbers import shown_state
from kurir.settings import Settings
from kurir.store.database import Database
from kurir.store.migrations import versions
from kurir.store.tables import SCHEMA_VERSION
from kurir.webhooks import deliveries, endpoints, history
from kurir.webhooks.deliveries import LEASE
from kurir.webhooks.fan_out import fan_out
from kurir.webhooks.retry_schedule import Answered, Delivered

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
OLD = versions()[:-1]
STEPS_LEFT = [
    (old, step)
    for i, old in enumerate(OLD)
    for step in range(1, len(versions()) - i)
    # every step of the longest way and the first step of every way; `make storm`: every step of every way
    if old == OLD[0] or step == 1 or os.environ.get("KURIR_STORM_UPGRADES")
]
_SANDBOX = {
    "KURIR_SANDBOX": "on",
    "KURIR_SANDBOX_PROXY": "http://127.0.0.1:9",
    "KURIR_SANDBOX_CA": "none",
    "KURIR_SANDBOX_NOISE_ROOT": "00" * 32,
}


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Of a gateway whose database is empty, once for each kind."""
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path)
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database()
    yield Settings(data_dir=tmp_path, database_url=url)
    server.drop(url)


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url or settings.sqlite_path)
    try:
        yield database
    finally:
        database.engine.dispose()


def kurir(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs `kurir …` on that gateway."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KURIR_")}
    environment |= {"KURIR_DATA_DIR": str(settings.data_dir), "KURIR_DATABASE_URL": settings.database_url, **more}
    command = [sys.executable, "-m", "kurir", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def contents(settings: Settings) -> tuple[str | None, list[tuple[int, str]]]:
    """The version of the schema, and each message's state."""
    with opened(settings) as database, database.transaction() as connection:
        rows = connection.execute(sa.text("SELECT id, state FROM messages ORDER BY id"))
        return schema_version(connection), [(row[0], row[1]) for row in rows]


@pytest.mark.parametrize("version", OLD)
async def test_a_queue_of_an_earlier_release_goes_on(settings: Settings, version: str):
    with opened(settings) as database:
        old_data.make(database, version)

    def evidence(outgoing: Outgoing) -> Evidence:
        return NeverLeft() if outgoing.message_id == old_data.NEVER_LEFT else Unknown()

    database_url = settings.database_url
    async with open_harness(settings.data_dir, database_url=database_url, evidence=evidence) as harness:
        async with asyncio.timeout(30):
            while (now := dict((await asyncio.to_thread(contents, settings))[1])) != old_data.ENDS:
                await asyncio.sleep(0.1)
        sent = sorted(outgoing.message_id for outgoing in harness.devices.sent)
        assert sent == [1, 2, 3, 6, 8], now
        assert {o.message_id: o.content.body for o in harness.devices.sent}[8] == "message 8"  # type: ignore[union-attr]
    if not database_url:  # the state before is kept, and is no gateway's by accident
        before = Settings(data_dir=settings.data_dir / f"before-{SCHEMA_VERSION}")
        states = [(message_id, changes["state"]) for message_id, changes in old_data.QUEUE.items()]
        assert contents(before) == (version, states)
        with pytest.raises(SchemaError, match="kurir restore"):
            open_data_folder(before)


@pytest.mark.parametrize("version", OLD)
async def test_webhooks_under_way_go_on_with_their_ids_and_in_their_order(settings: Settings, version: str):
    with opened(settings) as database:
        old_data.make(database, version)
    database, sealing = open_data_folder(settings)
    with database.transaction() as connection:
        # the secret of a real endpoint is sealed with the folder's key, which the old data did not have
        endpoints.rotate(connection, sealing, endpoints.of_account(connection, 1)[0], 1.0)
    await database.start()
    try:
        got: dict[str, list[int]] = {}
        now = time.time() + LEASE  # what was being sent when the old program ended is lost by now

        async def deliver_all() -> None:
            while await database.write(lambda c: fan_out(c, 1)):
                pass
            await database.write(lambda c: deliveries.repair(c, now))
            while delivery := await database.write(lambda c: deliveries.claim(c, sealing, 1, now)):
                event_id = int(delivery.event_key.removeprefix("evt_")) if delivery.event_key[4:].isdigit() else 0
                assert delivery.body == old_data.body(event_id) or not event_id
                got.setdefault(delivery.chat, []).append(event_id)
                await database.write(
                    lambda c: deliveries.record(c, delivery, Answered(200), Delivered(), seconds=0.1, now=now)
                )

        await deliver_all()
        assert got == old_data.STILL_TO_COME
        # what is new comes after, in the same log, with the ids going on
        message = Received(1, 1, "3EB0", "628111", "628111", "Siti", 1.0, "text", "halo")
        await database.write(
            lambda c: append(c, 1, 1, "incoming_chat", "628111", body=lambda: received(message), now=now)
        )
        await deliver_all()
        assert got["628111"] == [*old_data.STILL_TO_COME["628111"], 0]
        page = await database.read(lambda c: read.after(c, 1, 0))
        assert [event.id for event in page.events] == [*old_data.DELIVERIES, 19]
        assert [event.chat for event in page.events][:8] == [chat for chat, _ in old_data.DELIVERIES.values()]
        # a replay finds what was delivered before the upgrade
        assert await database.write(lambda c: history.replay_event(c, 1, "evt_16", now)) == 1
        await deliver_all()
        assert got["628333"] == [18, 16]
    finally:
        await database.close()


@pytest.mark.parametrize("version", OLD)
def test_a_number_that_was_paused_stays_so(settings: Settings, version: str):
    with opened(settings) as database:
        old_data.make(database, version)
    began = time.time()
    database, _ = open_data_folder(settings)
    with database.snapshot() as connection:
        found = {one.key: one for one in numbers.of_account(connection, 1)}
    database.engine.dispose()
    paused = found["WB-1"]
    assert (paused.paused, english(paused.pause_reason), paused.state) == (True, old_data.PAUSED_FOR, "connected")
    assert shown_state(paused, paused.state, paused.state_reason) == ("paused", paused.pause_reason)
    assert paused.paused_at is not None
    assert began - 60 <= paused.paused_at <= time.time()
    assert not found["BO-1"].paused


@pytest.mark.parametrize(("version", "step"), STEPS_LEFT)
def test_a_renewal_that_is_cut_off_changes_nothing_and_begins_again(settings: Settings, version: str, step: int):
    with opened(settings) as database:
        old_data.make(database, version)
    before = contents(settings)
    died = kurir(settings, "migrate", KURIR_CRASH_AT=f"migration.step:{step}", **_SANDBOX)
    assert died.returncode == -signal.SIGKILL, died.stdout + died.stderr
    assert contents(settings) == before
    done = kurir(settings, "migrate")
    assert done.returncode == 0, done.stderr
    assert f"schema {SCHEMA_VERSION}: " in done.stdout
    assert (f"before-{SCHEMA_VERSION}" in done.stdout) == (not settings.database_url)
    assert contents(settings) == (SCHEMA_VERSION, before[1])


def test_data_of_a_newer_program_are_left_alone(settings: Settings):
    open_data_folder(settings)[0].engine.dispose()
    with opened(settings) as database, database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    refused = kurir(settings, "serve", KURIR_PORT="0")
    assert refused.returncode == 1
    assert "newer Kurir" in refused.stderr and "Traceback" not in refused.stderr
    assert contents(settings) == ("9999", [])
    assert not list(settings.data_dir.glob("before-*"))


@pytest.mark.parametrize("version", OLD)
def test_nobody_renews_the_schema_under_a_running_gateway(settings: Settings, version: str):
    with opened(settings) as database:
        old_data.make(database, version)
    before = contents(settings)
    with sole_gateway(settings.data_dir), pytest.raises(AlreadyRunning):
        open_data_folder(settings)
    assert contents(settings) == before

"""F14: the power goes at random moments under load. Everything that had its 200 is on the disk, which is whole, and a
gateway goes on with it. The same test finds what is lost where commits are not flushed.

`KURIR_STORM_MESSAGES` and `KURIR_STORM_KILLS` raise the dose. PostgreSQL's flushing is its own promise: that Kurir asks
for it is tested on `synchronous_commit`.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.harness.gateway import open_harness
from tests.reliability.recorded_disk import Recording, recorded
from tests.sqlite import new_database

from kurir.app import running
from kurir.kit.ids import parse_message_id
from kurir.kit.sealing import load_master_key
from kurir.messages.content import Text
from kurir.outbox.message_rows import Draft
from kurir.settings import Settings
from kurir.store import sqlite

pytestmark = [pytest.mark.timeout(3600)]
MESSAGES = int(os.environ.get("KURIR_STORM_MESSAGES", "400"))
CUTS = int(os.environ.get("KURIR_STORM_KILLS", "30"))
STARTED = 2
"""How many of the images a gateway is started on."""


async def load(folder: Path) -> Recording:
    """A gateway under load from eight callers; each 200 is noted at the moment it comes."""
    new_database(folder / "kurir.db")
    with recorded(folder) as recording:
        async with open_harness(folder) as harness:

            async def call(first: int) -> None:
                for i in range(first, MESSAGES, 8):
                    answer = await harness.send(
                        "send_personal_message", phone_no=f"62811{i % 40:08d}", message="x" * 300
                    )
                    assert answer.json()["code"] == "200"
                    recording.note(parse_message_id(answer.headers["X-Message-Id"]))

            await asyncio.gather(*(call(first) for first in range(8)))
            await harness.until_sent(MESSAGES)
    return recording


def cuts(recording: Recording, rng: random.Random) -> list[int]:
    first = next(i for i, step in enumerate(recording.steps) if step.what == "note")
    return [rng.randrange(first, len(recording.steps)) for _ in range(CUTS)]


def lost(recording: Recording, cut: int, image: Path) -> set[int] | str:
    """The answered messages that the image does not hold, or what is wrong with it."""
    try:
        with closing(sqlite3.connect(image / "kurir.db")) as database:
            if (outcome := database.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                return outcome
            return set(recording.notes(cut)) - {row[0] for row in database.execute("SELECT id FROM messages")}
    except sqlite3.DatabaseError as error:
        return str(error)


async def goes_on(image: Path) -> None:
    """A gateway starts on the image, has settled what was in flight, and takes a message more."""
    async with running(Settings(data_dir=image, graph_url="http://127.0.0.1:9")) as gateway:
        numbers = await gateway.database.read(
            lambda c: c.exec_driver_sql("SELECT account_id, id FROM numbers ORDER BY id").all()
        )
        draft = Draft(account_id=numbers[0][0], number_id=numbers[0][1], recipient="628111", content=Text("on"))
        accepted = await gateway.outbox.accept([draft])
        async with asyncio.timeout(30):
            while await gateway.database.read(
                lambda c: c.exec_driver_sql("SELECT count(*) FROM messages WHERE state = 'sending'").scalar()
            ):
                await asyncio.sleep(0.05)
        assert (await gateway.outbox.snapshot(numbers[0][0], accepted.ids[0])) is not None


async def test_what_had_its_200_survives_a_power_cut(tmp_path: Path):
    options = {row[0] for row in sqlite3.connect(":memory:").execute("PRAGMA compile_options")}
    assert "NO_SYNC" not in options  # the library really flushes
    folder = tmp_path / "kurir"
    recording = await load(folder)
    flushed = {Path(step.path).name for step in recording.steps if step.what == "sync"}
    assert flushed == {"kurir.db", "kurir.db-wal"}  # the load was long enough for a checkpoint
    rng = random.Random(11)
    for n, cut in enumerate(cuts(recording, rng)):
        image = tmp_path / f"image-{n}"
        recording.image(cut, rng, image)
        assert lost(recording, cut, image) == set(), f"cut {cut} of {len(recording.steps)}"
        if n < STARTED:
            assert load_master_key(folder)
            shutil.copy(folder / "master.key", image)
            await goes_on(image)
        shutil.rmtree(image)


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
async def test_the_model_finds_what_is_not_flushed(tmp_path: Path, synchronous: str, monkeypatch: pytest.MonkeyPatch):
    pragmas = tuple(p.replace("synchronous=FULL", f"synchronous={synchronous}") for p in sqlite._PRAGMAS)
    assert pragmas != sqlite._PRAGMAS
    monkeypatch.setattr(sqlite, "_PRAGMAS", pragmas)
    recording = await load(tmp_path / "kurir")
    rng = random.Random(11)
    found = 0
    for n, cut in enumerate(cuts(recording, rng)):
        recording.image(cut, rng, tmp_path / f"image-{n}")
        found += bool(lost(recording, cut, tmp_path / f"image-{n}"))
    assert found > CUTS / 4

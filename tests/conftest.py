"""For all tests: how property tests draw their examples, and the two databases that Kurir runs on.

Property tests draw the same examples everywhere, so that a red run is a real change. `KURIR_PROPERTIES=explore` draws
new ones; what it finds is kept as an example in the test.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from kurir.data_folder import renew_schema
from kurir.store.database import Database
from tests.harness.properties import examples
from tests.postgres import Postgres
from tests.sqlite import new_database

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "max_examples": examples()}
settings.register_profile("steady", derandomize=True, database=None, **_COMMON)
settings.register_profile("explore", **_COMMON)
settings.load_profile(os.environ.get("KURIR_PROPERTIES", "steady"))

# structlog's default draws tracebacks as pictures, which takes seconds each on a busy machine
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


_UNIT = Path(__file__).parent / "unit"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what `make check` runs: unit tests that need no server and start no processes."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        parameters = getattr(item, "callspec", None)
        served = "postgres" in names or (parameters is not None and "postgres" in parameters.params.values())
        if item.path.is_relative_to(_UNIT) and not served and item.get_closest_marker("processes") is None:
            item.add_marker("quick")


def pytest_collection_finish() -> None:
    """Takes modules and collected tests out of every later garbage collection: they stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, started when the first test asks for it; `kurir` is a database with the newest schema."""
    server = Postgres()
    server.start()
    try:
        server.run("CREATE DATABASE kurir")
        database = Database(server.url("kurir"))
        renew_schema(database)
        database.engine.dispose()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """Where a test's database is, once for each kind: with the schema, and empty."""
    if request.param == "sqlite":
        yield new_database(tmp_path / "kurir.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database("kurir")
    yield url
    server.drop(url)


@pytest.fixture
def database_url(where: Path | str) -> str:
    """The setting of that name, once for each kind of database."""
    return where if isinstance(where, str) else ""

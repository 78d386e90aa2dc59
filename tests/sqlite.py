"""New SQLite databases for tests: the schema is made once in each test process, then copied."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from kurir.data_folder import renew_schema
from kurir.store.database import Database


def new_database(file: Path) -> Path:
    """Makes `file` an empty database with the newest schema, where there is none yet; returns `file`."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_template())
    return file


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kurir.db"
        database = Database(file)
        renew_schema(database)
        database.engine.dispose()  # the last connection to close empties the write-ahead log
        return file.read_bytes()

"""Alembic migrations, run by `kurir migrate` and at the start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from kurir.kit import crash_points


def migrate(connection: Connection, to: str = "head", report: Callable[[str], None] = lambda _: None) -> None:
    """Brings the schema to the version `to`; does nothing when it is there already. `report` gets a line a step.

    The transaction is the caller's: all steps are committed together, or none.
    """

    def stepped(*, step: Any, **_more: Any) -> None:
        crash_points.reach("migration.step")
        sentence = (step.up_revision.doc or "").partition("\n")[0]
        report(f"schema {step.up_revision_id}: {sentence}")

    config = _config()
    config.attributes["connection"] = connection
    config.attributes["stepped"] = stepped
    command.upgrade(config, to)


def versions() -> list[str]:
    """Every version of the schema that this program knows, oldest first."""
    return [script.revision for script in reversed(list(ScriptDirectory.from_config(_config()).walk_revisions()))]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config

"""Alive, ready, and how it is doing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection, exc
from starlette.applications import Starlette
from structlog.testing import capture_logs
from tests.sentences import all_english
from tests.sqlite import new_database

from kurir.app import RunningGateway
from kurir.kit import log_limit
from kurir.kit.disk_reserve import DiskReserve
from kurir.kit.metrics import Metrics
from kurir.kit.tasks import TaskHealth
from kurir.services import health as readiness
from kurir.services.health import Health
from kurir.settings import Settings
from kurir.store.database import Database, DatabaseUnavailable
from kurir.web import health


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    database = Database(new_database(tmp_path / "kurir.db"))
    await database.start()
    settings = Settings(data_dir=tmp_path)
    tasks = TaskHealth()
    looking = Health(database, tasks, settings)
    parts = SimpleNamespace(
        task_health=tasks,
        settings=settings,
        database=database,
        metrics=Metrics(),
        services=SimpleNamespace(health=looking),
    )
    yield cast("RunningGateway", parts)
    await database.close()


async def get(
    gateway: RunningGateway, path: str, method: str = "GET", app: Starlette | None = None, language: str = ""
) -> tuple[int, dict[bytes, bytes], bytes]:
    app = app or Starlette(routes=health.routes(gateway))
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"accept-language", language.encode())] if language else []
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


async def test_a_healthy_gateway(gateway: RunningGateway) -> None:
    assert (await get(gateway, "/healthz"))[0::2] == (200, b'{"status":"ok"}')
    status, headers, body = await get(gateway, "/readyz")
    assert (status, body) == (200, b'{"status":"ready"}')
    assert headers[b"cache-control"] == b"no-store"
    assert (await get(gateway, "/readyz", "POST"))[0] == 405


async def test_metrics_are_the_process_own(gateway: RunningGateway) -> None:
    gateway.metrics.waiting(7)
    status, headers, body = await get(gateway, "/metrics")
    assert status == 200
    assert headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"
    assert b"\nkurir_queue_depth 7.0\n" in body


async def test_a_stuck_writer_is_reported_while_reads_go_on(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "TIMEOUT", 0.3)
    entered, released = threading.Event(), threading.Event()

    def stuck(_connection: object) -> None:
        entered.set()
        released.wait(20)

    holding = asyncio.create_task(gateway.database.write(stuck))
    assert await asyncio.to_thread(entered.wait, 5)
    status, _, body = await get(gateway, "/readyz")
    assert status == 503
    assert json.loads(body) == {
        "status": "not_ready",
        "reasons": ["the database does not answer writes within 0.3 s"],
        "codes": ["database_slow_writes"],
    }
    assert (await get(gateway, "/healthz"))[0] == 200
    released.set()
    await holding
    assert (await get(gateway, "/readyz"))[0] == 200


async def test_a_closed_database_and_a_full_disk(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    await gateway.database.close()
    status, _, body = await get(gateway, "/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == [
        "the database does not answer reads",
        "the database does not answer writes",
        "the disk of the data folder is almost full",
    ]
    assert json.loads(body)["codes"] == ["database_no_reads", "database_no_writes", "disk_almost_full"]


@pytest.mark.parametrize(
    ("asked", "folder", "task"),
    [
        ("", "the data folder cannot be read: permission is denied", "the task inbox keeps failing (ValueError)"),
        ("fr", "the data folder cannot be read: permission is denied", "the task inbox keeps failing (ValueError)"),
        ("id", "folder data tidak dapat dibaca: tidak ada izin", "tugas inbox terus gagal (ValueError)"),
    ],
)
async def test_why_it_is_not_ready_in_the_language_that_is_asked_for(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, asked: str, folder: str, task: str
) -> None:
    def refused(_folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(_folder))

    monkeypatch.setattr(shutil, "disk_usage", refused)
    cast("Any", gateway).task_health.failed("inbox", "", ValueError("text from outside"))
    status, _, body = await get(gateway, "/readyz", language=asked)
    assert (status, json.loads(body)) == (
        503,
        {"status": "not_ready", "reasons": [folder, task], "codes": ["data_folder_not_read", "task_keeps_failing"]},
    )


async def test_a_database_that_answers_and_stores_nothing_is_reported(gateway: RunningGateway) -> None:
    def damaged(_connection: Connection) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # type: ignore[misc]
        raise exc.DatabaseError("INSERT", {}, error)

    assert await gateway.services.health.not_ready() == []
    with pytest.raises(DatabaseUnavailable, match="malformed"):
        await gateway.database.write(damaged)
    assert all_english(await gateway.services.health.not_ready()) == ["the database refuses to store things"]


async def test_who_asks_often_does_not_fill_the_log(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Starlette(routes=health.routes(gateway))
    await gateway.database.close()

    async def asked() -> list[list[str]]:
        with capture_logs() as logs:
            answers = await asyncio.gather(*(get(gateway, "/readyz", app=app) for _ in range(50)))
        assert {answer[0] for answer in answers} == {503}
        causes = [line for line in logs if line["event"] == "database_unavailable"]
        assert log_limit.EVERY == 0 or len(causes) <= 2  # reads and writes
        return [line["reasons"] for line in logs if line["event"] == "readiness_failed"]

    down = ["the database does not answer reads", "the database does not answer writes"]
    assert await asked() == [down]
    assert await asked() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))  # what changes is said at once
    assert await asked() == [[*down, "the disk of the data folder is almost full"]]
    monkeypatch.setattr(log_limit, "EVERY", 0.0)  # the minute is over
    assert await asked()


async def test_a_disk_that_files_have_filled_takes_messages_still(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = DiskReserve(gateway.settings.data_dir, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=reserve.size()))
    assert (await get(gateway, "/readyz"))[0] == 200

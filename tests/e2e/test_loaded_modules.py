"""What running processes have loaded: nothing heavy that they do not need, and so they stay small.

`sitecustomize` lets a process write the names of its modules when it gets SIGUSR1; the programs are as they are.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.demo_process import wait_until
from tests.e2e.device_rig import Rig
from tests.e2e.sandbox_network import SandboxNetwork
from tests.e2e.test_serve_twice import serve

from kurir.data_folder import read_ready_file
from kurir.messages.channel_reports import Received, Sent
from kurir.messages.content import Text

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WRITE_AT_SIGNAL = """
import json, os, pathlib, signal, sys
def write(*_):
    loaded = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())
              if type(module).__name__ != "_DeferredModule"}
    path = pathlib.Path(os.environ["TMPDIR"], f"modules-{os.getpid()}")
    path.with_suffix(".new").write_text(json.dumps(loaded))
    path.with_suffix(".new").rename(path)
signal.signal(signal.SIGUSR1, write)
"""

GATEWAY = {
    "aiohappyeyeballs", "aiohttp", "aiosignal", "annotated_types", "anyio", "argon2", "attr", "cachetools", "cffi",
    "cryptography", "deprecated", "frozenlist", "httptools", "idna", "kurir", "limits", "msgspec", "multidict",
    "packaging", "phonenumbers", "prometheus_client", "propcache", "python_multipart", "sitecustomize", "sqlalchemy",
    "standardwebhooks", "starlette", "structlog", "typing_extensions", "uvicorn", "uvloop", "wrapt", "yarl",
}  # fmt: skip
"""The libraries that a gateway on SQLite may have loaded, linked devices and an official number included."""
HOST = {"google", "kurir", "magic", "msgspec", "neonize", "pylibmagic", "sitecustomize", "typing_extensions"}
"""The libraries that an engine host may have loaded."""
HOST_LEAVES_OUT = {"asyncio", "ssl", "kurir.numbers.numbers", "kurir.store", "kurir.kit.logs", "kurir.kit.safe_fetch"}
"""Modules of Kurir's and of Python's that would bring megabytes into each host."""
GATEWAY_MEMORY, HOST_MEMORY = 100_000, 85_000
"""Generous bounds of the resident memory in KiB: some 80 MB and 65 MB were measured."""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], dict[str, str]]:
    """The modules that a process has loaded, with their files; for processes started after this."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WRITE_AT_SIGNAL)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path / "site"), inherited])))

    def asked(pid: int) -> dict[str, str]:
        os.kill(pid, signal.SIGUSR1)
        file = tmp_path / f"modules-{pid}"
        wait_until(file.exists, 20)
        return json.loads(file.read_text())

    return asked


def libraries(modules: dict[str, str]) -> set[str]:
    """The packages that are not of Python itself, by the folders or files in which they are installed."""
    standard = str(Path(json.__file__).parents[1])
    found = set()
    for name, file in modules.items():
        _, installed, path = file.partition("/site-packages/")
        if installed:
            found.add(path.partition("/")[0].partition(".")[0])
        elif file and not file.startswith(standard):
            found.add(name.partition(".")[0])
    return {name for name in found if not name.startswith("_") and "__mypyc" not in name}


def resident(pid: int) -> int:
    """The process's resident memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_a_gateway_on_sqlite_has_loaded_what_it_needs_and_no_more(
    tmp_path: Path, modules: Callable[[int], dict[str, str]]
) -> None:
    folder, log = tmp_path / "data", tmp_path / "gateway.log"
    gateway = serve(folder, log)  # on a new folder: it migrates, which takes a library of its own
    try:
        wait_until(lambda: read_ready_file(folder) is not None, 60, log.read_text)
        ready = read_ready_file(folder)
        assert ready is not None
        assert ready.pid == gateway.pid
        with urllib.request.urlopen(f"{ready.url}/readyz") as answer:
            assert answer.status == 200
        loaded = modules(gateway.pid)
        assert "kurir.app" in loaded
        assert libraries(loaded) <= GATEWAY
        assert resident(gateway.pid) < GATEWAY_MEMORY
        assert "schema_migrated" in log.read_text()
    finally:
        gateway.terminate()
        assert gateway.wait(40) == 0


async def test_an_engine_host_has_loaded_what_it_needs_and_no_more(
    sandbox: SandboxNetwork, tmp_path: Path, modules: Callable[[int], dict[str, str]]
) -> None:
    owner, person = await sandbox.person("Toko Kecil"), await sandbox.person("Ibu Rina")
    async with Rig(sandbox, tmp_path / "data") as rig:
        await rig.pair(owner)
        assert isinstance(await rig.send(person, Text("Halo")), Sent)
        await sandbox.post(f"/people/{person}/messages", {"to": owner, "text": "Masih buka?"})
        await rig.event(Received, lambda event: event.text == "Masih buka?")
        (pid,) = children_of(os.getpid())
        loaded = modules(pid)
        assert "neonize.client" in loaded
        assert libraries(loaded) <= HOST
        assert not HOST_LEAVES_OUT & set(loaded)
        assert resident(pid) < HOST_MEMORY


def children_of(parent: int) -> set[int]:
    """The engine hosts that a process has started."""
    found = set()
    for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in tasks.read_text().split():
            if b"engine_host" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(int(pid))
    return found

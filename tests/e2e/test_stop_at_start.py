"""A gateway that is told to stop while it starts ends in order: exit code 0, no traceback, nothing left running."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.demo_process import wait_until
from tests.e2e.test_serve_twice import serve

from kurir.data_folder import read_ready_file, sole_gateway

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
MOMENTS = 10
LONGEST = 4.0
"""Seconds after its first moment in which a gateway is told to stop; a start takes some two."""


def listens(gateway: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal: before that, Python itself is only being loaded."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def children() -> set[int]:
    """Processes below this one, with those of its children."""
    found: set[int] = set()
    parents = {os.getpid()}
    while parents:
        parent = parents.pop()
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                below = {int(pid) for pid in tasks.read_text().split()}
            except OSError:
                continue
            parents |= below - found
            found |= below
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_of_the_start_is_an_orderly_stop(tmp_path: Path, number: signal.Signals):
    rng = random.Random(int(number))
    before = children()
    moments = [0.0] + [rng.uniform(0.0, LONGEST) for _ in range(MOMENTS - 1)]
    for index, moment in enumerate(moments):
        folder, log = tmp_path / str(index % 3), tmp_path / f"{index}.log"  # new folders and ones that were used
        gateway = serve(folder, log)
        try:
            wait_until(lambda: listens(gateway, signal.SIGTERM), 30, log.read_text)  # noqa: B023
            time.sleep(moment)  # the moment is what is tried here
            gateway.send_signal(number)
            assert gateway.wait(40) == 0, (moment, log.read_text())
        finally:
            gateway.kill()
            gateway.wait()
        assert "Traceback" not in log.read_text(), (moment, log.read_text())
        assert read_ready_file(folder) is None
        if folder.exists():
            with sole_gateway(folder):
                pass
        assert children() <= before, "something is left running"


SIGNAL_AT_IMPORT = """
import os, runpy, sys
module, number = sys.argv.pop(), int(sys.argv.pop())
class Finder:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
sys.argv[:] = ["kurir", "serve"]
runpy.run_module("kurir", run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["kurir.cli", "sqlalchemy", "kurir.serve", "uvloop", "kurir.store.migrations"])
def test_a_signal_while_a_module_is_loaded_is_an_orderly_stop(tmp_path: Path, number: signal.Signals, module: str):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KURIR_")}
    environment |= {"KURIR_DATA_DIR": str(tmp_path / "data"), "KURIR_PORT": "0"}
    command = [sys.executable, "-c", SIGNAL_AT_IMPORT, str(int(number)), module]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done

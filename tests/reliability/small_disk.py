"""A disk so small that it can be filled, for whoever runs the tests: a tmpfs in namespaces of its own.

`in_small_disk` runs a command in a new user and mount namespace, where the tmpfs needs no rights. Where the kernel does
not allow that, the substitute is a limit on the size of files (`RLIMIT_FSIZE`), set on the gateway and its engine hosts
for as long as the disk counts as full: writes are refused then too, with EFBIG instead of ENOSPC.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

FOLDER, KIND = "KURIR_TEST_SMALL_DISK", "KURIR_TEST_SMALL_DISK_KIND"
_MOUNTED = 'mount -t tmpfs -o size=96m,mode=0700 kurir "$0" && exec "$@"'
_PIECES = (bytes(1024 * 1024), bytes(4096), bytes(1))
_UNLIMITED = resource.RLIM_INFINITY


def in_small_disk(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command for which `here()` is a small disk at `folder`. `KURIR_STORM_DISK=limit`: the substitute."""
    folder.mkdir()
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNTED, str(folder)]
    kind = os.environ.get("KURIR_STORM_DISK", "")
    if not kind:
        allowed = subprocess.run([*namespaces, "true"], capture_output=True, check=False).returncode == 0
        kind = "tmpfs" if allowed else "limit"
    environment = {**os.environ, FOLDER: str(folder), KIND: kind}
    command = [*namespaces, *command] if kind == "tmpfs" else list(command)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def here() -> SmallDisk:
    """The small disk of this process."""
    return SmallDisk(Path(os.environ[FOLDER]), os.environ[KIND])


class SmallDisk:
    """A folder on a disk that is full or not. `kind` says how that is done: `tmpfs` or `limit`."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind

    def fill(self, pid: int, room: int = 0) -> None:
        """Leaves so many bytes for the process and its children."""
        if self.kind == "limit":
            self._limit(pid, room)
            return
        filler = self.folder / "filler"
        with filler.open("ab", buffering=0) as file:
            for piece in _PIECES:
                with contextlib.suppress(OSError):
                    while file.write(piece) == len(piece):
                        pass
        if room:
            os.truncate(filler, filler.stat().st_size - room)

    def free(self, pid: int) -> None:
        """Makes room again."""
        if self.kind == "limit":
            self._limit(pid, _UNLIMITED)
        else:
            (self.folder / "filler").unlink()

    def _limit(self, pid: int, size: int) -> None:
        for one in (pid, *_children(pid)):
            resource.prlimit(one, resource.RLIMIT_FSIZE, (size, _UNLIMITED))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return [one for child in found for one in (child, *_children(child))]

"""A disk that forgets what was not flushed: what SQLite writes and syncs is recorded, and cut off at any moment.

The recorder sits where SQLite's own crash tests sit, between SQLite and the operating system (`sqlite3_vfs`,
`sqlite3_io_methods`; https://sqlite.org/c3ref/vfs.html): the library that Python itself uses is given other functions
for opening, writing, truncating, syncing and deleting, which note the call and go on. An `image` is the disk as a power
cut leaves it: of each file, all before its last completed sync is there; of what came later, each write is there,
missing, or torn at a sector. It needs no tool and no privilege. It trusts the operating system and the drive to do what
`fdatasync` says.
"""

from __future__ import annotations

import _sqlite3
import contextlib
import ctypes
import random
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SECTOR = 512
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)
_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_PERSISTENT = 0x100 | 0x800 | 0x80000
"""SQLITE_OPEN_MAIN_DB, _MAIN_JOURNAL, _WAL."""


class _Methods(ctypes.Structure):
    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("others", c_void_p * 13),
    ]


class _File(ctypes.Structure):
    _fields_ = [("methods", POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
    ]


@dataclass(frozen=True)
class Step:
    """What happened: `write` (at, data), `truncate` (at), `sync` (at: the steps before it are flushed), `delete`, or
    `note` (data is the test's own)."""

    what: str
    path: str = ""
    at: int = 0
    data: Any = b""


@dataclass
class Recording:
    """All steps in order, and the files as they were when they were first opened."""

    folder: str
    steps: list[Step] = field(default_factory=list)
    first: dict[str, bytes] = field(default_factory=dict)

    def note(self, what: Any) -> None:
        """The test's own remark, at this moment."""
        self.steps.append(Step("note", data=what))

    def notes(self, cut: int) -> list[Any]:
        """What was remarked before the cut."""
        return [step.data for step in self.steps[:cut] if step.what == "note"]

    def image(self, cut: int, rng: random.Random, target: Path) -> None:
        """Makes `target` the folder as a power cut after `cut` steps may leave it."""
        target.mkdir(parents=True)
        luck = rng.choice((0.0, 0.3, 0.7))  # the share of unflushed writes that made it nevertheless
        for path in self.first:
            mine = [(i, step) for i, step in enumerate(self.steps[:cut]) if step.path == path]
            flushed = max((step.at for _, step in mine if step.what == "sync"), default=0)
            content: bytearray | None = bytearray(self.first[path])
            for i, step in mine:
                if step.what != "sync" and (i < flushed or rng.random() < luck):
                    content = _applied(content, step, None if i < flushed else rng)
            if content is not None:
                (target / Path(path).name).write_bytes(content)


def _applied(content: bytearray | None, step: Step, tearing: random.Random | None) -> bytearray | None:
    if step.what == "delete":
        return None
    content = bytearray() if content is None else content
    if step.what == "truncate":
        del content[step.at :]
        return content
    data = step.data
    if tearing is not None and tearing.random() < 0.3:
        data = data[: tearing.randrange(0, len(data) + 1, min(_SECTOR, len(data)))]
    content.extend(bytes(max(0, step.at - len(content))))
    content[step.at : step.at + len(data)] = data
    return content


_kept: list[Any] = []
"""Functions that SQLite may still call: never collected."""


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[Recording]:
    """Records what SQLite does to the files of one folder. Open its databases inside, and close them before the end."""
    library = ctypes.CDLL(_sqlite3.__file__)  # finds the SQLite that Python uses, wherever that is
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    recording = Recording(str(folder))
    true_open, true_delete = vfs.open, vfs.delete
    clones: dict[int, _Methods] = {}
    paths: dict[int, str] = {}

    def clone(true: Any) -> _Methods:
        address = ctypes.addressof(true)
        if address in clones:
            return clones[address]
        write, truncate, sync = _WRITE(true.write), _TRUNCATE(true.truncate), _SYNC(true.sync)

        def on_write(file: int, data: int, size: int, at: int) -> int:
            code = write(file, data, size, at)
            recording.steps.append(Step("write", paths[file], at, ctypes.string_at(data, size)))
            return code

        def on_truncate(file: int, size: int) -> int:
            code = truncate(file, size)
            recording.steps.append(Step("truncate", paths[file], size))
            return code

        def on_sync(file: int, flags: int) -> int:
            before = len(recording.steps)  # what is written while it syncs may be missed by it
            code = sync(file, flags)
            if code == 0:
                recording.steps.append(Step("sync", paths[file], before))
            return code

        methods = _Methods.from_buffer_copy(true)
        ours = [_WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync)]
        methods.write, methods.truncate, methods.sync = (ctypes.cast(one, c_void_p).value for one in ours)
        _kept.extend([*ours, write, truncate, sync, methods])
        clones[address] = methods
        return methods

    def on_open(vfs_: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        path = ctypes.string_at(name).decode() if name else ""
        ours = path.startswith(recording.folder) and flags & _PERSISTENT
        if ours and path not in recording.first:
            recording.first[path] = Path(path).read_bytes() if Path(path).exists() else b""
        code = _OPEN(true_open)(vfs_, name, file, flags, out)
        if code == 0 and ours:
            paths[file] = path
            handle = _File.from_address(file)
            handle.methods = ctypes.pointer(clone(handle.methods.contents))
        return code

    def on_delete(vfs_: int, name: bytes, flush: int) -> int:
        code = _DELETE(true_delete)(vfs_, name, flush)
        if code == 0 and name.decode() in recording.first:
            recording.steps.append(Step("delete", name.decode()))
        return code

    ours = [_OPEN(on_open), _DELETE(on_delete)]
    _kept.extend(ours)
    vfs.open, vfs.delete = (ctypes.cast(one, c_void_p).value for one in ours)
    try:
        yield recording
    finally:
        vfs.open, vfs.delete = true_open, true_delete

"""What `kurir doctor` says of received messages that are not stored yet."""

from __future__ import annotations

import time
from pathlib import Path

from kurir.channels.linked_device.engine_host.journal import Journal
from kurir.cli.doctor import _journals
from kurir.settings import Settings


def reported(folder: Path) -> list[tuple[bool, str]]:
    return [(one.fine, one.detail) for one in _journals(Settings(data_dir=folder))]


def test_nothing_waits(tmp_path: Path):
    assert reported(tmp_path) == [(True, "nothing")]
    Journal(tmp_path / "journals" / "1.db").close()
    assert reported(tmp_path) == [(True, "nothing")]


def test_what_waits_is_counted_over_all_devices_with_the_oldest_age(tmp_path: Path):
    first, second = (Journal(tmp_path / "journals" / f"{n}.db") for n in (1, 2))
    first.append("message", b"a", at=time.time())
    second.append("receipt", b"b", at=time.time() - 90)
    ((fine, detail),) = reported(tmp_path)
    assert fine
    assert detail.startswith(("2, the oldest for 90 s", "2, the oldest for 91 s"))
    second.append("message", b"c", at=time.time() - 4_000)
    ((fine, detail),) = reported(tmp_path)
    assert not fine
    assert detail.startswith("3, the oldest for 4,00")
    second.keep_for_fetch(1, "62812")  # stored; only its media are missing
    assert reported(tmp_path)[0][1].startswith("2, ")
    first.close()
    second.close()


def test_a_damaged_journal_is_named(tmp_path: Path):
    (tmp_path / "journals").mkdir()
    (tmp_path / "journals" / "7.db").write_bytes(b"no database" * 100)
    (damaged, rest) = reported(tmp_path)
    assert not damaged[0]
    assert rest == (True, "nothing")

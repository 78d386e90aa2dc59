"""Tokens and small files: whole or not there, and what is empty or odd opens nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.sqlite import new_database

from kurir.accounts import accounts
from kurir.channels.cloud_api.callbacks import signed_by
from kurir.data_folder import READY_FILE, ReadyFile, read_ready_file, write_ready_file
from kurir.kit.atomic_files import place_new, replace_whole
from kurir.kit.sealing import Sealing, load_master_key
from kurir.kit.tokens import TokenError, is_sound, load_token, opens, read_token
from kurir.numbers import numbers
from kurir.store.database import Database

SOUND = "k" * 43
ODD = [
    "",
    " ",
    "\n",
    "short",
    "x" * 15,
    "with a space in it",
    "kunci-rahasia-é-lama",
    "\0" * 40,
    "x" * 5_000,
    "\ud800" * 20,
]


@pytest.mark.parametrize("token", ODD)
def test_an_odd_token_opens_nothing_not_even_itself(token: str) -> None:
    assert not is_sound(token)
    for given in (token, "", SOUND):
        assert not opens(given, token)
        assert not opens(token, SOUND)


def test_a_sound_token_opens_its_own_endpoint() -> None:
    assert opens(SOUND, SOUND)
    assert not opens(SOUND + "x", SOUND)
    assert not opens("é", SOUND)


@pytest.mark.parametrize("left", [None, b"", b"\n", b" \t\r\n"])
def test_a_token_is_made_where_there_is_none(tmp_path: Path, left: bytes | None) -> None:
    file = tmp_path / "operator.token"
    if left is not None:
        file.write_bytes(left)
    token = load_token(tmp_path)
    assert is_sound(token)
    assert token == load_token(tmp_path) == read_token(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["operator.token"]


@pytest.mark.parametrize(
    "held", [b"short\n", "kunci-rahasia-é-lama".encode(), b"\xff" * 40, b"two words of a token", b"\0" * 44]
)
def test_an_odd_file_is_reported_and_stays(tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "operator.token"
    file.write_bytes(held)
    for look in (load_token, read_token):
        with pytest.raises(TokenError) as refused:
            look(tmp_path)
        assert str(refused.value).startswith(f"{file} holds no token")
        assert "remove the file" in str(refused.value)
    assert file.read_bytes() == held


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the bytes are to be kept: no empty file is left, and an old one stays."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    old = tmp_path / READY_FILE
    write_ready_file(tmp_path, ReadyFile(7, "http://127.0.0.1:1"))
    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: load_token(tmp_path),
        lambda: write_ready_file(tmp_path, ReadyFile(8, "http://127.0.0.1:2")),
        lambda: replace_whole(tmp_path / "lease", b"gw_1"),
        lambda: place_new(tmp_path / "master.key", b"00"),
    ):
        with pytest.raises(OSError, match="No space"):
            write()
    assert [one.name for one in tmp_path.iterdir()] == [old.name]
    assert read_ready_file(tmp_path) == ReadyFile(7, "http://127.0.0.1:1")


def test_a_new_file_never_takes_anothers_place(tmp_path: Path) -> None:
    assert place_new(tmp_path / "key", b"first")
    assert not place_new(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


@pytest.fixture(params=["EPERM", "EOPNOTSUPP", "ENOSYS", "ENOENT", "EMLINK", "ENOTSUPP"])
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without hard links (exFAT, SMB, some FUSE file systems), in the words of each."""
    number = getattr(errno, request.param, 524)

    def link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("no_links")
def test_a_folder_without_hard_links_can_be_started_in(tmp_path: Path) -> None:
    token, key = load_token(tmp_path), load_master_key(tmp_path)
    assert (token, key) == (load_token(tmp_path), load_master_key(tmp_path))
    assert {one.name for one in tmp_path.iterdir()} == {"operator.token", "master.key"}
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}


@pytest.mark.usefixtures("no_links")
def test_without_hard_links_too_nothing_takes_anothers_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda text: place_new(tmp_path / "key", text * 9), [b"%d" % n for n in range(8)]))
    assert made.count(True) == 1
    assert (tmp_path / "key").read_bytes() == b"%d" % made.index(True) * 9
    fsync, calls = os.fsync, []

    def full_at_the_second(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(OSError, match="No space"):
        place_new(tmp_path / "other", b"00")
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("write", [replace_whole, place_new])
def test_a_files_name_is_flushed_with_it(write: Callable[..., object], tmp_path: Path, monkeypatch) -> None:
    flushed: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "key").exists()))

    monkeypatch.setattr(os, "fsync", noted)
    write(tmp_path / "key", b"first")
    assert flushed == [(False, False), (True, True)], "the bytes, then the name"


@pytest.mark.parametrize(("number", "matters"), [(errno.EINVAL, False), (errno.EIO, True), (errno.ENOSPC, True)])
def test_a_folder_that_cannot_be_flushed_is_no_disk_that_fails(
    number: int, matters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def of_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_only)
    with pytest.raises(OSError, match=os.strerror(number)) if matters else nullcontext():
        place_new(tmp_path / "key", b"first")


def test_an_empty_secret_of_a_number_matches_nothing(tmp_path: Path) -> None:
    sealing, database = Sealing(bytes(32)), Database(new_database(tmp_path / "kurir.db"))
    with database.transaction() as connection:
        account = accounts.create(connection, name="Toko", email="toko@example.com")
        empty = dict.fromkeys(
            ("phone_number_id", "waba_id", "app_id", "access_token", "app_secret", "verify_token"), ""
        )
        numbers.add_official(connection, sealing, account.id, phone="6281100000001", **empty)
        assert not numbers.verify_token_matches(connection, sealing, "")
    database.engine.dispose()
    assert not signed_by("", b"{}", "sha256=" + "0" * 64)

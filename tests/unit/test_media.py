"""From a URL to checked bytes on disk: once per message, kept as long as needed, never on the disk's reserve."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.media import PDF, MediaHarness, files, open_media_harness, picture
from tests.sentences import english, in_english

from kurir.accounts import accounts
from kurir.kit.disk_reserve import DiskReserve
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.url_rules import UrlRefused
from kurir.media.store import MediaStore
from kurir.messages.channel_reports import Refused, TryLater
from kurir.messages.content import Document, Image, MediaFile
from kurir.numbers import numbers
from kurir.outbox.tables import media, messages
from kurir.reasons import as_written
from kurir.settings import Settings
from kurir.store.database import Database


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[MediaHarness]:
    async with open_media_harness(tmp_path) as harness:
        yield harness


@pytest.mark.processes
async def test_a_picture_is_fetched_once_however_often_it_is_tried(harness: MediaHarness) -> None:
    body = picture("JPEG")
    content = Image(harness.stranger.offers("/a.jpg", body), "caption")
    first = await harness.store.prepare(harness.account_id, 1, content)
    assert isinstance(first, MediaFile)
    assert (first.mime, first.name, first.size) == ("image/jpeg", "a.jpg", len(body))
    assert first.sha256 == hashlib.sha256(body).hexdigest()
    assert Path(first.path) == harness.folder / first.sha256[:2] / first.sha256
    harness.stranger.offers("/a.jpg", picture("PNG"))  # what the address holds later changes nothing
    assert await harness.store.prepare(harness.account_id, 1, content) == first
    restarted = MediaStore(harness.settings, harness.database, SafeFetch(harness.settings), lambda: 0.0)
    assert await restarted.prepare(harness.account_id, 1, content) == first
    assert harness.stranger.asked == ["/a.jpg"]
    assert files(harness.folder) == [Path(first.path)]


@pytest.mark.processes
async def test_a_lost_or_cut_file_is_fetched_again(harness: MediaHarness) -> None:
    content = Document(harness.stranger.offers("/a.pdf", PDF))
    first = await harness.store.prepare(harness.account_id, 1, content)
    assert isinstance(first, MediaFile)
    (harness.folder / first.sha256[:2] / first.sha256).write_bytes(b"cut")
    assert await harness.store.prepare(harness.account_id, 1, content) == first
    assert harness.stranger.asked == ["/a.pdf", "/a.pdf"]
    assert [path.read_bytes() for path in files(harness.folder)] == [PDF]


@pytest.mark.processes
async def test_another_account_never_gets_a_messages_file(harness: MediaHarness) -> None:
    other = await harness.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    content = Document(harness.stranger.offers("/a.pdf", PDF))
    await harness.store.prepare(harness.account_id, 1, content)
    harness.stranger.files.clear()
    assert isinstance(await harness.store.prepare(other.id, 1, content), Refused)


@pytest.mark.processes
async def test_old_media_go_and_shared_files_stay(harness: MediaHarness) -> None:
    first, second = await harness.document("/a.pdf", PDF), await harness.document("/b.pdf", PDF)
    lone = await harness.image("/c.png", picture("PNG"))
    assert isinstance(first, MediaFile) and isinstance(second, MediaFile) and isinstance(lone, MediaFile)
    assert first.path == second.path

    def age(message_id: int) -> None:
        harness.database.engine.dispose()

    await harness.database.write(
        lambda c: c.execute(sa.update(media).where(media.c.message_id != 2).values(created_at=5.0))
    )
    assert await harness.store.forget(before=10.0) == 2
    assert files(harness.folder) == [Path(second.path)]
    assert await harness.store.forget(before=2e9) == 1
    assert files(harness.folder) == []


@pytest.mark.processes
@pytest.mark.parametrize("state", ["queued", "sending", "sent", "unconfirmed"])
async def test_the_file_of_a_message_on_its_way_stays_whatever_its_age(harness: MediaHarness, state: str) -> None:
    number = await harness.database.write(lambda c: numbers.add_linked_device(c, harness.account_id))
    row = {"id": 1, "account_id": harness.account_id, "number_id": number.id, "recipient": "628111", "state": state}
    row |= {"kind": "document", "content": "{}", "due_at": 0.0, "expires_at": 0.0, "created_at": 0.0}
    await harness.database.write(lambda c: c.execute(sa.insert(messages).values(row)) and None)
    assert not await harness.store.was_fetched(harness.account_id, 1)
    found = await harness.document("/a.pdf", PDF)
    assert await harness.store.was_fetched(harness.account_id, 1)
    assert not await harness.store.was_fetched(harness.account_id + 1, 1)
    on_its_way = state in {"queued", "sending", "unconfirmed"}
    assert await harness.store.forget(before=2e9) == (0 if on_its_way else 1)
    assert await harness.store.was_fetched(harness.account_id, 1) == on_its_way
    assert isinstance(found, MediaFile)
    assert (files(harness.folder) == [Path(found.path)]) == on_its_way


@pytest.mark.processes
async def test_old_files_go_also_when_another_gateway_has_removed_their_rows(harness: MediaHarness) -> None:
    old, young = await harness.image("/a.png", picture("PNG")), await harness.document("/b.pdf", PDF)
    kept = await harness.image("/c.png", picture("PNG", size=(41, 30)))
    assert isinstance(old, MediaFile) and isinstance(young, MediaFile) and isinstance(kept, MediaFile)
    gone = sa.delete(media).where(media.c.path.in_([old.path, young.path]))
    await harness.database.write(lambda c: c.execute(gone) and None)
    for path in (old.path, kept.path):
        os.utime(path, (5.0, 5.0))
    await harness.store.forget(before=10.0)
    assert files(harness.folder) == sorted(Path(file.path) for file in (young, kept))


async def test_what_the_server_says_becomes_an_outcome(harness: MediaHarness) -> None:
    missing = await harness.image("/x", b"no", status=404)
    assert in_english(missing) == Refused(
        "media_not_fetched", as_written("image_url: the server answered with status 404")
    )
    assert in_english(await harness.image("/x", b"no", status=503)) == TryLater(
        "media_not_fetched", as_written("image_url: the server answered with status 503")
    )
    large = await harness.image("/x", picture("PNG") + bytes(200_000))
    assert in_english(large) == Refused(
        "media_too_large", as_written("image_url: the file is larger than 200000 bytes")
    )
    inner = await harness.store.prepare(harness.account_id, 99, Document("http://169.254.169.254/latest"))
    assert in_english(inner) == Refused(
        "media_url_refused", as_written("file_url: the URL's host is not on the public internet")
    )
    closed = await harness.store.prepare(harness.account_id, 98, Image("http://127.0.0.1:1/x.png"))
    assert isinstance(closed, Refused)
    assert files(harness.folder) == []


async def test_a_full_disk_is_a_reason_to_wait(harness: MediaHarness, tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the folder should be")
    assert in_english(await harness.document("/a.pdf", PDF)) == TryLater(
        "media_not_stored",
        as_written("the file could not be stored (another file is in its place)"),
        after=5.0,
        counted=False,
    )


async def test_a_closed_database_is_a_reason_to_wait(harness: MediaHarness) -> None:
    await harness.database.close()
    assert isinstance(await harness.document("/a.pdf", PDF), TryLater)


def test_check_before_anything_is_stored(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    store = MediaStore(settings, Database(tmp_path / "kurir.db"), SafeFetch(settings), lambda: 0.0)
    store.check("https://example.com/a.png")
    with pytest.raises(UrlRefused, match="http"):
        store.check("file:///etc/passwd")
    assert files(tmp_path) == []


async def test_a_document_too_large(harness: MediaHarness) -> None:
    found = await harness.document("/a.bin", bytes(300_001))
    assert in_english(found) == Refused("media_too_large", as_written("file_url: the file is larger than 300000 bytes"))


@pytest.mark.processes
async def test_a_file_never_touches_the_reserve(harness: MediaHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked without room; what is announced is too much; what comes is more than what there is room for."""
    room = 0
    monkeypatch.setattr(DiskReserve, "room", lambda _: room)
    for room, asked in ((0, 0), (len(PDF) - 1, 1)):
        found = await harness.document(f"/{room}.pdf", PDF)
        assert isinstance(found, TryLater)
        assert (found.code, found.counted, found.after) == ("media_not_stored", False, 10.0)
        assert english(found.reason) == "the file could not be stored: the disk is nearly full"
        assert len(harness.stranger.asked) == asked
        assert files(harness.folder) == []
    room = len(PDF)
    assert isinstance(await harness.document("/fits.pdf", PDF), MediaFile)


async def test_a_disk_that_fills_while_a_file_comes_ends_it(
    harness: MediaHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rooms = iter([len(PDF), len(PDF), 1])  # before, when it is announced, and when it is written
    monkeypatch.setattr(DiskReserve, "room", lambda _: next(rooms))
    assert isinstance(await harness.document("/a.pdf", PDF), TryLater)
    assert next(rooms, None) is None
    assert files(harness.folder) == []

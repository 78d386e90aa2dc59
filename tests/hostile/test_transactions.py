"""Transactions that are rolled back, run again, left by their caller, or raced by another gateway leave no trace.

What a commit changes in memory is changed after it, once, and only then; files go after the commit; and what two
gateways make at the same time is made once, without an error for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, exc
from tests.harness.outbox import OutboxHarness, open_outbox_harness

from kurir.accounts import accounts, members
from kurir.accounts.accounts import AccountError
from kurir.accounts.members import PasswordHash
from kurir.channels.cloud_api.templates.calls import MetaTemplate
from kurir.contacts import contacts, sync
from kurir.contacts.contacts import Person
from kurir.contacts.imports import importing
from kurir.contacts.tables import audiences
from kurir.data_folder import renew_schema
from kurir.events import read
from kurir.inbox import Inbox
from kurir.kit.safe_fetch import SafeFetch
from kurir.media.files import MediaFiles
from kurir.media.store import MediaStore, _remove_rows, _store
from kurir.messages.channel_reports import Received, Refused, Sent, StatusChanged, TemplateReviewed, TryLater
from kurir.messages.content import MediaFile
from kurir.outbox.tables import media, messages
from kurir.reasons import as_written
from kurir.settings import Settings
from kurir.store.database import Database, DatabaseUnavailable
from kurir.templates import templates
from kurir.templates.status import store_review


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as found:
        yield found


class UndoneError(Exception):
    """What a later piece of the same work raises."""


def undone(work: Callable[[Connection], Any]) -> Callable[[Connection], Any]:
    def both(connection: Connection) -> None:
        work(connection)
        raise UndoneError

    return both


# -- what is rolled back -----------------------------------------------------------------------------------------------


async def test_a_receipt_that_is_rolled_back_counts_for_nothing(harness: OutboxHarness) -> None:
    await harness.outbox.accept([harness.draft()])
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, TryLater("x", as_written("y"), after=1.0))
    event = receipt(harness, claimed.id)
    with pytest.raises(UndoneError):
        await harness.database.write(undone(lambda c: harness.outbox.receipt(c, event, harness.time.now)))
    harness.time.now += 2
    (again,) = await harness.claim()
    await harness.database.write(
        lambda c: harness.outbox.receipt(c, event, harness.time.now), after_commit=harness.outbox.receipt_committed
    )
    await harness.outbox.record(again, Sent("wamid.1"))
    assert harness.outbox.waiting() == 0


async def test_an_early_receipt_that_is_rolled_back_is_not_kept(harness: OutboxHarness) -> None:
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    event = receipt(harness, None)
    with pytest.raises(UndoneError):
        await harness.database.write(undone(lambda c: harness.outbox.receipt(c, event, harness.time.now)))
    await harness.outbox.record(claimed, Sent("wamid.1"))
    assert await harness.state(message_id) == "sent"


async def test_of_events_of_which_one_cannot_be_stored_none_counts(harness: OutboxHarness) -> None:
    inbox = Inbox(harness.database, harness.outbox, harness.time, number_due=lambda *_: None)
    await harness.outbox.accept([harness.draft()])
    (claimed,) = await harness.claim()
    await harness.outbox.record(claimed, TryLater("x", as_written("y"), after=1.0))
    nobodys = Received(harness.number.account_id, 999_999, "m1", "628", "628", "", 1.0, "text", "halo")
    with pytest.raises(exc.IntegrityError):
        await inbox.take([(receipt(harness, claimed.id), ""), (nobodys, "")])
    assert harness.outbox.waiting() == 1
    await inbox.take([(receipt(harness, claimed.id), "")])
    assert harness.outbox.waiting() == 0


# -- what the caller does not wait for ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["accept", "record", "cancel", "replay", "expire"])
async def test_a_caller_who_leaves_makes_no_difference_to_what_is_counted(harness: OutboxHarness, step: str) -> None:
    await left_alone(harness, harness.outbox.accept([harness.draft(), harness.draft("628222")]))
    assert harness.outbox.waiting() == 2
    first, second = sorted(await ids(harness))
    match step:
        case "record":
            for claimed in await harness.claim():
                await left_alone(harness, harness.outbox.record(claimed, Refused("x", as_written("no"))))
        case "cancel":
            for message_id in (first, second):
                await left_alone(harness, harness.outbox.cancel(harness.number.account_id, message_id))
        case "replay":
            for claimed in await harness.claim():
                await harness.outbox.record(claimed, Refused("x", as_written("no")))
            await left_alone(harness, harness.outbox.replay(harness.number.account_id, first))
        case "expire":
            harness.time.now += 100_000
            await left_alone(harness, harness.outbox.expire())
    truly = await harness.database.read(
        lambda c: c.scalar(sa.select(sa.func.count()).where(messages.c.state.in_(["queued", "sending"])))
    )
    assert harness.outbox.waiting() == truly == {"accept": 2, "replay": 1}.get(step, 0)


async def test_what_follows_a_commit_is_done_once_in_the_order_of_the_commits(where: Path | str) -> None:
    async with open_outbox_harness(where) as harness:
        done: list[int] = []
        writes = [
            asyncio.create_task(harness.database.write(lambda c, n=n: n, after_commit=done.append)) for n in range(200)
        ]
        await asyncio.gather(*writes)
        assert done == list(range(200))
        with pytest.raises(UndoneError):
            await harness.database.write(undone(lambda c: None), after_commit=done.append)
        assert len(done) == 200


async def test_one_that_fails_after_its_commit_stops_no_other(harness: OutboxHarness) -> None:
    def broken(_result: object) -> None:
        raise RuntimeError("a mistake of ours")

    results = await asyncio.gather(
        *(harness.database.write(lambda c, n=n: n, after_commit=broken if n == 1 else None) for n in range(4))
    )
    assert results == [0, 1, 2, 3]


async def test_a_receipt_kept_while_the_answer_is_written_down_is_not_lost(harness: OutboxHarness) -> None:
    """The receipt's transaction comes first, but the loop hears of it only after the answer's work has looked."""
    (message_id,) = (await harness.outbox.accept([harness.draft()])).ids
    (claimed,) = await harness.claim()
    event = receipt(harness, None)
    client_map_lock = threading.Event()
    held = asyncio.create_task(harness.database.write(lambda c: client_map_lock.wait(5)))
    early = asyncio.create_task(
        harness.database.write(
            lambda c: harness.outbox.receipt(c, event, harness.time.now), after_commit=harness.outbox.receipt_committed
        )
    )
    answer = asyncio.create_task(harness.outbox.record(claimed, Sent("wamid.1")))
    await asyncio.sleep(0)  # all three are handed in, and make one group
    client_map_lock.set()
    await asyncio.gather(held, early, answer)
    assert await harness.state(message_id) == "delivered"
    assert answer.result().state == "delivered"


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def store(harness: OutboxHarness, tmp_path: Path) -> AsyncIterator[MediaStore]:
    settings = Settings(data_dir=tmp_path)
    fetch = SafeFetch(settings)
    await fetch.start()
    yield MediaStore(settings, harness.database, fetch, harness.time)
    await fetch.close()


async def kept_file(harness: OutboxHarness, store: MediaStore, message_id: int, at: float = 5.0) -> MediaFile:
    arriving = store._files.folder / f"arriving-{message_id}"
    arriving.parent.mkdir(parents=True, exist_ok=True)
    arriving.write_bytes(b"the same bytes")
    place = store._files.place(arriving, "ab" * 32)
    file = MediaFile(str(place), "text/plain", "a.txt", 14, "ab" * 32)
    row = {"account_id": harness.number.account_id, "message_id": message_id, "url": "http://x/", "created_at": at}
    await harness.database.write(lambda c: _store(c, row, file))
    store._files.release(place)
    return file


async def test_a_file_goes_only_when_the_commit_has_taken_its_row(
    harness: OutboxHarness, store: MediaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await kept_file(harness, store, 1)
    real = harness.database.write
    failing = True

    async def write(work: Any, **more: Any) -> Any:
        if failing:
            with contextlib.suppress(UndoneError):
                await real(undone(work))
            raise DatabaseUnavailable("the disk is full")
        return await real(work, **more)

    monkeypatch.setattr(harness.database, "write", write)
    with pytest.raises(DatabaseUnavailable):
        await store.forget(1e9)
    assert there(file.path)
    assert await store.was_fetched(harness.number.account_id, 1)
    failing = False
    assert await store.forget(1e9) == 1
    assert not there(file.path)


async def test_a_file_that_a_new_message_is_about_to_name_stays(harness: OutboxHarness, store: MediaStore) -> None:
    """The bytes came again between the removal of the old row and the removal of the file."""
    file = await kept_file(harness, store, 1)
    await harness.database.write(lambda c: _remove_rows(c, [1]))
    arriving = store._files.folder / "arriving-2"
    arriving.write_bytes(b"the same bytes")
    store._files.place(arriving, "ab" * 32)  # its row is not stored yet
    await store._remove_files({Path(file.path)})
    os.utime(file.path, (5.0, 5.0))
    await store.forget(1e9)
    assert there(file.path)


@pytest.mark.parametrize("row_stored", [False, True])
def test_a_file_placed_anew_after_the_look_stays(tmp_path: Path, row_stored: bool) -> None:
    files = MediaFiles(tmp_path / "media")
    (tmp_path / "media").mkdir()

    def place(name: str) -> Path:
        arriving = files.folder / name
        arriving.write_bytes(b"x")
        return files.place(arriving, "cd" * 32)

    old = place("a")
    assert files.mark({old}) == {}, "it is in use until its row is stored"
    files.release(old)
    marks = files.mark({old})
    place("b")
    if row_stored:
        files.release(old)
    assert files.remove(marks) == 0
    assert old.exists()
    files.release(old) if not row_stored else None
    assert files.remove(files.mark({old})) == 1


async def test_files_of_a_process_that_died_in_between_are_swept_up(harness: OutboxHarness, store: MediaStore) -> None:
    file = await kept_file(harness, store, 1)
    await harness.database.write(lambda c: _remove_rows(c, [1]))  # and then the process died
    half = store._files.folder / "arriving-dead"
    half.write_bytes(b"half")
    fresh = store._files.folder / "arriving-live"
    fresh.write_bytes(b"half")
    for path in (Path(file.path), half):
        os.utime(path, (5.0, 5.0))
    os.utime(fresh, (harness.time.now, harness.time.now))
    assert await store.forget(1e9) == 0
    assert not there(file.path)
    assert not there(half)
    assert there(fresh)


# -- two gateways at the same time -------------------------------------------------------------------------------------


class Pair:
    """Two databases on one: PostgreSQL as two gateways have it, SQLite as a gateway and a command have it."""

    def __init__(self, where: Path | str) -> None:
        self.one, self.other = Database(where), Database(where)
        renew_schema(self.one)

    def both(self, work: Callable[[Connection, int], Any]) -> list[Any]:
        """Runs `work` in two transactions; the second begins when the first has done its part, before its commit."""
        results: list[Any] = [None, None]
        done = threading.Event()

        def run(which: int, database: Database) -> None:
            try:
                if which:
                    done.wait(5)
                with database.transaction() as connection:
                    results[which] = work(connection, which)
                    if not which:
                        done.set()
                        threading.Event().wait(0.3)  # the other one is at it now, or waits for this one
            except Exception as error:
                results[which] = error
                done.set()

        threads = [threading.Thread(target=run, args=it) for it in enumerate((self.one, self.other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return results

    def write(self, work: Callable[[Connection], Any]) -> Any:
        with self.one.transaction() as connection:
            return work(connection)


@pytest.fixture
def pair(where: Path | str) -> Iterator[Pair]:
    found = Pair(where)
    yield found
    found.one.engine.dispose()
    found.other.engine.dispose()


@pytest.fixture
def official(pair: Pair) -> Any:
    from kurir.kit.sealing import Sealing
    from kurir.numbers import numbers

    def make(connection: Connection) -> Any:
        account = accounts.create(connection, name="a", email="a@example.com")
        return numbers.add_official(
            connection,
            Sealing(bytes(32)),
            account.id,
            phone="62811",
            phone_number_id="1",
            waba_id="2",
            app_id="3",
            access_token="t",
            app_secret="s",
            verify_token="v",
        )

    return pair.write(make)


def test_both_adopt_the_same_new_templates(pair: Pair, official: Any) -> None:
    listed = [MetaTemplate(str(n), f"promo_{n}", "id", "APPROVED", "UTILITY", []) for n in range(3)]
    assert pair.both(lambda c, which: templates.adopt(c, official, listed, 5.0 + which)) == [None, None]
    found, total = pair.write(lambda c: templates.page(c, official.account_id, official.id))
    assert total == 3
    assert {one.status for one in found} == {templates.APPROVED}
    assert len(template_events(pair, official)) == 3


def test_a_list_and_a_callback_at_once_publish_a_status_once(pair: Pair, official: Any) -> None:
    form = templates.TemplateForm(name="promo", language="id", category="UTILITY", body="Halo")
    pair.write(lambda c: templates.put(c, official, form, meta_id="7", status=templates.IN_REVIEW, now=5.0))
    listed = [MetaTemplate("7", form.name, "id", "APPROVED", "UTILITY", [{"type": "BODY", "text": form.body}])]
    review = TemplateReviewed(official.account_id, official.id, "7", templates.APPROVED)

    def found(connection: Connection, which: int) -> None:
        if which:
            store_review(connection, review, 6.0)
        else:
            templates.adopt(connection, official, listed, 6.0)

    assert pair.both(found) == [None, None]
    assert template_events(pair, official) == [templates.IN_REVIEW, templates.APPROVED]


def template_events(pair: Pair, number: Any) -> list[str]:
    page = pair.write(lambda c: read.after(c, number.account_id, 0))
    return [json.loads(event.body)["data"]["status"] for event in page.events if event.type == "template_status"]


def test_of_two_drafts_of_a_name_one_is_stored(pair: Pair, official: Any) -> None:
    form = templates.TemplateForm(name="promo", language="id", category="UTILITY", body="Halo")
    first, second = pair.both(
        lambda c, _which: templates.put(c, official, form, meta_id="", status=templates.DRAFT, now=5.0)
    )
    assert first is not None and first.form == form
    assert second is None


def test_a_draft_that_another_gateway_submits_meanwhile_is_not_lost(pair: Pair, official: Any) -> None:
    form = templates.TemplateForm(name="promo", language="id", category="UTILITY", body="Halo")
    states = [("", templates.DRAFT), ("77", templates.IN_REVIEW)]
    results = pair.both(
        lambda c, which: templates.put(
            c, official, form, meta_id=states[which][0], status=states[which][1], now=5.0 + which
        )
    )
    assert [one.status for one in results] == [templates.DRAFT, templates.IN_REVIEW]


def test_two_syncs_and_two_imports_make_one_list_each(pair: Pair, official: Any) -> None:
    mirror = sync._Mirror("sync_from_whatsapp", official.id, "", "Toko")
    lists = pair.both(lambda c, _which: sync._list_of(c, official.account_id, mirror, 1.0))
    assert lists[0].id == lists[1].id
    group = sync._Mirror("group", official.id, "120363@g.us", "Keluarga")
    lists = pair.both(lambda c, _which: sync._list_of(c, official.account_id, group, 1.0))
    assert lists[0].id == lists[1].id
    people = [Person("62811", "Sari"), Person("62812", "Budi")]
    keys = pair.both(lambda c, _which: importing._store(c, official.account_id, "pelanggan", people, 1.0))
    assert keys[0][0] == keys[1][0]
    assert [key[1].new for key in keys] == [2, 0]
    assert pair.write(lambda c: c.scalar(sa.select(sa.func.count()).select_from(audiences))) == 2


def test_an_import_under_a_very_long_name_finds_its_list_again(pair: Pair, official: Any) -> None:
    for _ in range(2):
        key, _added = pair.write(
            lambda c: importing._store(c, official.account_id, "Ü" * 5_000, [Person("62811")], 1.0)
        )
    assert pair.write(lambda c: contacts.by_key(c, official.account_id, key)) is not None


def test_a_list_is_not_renamed_to_another_imports_name(pair: Pair, official: Any) -> None:
    own = official.account_id
    first, second = (
        pair.write(lambda c, n=n: contacts.create_list(c, own, n, "import", at=1.0)) for n in ("satu", "dua")
    )
    with pytest.raises(contacts.NameTaken):
        pair.write(lambda c: contacts.rename_list(c, own, second.id, "satu", at=2.0))
    pair.write(lambda c: contacts.rename_list(c, own, first.id, "satu", at=2.0))


@pytest.mark.parametrize("kind", ["account", "member"])
def test_the_same_address_twice_is_a_clear_error_for_one(pair: Pair, official: Any, kind: str) -> None:
    def make(connection: Connection, _which: int) -> Any:
        if kind == "account":
            return accounts.create(connection, name="b", email="b@example.com")
        return members.create(connection, official.account_id, "b@example.com", PasswordHash("a hash"))

    first, second = pair.both(make)
    assert not isinstance(first, Exception)
    assert isinstance(second, AccountError)
    assert second.field == "email" and "b@example.com" in str(second)


def test_both_store_the_file_of_one_message(pair: Pair, official: Any) -> None:
    row = {"account_id": official.account_id, "message_id": 7, "url": "http://x/", "created_at": 1.0}

    def keep(connection: Connection, which: int) -> None:
        _store(connection, row, MediaFile(f"/media/{which}", "text/plain", "a", 1, "00"))

    assert pair.both(keep) == [None, None]
    assert pair.write(lambda c: [row.path for row in c.execute(sa.select(media.c.path))]) == ["/media/1"]


def test_both_put_the_same_people_into_a_list(pair: Pair, official: Any) -> None:
    own = official.account_id
    made = pair.write(lambda c: contacts.create_list(c, own, "Pelanggan", at=1.0))
    people = [Person("62811", "Sari"), Person("62812", "Budi")]
    added = pair.both(lambda c, _which: contacts.add_audiences(c, own, made.id, people, at=2.0))
    assert [one.new for one in added] == [2, 0]


# -- helpers -----------------------------------------------------------------------------------------------------------


def receipt(harness: OutboxHarness, message_id: int | None) -> StatusChanged:
    return StatusChanged(
        harness.number.account_id, harness.number.id, "wamid.1", "delivered", harness.time.now, message_id=message_id
    )


async def ids(harness: OutboxHarness) -> list[int]:
    return await harness.database.read(lambda c: list(c.execute(sa.select(messages.c.id)).scalars()))


def there(path: Path | str) -> bool:
    return Path(path).exists()


async def left_alone(harness: OutboxHarness, work: Any) -> None:
    """Begins `work`, leaves it as soon as its transaction is handed in, and waits until that is committed."""
    client_map_lock = threading.Event()
    held = asyncio.create_task(harness.database.write(lambda c: client_map_lock.wait(5)))
    task = asyncio.create_task(work)
    for _ in range(200):
        await asyncio.sleep(0.005)
        if harness.database._writer is not None and harness.database._writer.waiting():
            break
    task.cancel()
    client_map_lock.set()
    await held
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await harness.database.write(lambda c: None)

"""What the gateway has stored leaves a device's journal, whatever the disk does and whichever opening told it."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.linked_device.receiver_rig import TIMEOUT, ReceiverRig, picture, receipt, text

from kurir.messages.channel_reports import MediaFetched, Quarantined


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ReceiverRig]:
    rig = ReceiverRig(tmp_path)
    yield rig
    rig.receiver.close()


def full(*_arguments: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("refused", ["keep_for_fetch", "forget"])
def test_what_the_disk_did_not_let_go_is_let_go_once_it_can(rig: ReceiverRig, refused: str, monkeypatch: Any) -> None:
    rig.receiver.online(connected=True)
    rig.receiver.take(text("text"))
    rig.receiver.take(picture("picture"))
    rig.receiver.take_receipt(receipt("3EB0"))
    reported = [rig.received(), rig.received(), rig.receipt()]
    with monkeypatch.context() as disk:
        disk.setattr(rig.receiver._journal, refused, full)
        rig.store(*reported)
        assert rig.kept("message") > 0
        assert any("full" in line for line in rig.device.failures)
    fetched = rig.fetched()
    assert (fetched.remote_id, fetched.media.state) == ("picture", "stored")
    until(lambda: rig.receiver.backlog().entries == 0)
    rig.store(fetched)
    assert rig.kept() == 0
    assert sum("full" in line for line in rig.device.failures) == 1, "said once, not at each try"


def test_the_end_of_a_fetch_that_the_disk_did_not_let_go_is_reported_once(rig: ReceiverRig, monkeypatch: Any) -> None:
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    rig.store(rig.received())
    fetched = rig.fetched()
    tries = itertools.count()

    def refusing(*_arguments: object) -> None:
        next(tries)
        full()

    with monkeypatch.context() as disk:
        disk.setattr(rig.receiver._journal, "forget", refusing)
        rig.store(fetched)
        until(lambda: next(tries) > 4)
        assert rig.reported.empty()
    until(lambda: rig.kept() == 0)
    assert rig.reported.empty()


def test_the_end_of_a_fetch_is_not_reported_again_before_it_has_left_the_journal(
    rig: ReceiverRig, monkeypatch: Any
) -> None:
    """A look that comes between the gateway's word and the journal's deletion finds the entry, which is hopeless."""
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    rig.receiver.online(connected=False)
    rig.store(rig.received())
    rig.receiver.paired("6289900000009")  # another phone: nothing of the earlier one is fetched
    rig.receiver.online(connected=True)
    gone = rig.fetched()
    assert gone.media.state == "gone"
    forget = rig.receiver._journal.forget

    def slow(entries: list[int]) -> None:
        fetches = rig.receiver._fetches
        while fetches._begin_next([*fetches._began, *fetches._over]):
            assert rig.reported.empty()
        forget(entries)

    monkeypatch.setattr(rig.receiver._journal, "forget", slow)
    rig.store(gone)
    assert rig.kept() == 0
    assert rig.reported.empty()


@pytest.mark.parametrize("twice", [False, True], ids=["before", "after it was told again"])
def test_media_of_what_an_earlier_opening_reported_are_fetched(rig: ReceiverRig, *, twice: bool) -> None:
    """The gateway's word of the first telling comes when the device has been opened anew."""
    rig.receiver.online(connected=True)
    rig.receiver.take(picture("picture"))
    first = rig.received()
    rig.reopen()
    if twice:
        rig.receiver.online(connected=True)
        second = rig.received()
        rig.store(first)
        rig.store(second)
    else:
        rig.store(first)
        rig.receiver.online(connected=True)
        rig.store(rig.received())
    fetched = rig.fetched()
    assert (fetched.remote_id, fetched.media.state) == ("picture", "stored")
    rig.store(fetched)
    assert rig.kept() == 0


@pytest.mark.parametrize("about", ["no json", '{"account_id": "x"}', "{}", '{"x": ' + "[" * 5_000])
def test_a_fetch_that_no_longer_says_whose_media_it_is_of_is_quarantined(rig: ReceiverRig, about: str) -> None:
    rig.receiver.online(connected=True)
    for name in ("bad", "good"):
        rig.receiver.take(picture(name))
    reported = [rig.received(), rig.received()]
    rig.receiver.online(connected=False)
    rig.store(*reported)
    with sqlite3.connect(rig.order.journal) as file:
        change = "UPDATE received SET event = ?, about = ?, owner = '628999' WHERE id = ?"
        file.execute(change, (b"\xff\xff no protobuf", about, reported[0].entry))
    file.close()
    rig.receiver.online(connected=True)
    ends = [rig.next(), rig.next()]
    (quarantined,) = [one for one in ends if isinstance(one, Quarantined)]
    assert (quarantined.entry, quarantined.fetch) == (reported[0].entry, None)
    assert [one.remote_id for one in ends if isinstance(one, MediaFetched)] == ["good"]
    rig.store(*ends)
    assert rig.kept() == 0

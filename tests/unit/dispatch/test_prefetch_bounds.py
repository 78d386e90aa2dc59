"""The fetches of one number: how many at once, what is remembered of them, and when the lane is notified."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from kurir.dispatch import prefetch as module
from kurir.dispatch.prefetch import FILES_AHEAD, Prefetch
from kurir.kit.tasks import Tasks
from kurir.messages.channel_reports import Outcome, Refused, TryLater
from kurir.messages.content import Content, Document, Image, MediaFile, Text
from kurir.outbox.message_rows import FileAhead
from kurir.reasons import as_written
from kurir.reasons.media import NOT_PREPARED

ACCOUNT = 7
FILE = MediaFile("/a.png", "image/png", "a.png", 1, "0")
REFUSED = Refused("media_url_refused", as_written("no"))


class Media:
    """Answers what `answers` has for a message, once `served`; a message that is not there gets its file."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, Content]] = []
        self.served = asyncio.Event()
        self.served.set()
        self.answers: dict[int, Outcome | Exception] = {}

    async def prepare(self, account_id: int, message_id: int, content: Content) -> MediaFile | Outcome:
        self.asked.append((account_id, message_id, content))
        await self.served.wait()
        answer = self.answers.get(message_id, FILE)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Number:
    """The prefetch of one number, with its media store and the lane's notifications."""

    def __init__(self) -> None:
        self.media, self.tasks, self.notified = Media(), Tasks(), 0
        self.prefetch = Prefetch(ACCOUNT, cast("Any", self.media), self.tasks, self.notify)

    def notify(self) -> None:
        self.notified += 1

    async def idle(self) -> None:
        """Waits until nothing is fetched."""
        while self.prefetch.busy:
            await asyncio.sleep(0)


@pytest.fixture
async def number() -> AsyncIterator[Number]:
    number = Number()
    yield number
    await number.prefetch.close()
    await number.tasks.close()


def ahead(*ids: int, host: str = "") -> list[FileAhead]:
    return [FileAhead(n, Image(f"http://{host or f'h{n}.test'}/a.png")) for n in ids]


async def test_a_file_is_fetched_once_and_its_message_may_be_claimed(number: Number) -> None:
    number.media.served.clear()
    document = FileAhead(2, Document("http://b.test/b.pdf"))
    for _ in range(2):
        number.prefetch.begin([*ahead(1), document])
    assert number.prefetch.busy
    assert number.prefetch.fetching() == (1, 2)
    assert number.prefetch.ready() == ()
    number.media.served.set()
    await number.idle()
    assert number.media.asked == [(ACCOUNT, 1, Image("http://h1.test/a.png")), (ACCOUNT, 2, document.content)]
    assert (number.prefetch.ready(), number.prefetch.failed(), number.prefetch.fetching()) == ((1, 2), (), ())
    assert number.notified == 2
    number.prefetch.begin(ahead(1))
    assert not number.prefetch.busy
    assert number.prefetch.take(1) is None
    assert number.prefetch.ready() == (2,)
    number.prefetch.begin(ahead(1))
    assert number.prefetch.fetching() == (1,)


async def test_what_could_not_be_fetched_may_be_claimed_too_with_its_outcome(number: Number) -> None:
    later = TryLater("media_not_fetched", as_written("not now"))
    number.media.answers = {1: REFUSED, 3: later, 4: RuntimeError("unforeseen")}
    with capture_logs() as lines:
        number.prefetch.begin(ahead(1, 2, 3, 4))
        await number.idle()
    assert number.prefetch.failed() == (1, 3, 4)
    assert set(number.prefetch.ready()) == {1, 2, 3, 4}
    assert [number.prefetch.take(n) for n in (1, 2, 3, 4)] == [
        REFUSED, None, later, Refused("media_failed", NOT_PREPARED()),
    ]  # fmt: skip
    assert number.prefetch.take(1) is None
    assert lines == [{"event": "media_failed", "message_id": 4, "exc_info": True, "log_level": "error"}]


@pytest.mark.parametrize("content", [Text("halo"), None])
async def test_what_has_no_file_is_ready_at_once(number: Number, content: Content | None) -> None:
    number.prefetch.begin([FileAhead(1, content)])
    assert (number.prefetch.ready(), number.prefetch.failed(), number.notified) == ((1,), (), 1)
    assert number.media.asked == []


async def test_failures_are_collected_into_one_notification(number: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GATHERED", 0.02)
    number.media.answers = dict.fromkeys(range(1, 6), REFUSED)
    for _ in range(2):
        before = number.notified
        number.prefetch.begin(ahead(1, 2, 3, 4, 5))
        await number.idle()
        assert number.notified == before
        async with asyncio.timeout(10):
            while number.notified == before:
                await asyncio.sleep(0.005)
        assert number.notified == before + 1
        assert [number.prefetch.take(n) for n in range(1, 6)] == [REFUSED] * 5
    number.prefetch.begin(ahead(1))
    await number.idle()
    timer = number.prefetch._wake
    assert timer is not None
    await number.prefetch.close()
    assert timer.cancelled(), "a lane that has ended is not notified"


async def test_thirty_two_are_fetched_or_ready_at_once_and_eight_from_one_host(number: Number) -> None:
    number.media.served.clear()
    number.prefetch.begin(ahead(*range(1, 21), host="one.test") + ahead(*range(21, 61)))
    assert number.prefetch.fetching() == (*range(1, 9), *range(21, 45))
    assert len(number.prefetch.fetching()) == FILES_AHEAD
    number.media.served.set()
    await number.idle()
    # those that are ready and needed take their places
    number.media.served.clear()
    needed = ahead(*range(1, 21), host="one.test") + ahead(*range(21, 61))
    number.prefetch.begin(needed)
    assert number.prefetch.fetching() == ()
    for n in range(1, 9):
        number.prefetch.take(n)
    number.prefetch.begin(needed[8:])
    assert number.prefetch.fetching() == tuple(range(9, 17)), "the host's places are free again"


async def test_a_fetch_that_is_given_up_frees_its_place_and_leaves_nothing(number: Number) -> None:
    number.media.served.clear()
    number.prefetch.begin(ahead(*range(1, 10), host="one.test"))
    await asyncio.sleep(0)
    assert number.prefetch.fetching() == tuple(range(1, 9))
    number.prefetch.begin([], given_up={1, 2, 99})
    while len(number.prefetch.fetching()) > 6:
        await asyncio.sleep(0)
    assert number.prefetch.fetching() == tuple(range(3, 9))
    number.prefetch.begin(ahead(9, 10, 11, host="one.test"))
    assert number.prefetch.fetching() == (*range(3, 9), 9, 10)
    assert number.prefetch.ready() == ()
    await number.prefetch.close()
    assert number.prefetch.fetching() == ()
    assert not number.prefetch.busy


async def test_of_too_many_ready_ones_the_oldest_are_forgotten(number: Number) -> None:
    most = 4 * FILES_AHEAD
    number.prefetch.begin([FileAhead(n, None) for n in range(most)])
    assert number.prefetch.ready() == tuple(range(most))
    number.prefetch.begin([FileAhead(n, None) for n in range(most, most + 3)])
    assert number.prefetch.ready() == tuple(range(3, most + 3))


async def test_the_next_look_is_a_quarter_of_a_second_later_or_when_a_file_is_there(number: Number) -> None:
    assert number.prefetch.pause() == 0.0
    number.media.served.clear()
    began = time.monotonic()
    number.prefetch.begin(ahead(1, 2))
    assert 0.25 - (time.monotonic() - began) <= number.prefetch.pause() <= 0.25
    number.media.answers = {1: REFUSED}
    number.media.served.set()
    await number.idle()
    assert number.prefetch.pause() == 0.0
    number.media.answers = {3: REFUSED}
    began = time.monotonic()
    number.prefetch.begin(ahead(3))
    await number.idle()
    pause = number.prefetch.pause()
    assert 0.25 - (time.monotonic() - began) <= pause <= 0.25, "a host that refuses at once is not asked without end"

"""Files are fetched before their messages are claimed: whoever serves them slowly keeps back nobody else's messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.gateway import PAUSES, PHONE, Harness, open_harness

from kurir.dispatch.prefetch import FILES_AHEAD
from kurir.messages.channel_reports import Outcome, Refused, Sent, TryLater
from kurir.messages.content import Content, Document, Image, MediaFile, Outgoing, Text
from kurir.numbers import status as number_status
from kurir.numbers.numbers import Number
from kurir.outbox.claim import WINDOW
from kurir.outbox.outbox import Draft
from kurir.outbox.tables import messages
from kurir.reasons import as_written

SOON = replace(PAUSES, sweep=0.3)
"""A canceled message ends its fetch at the next sweep at the latest."""


class FileServer:
    """Stands in for the media store: hangs until `served`, then answers what `answer` says (None: with a file)."""

    def __init__(self, harness: Harness, folder: Path) -> None:
        self.served = asyncio.Event()
        self.answer: Outcome | None = None
        self.asked: list[int] = []
        self.ended: list[int] = []
        self._path = folder / "file.png"
        self._path.write_bytes(b"file")
        self._known: dict[int, MediaFile] = {}
        harness.gateway.media.prepare = self.prepare  # type: ignore[method-assign, assignment]
        harness.gateway.media.whole_file = self.whole_file  # type: ignore[method-assign]

    async def whole_file(self, _account_id: int, message_id: int) -> MediaFile | None:
        return self._known.get(message_id)

    async def prepare(self, _account_id: int, message_id: int, _content: Content) -> MediaFile | Outcome:
        if message_id in self._known:
            return self._known[message_id]
        self.asked.append(message_id)
        try:
            await self.served.wait()
        finally:
            self.ended.append(message_id)
        if self.answer is not None:
            return self.answer
        file = MediaFile(str(self._path), "image/png", "file.png", 4, "ab" * 32)
        self._known[message_id] = file
        return file


@pytest.fixture(params=[0.0, 0.01], ids=["no gap", "gap"])
async def harness(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, device_gap=request.param, pauses=SOON) as harness:
        yield harness


@pytest.fixture
def server(harness: Harness, tmp_path: Path) -> FileServer:
    return FileServer(harness, tmp_path)


async def accept(harness: Harness, *contents: tuple[str, Content]) -> list[int]:
    number = harness.ours.device
    drafts = [
        Draft(account_id=number.account_id, number_id=number.id, recipient=to, content=content)
        for to, content in contents
    ]
    return (await harness.gateway.outbox.accept(drafts)).ids


async def state(harness: Harness, message_id: int) -> str:
    found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
    assert found is not None
    return found.state


async def until_asked(server: FileServer, count: int) -> None:
    async with asyncio.timeout(10):
        while len(server.asked) < count:
            await asyncio.sleep(0.01)


def person(index: int) -> str:
    return f"62812{index:08d}"


PICTURE = Image("http://files.test/a.png")


def picture(index: int) -> Image:
    """Each from one of many hosts."""
    return Image(f"http://files-{index % 20}.test/a.png")


async def test_while_files_hang_everything_else_leaves(harness: Harness, server: FileServer) -> None:
    pictures = await accept(harness, *((person(index), picture(index)) for index in range(FILES_AHEAD + 10)))
    await until_asked(server, FILES_AHEAD)
    texts = await accept(harness, *((person(100 + index), Text("halo")) for index in range(10)))
    sent = await harness.until_sent(len(texts))
    assert {one.message_id for one in sent} == set(texts)
    assert sorted(server.asked) == pictures[:FILES_AHEAD]  # and no more at once, in the order of the sends
    server.served.set()
    await harness.until_sent(len(texts) + len(pictures))
    assert sorted(server.asked) == pictures  # each once


async def test_to_one_person_the_order_holds(harness: Harness, server: FileServer) -> None:
    ids = await accept(harness, (PHONE, Text("1")), (PHONE, PICTURE), (PHONE, Text("3")), (PHONE, PICTURE))
    await harness.until_sent(1)
    await until_asked(server, 1)
    assert server.asked == [ids[1]]
    server.served.set()
    assert [one.message_id for one in await harness.until_sent(4)] == ids


async def test_files_are_fetched_while_texts_leave_without_a_pause(harness: Harness, server: FileServer) -> None:
    going = True

    def outcome(outgoing: Outgoing) -> Outcome:
        if going:  # there is always another one
            asyncio.get_running_loop().create_task(accept(harness, (outgoing.recipient, Text("next"))))
        return Sent(f"remote-{outgoing.message_id}")

    harness.devices.outcome = outcome
    server.served.set()
    await accept(harness, *((person(index), Text("first")) for index in range(8)))
    [picture] = await accept(harness, (PHONE, PICTURE))
    async with asyncio.timeout(20):
        while all(one.message_id != picture for one in harness.devices.sent):
            await asyncio.sleep(0.02)
    going = False


async def test_a_message_that_waits_for_its_file_can_be_canceled(harness: Harness, server: FileServer) -> None:
    [picture] = await accept(harness, (PHONE, PICTURE))
    await until_asked(server, 1)
    assert await state(harness, picture) == "queued"
    await harness.gateway.outbox.cancel(harness.ours.account.id, picture)
    server.served.set()
    [text] = await accept(harness, (PHONE, Text("halo")))
    assert [one.message_id for one in await harness.until_sent(1)] == [text]
    assert await state(harness, picture) == "canceled"


async def test_a_pause_holds_what_waits_for_its_file(harness: Harness, server: FileServer) -> None:
    number = harness.ours.device
    [picture] = await accept(harness, (PHONE, PICTURE))
    await until_asked(server, 1)
    await harness.gateway.database.write(
        lambda c: number_status.pause(c, number.account_id, number.id, as_written("stop"), 1.0)
    )
    server.served.set()
    async with asyncio.timeout(10):
        while not server.ended:
            await asyncio.sleep(0.01)
    harness.gateway.dispatcher.wake(number.account_id, number.id)
    await harness.gateway.dispatcher.stop()
    assert await state(harness, picture) == "queued"
    assert not harness.devices.sent


async def test_a_stop_ends_the_fetch_and_leaves_no_doubt(harness: Harness, server: FileServer) -> None:
    [picture] = await accept(harness, (PHONE, PICTURE))
    await until_asked(server, 1)
    assert await harness.gateway.dispatcher.stop(5.0) == 0
    assert server.ended == [picture]
    assert await state(harness, picture) == "queued"


@pytest.mark.parametrize("content", [PICTURE, Document("http://files.test/a.pdf")], ids=["image", "document"])
async def test_a_file_that_cannot_be_used_fails_its_message_alone(
    harness: Harness, server: FileServer, content: Content
) -> None:
    server.answer = Refused("media_url_refused", as_written("image_url: no"))
    server.served.set()
    picture, text = await accept(harness, (PHONE, content), (PHONE, Text("halo")))
    assert [one.message_id for one in await harness.until_sent(1)] == [text]
    found = await harness.gateway.outbox.snapshot(harness.ours.account.id, picture)
    assert found is not None
    assert (found.state, found.error_code, found.attempts) == ("failed", "media_url_refused", 1)


async def test_a_fetch_that_may_succeed_later_counts_as_a_try(harness: Harness, server: FileServer) -> None:
    server.answer = TryLater("media_not_fetched", as_written("not now"), after=0.05)
    server.served.set()
    [picture] = await accept(harness, (PHONE, PICTURE))
    await until_asked(server, 2)
    server.answer = None
    [sent] = await harness.until_sent(1)
    assert (sent.message_id, sent.attempt) == (picture, len(server.asked))


async def test_a_content_that_cannot_be_read_is_quarantined(harness: Harness, server: FileServer) -> None:
    harness.devices.connected = False
    picture, text = await accept(harness, (PHONE, PICTURE), (PHONE, Text("halo")))
    spoiled = sa.update(messages).where(messages.c.id == picture).values(content="{")
    await harness.gateway.database.write(lambda c: c.execute(spoiled) and None)
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.account.id, harness.ours.device.id)
    assert [one.message_id for one in await harness.until_sent(1)] == [text]
    assert await state(harness, picture) == "failed"
    assert server.asked == []


async def test_a_file_that_got_lost_is_fetched_again_and_not_while_its_message_is_in_flight(
    harness: Harness, server: FileServer
) -> None:
    server.served.set()
    lost: list[int] = []

    async def whole_file(_account_id: int, message_id: int) -> MediaFile | None:
        if not lost:
            lost.append(message_id)
            server.served.clear()
            server._known.clear()
            return None
        return server._known.get(message_id)

    harness.gateway.media.whole_file = whole_file  # type: ignore[method-assign]
    [picture] = await accept(harness, (PHONE, PICTURE))
    await until_asked(server, 2)
    assert await state(harness, picture) == "queued"
    server.served.set()
    [sent] = await harness.until_sent(1)
    assert (sent.message_id, sent.attempt) == (picture, 1)


async def test_slow_servers_of_one_number_delay_no_other_number(harness: Harness, server: FileServer) -> None:
    theirs = harness.theirs.device
    await accept(harness, *((person(index), picture(index)) for index in range(FILES_AHEAD + 10)))
    await until_asked(server, FILES_AHEAD)
    draft = Draft(account_id=theirs.account_id, number_id=theirs.id, recipient=PHONE, content=Text("halo"))
    [text] = (await harness.gateway.outbox.accept([draft])).ids
    assert [one.message_id for one in await harness.until_sent(1)] == [text]


async def test_behind_many_that_may_not_leave_the_others_do(harness: Harness, server: FileServer) -> None:
    """More messages wait for one person, who is in flight, than a claim looks at."""
    reached, go_on, send = asyncio.Event(), asyncio.Event(), harness.devices.send

    async def slow(number: Number, outgoing: Outgoing) -> Outcome:
        if outgoing.recipient == PHONE:
            reached.set()
            await go_on.wait()
        return await send(number, outgoing)

    harness.devices.send = slow  # type: ignore[method-assign]
    server.served.set()
    crowd = await accept(harness, *((PHONE, Text("x")) for _ in range(WINDOW + 10)))
    await accept(harness, *((PHONE, PICTURE) for _ in range(WINDOW + 10)))
    if harness.gateway.dispatcher._gaps["linked_device"]:
        go_on.set()  # one at a time, whoever it is
    others = await accept(harness, (person(1), Text("halo")), (person(2), PICTURE))
    async with asyncio.timeout(20):
        await reached.wait()
        while len({one.message_id for one in harness.devices.sent} & set(others)) < len(others):
            await asyncio.sleep(0.02)
            harness.gateway.dispatcher.wake(harness.ours.account.id, harness.ours.device.id)
    go_on.set()
    assert crowd


async def test_a_host_that_hangs_leaves_places_to_others(harness: Harness, server: FileServer) -> None:
    dead = await accept(harness, *((person(index), PICTURE) for index in range(100)))
    await until_asked(server, 8)
    [good] = await accept(harness, (PHONE, Image("http://good.test/a.png")))
    await until_asked(server, 9)
    assert server.asked == [*dead[:8], good]


async def test_a_canceled_message_gives_its_fetch_up(harness: Harness, server: FileServer) -> None:
    pictures = await accept(harness, *((person(index), PICTURE) for index in range(8)))
    await until_asked(server, 8)
    for message_id in pictures:
        await harness.gateway.outbox.cancel(harness.ours.account.id, message_id)
    await until_asked(server, 8)
    [next_one] = await accept(harness, (PHONE, PICTURE))
    await until_asked(server, 9)
    assert server.asked[-1] == next_one
    assert sorted(server.ended) == pictures


async def test_files_that_were_tried_wait_behind_those_that_were_not(harness: Harness, server: FileServer) -> None:
    server.answer = TryLater("media_not_fetched", as_written("not now"), after=0.0)
    await accept(harness, *((person(index), PICTURE) for index in range(8)))
    await until_asked(server, 8)
    server.served.set()
    async with asyncio.timeout(10):
        while len(server.ended) < 8:
            await asyncio.sleep(0.01)
    [fresh] = await accept(harness, (PHONE, PICTURE))
    async with asyncio.timeout(10):
        while fresh not in server.asked:
            await asyncio.sleep(0.01)


async def test_a_file_that_cannot_be_had_costs_no_gap(tmp_path: Path) -> None:
    async with open_harness(tmp_path, device_gap=30.0) as harness:
        server = FileServer(harness, tmp_path)
        server.answer = Refused("media_url_refused", as_written("image_url: no"))
        server.served.set()
        dead = await accept(harness, *((person(index), picture(index)) for index in range(20)))
        async with asyncio.timeout(20):
            while [await state(harness, one) for one in dead] != ["failed"] * 20:
                await asyncio.sleep(0.02)
        [text] = await accept(harness, (PHONE, Text("halo")))
        assert [one.message_id for one in await harness.until_sent(1)] == [text]

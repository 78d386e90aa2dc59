"""Files are fetched before their messages are claimed: whoever serves them slowly keeps back nobody else's messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.gateway_fixture import PHONE, Front, open_front

from kurir.dispatch.prefetch import FILES_AHEAD
from kurir.messages.content import Content, Document, Image, MediaFile, Outgoing, Text
from kurir.messages.reports import Outcome, Refused, Sent, TryLater
from kurir.numbers import status as number_status
from kurir.numbers.numbers import Number
from kurir.outbox.claim import WINDOW
from kurir.outbox.outbox import Draft
from kurir.outbox.tables import messages
from kurir.reasons import as_written


class FileServer:
    """Stands in for the media store: hangs until `served`, then answers what `answer` says (None: with a file)."""

    def __init__(self, front: Front, folder: Path) -> None:
        self.served = asyncio.Event()
        self.answer: Outcome | None = None
        self.asked: list[int] = []
        self.ended: list[int] = []
        self._path = folder / "file.png"
        self._path.write_bytes(b"file")
        self._known: dict[int, MediaFile] = {}
        front.gateway.media.prepare = self.prepare  # type: ignore[method-assign, assignment]
        front.gateway.media.whole_file = self.whole_file  # type: ignore[method-assign]

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


@pytest.fixture(params=[0.0, 0.05], ids=["no gap", "gap"])
async def front(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with open_front(tmp_path, device_gap=request.param) as front:
        yield front


@pytest.fixture
def server(front: Front, tmp_path: Path) -> FileServer:
    return FileServer(front, tmp_path)


async def accept(front: Front, *contents: tuple[str, Content]) -> list[int]:
    number = front.ours.device
    drafts = [
        Draft(account_id=number.account_id, number_id=number.id, recipient=to, content=content)
        for to, content in contents
    ]
    return (await front.gateway.outbox.accept(drafts)).ids


async def state(front: Front, message_id: int) -> str:
    found = await front.gateway.outbox.snapshot(front.ours.account.id, message_id)
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


async def test_while_files_hang_everything_else_leaves(front: Front, server: FileServer) -> None:
    pictures = await accept(front, *((person(index), picture(index)) for index in range(FILES_AHEAD + 10)))
    await until_asked(server, FILES_AHEAD)
    texts = await accept(front, *((person(100 + index), Text("halo")) for index in range(10)))
    sent = await front.until_sent(len(texts))
    assert {one.message_id for one in sent} == set(texts)
    assert sorted(server.asked) == pictures[:FILES_AHEAD]  # and no more at once, in the order of the sends
    server.served.set()
    await front.until_sent(len(texts) + len(pictures))
    assert sorted(server.asked) == pictures  # each once


async def test_to_one_person_the_order_holds(front: Front, server: FileServer) -> None:
    ids = await accept(front, (PHONE, Text("1")), (PHONE, PICTURE), (PHONE, Text("3")), (PHONE, PICTURE))
    await front.until_sent(1)
    await until_asked(server, 1)
    assert server.asked == [ids[1]]
    server.served.set()
    assert [one.message_id for one in await front.until_sent(4)] == ids


async def test_files_are_fetched_while_texts_leave_without_a_pause(front: Front, server: FileServer) -> None:
    going = True

    def outcome(outgoing: Outgoing) -> Outcome:
        if going:  # there is always another one
            asyncio.get_running_loop().create_task(accept(front, (outgoing.recipient, Text("next"))))
        return Sent(f"remote-{outgoing.message_id}")

    front.devices.outcome = outcome
    server.served.set()
    await accept(front, *((person(index), Text("first")) for index in range(8)))
    [picture] = await accept(front, (PHONE, PICTURE))
    async with asyncio.timeout(20):
        while all(one.message_id != picture for one in front.devices.sent):
            await asyncio.sleep(0.02)
    going = False


async def test_a_message_that_waits_for_its_file_can_be_canceled(front: Front, server: FileServer) -> None:
    [picture] = await accept(front, (PHONE, PICTURE))
    await until_asked(server, 1)
    assert await state(front, picture) == "queued"
    await front.gateway.outbox.cancel(front.ours.account.id, picture)
    server.served.set()
    [text] = await accept(front, (PHONE, Text("halo")))
    assert [one.message_id for one in await front.until_sent(1)] == [text]
    assert await state(front, picture) == "canceled"


async def test_a_pause_holds_what_waits_for_its_file(front: Front, server: FileServer) -> None:
    number = front.ours.device
    [picture] = await accept(front, (PHONE, PICTURE))
    await until_asked(server, 1)
    await front.gateway.database.write(
        lambda c: number_status.pause(c, number.account_id, number.id, as_written("stop"), 1.0)
    )
    server.served.set()
    async with asyncio.timeout(10):
        while not server.ended:
            await asyncio.sleep(0.01)
    front.gateway.dispatcher.wake(number.account_id, number.id)
    await front.gateway.dispatcher.stop()
    assert await state(front, picture) == "queued"
    assert not front.devices.sent


async def test_a_stop_ends_the_fetch_and_leaves_no_doubt(front: Front, server: FileServer) -> None:
    [picture] = await accept(front, (PHONE, PICTURE))
    await until_asked(server, 1)
    assert await front.gateway.dispatcher.stop(5.0) == 0
    assert server.ended == [picture]
    assert await state(front, picture) == "queued"


@pytest.mark.parametrize("content", [PICTURE, Document("http://files.test/a.pdf")], ids=["image", "document"])
async def test_a_file_that_cannot_be_used_fails_its_message_alone(
    front: Front, server: FileServer, content: Content
) -> None:
    server.answer = Refused("media_url_refused", as_written("image_url: no"))
    server.served.set()
    picture, text = await accept(front, (PHONE, content), (PHONE, Text("halo")))
    assert [one.message_id for one in await front.until_sent(1)] == [text]
    found = await front.gateway.outbox.snapshot(front.ours.account.id, picture)
    assert found is not None
    assert (found.state, found.error_code, found.attempts) == ("failed", "media_url_refused", 1)


async def test_a_fetch_that_may_succeed_later_counts_as_a_try(front: Front, server: FileServer) -> None:
    server.answer = TryLater("media_not_fetched", as_written("not now"), after=0.05)
    server.served.set()
    [picture] = await accept(front, (PHONE, PICTURE))
    await until_asked(server, 2)
    server.answer = None
    [sent] = await front.until_sent(1)
    assert (sent.message_id, sent.attempt) == (picture, len(server.asked))


async def test_a_content_that_cannot_be_read_is_set_aside(front: Front, server: FileServer) -> None:
    front.devices.connected = False
    picture, text = await accept(front, (PHONE, PICTURE), (PHONE, Text("halo")))
    spoiled = sa.update(messages).where(messages.c.id == picture).values(content="{")
    await front.gateway.database.write(lambda c: c.execute(spoiled) and None)
    front.devices.connected = True
    front.gateway.dispatcher.wake(front.ours.account.id, front.ours.device.id)
    assert [one.message_id for one in await front.until_sent(1)] == [text]
    assert await state(front, picture) == "failed"
    assert server.asked == []


async def test_a_file_that_got_lost_is_fetched_again_and_not_while_its_message_is_in_flight(
    front: Front, server: FileServer
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

    front.gateway.media.whole_file = whole_file  # type: ignore[method-assign]
    [picture] = await accept(front, (PHONE, PICTURE))
    await until_asked(server, 2)
    assert await state(front, picture) == "queued"
    server.served.set()
    [sent] = await front.until_sent(1)
    assert (sent.message_id, sent.attempt) == (picture, 1)


async def test_slow_servers_of_one_number_delay_no_other_number(front: Front, server: FileServer) -> None:
    theirs = front.theirs.device
    await accept(front, *((person(index), picture(index)) for index in range(FILES_AHEAD + 10)))
    await until_asked(server, FILES_AHEAD)
    draft = Draft(account_id=theirs.account_id, number_id=theirs.id, recipient=PHONE, content=Text("halo"))
    [text] = (await front.gateway.outbox.accept([draft])).ids
    assert [one.message_id for one in await front.until_sent(1)] == [text]


async def test_behind_many_that_may_not_leave_the_others_do(front: Front, server: FileServer) -> None:
    """More messages wait for one person, who is in flight, than a claim looks at."""
    reached, go_on, send = asyncio.Event(), asyncio.Event(), front.devices.send

    async def slow(number: Number, outgoing: Outgoing) -> Outcome:
        if outgoing.recipient == PHONE:
            reached.set()
            await go_on.wait()
        return await send(number, outgoing)

    front.devices.send = slow  # type: ignore[method-assign]
    server.served.set()
    crowd = await accept(front, *((PHONE, Text("x")) for _ in range(WINDOW + 10)))
    await accept(front, *((PHONE, PICTURE) for _ in range(WINDOW + 10)))
    if front.gateway.dispatcher._gaps["linked_device"]:
        go_on.set()  # one at a time, whoever it is
    others = await accept(front, (person(1), Text("halo")), (person(2), PICTURE))
    async with asyncio.timeout(20):
        await reached.wait()
        while len({one.message_id for one in front.devices.sent} & set(others)) < len(others):
            await asyncio.sleep(0.02)
            front.gateway.dispatcher.wake(front.ours.account.id, front.ours.device.id)
    go_on.set()
    assert crowd


async def test_a_host_that_hangs_leaves_places_to_others(front: Front, server: FileServer) -> None:
    dead = await accept(front, *((person(index), PICTURE) for index in range(100)))
    await until_asked(server, 8)
    [good] = await accept(front, (PHONE, Image("http://good.test/a.png")))
    await until_asked(server, 9)
    assert server.asked == [*dead[:8], good]


async def test_a_canceled_message_gives_its_fetch_up(front: Front, server: FileServer) -> None:
    pictures = await accept(front, *((person(index), PICTURE) for index in range(8)))
    await until_asked(server, 8)
    for message_id in pictures:
        await front.gateway.outbox.cancel(front.ours.account.id, message_id)
    await until_asked(server, 8)
    [next_one] = await accept(front, (PHONE, PICTURE))
    await until_asked(server, 9)
    assert server.asked[-1] == next_one
    assert sorted(server.ended) == pictures


async def test_files_that_were_tried_wait_behind_those_that_were_not(front: Front, server: FileServer) -> None:
    server.answer = TryLater("media_not_fetched", as_written("not now"), after=0.0)
    await accept(front, *((person(index), PICTURE) for index in range(8)))
    await until_asked(server, 8)
    server.served.set()
    async with asyncio.timeout(10):
        while len(server.ended) < 8:
            await asyncio.sleep(0.01)
    [fresh] = await accept(front, (PHONE, PICTURE))
    async with asyncio.timeout(10):
        while fresh not in server.asked:
            await asyncio.sleep(0.01)


async def test_a_file_that_cannot_be_had_costs_no_gap(tmp_path: Path) -> None:
    async with open_front(tmp_path, device_gap=30.0) as front:
        server = FileServer(front, tmp_path)
        server.answer = Refused("media_url_refused", as_written("image_url: no"))
        server.served.set()
        dead = await accept(front, *((person(index), picture(index)) for index in range(20)))
        async with asyncio.timeout(20):
            while [await state(front, one) for one in dead] != ["failed"] * 20:
                await asyncio.sleep(0.02)
        [text] = await accept(front, (PHONE, Text("halo")))
        assert [one.message_id for one in await front.until_sent(1)] == [text]

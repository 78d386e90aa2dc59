"""One acceptance under one key, on both databases: at once from several outboxes, over time, with an answer kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.outbox.desk import Desk, open_outbox

from kurir.outbox.idempotency import Earlier, KeptAnswer, Once, Remembered, Repeated
from kurir.outbox.tables import idempotency, messages
from kurir.store.database import Database


async def count(desk: Desk) -> int:
    return await desk.database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(messages)).scalar_one())


def key(desk: Desk, name: str = "k", request: str = "r", seconds: float = 86_400.0) -> Once:
    return Once(desk.number.account_id, seconds, key_hash=name, request_hash=request)


async def test_a_key_is_taken_with_the_messages_and_tells_of_them_to_the_next(desk: Desk):
    accepted = await desk.outbox.accept([desk.draft(), desk.draft()], once=key(desk), facts={"bc_id": "x"})
    with pytest.raises(Repeated) as repeated:
        await desk.outbox.accept([desk.draft()], once=key(desk, request="other"))
    assert repeated.value.earlier == Earlier("r", Remembered(accepted.ids, {"bc_id": "x"}), None)
    assert await count(desk) == 2
    assert desk.outbox.waiting() == 2
    answer = KeptAnswer({"code": "200", "otp_code": "123456"}, {"X-Message-Id": "m"}, None)
    await desk.outbox.keep_answer(key(desk), answer)
    await desk.outbox.keep_answer(key(desk), KeptAnswer({}, {}, 500))
    earlier = await desk.outbox.earlier(key(desk))
    assert earlier is not None
    assert earlier.answer == answer, "the first answer stays"
    stored = await desk.database.read(lambda c: str(c.execute(sa.select(idempotency)).all()))
    assert "123456" not in stored
    assert await desk.outbox.earlier(key(desk, "unknown")) is None


async def test_what_is_refused_takes_no_key(desk: Desk):
    def refuses(_connection, _ids):
        raise RuntimeError("limit")

    with pytest.raises(RuntimeError):
        await desk.outbox.accept([desk.draft()], also=refuses, once=key(desk))
    assert await desk.outbox.earlier(key(desk)) is None
    await desk.outbox.accept([desk.draft()], once=key(desk))
    assert await count(desk) == 1


async def test_at_once_from_several_outboxes_one_is_accepted(desk: Desk, where: Path | str):
    other = Database(where)
    await other.start()
    try:
        outboxes = [desk.outbox, open_outbox(other, desk.time, [])]
        tries = [box.accept([desk.draft()], once=key(desk, f"k{n % 5}")) for n in range(20) for box in outboxes]
        ended = await asyncio.gather(*tries, return_exceptions=True)
    finally:
        await other.close()
    accepted = {one.ids[0] for one in ended if not isinstance(one, BaseException)}
    reported = {one.earlier.remembered.ids[0] for one in ended if isinstance(one, Repeated)}
    assert (len(accepted), await count(desk)) == (5, 5)
    assert reported == accepted
    assert len([one for one in ended if isinstance(one, Repeated)]) == 35


async def test_a_key_lets_go_after_its_time(desk: Desk):
    await desk.outbox.accept([desk.draft()], once=key(desk))
    desk.time.now += 86_399
    with pytest.raises(Repeated):
        await desk.outbox.accept([desk.draft()], once=key(desk))
    desk.time.now += 1
    assert await desk.outbox.earlier(key(desk)) is None
    await desk.outbox.accept([desk.draft()], once=key(desk))
    assert await count(desk) == 2


async def test_the_guard_recognises_content_within_its_seconds(desk: Desk):
    guard = Once(desk.number.account_id, 30.0)
    first = await desk.outbox.accept([desk.draft(body="1")], once=guard)
    desk.time.now += 29
    with pytest.raises(Repeated) as repeated:
        await desk.outbox.accept([desk.draft(body="1", typing=True)], once=guard)
    assert repeated.value.earlier.remembered.ids == first.ids
    for other in (desk.draft(body="2"), desk.draft("628222", "1"), desk.draft(body="1", number_id=desk.other.id)):
        await desk.outbox.accept([other], once=guard)
    desk.time.now += 1
    await desk.outbox.accept([desk.draft(body="1")], once=guard)
    assert await count(desk) == 5


async def test_old_keys_are_forgotten(desk: Desk):
    await desk.outbox.accept([desk.draft()], once=key(desk, "old"))
    desk.time.now += 100
    await desk.outbox.accept([desk.draft()], once=key(desk, "new"))
    assert await desk.outbox.forget_requests(desk.time.now - 50) == 1
    assert await desk.outbox.earlier(key(desk, "old")) is None
    assert await desk.outbox.earlier(key(desk, "new")) is not None

"""One acceptance under one key, on both databases: at once from several outboxes, over time, with an answer kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.harness.outbox import OutboxHarness, open_outbox

from kurir.outbox.idempotency import Earlier, KeptAnswer, Once, Remembered, Repeated
from kurir.outbox.tables import idempotency, messages
from kurir.store.database import Database


async def count(harness: OutboxHarness) -> int:
    return await harness.database.read(
        lambda c: c.execute(sa.select(sa.func.count()).select_from(messages)).scalar_one()
    )


def key(harness: OutboxHarness, name: str = "k", request: str = "r", seconds: float = 86_400.0) -> Once:
    return Once(harness.number.account_id, seconds, key_hash=name, request_hash=request)


async def test_a_key_is_stored_with_the_messages_and_answers_the_next_request(harness: OutboxHarness):
    accepted = await harness.outbox.accept([harness.draft(), harness.draft()], once=key(harness), facts={"bc_id": "x"})
    with pytest.raises(Repeated) as repeated:
        await harness.outbox.accept([harness.draft()], once=key(harness, request="other"))
    assert repeated.value.earlier == Earlier("r", Remembered(accepted.ids, {"bc_id": "x"}), None)
    assert await count(harness) == 2
    assert harness.outbox.waiting() == 2
    answer = KeptAnswer({"code": "200", "otp_code": "123456"}, {"X-Message-Id": "m"}, None)
    await harness.outbox.keep_answer(key(harness), answer)
    await harness.outbox.keep_answer(key(harness), KeptAnswer({}, {}, 500))
    earlier = await harness.outbox.earlier(key(harness))
    assert earlier is not None
    assert earlier.answer == answer, "the first answer stays"
    stored = await harness.database.read(lambda c: str(c.execute(sa.select(idempotency)).all()))
    assert "123456" not in stored
    assert await harness.outbox.earlier(key(harness, "unknown")) is None


async def test_what_is_refused_takes_no_key(harness: OutboxHarness):
    def refuses(_connection, _ids):
        raise RuntimeError("limit")

    with pytest.raises(RuntimeError):
        await harness.outbox.accept([harness.draft()], also=refuses, once=key(harness))
    assert await harness.outbox.earlier(key(harness)) is None
    await harness.outbox.accept([harness.draft()], once=key(harness))
    assert await count(harness) == 1


async def test_at_once_from_several_outboxes_one_is_accepted(harness: OutboxHarness, where: Path | str):
    other = Database(where)
    await other.start()
    try:
        outboxes = [harness.outbox, open_outbox(other, harness.time, [])]
        tries = [box.accept([harness.draft()], once=key(harness, f"k{n % 5}")) for n in range(20) for box in outboxes]
        ended = await asyncio.gather(*tries, return_exceptions=True)
    finally:
        await other.close()
    accepted = {one.ids[0] for one in ended if not isinstance(one, BaseException)}
    reported = {one.earlier.remembered.ids[0] for one in ended if isinstance(one, Repeated)}
    assert (len(accepted), await count(harness)) == (5, 5)
    assert reported == accepted
    assert len([one for one in ended if isinstance(one, Repeated)]) == 35


async def test_a_key_lets_go_after_its_time(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft()], once=key(harness))
    harness.time.now += 86_399
    with pytest.raises(Repeated):
        await harness.outbox.accept([harness.draft()], once=key(harness))
    harness.time.now += 1
    assert await harness.outbox.earlier(key(harness)) is None
    await harness.outbox.accept([harness.draft()], once=key(harness))
    assert await count(harness) == 2


async def test_the_guard_recognises_content_within_its_seconds(harness: OutboxHarness):
    guard = Once(harness.number.account_id, 30.0)
    first = await harness.outbox.accept([harness.draft(body="1")], once=guard)
    harness.time.now += 29
    with pytest.raises(Repeated) as repeated:
        await harness.outbox.accept([harness.draft(body="1", typing=True)], once=guard)
    assert repeated.value.earlier.remembered.ids == first.ids
    for other in (
        harness.draft(body="2"),
        harness.draft("628222", "1"),
        harness.draft(body="1", number_id=harness.other.id),
    ):
        await harness.outbox.accept([other], once=guard)
    harness.time.now += 1
    await harness.outbox.accept([harness.draft(body="1")], once=guard)
    assert await count(harness) == 5


async def test_old_keys_are_forgotten(harness: OutboxHarness):
    await harness.outbox.accept([harness.draft()], once=key(harness, "old"))
    harness.time.now += 100
    await harness.outbox.accept([harness.draft()], once=key(harness, "new"))
    assert await harness.outbox.forget_requests(harness.time.now - 50) == 1
    assert await harness.outbox.earlier(key(harness, "old")) is None
    assert await harness.outbox.earlier(key(harness, "new")) is not None

"""A lane stays for a while when its queue is empty, asks the database for nothing meanwhile, and misses nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.harness.gateway import PAUSES, PHONE, Harness, open_harness

from kurir.messages.content import Text
from kurir.numbers import status as number_status
from kurir.numbers.numbers import Number
from kurir.outbox.claim import WINDOW
from kurir.outbox.message_rows import Claims
from kurir.outbox.outbox import Draft
from kurir.reasons import as_written

NO_WEBHOOKS = "api,dispatch"


def draft(number: Number, recipient: str = PHONE) -> Draft:
    return Draft(account_id=number.account_id, number_id=number.id, recipient=recipient, content=Text("halo"))


async def sent(harness: Harness, number: Number, recipient: str = PHONE) -> None:
    """Accepts a message and waits until it is recorded as sent."""
    outbox = harness.gateway.outbox
    message_id = (await outbox.accept([draft(number, recipient)], awaited=True)).ids[0]
    assert (await outbox.wait_until_settled(number.account_id, message_id, 10)).state == "sent"


async def test_a_message_of_a_number_in_use_costs_two_commits_of_its_lane_and_no_read(tmp_path: Path) -> None:
    async with open_harness(tmp_path, roles=NO_WEBHOOKS) as harness:
        number = harness.ours.device
        await sent(harness, number)
        asked: list[str] = []
        database: Any = harness.gateway.database
        read, write = database.read, database.write

        def counted(name: str, call: Any) -> Any:
            def ask(*arguments: Any, **options: Any) -> Any:
                asked.append(name)
                return call(*arguments, **options)

            return ask

        database.read, database.write = counted("read", read), counted("write", write)
        for n in range(10):
            await sent(harness, number, f"{PHONE}{n}")
        assert asked == ["write", "write"] * 10


async def test_a_lane_of_a_number_that_is_not_used_ends(tmp_path: Path) -> None:
    async with open_harness(tmp_path, pauses=replace(PAUSES, lane_idle=0.05)) as harness:
        await sent(harness, harness.ours.device)
        async with asyncio.timeout(10):
            while harness.gateway.dispatcher._lanes:
                await asyncio.sleep(0.01)
        await sent(harness, harness.ours.device)


async def test_what_a_claim_passed_over_is_taken_when_what_kept_it_back_ended_meanwhile(tmp_path: Path) -> None:
    """The claim's answer comes when the message in flight, which kept the next one back, is recorded already."""
    async with open_harness(tmp_path) as harness:
        number, outbox = harness.ours.device, harness.gateway.outbox
        reached, go_on = asyncio.Event(), asyncio.Event()
        send = harness.devices.send

        async def held(*arguments: Any) -> Any:
            reached.set()
            await go_on.wait()
            return await send(*arguments)

        harness.devices.send = held  # type: ignore[method-assign]
        claim: Any = outbox.claim
        passed_over = asyncio.Event()

        async def slow(*arguments: Any, **options: Any) -> Claims:
            claims: Claims = await claim(*arguments, **options)
            if claims.due_at is not None and not claims.messages:
                passed_over.set()
                go_on.set()
                async with asyncio.timeout(10):
                    while (await outbox.snapshot(number.account_id, first)).state != "sent":  # type: ignore[union-attr]
                        await asyncio.sleep(0.01)
            return claims

        first = (await outbox.accept([draft(number)])).ids[0]
        await asyncio.wait_for(reached.wait(), 10)
        outbox.claim = slow  # type: ignore[method-assign]
        second = (await outbox.accept([draft(number)], awaited=True)).ids[0]
        assert (await outbox.wait_until_settled(number.account_id, second, 10)).state == "sent"
        assert passed_over.is_set()


@pytest.mark.parametrize("how", ["paused", "removed"])
async def test_a_lane_that_waits_does_not_trust_what_it_knew_of_its_number(tmp_path: Path, how: str) -> None:
    async with open_harness(tmp_path) as harness:
        number, database = harness.ours.official, harness.gateway.database
        await sent(harness, number)
        if how == "paused":
            await database.write(
                lambda c: number_status.pause(c, number.account_id, number.id, as_written("the token has expired"), 1.0)
            )
        else:
            await harness.gateway.services.numbers.remove(number.account_id, number.key)
        turned = harness.signals.count["lane_turned"]
        message_id = (await harness.gateway.outbox.accept([draft(number)], awaited=True)).ids[0]
        await harness.signals.reached("lane_turned", turned + 1)
        found = await harness.gateway.outbox.snapshot(number.account_id, message_id)
        assert found is not None
        assert (found.state, found.attempts) == ("queued", 0)
        assert len(harness.cloud.sent) == 1
        if how == "paused":
            await harness.gateway.services.numbers.resume(number.account_id, number.key)
            assert (await harness.gateway.outbox.wait_until_settled(number.account_id, message_id, 10)).state == "sent"


async def test_many_messages_to_one_recipient_keep_nobody_behind_them_waiting(tmp_path: Path) -> None:
    async with open_harness(tmp_path, roles=NO_WEBHOOKS) as harness:
        number, outbox = harness.ours.device, harness.gateway.outbox
        await outbox.accept([draft(number) for _ in range(3 * WINDOW)] + [draft(number, "6281111111111")])
        async with asyncio.timeout(30):
            while "6281111111111" not in (recipients := [one.recipient for one in harness.devices.sent]):
                await asyncio.sleep(0.01)
        assert recipients.index("6281111111111") < WINDOW / 2

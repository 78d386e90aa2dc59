"""Messages that cannot be read, and what a gateway has quarantined of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa
from tests.harness.gateway import PHONE, Harness, quarantined

from kurir.messages.content import Text
from kurir.outbox.outbox import Draft
from kurir.outbox.tables import messages
from kurir.quarantine.quarantine import Entry


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    """Waits until the condition holds; fails with `what` when it does not."""
    try:
        async with asyncio.timeout(20):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def entries(harness: Harness) -> list[Entry]:
    """The quarantine's entries, newest first."""
    return await harness.gateway.database.read(quarantined)


async def scalar(harness: Harness, statement: sa.Select[Any]) -> Any:
    """The one value that a query gives."""
    return await harness.gateway.database.read(lambda c: c.execute(statement).scalar_one())


async def accept(harness: Harness, recipient: str = PHONE, *, secret: bool = False) -> int:
    """A text of our device is accepted; its id."""
    number = harness.ours.device
    draft = Draft(
        account_id=number.account_id, number_id=number.id, recipient=recipient, content=Text("halo"), sealed=secret
    )
    return (await harness.gateway.outbox.accept([draft])).ids[0]


async def spoil(harness: Harness, message_id: int, content: str) -> None:
    """Replaces the stored content of a message."""
    statement = messages.update().where(messages.c.id == message_id).values(content=content)
    await harness.gateway.database.write(lambda c: c.execute(statement) and None)


async def state(harness: Harness, message_id: int) -> str:
    """A message's state and the code of its error, if any."""
    found = await harness.gateway.outbox.snapshot(harness.ours.account.id, message_id)
    assert found is not None
    return f"{found.state} {found.error_code}".strip()

"""What a stored message waits for, as callers of the compatible API are told."""

from __future__ import annotations

from kurir.numbers.numbers import Number
from kurir.outbox.waiting import Waiting
from kurir.web.gateway import Gateway


async def waits(gateway: Gateway, account_id: int, message_id: int) -> Waiting:
    """What the message waits for, as far as that can be seen now."""
    return await gateway.services.decisions.waits_for(account_id, message_id)


def unseen(gateway: Gateway) -> Waiting:
    """What a message waits for of which nothing can be read."""
    return gateway.services.decisions.unseen()


def connected_as(gateway: Gateway, number: Number) -> str:
    """The number's connection state, as the gateway that carries it sees it: the stored one may lag behind."""
    return gateway.services.decisions.connected_as(number)

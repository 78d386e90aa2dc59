"""What a stored message waits for, as callers of the compatible API are told."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kurir.numbers.numbers import Number
from kurir.outbox.outbox import NotSettledYet, Snapshot
from kurir.outbox.waiting import Waiting, sentence
from kurir.web.compat_v1.envelopes import Phrase
from kurir.web.gateway import Gateway


class NotSettled(Exception):  # noqa: N818 - a state of the world, not a mistake
    """A message that is stored has not settled in time: it is in `state` and waits for `waiting`."""

    def __init__(self, message_id: int, state: str, waiting: Waiting) -> None:
        super().__init__(f"message {message_id} is {state}")
        self.message_id = message_id
        self.state = state
        self.waiting = waiting


async def settled(gateway: Gateway, account_id: int, ids: list[int], timeout: float) -> AsyncIterator[Snapshot]:
    """Each of the account's messages once it is settled, `timeout` seconds in all. Raises NotSettled."""
    deadline = gateway.clock() + timeout
    for message_id in ids:
        try:
            message = await gateway.outbox.wait_until_settled(
                account_id, message_id, max(0.0, deadline - gateway.clock())
            )
        except NotSettledYet:
            raise NotSettled(message_id, "queued", unseen(gateway)) from None
        if message.state in {"queued", "sending"}:
            raise NotSettled(message_id, message.state, await waits(gateway, account_id, message_id))
        yield message


async def waits(gateway: Gateway, account_id: int, message_id: int) -> Waiting:
    """What the message waits for, as far as that can be seen now."""
    return await gateway.services.decisions.waits_for(account_id, message_id)


def unseen(gateway: Gateway) -> Waiting:
    """What a message waits for of which nothing can be read."""
    return gateway.services.decisions.unseen()


def connected_as(gateway: Gateway, number: Number) -> str:
    """The number's connection state, as the gateway that carries it sees it: the stored one may lag behind."""
    return gateway.services.decisions.connected_as(number)


def phrase(waiting: Waiting) -> Phrase:
    """The sentence in both languages, to be put into another phrase."""
    return Phrase(*(sentence(waiting, language).replace("{", "{{").replace("}", "}}") for language in ("id", "en")))

"""What a stored message waits for, as callers of the compatible API are told."""

from __future__ import annotations

import msgspec

from kurir.numbers.numbers import Number
from kurir.outbox.waiting import STOPPING, UNKNOWN, Waiting, sentence, waiting_for
from kurir.store.database import DatabaseUnavailable
from kurir.web.compat_v1.envelopes import Phrase
from kurir.web.gateway import Gateway


async def waits(gateway: Gateway, account_id: int, message_id: int) -> Waiting:
    """What the message waits for, as far as that can be seen now."""
    if gateway.outbox.dismissed:
        return STOPPING
    try:
        facts = await gateway.outbox.waiting_facts(account_id, message_id)
    except DatabaseUnavailable:
        return UNKNOWN  # the message is stored, which is what counts
    if facts is None:
        return UNKNOWN
    if facts.number is not None:
        facts = msgspec.structs.replace(facts, state=connected_as(gateway, facts.number))
    return waiting_for(facts, gateway.clock())


def unseen(gateway: Gateway) -> Waiting:
    """What a message waits for of which nothing can be read."""
    return STOPPING if gateway.outbox.dismissed else UNKNOWN


def connected_as(gateway: Gateway, number: Number) -> str:
    """The number's connection state, as the gateway that carries it sees it: the stored one may lag behind."""
    if number.channel == "cloud_api":
        return number.state
    if gateway.linked_devices.ready(number):
        return "connected"
    return "connecting" if number.state == "connected" else number.state


def phrase(waiting: Waiting) -> Phrase:
    """The sentence in both languages, to be put into another phrase."""
    return Phrase(*(sentence(waiting, language).replace("{", "{{").replace("}", "}}") for language in ("id", "en")))

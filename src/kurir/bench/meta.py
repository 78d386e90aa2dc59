"""Callbacks as Meta sends them, signed with the site's app secret."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kurir.bench.load import Requests
from kurir.bench.site import SECRET, Official

PATH = "/meta/callbacks"
_AT_ONCE = 100


def signed(official: Official, value: dict[str, Any]) -> tuple[str, str]:
    """A callback about one number: its signature and its body."""
    metadata = {"display_phone_number": official.phone[1:], "phone_number_id": official.phone_number_id}
    change = {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}
    entry = {"id": official.waba_id, "time": int(time.time()), "changes": [change]}
    body = msgspec.json.encode({"object": "whatsapp_business_account", "entry": [entry]})
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(), body.decode()


def texts(official: Official, people: Sequence[str], name: str) -> tuple[str, str]:
    """A callback with one text of each of these people; `name` makes the messages' ids unlike all others."""
    now = str(int(time.time()))
    return signed(
        official,
        {
            "contacts": [{"profile": {"name": f"Person {phone[-4:]}"}, "wa_id": phone} for phone in people],
            "messages": [
                {
                    "from": phone,
                    "id": f"wamid.HBgN{official.phone_number_id}{name}{phone}",
                    "timestamp": now,
                    "type": "text",
                    "text": {"body": "Is my order on its way?"},
                }
                for phone in people
            ],
        },
    )


def status(official: Official, wamid: str, recipient: str, ours: int, what: str) -> tuple[str, str]:
    """A callback with one receipt: `sent`, `delivered` or `read`; `ours` is the gateway's id of the message."""
    one = {"id": wamid, "status": what, "timestamp": str(int(time.time())), "recipient_id": recipient}
    return signed(official, {"statuses": [{**one, "biz_opaque_callback_data": str(ours)}]})


def person(number: int, i: int) -> str:
    """The phone of the i-th customer of the n-th official number."""
    return f"62813{number:02d}{i:06d}"


def windows(officials: Sequence[Official], people: int) -> Requests:
    """What opens the service window of so many people with each number: they write."""
    pairs = list(_openings(officials, people))
    return once(pairs)


def once(pairs: Sequence[tuple[str, str]]) -> Requests:
    """Callbacks that are each sent once."""
    return Requests(PATH, [body for _, body in pairs], [signature for signature, _ in pairs], once=True)


def _openings(officials: Sequence[Official], people: int) -> Iterator[tuple[str, str]]:
    for n, official in enumerate(officials):
        for start in range(0, people, _AT_ONCE):
            some = [person(n, i) for i in range(start, min(start + _AT_ONCE, people))]
            yield texts(official, some, "W")

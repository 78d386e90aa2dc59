"""Identifiers as the Cloud API forms them: decimal object ids and `wamid.` message ids."""

from __future__ import annotations

import base64
import secrets


def new_object_id() -> str:
    """A fresh id for a media, template or business object: 16 decimal digits."""
    return str(secrets.randbelow(9 * 10**15) + 10**15)


def new_message_id(phone: str, from_business: bool) -> str:
    """A fresh message id: `wamid.` and base64 over the person's number and a random part, as Meta forms it."""
    number, unique = phone.encode(), secrets.token_hex(10).upper().encode()
    direction = b"\x15\x02\x00\x11\x18" if from_business else b"\x15\x02\x00\x12\x18"
    raw = b"\x1c\x18" + bytes([len(number)]) + number + direction + bytes([len(unique)]) + unique + b"\x00"
    return "wamid." + base64.b64encode(raw).decode()

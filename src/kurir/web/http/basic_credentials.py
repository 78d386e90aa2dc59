"""Credentials in the header `Authorization`, as RFC 7617 (HTTP Basic) has them."""

from __future__ import annotations

import base64
import binascii

from kurir.services.sign_in import LONGEST_EMAIL, LONGEST_PASSWORD


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """The e-mail address and password in the header; None when it has none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > 4 * (LONGEST_EMAIL + LONGEST_PASSWORD):
        return None
    try:
        email, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (email, password) if colon else None

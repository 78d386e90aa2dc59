"""The headers of a delivery: the sender number as old receivers know it, and the Standard Webhooks signature.

Source: Standard Webhooks specification 1.0 (`webhook-id`, `webhook-timestamp`, `webhook-signature`: HMAC-SHA256 over
`id.timestamp.body`, one signature for each live secret, separated by spaces).
"""

from __future__ import annotations

import base64
import secrets as randomness
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"


def new_secret() -> str:
    """A secret of 32 random bytes, as receivers enter it."""
    return PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()


def headers(secrets: Sequence[str], event_key: str, number_key: str, body: bytes, at: float) -> dict[str, str]:
    """The headers of one try at `at` (unix seconds), signed with every live secret, the newest first."""
    moment = datetime.fromtimestamp(int(at), UTC)
    text = body.decode()
    return {
        "Content-Type": "application/json",
        "BLS-OTO-NUMBERID": number_key,
        "webhook-id": event_key,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(Webhook(secret).sign(event_key, moment, text) for secret in secrets),
    }

"""Repeated requests: recognized by their client's key, and answered as the first time."""

from __future__ import annotations

import json
from typing import Any

from kurir.kit.sealing import Sealing
from kurir.outbox.idempotency import KEPT, Earlier, KeptAnswer, Once
from kurir.outbox.outbox import Outbox


class Idempotency:
    """Remembered requests of all accounts. Keys and requests are kept as hashes only."""

    def __init__(self, outbox: Outbox, sealing: Sealing) -> None:
        self._outbox = outbox
        self._sealing = sealing

    def by_key(self, account_id: int, key: str, request: Any) -> Once:
        """How a request with this key is recognized; `request` is its content as JSON values."""
        written = json.dumps(request, sort_keys=True)
        return Once(
            account_id,
            KEPT,
            key_hash=self._sealing.hash(key, "idempotency key"),
            request_hash=self._sealing.hash(written, "idempotency request"),
        )

    async def earlier(self, once: Once) -> Earlier | None:
        """The first request under this key, or None. Raises DatabaseUnavailable."""
        return await self._outbox.earlier(once)

    async def keep(self, once: Once, answer: KeptAnswer) -> None:
        """Keeps the answer for repetitions of the request. Raises DatabaseUnavailable."""
        await self._outbox.keep_answer(once, answer)

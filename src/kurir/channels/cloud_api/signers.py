"""Finds the numbers whose app secret signed a callback, at a cost that does not depend on the body's content.

First the secrets of the numbers that the body names are tried, in one query for a bounded number of ids, then those of
the gateway's other official numbers, which are kept in memory: so a callback about a number that is not set up here (a
second one of the same business) is recognized as Meta's. The amount of hashing is bounded, and the same for known and
unknown ids.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from kurir.channels.cloud_api.callbacks import CLAIMS, ids_claimed, signed_by
from kurir.kit.clock import Clock
from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number, Signer
from kurir.store.database import Database

_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_KEPT_SECONDS = 30.0
_MOST_NUMBERS = 5_000
_MOST_SECRETS = 256
_HASHED = 8_000_000
"""Maximum bytes hashed for one callback beyond its first secret: about 10 ms."""
_AT_ONCE = 65_536
"""Maximum size in bytes of a body that is hashed on the event loop."""


def is_signature(header: str) -> bool:
    """Whether `X-Hub-Signature-256` has the form that Meta sends."""
    return _SIGNATURE.fullmatch(header) is not None


class Signers:
    """The official numbers of a gateway by their app secrets. One per process."""

    def __init__(self, database: Database, sealing: Sealing, clock: Clock) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock
        self._everybody: list[Signer] = []
        self._asked_at: float | None = None

    async def of(self, body: bytes, signature: str, source: str) -> list[Number]:
        """The numbers whose app secret signed the body; an empty list when none did. Raises DatabaseUnavailable.

        Two accounts may claim the same id at Meta; only the one whose secret signed gets the callback.
        """
        claims = ids_claimed(body)
        claimed = await self._database.read(
            lambda c: numbers.signers(c, self._sealing, claims.phone_number_ids, claims.waba_ids, CLAIMS * 2),
            of=source,
            pool="strangers",
        )
        everybody = [*claimed, *await self._all()]
        secrets = list(dict.fromkeys(signer.app_secret for signer in everybody))
        secrets = secrets[: max(1, min(_MOST_SECRETS, _HASHED // (len(body) + 1)))]
        if len(body) <= _AT_ONCE:
            secret = _signing(secrets, body, signature)
        else:
            secret = await asyncio.to_thread(_signing, secrets, body, signature)
        if secret is None:
            return []
        return list({s.number.id: s.number for s in everybody if s.app_secret == secret}.values())

    async def _all(self) -> list[Signer]:
        now = self._clock()
        if self._asked_at is None or now - self._asked_at >= _KEPT_SECONDS:
            self._asked_at = now  # concurrent callers use the cached ones
            try:
                self._everybody = await self._database.read(
                    lambda c: numbers.all_signers(c, self._sealing, _MOST_NUMBERS), pool="lists"
                )
            except BaseException:
                self._asked_at = None
                raise
        return self._everybody


def _signing(secrets: Iterable[str], body: bytes, signature: str) -> str | None:
    return next((secret for secret in secrets if signed_by(secret, body, signature)), None)

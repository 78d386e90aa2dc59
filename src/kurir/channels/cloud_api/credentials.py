"""A short-lived cache of official numbers' decrypted credentials, so that a send needs no database read."""

from __future__ import annotations

from cachetools import TTLCache

from kurir.kit.clock import Clock
from kurir.kit.sealing import SealError, Sealing
from kurir.numbers.numbers import CloudCredentials, Number, credentials
from kurir.store.database import Database

_KEPT_SECONDS = 30.0
_KEPT_NUMBERS = 1_000


class Credentials:
    """Decrypts and caches credentials; a changed token is used within half a minute, or at once after `forget`."""

    def __init__(self, database: Database, sealing: Sealing, clock: Clock) -> None:
        self._database = database
        self._sealing = sealing
        self._kept: TTLCache[int, CloudCredentials] = TTLCache(_KEPT_NUMBERS, _KEPT_SECONDS, clock)

    async def of(self, number: Number) -> CloudCredentials | None:
        """The number's credentials, or None when it has none that can be decrypted. Raises DatabaseUnavailable."""
        kept = self._kept.get(number.id)
        if kept is not None:
            return kept
        try:
            opened = await self._database.read(
                lambda c: credentials(c, self._sealing, number.account_id, number.id), of=number.account_id
            )
        except (KeyError, SealError):
            return None
        if not opened.access_token:
            return None
        self._kept[number.id] = opened
        return opened

    def forget(self, number: Number) -> None:
        """Makes the next `of` read them again."""
        self._kept.pop(number.id, None)

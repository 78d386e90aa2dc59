"""The progress of one pairing: from its start to success, failure or expiry."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec

LIFETIME = 160.0
"""Seconds until WhatsApp drops an unpaired connection: six QR codes, the first shown for 60 s, the others for 20 s."""
_FIRST_QR, _NEXT_QR = 60.0, 20.0

PairingState = Literal["starting", "qr", "code", "paired", "expired", "failed"]


class PairingView(msgspec.Struct, frozen=True):
    """The state of a pairing, as shown to callers.

    `state`: none (no pairing since the start), starting, qr (show `qr`), code (show `code`), paired, expired, failed
    (`error` says why). `expires_at` in unix seconds, until when `qr` or `code` is valid; None when there is neither.
    """

    state: str
    qr: str = ""
    code: str = ""
    expires_at: float | None = None
    error: str = ""


class PairingProgress:
    """One pairing attempt: what to show, and until when.

    `phone` is in digits when the pairing goes by code; `expires_at` in unix seconds.
    """

    def __init__(self, phone: str, expires_at: float) -> None:
        self.phone = phone
        self.state: PairingState = "starting"
        self.qr = ""
        self.code = ""
        self.error = ""
        self.expires_at = expires_at
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()

    @classmethod
    def begin(cls, phone: str, now: float) -> PairingProgress:
        """A pairing that starts at `now` (unix seconds)."""
        return cls(phone, now + LIFETIME)

    @property
    def running(self) -> bool:
        """Whether the pairing may still succeed."""
        return self.state in ("starting", "qr", "code")

    @property
    def shown(self) -> bool:
        """Whether there was anything to scan or type, which means that the session was not paired before."""
        return bool(self.qr or self.code)

    @property
    def came_to_nothing(self) -> bool:
        """Whether it ended without success after there was something to show: its session is incomplete."""
        return self.shown and self.state in ("expired", "failed")

    def show_qr(self, qr: str, now: float) -> None:
        """A QR text replaces the previous one."""
        self.expires_at = now + (_NEXT_QR if self.qr else _FIRST_QR)
        self.qr = qr
        self._move("qr")

    def show_code(self, code: str) -> None:
        """Shows the pairing code, which is valid as long as the connection."""
        self.code = code
        self._move("code")

    def succeed(self) -> None:
        """The phone accepted."""
        self._move("paired")

    def fail(self, error: str) -> None:
        """It cannot succeed any more."""
        self.error = error
        self._move("failed")

    def expire(self) -> None:
        """Nobody scanned or typed in time."""
        self.error = "nobody scanned the code in time"
        self._move("expired")

    async def changed(self) -> None:
        """Waits for the next step."""
        await self._changed.wait()

    async def settled(self) -> bool:
        """Waits for the end; False when it has not come within `LIFETIME` seconds."""
        try:
            async with asyncio.timeout(LIFETIME):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def _move(self, state: PairingState) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        if not self.running:
            self._settled.set()

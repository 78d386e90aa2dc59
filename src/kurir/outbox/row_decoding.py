"""Decodes rows of the outbox into messages; one that cannot be decoded is removed from the queue."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog

from kurir.kit.clock import Clock
from kurir.kit.metrics import Metrics
from kurir.kit.sealing import Sealing
from kurir.messages.content import Content
from kurir.messages.lifecycle import MessageState
from kurir.outbox import unprocessable
from kurir.outbox.after_commit import Effects
from kurir.outbox.message_rows import Claimed, Snapshot, decode_content
from kurir.outbox.unprocessable import Tried
from kurir.reasons import Reason
from kurir.reasons.messages import CONTENT_UNREADABLE
from kurir.store.database import LONG_WORK, Database, DatabaseUnavailable

log = structlog.get_logger(__name__)


class ReadableRows:
    """Decodes rows, and quarantines those that cannot be decoded."""

    def __init__(self, database: Database, sealing: Sealing, clock: Clock, metrics: Metrics, effects: Effects) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock
        self._metrics = metrics
        self._effects = effects

    def content(self, row: Any) -> Content | None:
        try:
            return decode_content(self._sealing, row.id, row.content, bool(row.sealed))
        except Exception:
            return None  # the claim finds that too, and quarantines it

    def _claimed(self, row: Any, *, first_contact: bool = False) -> Claimed:
        return Claimed(
            row.id,
            row.account_id,
            row.number_id,
            row.recipient,
            decode_content(self._sealing, row.id, row.content, bool(row.sealed)),
            bool(row.typing),
            row.origin,
            row.attempts,
            row.created_at,
            row.expires_at,
            row.due_at,
            first_contact,
        )

    async def readable(self, row: Any, otherwise: MessageState, *, first_contact: bool = False) -> list[Claimed]:
        """The row as a message; none when it cannot be decoded: then it ends in the state `otherwise`."""
        try:
            return [self._claimed(row, first_contact=first_contact)]
        except Exception as error:
            log.exception("message_quarantined", message_id=row.id)
            tried = Tried(row.id, row.account_id, row.number_id, row.attempts, row.due_at)
            await self.quarantine(tried, otherwise, CONTENT_UNREADABLE(error=type(error).__name__))
            return []

    async def quarantine(self, tried: Tried, state: MessageState, reason: Reason, remote_id: str | None = None) -> None:
        """Ends a message as well as that can be done; never raises for what is wrong with it. Raises
        DatabaseUnavailable."""
        now = self._clock()

        def ended(after: Snapshot | None) -> None:
            if after is not None:
                self._metrics.quarantined("outbox")
                self._effects.moved(after, left_queue=True)

        # what cannot be written with it must not leave the message in flight: its id at WhatsApp, then its entry
        ways = ((remote_id, True), (None, True), (None, False)) if remote_id else ((None, True), (None, False))
        for known_as, entry in ways:
            try:
                await self._database.write(
                    partial(
                        unprocessable.end,
                        tried=tried,
                        state=state,
                        reason=reason,
                        now=now,
                        remote_id=known_as,
                        entry=entry,
                    ),
                    after_commit=ended,
                    timeout=LONG_WORK,
                )
            except DatabaseUnavailable:
                raise
            except Exception:
                log.exception("message_quarantine_failed", message_id=tried.id, remote_id=bool(known_as), entry=entry)
                continue
            if not entry:
                log.critical("message_failed", message_id=tried.id, state=state)
            return
        log.critical("message_stuck", message_id=tried.id)

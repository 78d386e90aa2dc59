"""Appends to the event log, in the transaction of the change.

All rows of a transaction are inserted by one statement at its end, which gives each account's events ids in the order
in which they become visible (see `store.ordered_appends`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from kurir.events.bodies import Body, EventType, encode
from kurir.events.tables import events
from kurir.kit.ids import opaque_id
from kurir.messages import bounds
from kurir.messages.channel_reports import Quarantined
from kurir.quarantine import quarantine
from kurir.store import ordered_appends
from kurir.store.database import DatabaseUnavailable
from kurir.store.ordered_appends import OrderedBatch

_EVENTS = OrderedBatch(events, ["account_id", "number_id", "key", "type", "chat", "body", "created_at"])

log = structlog.get_logger(__name__)


def append(
    connection: Connection,
    account_id: int,
    number_id: int | None,
    event: EventType,
    chat: str,
    *,
    body: Callable[[], Body],
    now: float,
) -> None:
    """Appends an event of an account. `number_id` None: it concerns no sender number, and no webhook.

    `chat` orders events among each other ("": the number itself).

    An event whose body cannot be encoded is quarantined: the change itself is stored all the same.
    """
    try:
        text = encode(body()).decode()
        row = (account_id, number_id, "evt_" + opaque_id(24), event, chat, text, now)
        ordered_appends.append(connection, _EVENTS, row)
    except (SQLAlchemyError, DatabaseUnavailable):
        raise
    except Exception as error:
        log.exception("event_quarantined", type=event, number_id=number_id)
        reason = f"the event could not be written ({type(error).__name__}); it cannot be replayed"
        kept = msgspec.json.encode({"type": event, "chat": bounds.text(chat), "number": number_id, "at": now})
        entry = Quarantined(account_id, number_id or 0, "webhook", f"{event}/{chat}/{now}", reason, kept)
        quarantine.add(connection, entry, now)

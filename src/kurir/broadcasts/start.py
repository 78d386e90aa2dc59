"""Starting a broadcast: accepted as a whole or not at all.

Its row, all its messages and the event that says so are stored in one transaction.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from kurir.broadcasts.broadcasts import Broadcast
from kurir.broadcasts.progress import publish
from kurir.broadcasts.tables import broadcasts
from kurir.kit.ids import MessageIds, opaque_id
from kurir.messages.content import TemplateUse
from kurir.numbers.numbers import Number
from kurir.outbox.idempotency import Once
from kurir.outbox.outbox import Outbox
from kurir.outbox.rows import PRIORITY_BROADCAST, PRIORITY_NORMAL, Draft

KEY, TEMPLATE = "bc_id", "template"
"""Keys under which a remembered request stores the broadcast's id and template, in addition to its messages."""

_ids = MessageIds()


async def start(
    outbox: Outbox,
    number: Number,
    recipients: list[str],
    content: TemplateUse,
    now: float,
    *,
    once: Once | None = None,
) -> tuple[Broadcast, list[int]]:
    """Stores the broadcast and one message per recipient; returns it with the messages' ids in that order.

    With `once` the request is remembered, together with the broadcast's key and the template's name. Raises QueueFull,
    DatabaseUnavailable and Repeated; then nothing was stored.
    """
    broadcast = Broadcast(_ids.next(), number.account_id, number.id, opaque_id(16), content.name, len(recipients), now)
    several = len(recipients) > 1
    drafts = [
        Draft(
            account_id=number.account_id,
            number_id=number.id,
            recipient=recipient,
            content=content,
            # messages of a large broadcast have a lower priority than single ones
            priority=PRIORITY_BROADCAST if several else PRIORITY_NORMAL,
            origin="broadcast",
            broadcast_id=broadcast.id,
        )
        for recipient in recipients
    ]
    row = msgspec.structs.asdict(broadcast) | {"ended_at": None if several else now}

    def also(connection: Connection, _ids_of_messages: list[int]) -> None:
        connection.execute(broadcasts.insert().values(**row))
        if several:  # of a single message its own events say everything
            counts = {"queued": broadcast.recipients}
            publish(connection, broadcast, number.key, "accepted", counts, now=now)

    facts = {KEY: broadcast.key, TEMPLATE: content.name}
    accepted = await outbox.accept(drafts, also, once=once, facts=facts)
    return broadcast, accepted.ids

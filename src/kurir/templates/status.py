"""Stores the status that Meta's callbacks give templates, and appends each change of a status to the event log."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from kurir.events.append import append
from kurir.events.bodies import TemplateStatus
from kurir.messages.channel_reports import TemplateReviewed
from kurir.numbers import numbers
from kurir.templates.tables import templates

PUBLISHED = [
    templates.c[name]
    for name in ("account_id", "number_id", "key", "meta_id", "name", "language", "status", "rejected_reason")
]
"""The columns of a template that its event is made of."""


def store_review(connection: Connection, event: TemplateReviewed, now: float) -> None:
    """Stores the status that Meta gave a template; a known one is not published again, an unknown template is ignored.
    `now`: unix seconds."""
    here = sa.and_(
        templates.c.account_id == event.account_id,
        templates.c.number_id == event.number_id,
        templates.c.meta_id == event.meta_id,
    )
    # locks the row until the commit: whoever else reports this status finds it stored
    before = connection.execute(sa.select(templates.c.id, templates.c.status).where(here).with_for_update()).first()
    if before is None:
        return
    stored = connection.execute(
        templates.update()
        .where(here, templates.c.id == before.id)
        .values(status=event.status, rejected_reason=event.reason, updated_at=now)
        .returning(*PUBLISHED)
    ).one()
    if stored.status != before.status:
        publish_status(connection, stored, now)


def publish_status(connection: Connection, template: Any, now: float) -> None:
    """Appends the new status of a template, a row of the columns `PUBLISHED`. `now`: unix seconds."""

    def body() -> TemplateStatus:
        number = numbers.by_id(connection, template.account_id, template.number_id)
        return TemplateStatus(
            template_id=template.key,
            templateId=template.meta_id,
            number_id=number.key if number else "",
            name=template.name,
            language=template.language,
            status=template.status,
            reason=template.rejected_reason,
            timestamp=int(now),
        )

    append(connection, template.account_id, template.number_id, "template_status", "", body=body, now=now)

"""Meta's review of a template, as a callback reports it: stored, and published to the account."""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.events.append import append
from kurir.events.bodies import TemplateStatus
from kurir.messages.channel_reports import TemplateReviewed
from kurir.numbers import numbers
from kurir.templates.tables import templates


def store_review(connection: Connection, event: TemplateReviewed, now: float) -> None:
    """Stores the status that Meta gave a template; one that is not known here changes nothing. `now`: unix seconds."""
    template = connection.execute(
        templates.update()
        .where(
            templates.c.account_id == event.account_id,
            templates.c.number_id == event.number_id,
            templates.c.meta_id == event.meta_id,
        )
        .values(status=event.status, rejected_reason=event.reason, updated_at=now)
        .returning(templates.c.key, templates.c.name, templates.c.language)
    ).first()
    if template is None:
        return

    def body() -> TemplateStatus:
        number = numbers.by_id(connection, event.account_id, event.number_id)
        return TemplateStatus(
            template_id=template.key,
            templateId=event.meta_id,
            number_id=number.key if number else "",
            name=template.name,
            language=template.language,
            status=event.status,
            reason=event.reason,
            timestamp=int(now),
        )

    append(connection, event.account_id, event.number_id, "template_status", "", body=body, now=now)

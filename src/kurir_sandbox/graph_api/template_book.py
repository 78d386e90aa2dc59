"""The templates of every WhatsApp Business Account, and their life: review, listing, edits, deletion."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from kurir_sandbox.graph_api.errors import GraphError, template_refused
from kurir_sandbox.graph_api.identifiers import new_object_id
from kurir_sandbox.graph_api.templates import NewTemplate, Template

_SCHEMA = """
CREATE TABLE IF NOT EXISTS templates (
    id TEXT PRIMARY KEY, waba_id TEXT NOT NULL, name TEXT NOT NULL, language TEXT NOT NULL, data TEXT NOT NULL,
    UNIQUE (waba_id, name, language));
CREATE TABLE IF NOT EXISTS blocked_names (
    waba_id TEXT NOT NULL, name TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (waba_id, name));
"""
_NAMES_AT_MOST = 250
_NAME_BLOCKED = 30 * 86400.0
_EDIT_PAUSE, _EDIT_SPAN, _EDITS_AT_MOST = 86400.0, 30 * 86400.0, 10
_PROMOTIONAL = re.compile(r"\b(promo|diskon|gratis|cashback|sale|discount|free gift|voucher)\b", re.IGNORECASE)
_SHORT_LINK = re.compile(r"\b(bit\.ly|tinyurl\.com|wa\.me|t\.co)\b", re.IGNORECASE)

Changed = Callable[[Template], None]


def decide(template: NewTemplate) -> tuple[str, str]:
    """The result of review: (status, reject reason). UTILITY must not promote; shortened links are refused."""
    words = json.dumps(template.components, ensure_ascii=False)
    if template.category == "UTILITY" and _PROMOTIONAL.search(words):
        return "REJECTED", "INCORRECT_CATEGORY"
    if _SHORT_LINK.search(words):
        return "REJECTED", "INVALID_FORMAT"
    return "APPROVED", "NONE"


class TemplateBook:
    """Templates in the database `db`; `changed` is called after each review."""

    def __init__(self, db: sqlite3.Connection, changed: Changed) -> None:
        self._db = db
        self._changed = changed
        self._reviews: dict[str, asyncio.Task[None]] = {}
        db.executescript(_SCHEMA)

    def resume(self) -> None:
        """Take up the reviews that an earlier run did not finish."""
        for template in self._select("1 = 1"):
            if template.status == "PENDING":
                self._schedule(template)

    async def stop(self) -> None:
        """Stop reviewing; what is pending stays pending."""
        running = list(self._reviews.values())
        for review in running:
            review.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def forget(self) -> None:
        """Forget every template."""
        for review in self._reviews.values():
            review.cancel()
        self._db.execute("DELETE FROM templates")
        self._db.execute("DELETE FROM blocked_names")

    def create(self, waba_id: str, new: NewTemplate, review_seconds: float) -> Template:
        """Add a template and send it to review. Raises GraphError with subcode 2388024, 2388023 or 2388019."""
        now = time.time()
        if self.named(waba_id, new.name, new.language):
            raise template_refused(
                2388024,
                "Content in this language already exists",
                f"There is already {new.language} content for the template {new.name}.",
            )
        blocked = self._db.execute(
            "SELECT until FROM blocked_names WHERE waba_id = ? AND name = ?", (waba_id, new.name)
        ).fetchone()
        if blocked and blocked[0] > now:
            raise template_refused(
                2388023, "Name recently deleted", f"The name {new.name} is blocked for 30 days after deletion."
            )
        names = {template.name for template in self.of(waba_id)}
        if new.name not in names and len(names) >= _NAMES_AT_MOST:
            raise template_refused(
                2388019, "Template limit reached", f"At most {_NAMES_AT_MOST} template names per account."
            )
        template = Template(
            **asdict(new), id=new_object_id(), waba_id=waba_id, created=now, review_at=now + review_seconds
        )
        return self._review(template) if review_seconds <= 0 else self._schedule(self._save(template))

    def edit(self, template: Template, new: NewTemplate, review_seconds: float) -> Template:
        """Replace the content of a template; it goes back to review. Raises GraphError 100 when not allowed."""
        now = time.time()
        if template.status not in ("APPROVED", "REJECTED", "PAUSED"):
            raise _not_editable(f"a template that is {template.status} cannot be edited")
        edits = [at for at in template.edits if now - at < _EDIT_SPAN]
        if template.status == "APPROVED":
            if new.category != template.category:
                raise _not_editable("the category of an approved template cannot change")
            if len(edits) >= _EDITS_AT_MOST or (edits and now - edits[-1] < _EDIT_PAUSE):
                raise _not_editable("an approved template can be edited once in 24 hours, 10 times in 30 days")
            edits.append(now)
        edited = replace(
            template,
            category=new.category,
            components=new.components,
            status="PENDING",
            rejected_reason="NONE",
            review_at=now + review_seconds,
            edits=edits,
        )
        return self._schedule(self._save(edited))

    def template(self, template_id: str) -> Template | None:
        """The template with this id."""
        return next(iter(self._select("id = ?", template_id)), None)

    def named(self, waba_id: str, name: str, language: str) -> Template | None:
        """The template with this name and language."""
        found = self._select("waba_id = ? AND name = ? AND language = ?", waba_id, name, language)
        return next(iter(found), None)

    def usable(self, waba_id: str, name: str, language: str) -> Template:
        """The approved template a message may use. Raises GraphError 132001, 132015 or 132016."""
        template = self.named(waba_id, name, language)
        if template is None or template.status in ("PENDING", "REJECTED"):
            raise GraphError(132001, f"template name ({name}) does not exist in {language}")
        if template.status == "PAUSED":
            raise GraphError(132015, f"template ({name}) is paused")
        if template.status != "APPROVED":
            raise GraphError(132016, f"template ({name}) is {template.status.lower()}")
        return template

    def of(self, waba_id: str) -> list[Template]:
        """The templates of an account, oldest first."""
        return self._select("waba_id = ?", waba_id)

    def set_status(self, template: Template, status: str, reason: str = "NONE") -> Template:
        """Give a template another status (paused, disabled …), as Meta would, and notifies the app."""
        settled = self._save(replace(template, status=status, rejected_reason=reason))
        self._changed(settled)
        return settled

    def delete(self, templates: list[Template]) -> None:
        """Delete templates; the name of an approved one is blocked for 30 days. Raises GraphError 100."""
        if any(template.status == "DISABLED" for template in templates):
            raise GraphError(100, message="(#100) A disabled template cannot be deleted.")
        for template in templates:
            if review := self._reviews.pop(template.id, None):
                review.cancel()
            self._db.execute("DELETE FROM templates WHERE id = ?", (template.id,))
            if template.status == "APPROVED":
                self._db.execute(
                    "INSERT OR REPLACE INTO blocked_names (waba_id, name, until) VALUES (?, ?, ?)",
                    (template.waba_id, template.name, time.time() + _NAME_BLOCKED),
                )

    def _schedule(self, template: Template) -> Template:
        async def review() -> None:
            await asyncio.sleep(max(0.0, template.review_at - time.time()))
            self._review(template)

        task = asyncio.get_running_loop().create_task(review())
        self._reviews[template.id] = task
        task.add_done_callback(lambda _: self._reviews.pop(template.id, None))
        return template

    def _review(self, template: Template) -> Template:
        return self.set_status(template, *decide(template))

    def _save(self, template: Template) -> Template:
        self._db.execute(
            "INSERT OR REPLACE INTO templates (id, waba_id, name, language, data) VALUES (?, ?, ?, ?, ?)",
            (
                template.id,
                template.waba_id,
                template.name,
                template.language,
                json.dumps(asdict(template), ensure_ascii=False),
            ),
        )
        return template

    def _select(self, where: str, *values: str) -> list[Template]:
        rows = self._db.execute(f"SELECT data FROM templates WHERE {where}", values)  # noqa: S608
        return sorted((Template(**json.loads(row[0])) for row in rows), key=lambda found: (found.created, found.id))


def _not_editable(reason: str) -> GraphError:
    return template_refused(2593002, "Template cannot be edited", reason)

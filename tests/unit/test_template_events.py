"""What the event log says about templates: each status once, in its transaction, whoever found it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.outbox import OutboxHarness, open_outbox_harness

from kurir.channels.cloud_api.templates.calls import MetaTemplate, UnreadTemplate
from kurir.events import read
from kurir.messages.channel_reports import TemplateReviewed
from kurir.messages.template_form import TemplateForm
from kurir.templates import templates
from kurir.templates.status import store_review
from kurir.templates.tables import templates as table

FORM = TemplateForm("siap", "id", "UTILITY", "Pesanan Anda sudah siap.")


@pytest.fixture
async def harness(where: Path | str) -> AsyncIterator[OutboxHarness]:
    async with open_outbox_harness(where) as opened:
        yield opened


async def statuses(harness: OutboxHarness) -> list[tuple[str, str, str]]:
    """Meta's id, status and reason of each event so far."""
    account = harness.number.account_id
    page = await harness.database.read(lambda c: read.after(c, account, 0))
    assert {(event.type, event.number_id) for event in page.events} <= {("template_status", harness.number.id)}
    found = [json.loads(event.body)["data"] for event in page.events]
    assert all(one["number_id"] == harness.number.key and one["name"] == FORM.name for one in found)
    return [(one["templateId"], one["status"], one["reason"]) for one in found]


def theirs(status: str, reason: str = "NONE", **more: Any) -> MetaTemplate:
    body = {"type": "BODY", "text": more.get("body", FORM.body)}
    return MetaTemplate("7", FORM.name, FORM.language, status, FORM.category, [body], reason)


async def listed(harness: OutboxHarness, at: float, *some: MetaTemplate | UnreadTemplate) -> None:
    def work(connection: Any) -> None:
        templates.adopt(connection, harness.number, some, at)
        templates.mark_gone(connection, harness.number, some, at)

    await harness.database.write(work)


async def reviewed(harness: OutboxHarness, at: float, status: str, reason: str = "", meta_id: str = "7") -> None:
    event = TemplateReviewed(harness.number.account_id, harness.number.id, meta_id, status, reason)
    await harness.database.write(lambda c: store_review(c, event, at))


async def put(harness: OutboxHarness, at: float, meta_id: str, status: str) -> Any:
    return await harness.database.write(
        lambda c: templates.put(c, harness.number, FORM, meta_id=meta_id, status=status, now=at)
    )


async def test_a_draft_and_its_submission_are_events(harness: OutboxHarness) -> None:
    await put(harness, 1.0, "", "DRAFT")
    await put(harness, 2.0, "", "DRAFT")  # the name is taken
    await put(harness, 3.0, "7", "IN_REVIEW")
    await put(harness, 4.0, "7", "IN_REVIEW")  # a repetition
    assert await statuses(harness) == [("", "DRAFT", ""), ("7", "IN_REVIEW", "")]


async def test_what_a_list_shows_first_is_an_event(harness: OutboxHarness) -> None:
    await listed(harness, 1.0, theirs("PENDING"))
    await listed(harness, 2.0, theirs("REJECTED", "INVALID_FORMAT"))
    await listed(harness, 3.0, theirs("REJECTED", "INVALID_FORMAT"))
    await listed(harness, 4.0)
    await listed(harness, 5.0)
    assert await statuses(harness) == [
        ("7", "IN_REVIEW", ""),
        ("7", "REJECTED", "INVALID_FORMAT"),
        ("7", "DELETED", ""),
    ]


@pytest.mark.parametrize("callback_first", [True, False])
async def test_a_list_and_a_callback_of_one_change_make_one_event(harness: OutboxHarness, callback_first: bool) -> None:
    await put(harness, 1.0, "7", "IN_REVIEW")
    if callback_first:
        await reviewed(harness, 2.0, "APPROVED")
        await listed(harness, 3.0, theirs("APPROVED"))
    else:
        await listed(harness, 2.0, theirs("APPROVED"))
        await reviewed(harness, 3.0, "APPROVED")
    await reviewed(harness, 4.0, "PAUSED", "low quality")
    assert await statuses(harness) == [("7", "IN_REVIEW", ""), ("7", "APPROVED", ""), ("7", "PAUSED", "low quality")]


async def test_what_changes_no_status_is_no_event(harness: OutboxHarness) -> None:
    await put(harness, 10.0, "7", "APPROVED")
    await listed(harness, 11.0, theirs("APPROVED", body="Another text."))  # changed, but not its status
    await listed(harness, 5.0, theirs("PENDING"))  # a list that is older than what is stored
    await reviewed(harness, 12.0, "REJECTED", meta_id="8")  # no template of ours
    await listed(harness, 13.0, UnreadTemplate("7", b"{", "odd"))  # in the quarantine, not gone
    assert await statuses(harness) == [("7", "APPROVED", "")]


async def test_a_row_that_cannot_be_read_is_replaced_with_an_event_if_its_status_changes(
    harness: OutboxHarness,
) -> None:
    await put(harness, 1.0, "7", "IN_REVIEW")
    await harness.database.write(lambda c: c.execute(table.update().values(buttons="{")))
    await listed(harness, 2.0, theirs("APPROVED"))
    await harness.database.write(lambda c: c.execute(table.update().values(buttons="{")))
    await listed(harness, 3.0, theirs("APPROVED"))
    found = await harness.database.read(
        lambda c: templates.by_meta_id(c, harness.number.account_id, harness.number.id, "7")
    )
    assert found is not None and found.form.buttons == []
    assert [status for _, status, _ in await statuses(harness)] == ["IN_REVIEW", "APPROVED"]


async def test_a_change_that_is_rolled_back_leaves_no_event(harness: OutboxHarness) -> None:
    def work(connection: Any) -> None:
        templates.adopt(connection, harness.number, [theirs("APPROVED")], 1.0)
        raise KeyError("no")

    with pytest.raises(KeyError):
        await harness.database.write(work)
    assert await statuses(harness) == []

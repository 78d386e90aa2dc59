"""The event log for readers outside: pages by cursor, waiting for news, and the operator API on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.contacts import contacts
from kurir.events import restored
from kurir.events.tables import events
from kurir.kit.tokens import load_token
from kurir.services.errors import Invalid


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as opened:
        yield opened


async def happen(harness: Harness, name: str, *, theirs: bool = False) -> None:
    account = (harness.theirs if theirs else harness.ours).account
    await harness.gateway.database.write(lambda c: contacts.create_list(c, account.id, name, at=1.0))


async def ask(harness: Harness, query: str = "", account: Any = None) -> httpx.Response:
    token = load_token(harness.gateway.settings.data_dir)
    path = f"/api/v1/accounts/{harness.ours.account.id if account is None else account}/events{query}"
    return await harness.client.get(path, headers={"Authorization": f"Bearer {token}"})


def names(answer: httpx.Response) -> list[str]:
    return [one["body"]["data"]["name"] for one in answer.json()["events"]]


async def test_pages_by_cursor_of_one_account(harness: Harness) -> None:
    begin = (await ask(harness)).json()["cursor"]
    for name in ("a", "b", "c"):
        await happen(harness, name)
        await happen(harness, f"theirs {name}", theirs=True)
    first = await ask(harness, f"?after={begin}&limit=2")
    assert (names(first), first.json()["more"]) == (["a", "b"], True)
    second = await ask(harness, f"?after={first.json()['cursor']}&limit=2")
    assert (names(second), second.json()["more"]) == (["c"], False)
    assert names(await ask(harness, f"?after={second.json()['cursor']}")) == []


async def test_types_narrow_it(harness: Harness) -> None:
    await harness.send("send_personal_message", phone_no=PHONE, message="x", method_send="sync")
    await happen(harness, "a")
    found = (await ask(harness, "?types=message_status,device_status")).json()["events"]
    assert {one["type"] for one in found} == {"message_status"}
    assert found[0]["key"].startswith("evt_")


async def test_who_waits_hears_at_once(harness: Harness) -> None:
    begin = (await ask(harness)).json()["cursor"]
    waiting = asyncio.create_task(ask(harness, f"?after={begin}&wait=20&types=contact_list_changed"))
    await asyncio.sleep(0.1)
    await happen(harness, "theirs", theirs=True)
    await happen(harness, "ours")
    assert names(await asyncio.wait_for(waiting, 10)) == ["ours"]
    assert names(await ask(harness, f"?after={begin + 10}&wait=0.05")) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("?after=x", "after"), ("?limit=0", "limit"), ("?limit=501", "limit"), ("?wait=-1", "wait"), ("?wait=26", "wait"),
     ("?wait=nan", "wait"), ("?types=nonsense", "types"), ("?after=99999999999999999999999", "after")],
)  # fmt: skip
async def test_wrong_questions_name_the_field(harness: Harness, query: str, field: str) -> None:
    answer = await ask(harness, query)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_an_account_that_is_none(harness: Harness) -> None:
    assert (await ask(harness, account=99)).status_code == 404
    assert (await ask(harness, account="x")).status_code == 400


async def test_a_reader_follows_and_bad_types_are_refused(harness: Harness) -> None:
    service, account = harness.gateway.services.events, harness.ours.account.id
    follower = service.follow(account, await service.newest(account), types=["contact_list_changed"])
    following = asyncio.ensure_future(anext(follower))
    await happen(harness, "a")
    assert '"name":"a"' in (await asyncio.wait_for(following, 10)).body
    with pytest.raises(Invalid):
        service.follow(account, 0, types=["nonsense"])


async def test_after_a_restore_no_cursor_from_before_passes_over_an_event(harness: Harness) -> None:
    """In the backup there are fewer events than a reader has seen."""
    await happen(harness, "in the backup")
    seen = (await ask(harness)).json()["cursor"] + 1_000
    await harness.gateway.database.write(restored.leave_gap)
    await happen(harness, "after the restore")
    assert names(await ask(harness, f"?after={seen}")) == ["after the restore"]


async def test_the_gap_is_left_also_where_nothing_ever_happened(harness: Harness) -> None:
    if not harness.gateway.database.shared:
        await harness.gateway.database.write(
            lambda c: c.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'events'") and None
        )
    await harness.gateway.database.write(restored.leave_gap)
    await happen(harness, "a")
    newest = await harness.gateway.database.read(lambda c: c.scalar(sa.select(sa.func.max(events.c.id))))
    assert newest is not None
    assert newest > restored.GAP


async def test_at_the_stop_nobody_is_kept_waiting(harness: Harness) -> None:
    begin = (await ask(harness)).json()["cursor"]
    waiting = [asyncio.create_task(ask(harness, f"?after={begin}&wait=25")) for _ in range(3)]
    await asyncio.sleep(0.1)
    harness.gateway.feed.dismiss()
    answers = await asyncio.wait_for(asyncio.gather(*waiting, ask(harness, f"?after={begin}&wait=25")), 10)
    assert [(one.status_code, one.json()["events"]) for one in answers] == [(200, [])] * 4

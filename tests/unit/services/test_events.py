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


async def ask(harness: Harness, query: str = "", account: Any = None, language: str = "") -> httpx.Response:
    token = load_token(harness.gateway.settings.data_dir)
    path = f"/api/v1/accounts/{harness.ours.account.id if account is None else account}/events{query}"
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": language}
    return await harness.client.get(path, headers=headers)


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


@pytest.mark.parametrize(
    ("query", "field"),
    [("?after=x", "after"), ("?limit=0", "limit"), ("?limit=501", "limit"), ("?wait=-1", "wait"), ("?wait=26", "wait"),
     ("?wait=nan", "wait"), ("?types=nonsense", "types"), ("?after=99999999999999999999999", "after"),
     ("?after=-1", "after"), ("?after=1.5", "after"), ("?aftr=1", "aftr"), ("?type=test", "type"),
     ("?after=1&after=2", "after"), ("?after=1000000000000", "after"),
     ("?after=1000000000000&wait=20&types=device_status", "after")],
)  # fmt: skip
async def test_wrong_questions_name_the_field(harness: Harness, query: str, field: str) -> None:
    answer = await ask(harness, query)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


@pytest.mark.parametrize("query", ["?after=-1", "?after=1000000000000&wait=25"])
async def test_a_cursor_that_cannot_be_is_refused_with_what_to_do(harness: Harness, query: str) -> None:
    for language, words in (("en", ("0 or larger", "begin at 0")), ("id", ("0 atau lebih", "mulai dari 0"))):
        answer = await ask(harness, query, language=language)
        assert any(one in answer.json()["error"]["message"] for one in words), answer.text


async def newest_given(harness: Harness) -> int:
    """The end of the log by a bisection of what is refused."""
    low, high = 0, 10**12
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if (await ask(harness, f"?after={middle}")).status_code == 200 else (low, middle - 1)
    return low


async def test_the_end_of_the_log_is_the_newest_event_of_any_account(harness: Harness) -> None:
    """A cursor is one for all accounts: the id of another account's event is valid too."""
    await happen(harness, "ours")
    await happen(harness, "theirs", theirs=True)
    ids = await harness.gateway.database.read(lambda c: c.scalars(sa.select(events.c.id)).all())
    assert await newest_given(harness) == max(ids)


async def test_the_cursor_of_a_forgotten_event_is_never_refused(harness: Harness) -> None:
    await happen(harness, "a")
    cursor = (await ask(harness)).json()["cursor"]
    await harness.gateway.database.write(lambda c: c.execute(events.delete()) and None)
    waiting = asyncio.create_task(ask(harness, f"?after={cursor}&wait=20"))
    await happen(harness, "b")
    assert names(await asyncio.wait_for(waiting, 10)) == ["b"]


async def test_each_cursor_that_an_answer_gave_is_taken_again_after_a_restore(harness: Harness) -> None:
    """Cursors from before the restore, from between it and the next event, and from after it."""
    await happen(harness, "a")
    before = (await ask(harness)).json()["cursor"]
    lost = before + 500_000_000  # of an event that is not in the backup
    await harness.gateway.database.write(restored.leave_gap)
    for cursor in (before, lost, (await ask(harness, f"?after={lost}")).json()["cursor"]):
        assert (await ask(harness, f"?after={cursor}")).status_code == 200
    await happen(harness, "b")
    after = (await ask(harness, f"?after={lost}")).json()
    assert [one["body"]["data"]["name"] for one in after["events"]] == ["b"]
    assert (await ask(harness, f"?after={after['cursor']}")).status_code == 200
    assert (await ask(harness, f"?after={after['cursor'] + 2_000_000_000}")).status_code == 400


async def test_who_follows_from_beyond_the_end_is_refused_too(harness: Harness) -> None:
    follower = harness.gateway.services.events.follow(harness.ours.account.id, 10**12)
    with pytest.raises(Invalid):
        await asyncio.wait_for(anext(follower), 10)


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


async def test_at_the_stop_who_follows_comes_to_an_end(harness: Harness) -> None:
    service, account = harness.gateway.services.events, harness.ours.account.id
    follower = service.follow(account, await service.newest(account))
    following = asyncio.ensure_future(anext(follower))
    await happen(harness, "a")
    assert '"name":"a"' in (await asyncio.wait_for(following, 10)).body
    following = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    harness.gateway.feed.dismiss()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(following, 10)

"""Requests that come again: one message, one answer; by key, by content, at once, after a crash, from two doors."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.harness.gateway import PHONE, Harness

from kurir.accounts import accounts
from kurir.messages.channel_reports import Refused, Sent
from kurir.outbox.tables import idempotency, messages
from kurir.reasons import as_written
from kurir.web.server import build

TEXT = {"phone_no": PHONE, "message": "Halo"}
GROUP = {"group_id": "120363322806000000", "message": "Halo semua"}
FILE = "https://example.com/a.pdf"
SENDS: dict[str, dict[str, Any]] = {
    "send_personal_message": TEXT,
    "send_personal_file": {"phone_no": PHONE, "file_url": FILE},
    "send_group_message": GROUP,
    "send_group_file": {**GROUP, "file_url": FILE},
    "send_otp": {"phone_no": PHONE, "service_name": "Login"},
    "send_message_template": {"recipients": [PHONE, "6281234567891"]},
    "send_meta_personal_message": {"message": "Halo"},
}


async def count(harness: Harness) -> int:
    return (await harness.rows())["messages"]


async def guarded(harness: Harness, seconds: float) -> None:
    """Turns the guard on for our account before any of its requests."""
    account_id = harness.ours.account.id
    await harness.gateway.database.write(lambda c: accounts.change(c, account_id, repeat_guard_seconds=seconds))


def replayed(answer: httpx.Response) -> bool:
    return answer.headers.get("Idempotency-Replayed") == "true"


def reported(answer: httpx.Response) -> tuple[int, bytes, str | None, str | None]:
    return answer.status_code, answer.content, answer.headers.get("X-Message-Id"), answer.headers.get("Retry-After")


@pytest.mark.parametrize("method", ["async", "sync"])
@pytest.mark.parametrize("path", SENDS)
async def test_the_same_key_gets_the_first_answer_and_sends_nothing(harness: Harness, path: str, method: str) -> None:
    fields = {**SENDS[path], **(await harness.furnish()).get(path, {}), "method_send": method}
    first = await harness.send(path, **fields, idempotency_key="order-1")
    stored = await count(harness)
    assert not replayed(first)
    assert stored >= 1
    for named in ({"idempotency_key": "order-1"}, {}):
        headers = {} if named else {"Idempotency-Key": "order-1"}
        again = await harness.post(path, harness.ours.credentials() | fields | named, headers=headers)
        assert replayed(again)
        assert reported(again) == reported(first)
    assert await count(harness) == stored
    other = await harness.send(path, **fields, idempotency_key="order-2")
    assert not replayed(other)
    assert await count(harness) == 2 * stored


async def test_a_key_belongs_to_one_request(harness: Harness) -> None:
    first = await harness.send("send_personal_message", **TEXT, idempotency_key="k")
    for path, fields in (
        ("send_personal_message", {**TEXT, "message": "other"}),
        ("send_personal_message", {**TEXT, "number_id": harness.ours.official.key}),
        ("send_group_message", GROUP),
    ):
        refused = await harness.send(path, **{**fields, "idempotency_key": "k"})
        if refused.json()["code"] == "404":
            continue  # that number cannot send here at all
        assert (refused.status_code, refused.json()["type"]) == (400, "invalid_request")
        assert "idempotency_key" in refused.json()["message"]
    assert await count(harness) == 1
    # the order of the fields and the caller's key are no part of the request
    turned = dict(reversed([*harness.ours.credentials().items(), *TEXT.items()]))
    again = await harness.post("send_personal_message", turned, headers={"Idempotency-Key": "k"})
    assert reported(again) == reported(first)


async def test_accounts_do_not_share_keys(harness: Harness) -> None:
    ours = await harness.send("send_personal_message", **TEXT, idempotency_key="k")
    theirs = await harness.post("send_personal_message", harness.theirs.credentials() | TEXT | {"idempotency_key": "k"})
    assert not replayed(theirs)
    assert theirs.headers["X-Message-Id"] != ours.headers["X-Message-Id"]


@pytest.mark.parametrize("method", ["async", "sync"])
async def test_at_once_there_is_one_message_and_one_answer_also_through_two_gateways(
    harness: Harness, method: str
) -> None:
    other_app = build(harness.gateway, "http://other.test")
    transport = httpx.ASGITransport(other_app, client=("192.0.2.8", 50_000))
    body = harness.ours.credentials() | TEXT | {"idempotency_key": "k", "method_send": method}
    async with httpx.AsyncClient(transport=transport, base_url="http://other.test", timeout=20) as other:
        answers = await asyncio.gather(
            *(harness.post("send_personal_message", body) for _ in range(15)),
            *(other.post("/public/v1/send_personal_message", json=body) for _ in range(15)),
        )
    assert len({reported(answer) for answer in answers}) == 1
    assert sum(not replayed(answer) for answer in answers) == 1
    assert await count(harness) == 1
    assert harness.surprises() == 0


async def test_after_a_crash_between_storing_and_answering_the_answer_is_made_again(harness: Harness) -> None:
    furniture = await harness.furnish()
    for path in ("send_personal_message", "send_otp", "send_message_template", "send_meta_personal_message"):
        fields = {**SENDS[path], **furniture.get(path, {})}
        first = await harness.send(path, **fields, idempotency_key=path)
        stored = await count(harness)
        await harness.gateway.database.write(lambda c: c.execute(idempotency.update().values(answer="")))
        again = await harness.send(path, **fields, idempotency_key=path)
        assert replayed(again)
        assert reported(again) == reported(first)
        assert await count(harness) == stored


async def test_a_408_is_no_answer_for_good(harness: Harness) -> None:
    harness.devices.connected = False
    fields = {**TEXT, "method_send": "sync", "idempotency_key": "k"}
    first = await harness.send("send_personal_message", **fields)
    assert first.status_code == 408
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.account.id, harness.ours.device.id)
    again = await harness.send("send_personal_message", **fields)
    assert (again.status_code, replayed(again)) == (200, True)
    assert len(harness.devices.sent) == 1


async def test_a_refusal_by_whatsapp_is_an_answer(harness: Harness) -> None:
    harness.devices.outcome = lambda _: Refused("not_on_whatsapp", as_written("not on WhatsApp"))
    fields = {**TEXT, "method_send": "sync", "idempotency_key": "k"}
    first = await harness.send("send_personal_message", **fields)
    harness.devices.outcome = lambda _: Sent("x")
    again = await harness.send("send_personal_message", **fields)
    assert first.status_code == 405
    assert reported(again) == reported(first)
    assert len(harness.devices.sent) == 1


async def test_a_refused_request_leaves_its_key_free(harness: Harness) -> None:
    refused = await harness.send("send_personal_message", **{**TEXT, "phone_no": "abc"}, idempotency_key="k")
    assert refused.status_code == 405
    accepted = await harness.send("send_personal_message", **TEXT, idempotency_key="k")
    assert (accepted.status_code, replayed(accepted)) == (200, False)


@pytest.mark.parametrize("key", ["x" * 256, "a\nb", "a\x00b", "  ", ["list"], {"a": 1}, "tab\t"])
async def test_a_key_that_cannot_be_one_is_refused_by_name(harness: Harness, key: object) -> None:
    refused = await harness.send("send_personal_message", **TEXT, idempotency_key=key)
    assert refused.status_code == 405
    assert "idempotency_key" in refused.json()["message"]
    assert await count(harness) == 0


async def test_keys_of_every_usual_shape_are_taken(harness: Harness) -> None:
    for key in ("x", "x" * 255, 17, "pesanan é 1", "0b3e4a1c-9f1d-4c55-8f5e-0f3f5f6d7c11"):
        for expected in (False, True):
            answer = await harness.send("send_personal_message", **TEXT, idempotency_key=key)
            assert (answer.status_code, replayed(answer)) == (200, expected)


async def test_a_bad_header_is_refused_by_name_and_may_not_contradict_the_body(harness: Harness) -> None:
    body = harness.ours.credentials() | TEXT
    refused = await harness.post("send_personal_message", body, headers={"Idempotency-Key": "x" * 256})
    assert (refused.status_code, "Idempotency-Key" in refused.json()["message"]) == (405, True)
    both = await harness.post(
        "send_personal_message", body | {"idempotency_key": "a"}, headers={"Idempotency-Key": "b"}
    )
    assert (both.status_code, "idempotency_key" in both.json()["message"]) == (405, True)
    assert await count(harness) == 0


async def test_where_nothing_is_sent_a_key_means_nothing(harness: Harness) -> None:
    for _ in range(2):
        answer = await harness.send("info", idempotency_key="x" * 300)
        assert (answer.status_code, replayed(answer)) == (200, False)


async def test_what_is_remembered_is_sealed_and_forgotten(harness: Harness) -> None:
    answer = await harness.send("send_otp", phone_no=PHONE, idempotency_key="k")
    stored = await harness.gateway.database.read(lambda c: [tuple(row) for row in c.execute(sa.select(idempotency))])
    assert answer.json()["otp_code"] not in str(stored)
    assert PHONE not in str(stored)
    now = harness.gateway.clock()
    assert await harness.gateway.outbox.forget_requests(now - 60) == 0
    assert await harness.gateway.outbox.forget_requests(now + 1) == 1


async def test_the_guard_is_off_unless_an_account_asks_for_it(harness: Harness) -> None:
    for _ in range(2):
        assert not replayed(await harness.send("send_personal_message", **TEXT))
    assert await count(harness) == 2
    assert (await harness.rows())["idempotency"] == 0


async def test_the_guard_knows_a_retry_by_number_recipient_and_content(harness: Harness) -> None:
    await guarded(harness, 60)
    first = await harness.send("send_group_file", **GROUP, file_url=FILE)
    # a known client repeats a failed file as a message with the same body
    again = await harness.send("send_group_message", **GROUP, file_url=FILE, method_send="async")
    assert replayed(again)
    assert reported(again) == reported(first)
    text = await harness.send("send_personal_message", **TEXT)
    spelled = await harness.send("send_personal_message", phone_no="0812-3456-7890", country_code="62", message="Halo")
    assert replayed(spelled)
    assert reported(spelled) == reported(text)
    assert await count(harness) == 2
    for changed in ({"message": "Halo!"}, {"phone_no": "6281234567891"}, {"idempotency_key": "another message"}):
        answer = await harness.send("send_personal_message", **(TEXT | changed))
        assert not replayed(answer)
    codes = [await harness.send("send_otp", phone_no=PHONE) for _ in range(2)]
    assert codes[0].json()["otp_code"] != codes[1].json()["otp_code"]


async def test_the_guard_lets_go_after_its_time(harness: Harness) -> None:
    await guarded(harness, 60)
    await harness.send("send_personal_message", **TEXT)
    past = harness.gateway.clock() - 61
    await harness.gateway.database.write(lambda c: c.execute(idempotency.update().values(created_at=past)))
    again = await harness.send("send_personal_message", **TEXT)
    assert (again.status_code, replayed(again)) == (200, False)
    assert await count(harness) == 2


async def test_a_key_lets_go_after_a_day(harness: Harness) -> None:
    await harness.send("send_personal_message", **TEXT, idempotency_key="k")
    past = harness.gateway.clock() - 86_401
    await harness.gateway.database.write(lambda c: c.execute(idempotency.update().values(created_at=past)))
    again = await harness.send("send_personal_message", **{**TEXT, "message": "a new day"}, idempotency_key="k")
    assert (again.status_code, replayed(again)) == (200, False)
    kinds = await harness.gateway.database.read(lambda c: c.execute(sa.select(messages.c.id)).all())
    assert len(kinds) == 2

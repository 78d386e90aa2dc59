"""Webhooks to real receivers on loopback: good, slow, failing, redirecting, endless, hanging and dead ones."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from tests.harness.webhooks import Receiver, WebhookHarness, delivering, eventually, open_webhook_harness, verified

from kurir.reasons import read, sentence
from kurir.webhooks import deliver, deliveries, endpoints
from kurir.webhooks.retry_schedule import DELAYS
from kurir.webhooks.tables import webhook_attempts

REPOSITORY = Path(__file__).parents[2]


class Hands:
    """A clock that runs with the real time and can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def value(harness: WebhookHarness, result: str) -> float:
    return harness.metrics.registry.get_sample_value("kurir_webhook_deliveries_total", {"result": result}) or 0.0


async def test_a_signed_event_arrives_and_is_not_sent_again(
    webhook_harness: WebhookHarness, receiver: Receiver
) -> None:
    harness = webhook_harness
    harness.time.now = time.time()
    _, secret = await harness.endpoint(receiver.url())
    async with delivering(harness.database, metrics=harness.metrics) as deliverer:
        remote_id = await harness.comes_in("6281234567801", "Halo 👋")
        deliverer.wake()
        (webhook_call,) = await receiver.until(1)
        reported = verified(webhook_call, secret)
        assert reported["type"] == "incoming_chat"
        assert reported["data"]["message_body"] == "Halo 👋"
        assert reported["data"]["message_id"] == remote_id
        assert webhook_call.headers["bls-oto-numberid"] == harness.harness.number.key
        assert webhook_call.headers["content-type"] == "application/json"
        await eventually(harness.states, {"delivered": 1})
    assert len(receiver.webhook_calls) == 1
    assert value(harness, "delivered") == 1


async def test_while_rotating_both_secrets_verify(webhook_harness: WebhookHarness, receiver: Receiver) -> None:
    harness = webhook_harness
    harness.time.now = time.time()
    endpoint, old = await harness.endpoint(receiver.url())
    from tests.harness.webhooks import SEALING

    new = await harness.database.write(lambda c: endpoints.rotate(c, SEALING, endpoint, time.time()))
    await harness.comes_in()
    async with delivering(harness.database):
        (webhook_call,) = await receiver.until(1)
    assert verified(webhook_call, old) == verified(webhook_call, new)


async def test_a_failed_try_comes_again_with_the_same_id_and_the_same_body(
    webhook_harness: WebhookHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, clock = webhook_harness, Hands()
    harness.time.now = clock()
    monkeypatch.setattr(deliver, "system_clock", clock)  # receivers compare signatures with the system's time
    receiver.replies["/hook"] = (500, 503, 200)
    _, secret = await harness.endpoint(receiver.url())
    async with delivering(harness.database, clock, harness.metrics) as deliverer:
        await harness.comes_in()
        deliverer.wake()
        for tries, delay in enumerate(DELAYS[:2], start=1):
            await receiver.until(tries)
            await eventually(lambda: attempts_of(harness), tries)
            assert await harness.states() == {"pending": 1}
            clock.ahead += delay * 1.2
            deliverer.wake()
        webhook_calls = await receiver.until(3)
        await eventually(harness.states, {"delivered": 1})
    assert len({webhook_call.id for webhook_call in webhook_calls}) == 1
    assert len({webhook_call.body for webhook_call in webhook_calls}) == 1
    stamps = [int(webhook_call.headers["webhook-timestamp"]) for webhook_call in webhook_calls]
    assert stamps[2] > stamps[1] > stamps[0]
    # each signature is of its own moment; the last one is too far ahead for the library's clock
    verified(webhook_calls[0], secret)
    assert len({webhook_call.headers["webhook-signature"] for webhook_call in webhook_calls}) == 3
    assert (value(harness, "again"), value(harness, "delivered")) == (2, 1)


async def attempts_of(harness: WebhookHarness) -> int:
    return (await harness.rows())[2]


async def test_misbehaving_receivers_delay_nobody(
    webhook_harness: WebhookHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "TIMEOUT", 90.0)  # far beyond what the good one needs, also on a slow machine
    harness = webhook_harness
    harness.time.now = time.time()
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    bad = ["/hang", "/slow", "/500", "/redirect", "/flood", "/drip", "/cut"]
    receiver.replies["/hang"] = receiver.hang
    receiver.replies["/500"] = (500,)
    released = asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response(status=200)

    async def redirect(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": receiver.url("/trap")})

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers={"Content-Length": str(10_000_000)})
        await response.prepare(request)
        for _ in range(160):
            await response.write(b"x" * 62_500)
        return response

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        await response.write(b"x")
        await receiver.over.wait()
        return response

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    receiver.replies |= {"/slow": slow, "/redirect": redirect, "/flood": flood, "/drip": drip, "/cut": cut}
    found = {path: (await harness.endpoint(receiver.url(path)))[0] for path in bad}
    found["dead"], _ = await harness.endpoint(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    found["/good"], _ = await harness.endpoint(receiver.url("/good"))

    chats = 50
    async with delivering(harness.database, metrics=harness.metrics) as deliverer:
        began = time.monotonic()
        for n in range(chats):
            await harness.comes_in(f"62811{n:04d}", "1")
            deliverer.wake()
        await receiver.until(chats, "/good", timeout=40)
        for n in range(chats):
            await harness.comes_in(f"62811{n:04d}", "2")
            deliverer.wake()
        good = await receiver.until(2 * chats, "/good", timeout=40)
        # the hanging ones have not come to an end by now: nobody waited for them
        assert time.monotonic() - began < deliver.TIMEOUT
        assert not released.is_set()
        for n in range(chats):
            of_chat = [m.text for m in good if m.json["data"]["chat_id"] == f"62811{n:04d}@c.us"]
            assert of_chat == ["1", "2"]
        await receiver.until(1, "/slow")
        released.set()
        await receiver.until(2 * chats, "/slow")
        await eventually(lambda: harness.states(found["/good"]), {"delivered": 2 * chats})
        # the status counts, however much or slowly the answer goes on
        await receiver.until(2 * chats, "/flood")
        await eventually(lambda: harness.states(found["/flood"]), {"delivered": 2 * chats})
        await receiver.until(1, "/drip")
        assert await has_attempt(harness, found["/500"].id, 500)
        assert await has_attempt(harness, found["/redirect"].id, 307)
        assert await has_attempt(harness, found["/cut"].id, 0)
        assert await has_attempt(harness, found["dead"].id, 0)
    assert receiver.at("/trap") == []
    closed.close()


async def has_attempt(harness: WebhookHarness, endpoint_id: int, status: int) -> bool:
    a = webhook_attempts.c
    rows = await harness.database.read(
        lambda c: c.execute(webhook_attempts.select().where(a.endpoint_id == endpoint_id, a.status == status)).all()
    )
    return bool(rows) and not any(len(row.answer) > 1_000 for row in rows)


async def test_a_hanging_receiver_is_given_up_in_time(
    webhook_harness: WebhookHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = webhook_harness
    harness.time.now = time.time()
    monkeypatch.setattr(deliver, "TIMEOUT", 0.3)
    receiver.replies["/hook"] = receiver.hang
    await harness.endpoint(receiver.url())
    async with delivering(harness.database) as deliverer:
        await harness.comes_in()
        deliverer.wake()
        await receiver.until(1)
        await eventually(lambda: attempts_of(harness), 1)
    row = await harness.database.read(lambda c: c.execute(webhook_attempts.select()).one())
    assert sentence(read(row.reason), "en") == "the server took too long"
    assert await harness.states() == {"pending": 1}


async def test_gone_ends_it(webhook_harness: WebhookHarness, receiver: Receiver) -> None:
    harness = webhook_harness
    harness.time.now = time.time()
    receiver.replies["/hook"] = (410,)
    endpoint, _ = await harness.endpoint(receiver.url())
    async with delivering(harness.database) as deliverer:
        await harness.comes_in()
        await harness.comes_in()
        deliverer.wake()
        await eventually(harness.states, {"failed": 2})
        await harness.comes_in()
        deliverer.wake()
    assert len(receiver.webhook_calls) == 1
    found = await harness.database.read(lambda c: endpoints.by_key(c, endpoint.account_id, endpoint.key))
    assert found is not None
    assert found.state == "disabled"


async def test_an_address_that_was_allowed_once_is_judged_again_at_each_try(
    webhook_harness: WebhookHarness, receiver: Receiver
) -> None:
    from tests.harness.webhooks import SEALING

    from kurir.kit.metrics import Metrics
    from kurir.kit.safe_fetch import SafeFetch
    from kurir.settings import Settings

    harness = webhook_harness
    harness.time.now = time.time()
    await harness.endpoint(receiver.url())
    await harness.comes_in()
    strict = SafeFetch(Settings())
    await strict.start()
    deliverer = deliver.Deliverer(harness.database, SEALING, strict, Metrics(), time.time)
    await deliverer.start()
    await eventually(lambda: attempts_of(harness), 1)
    await deliverer.stop()
    await strict.close()
    row = await harness.database.read(lambda c: c.execute(webhook_attempts.select()).one())
    assert sentence(read(row.reason), "en") == "the URL's host is not on the public internet"
    assert receiver.webhook_calls == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_receiver_that_was_down_gets_everything_in_order_when_it_is_back(
    webhook_harness: WebhookHarness, receiver: Receiver, *, restarted: bool
) -> None:
    harness, clock = webhook_harness, Hands()
    harness.time.now = clock()
    await harness.endpoint(receiver.url())
    port = await receiver.stop()
    texts = [f"{n}" for n in range(20)]
    async with contextlib.AsyncExitStack() as lives:
        deliverer = await lives.enter_async_context(delivering(harness.database, clock, harness.metrics))
        for text in texts:
            await harness.comes_in("628111", text)
            await harness.comes_in("628222", text)
        deliverer.wake()
        tries = itertools.count(2, 2)
        for delay in DELAYS[:4]:
            count = next(tries)
            await eventually(lambda count=count: attempts_of(harness), count)
            clock.ahead += delay * 1.2
            deliverer.wake()
        await eventually(lambda: attempts_of(harness), 10)
        if restarted:
            await deliverer.stop()
            deliverer = await lives.enter_async_context(delivering(harness.database, clock, harness.metrics))
        # next try in hours; the receiver is back, and any event that gets through brings the rest along
        await receiver.start(port)
        await harness.comes_in("628333", "hello?")
        deliverer.wake()
        webhook_calls = await receiver.until(41)
        await eventually(harness.states, {"delivered": 41})
    for chat in ("628111@c.us", "628222@c.us"):
        assert [m.text for m in webhook_calls if m.json["data"]["chat_id"] == chat] == texts
    assert len({webhook_call.id for webhook_call in webhook_calls}) == 41


async def test_a_restart_goes_on_where_it_was(webhook_harness: WebhookHarness, receiver: Receiver) -> None:
    harness = webhook_harness
    harness.time.now = time.time()
    await harness.endpoint(receiver.url())
    receiver.replies["/hook"] = receiver.hang
    async with delivering(harness.database) as deliverer:
        for n in range(3):
            await harness.comes_in("628111", f"{n}")
        deliverer.wake()
        await receiver.until(1)
    # stopped in the middle of a try: the next process need not wait for the lease
    assert await harness.states() == {"pending": 1, "waiting": 2}
    receiver.replies["/hook"] = (200,)
    async with delivering(harness.database):
        webhook_calls = await receiver.until(4)
        await eventually(harness.states, {"delivered": 3})
    assert [webhook_call.text for webhook_call in webhook_calls] == ["0", "0", "1", "2"]
    assert webhook_calls[0].id == webhook_calls[1].id


async def test_a_killed_process_loses_nothing(webhook_harness: WebhookHarness, receiver: Receiver) -> None:
    harness = webhook_harness
    harness.time.now = time.time()
    await harness.endpoint(receiver.url())
    wanted = [(f"62811{chat}", f"{n}") for n in range(20) for chat in range(10)]
    for chat, text in wanted:
        await harness.comes_in(chat, text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])}
    for kills in range(1, 4):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.reliability.webhook_child", str(harness.database.where), env=environment
        )
        try:
            await receiver.until(20 * kills, timeout=60)
        finally:
            child.send_signal(signal.SIGKILL)
            await child.wait()
    states = await harness.states()
    assert sum(states.values()) == len(wanted)
    assert states["delivered"] < len(wanted)

    clock = Hands()
    clock.ahead = deliveries.LEASE + 1  # what the killed processes had in hand is due again
    async with delivering(harness.database, clock):
        await eventually(harness.states, {"delivered": len(wanted)}, timeout=40)
    by_id = {webhook_call.id: webhook_call for webhook_call in receiver.webhook_calls}
    assert sorted((m.json["data"]["chat_id"], m.text) for m in by_id.values()) == sorted(
        (f"{chat}@c.us", text) for chat, text in wanted
    )
    assert all(webhook_call.body == by_id[webhook_call.id].body for webhook_call in receiver.webhook_calls)
    for chat in {chat for chat, _ in wanted}:
        seen = [int(m.text) for m in receiver.webhook_calls if m.json["data"]["chat_id"] == f"{chat}@c.us"]
        # repeated after a kill, perhaps, but never ahead of an earlier one
        assert list(dict.fromkeys(seen)) == list(range(20))


async def test_two_processes_on_one_database_keep_the_order(
    webhook_harness: WebhookHarness, receiver: Receiver
) -> None:
    harness = webhook_harness
    harness.time.now = time.time()
    await harness.endpoint(receiver.url())
    async with delivering(harness.database) as one, delivering(harness.database) as two:
        for n in range(40):
            for chat in ("628111", "628222", "628333"):
                await harness.comes_in(chat, f"{n}")
            (one, two)[n % 2].wake()
        webhook_calls = await receiver.until(120)
        await eventually(harness.states, {"delivered": 120})
    assert len(webhook_calls) == 120
    for chat in ("628111", "628222", "628333"):
        of_chat = [int(m.text) for m in webhook_calls if m.json["data"]["chat_id"] == f"{chat}@c.us"]
        assert of_chat == list(range(40))


async def test_a_start_alone_takes_up_what_a_killed_process_had_in_hand(tmp_path: Path, receiver: Receiver) -> None:
    async with open_webhook_harness(tmp_path / "kurir.db") as harness:
        harness.time.now = time.time()
        endpoint, _ = await harness.endpoint(receiver.url())
        await harness.comes_in()
        assert await harness.claim(endpoint) is not None  # and nobody ever records it
        async with delivering(harness.database):
            await receiver.until(1, timeout=deliveries.LEASE / 2)
            await eventually(harness.states, {"delivered": 1})

"""The deliverer's steps fail or end: what is tried again, what is logged, counted and quarantined."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from aiohttp import web
from structlog.testing import capture_logs
from tests.harness.gateway import quarantined
from tests.harness.webhooks import WebhookHarness, delivering, eventually, receiving, verified

from kurir.kit.connection_failures import connection_failure
from kurir.kit.metrics import Metrics
from kurir.kit.safe_fetch import FetchFailed
from kurir.kit.url_rules import UrlRefused
from kurir.reasons import as_written
from kurir.reasons.media import UNREACHABLE
from kurir.reasons.webhooks import RECEIVER_GONE, RECEIVER_UNREACHABLE
from kurir.store.database import DatabaseUnavailable
from kurir.webhooks import deliver, deliveries
from kurir.webhooks.retry_schedule import MOST_ATTEMPTS, Answered, ReceiverResponse, Unanswered
from kurir.webhooks.tables import webhook_deliveries

AWAY = DatabaseUnavailable("gone for a moment")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "_AFTER_FAILURE", 0.01)


def breaks(harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch, name: str, *errors: Exception) -> None:
    """The next transactions with that function of `deliveries` end in these errors, one each: within one it may run
    twice."""
    original, left = getattr(deliveries, name), list(errors)

    def broken(*arguments: Any, **options: Any) -> Any:
        if left:
            raise left[0]
        return original(*arguments, **options)

    def noted(ask: Any) -> Any:
        async def asked(*arguments: Any, **options: Any) -> Any:
            try:
                return await ask(*arguments, **options)
            except Exception as error:
                if left and error is left[0]:
                    left.pop(0)
                raise

        return asked

    monkeypatch.setattr(deliveries, name, broken)
    monkeypatch.setattr(harness.database, "read", noted(harness.database.read))
    monkeypatch.setattr(harness.database, "write", noted(harness.database.write))


def lines_of(lines: Any, event: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "event"} for line in lines if line["event"] == event]


def counted(metrics: Metrics, name: str) -> dict[str, float]:
    """A metric's samples by its only label."""
    return {
        next(iter(sample.labels.values()), ""): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize(
    ("status", "tries", "result", "step", "state"),
    [
        (200, 0, "delivered", None, "delivered"),
        (500, 0, "again", "RetryLater", "pending"),
        (410, 0, "gone", "Gone", "failed"),
        (500, MOST_ATTEMPTS - 1, "exhausted", "Exhausted", "failed"),
        (0, 0, "again", "RetryLater", "pending"),
    ],
)
async def test_each_try_is_counted_by_its_result_and_a_failure_is_logged(
    harness: WebhookHarness, status: int, tries: int, result: str, step: str | None, state: str
) -> None:
    metrics = Metrics()
    async with receiving() as receiver:
        receiver.replies["/hook"] = (status,)
        endpoint, _ = await harness.endpoint(receiver.url() if status else "http://127.0.0.1:9/hook")
        await harness.comes_in()
        await harness.fan_out()
        tried = webhook_deliveries.update().values(attempts=tries)
        await harness.database.write(lambda c: c.execute(tried) and None)
        with capture_logs() as lines:
            async with delivering(harness.database, harness.time, metrics):
                await eventually(harness.states, {state: 1})
                await eventually(lambda: _counted(metrics), {result: 1})
    assert counted(metrics, "kurir_webhook_seconds_count") == {"": 1}
    event_key = await harness.database.read(lambda c: c.exec_driver_sql("SELECT key FROM events").scalar_one())
    failed = lines_of(lines, "webhook_failed")
    expected = {
        "endpoint": endpoint.key,
        "event_id": event_key,
        "attempt": tries + 1,
        "status": status,
        "reason": "" if status else UNREACHABLE.code,
        "step": step,
        "log_level": "info",
    }
    assert failed == ([expected] if step else [])
    disabled = lines_of(lines, "webhook_endpoint_disabled")
    gone = {"endpoint": endpoint.key, "reason": RECEIVER_GONE.code, "log_level": "warning"}
    assert disabled == ([gone] if status == 410 else [])


async def _counted(metrics: Metrics) -> dict[str, float]:
    return counted(metrics, "kurir_webhook_deliveries_total")


class Fetch:
    """Stands where SafeFetch does: notes what is posted, and answers or raises `answer`."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.posted: list[Any] = []

    async def post(self, *arguments: Any, **options: Any) -> Any:
        self.posted.append((arguments, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def post(answer: Any) -> tuple[ReceiverResponse, list[Any]]:
    fetch = Fetch(answer)
    response = await deliver.post(cast("Any", fetch), "http://a.test/", b"body", {"x": "y"}, 7)
    return response, fetch.posted


async def test_a_post_has_bounds_and_its_accounts_turn_and_any_answer_becomes_text() -> None:
    answered, posted = await post(SimpleNamespace(status=503, retry_after="60", answer=b"no\0 \xff fine"))
    assert posted == [(("http://a.test/", b"body", {"x": "y"}), {"within": 15.0, "most_answer": 20_000, "account": 7})]
    assert answered == Answered(503, "60", "no\ufffd \ufffd fine")


@pytest.mark.parametrize(
    "refusal", [UrlRefused(as_written("not allowed")), FetchFailed(as_written("not allowed"), permanent=False)]
)
async def test_what_is_not_posted_has_the_reason_of_the_refusal(refusal: Exception) -> None:
    assert (await post(refusal))[0] == Unanswered(as_written("not allowed"))


async def test_an_error_of_the_system_is_logged_and_its_text_shown_to_nobody() -> None:
    error = ConnectionRefusedError(111, "Connection refused")
    with capture_logs() as lines:
        answer, _ = await post(error)
    assert answer == Unanswered(RECEIVER_UNREACHABLE(error=connection_failure(error)))
    line = {"error": "ConnectionRefusedError: [Errno 111] Connection refused", "log_level": "info"}
    assert lines_of(lines, "webhook_post_failed") == [line]


@pytest.mark.parametrize("step", ["first_due", "claim"])
async def test_a_step_that_the_database_did_not_answer_is_taken_again(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    breaks(harness, monkeypatch, step, AWAY)
    monkeypatch.setattr(deliver, "_POLL", 3_600.0)  # it does not wait for its next poll
    async with receiving() as receiver:
        await harness.endpoint(receiver.url())
        await harness.comes_in()
        with capture_logs() as lines:
            async with delivering(harness.database, harness.time):
                await receiver.until(1)
                await eventually(harness.states, {"delivered": 1})
    line = {"task": "webhooks", "reason": "gone for a moment", "log_level": "warning"}
    assert lines_of(lines, "database_unavailable") == [line]


@pytest.mark.parametrize("step", ["claim", "record"])
@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_a_delivery_with_unforeseen_failures_is_tried_three_times_and_then_quarantined(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch, step: str, failures: int
) -> None:
    metrics = Metrics()
    breaks(harness, monkeypatch, step, *[ZeroDivisionError("unforeseen")] * failures)
    async with receiving() as receiver:
        endpoint, _ = await harness.endpoint(receiver.url())
        await harness.comes_in(text="first")
        await harness.comes_in(text="behind it")
        with capture_logs() as lines:
            async with delivering(harness.database, harness.time, metrics) as deliverer:
                ends = {"delivered": 2} if failures < 3 else {"delivered": 1, "failed": 1}
                await eventually(harness.states, ends)
                await eventually(lambda: _idle(deliverer), True)
                assert not deliverer._breakages, "the next failures of others begin anew"
                assert not deliverer._in_flight
    line = {"endpoint": endpoint.id, "exc_info": True, "log_level": "error"}
    assert lines_of(lines, "webhook_delivery_failed") == [line] * failures
    entries = await harness.database.read(quarantined)
    number = harness.harness.number
    found = [(e.queue, e.reference, e.reason, e.account_id, e.number_id) for e in entries]
    reason = "it could not be processed (ZeroDivisionError)"
    assert found == ([("webhook", "delivery:1", reason, number.account_id, number.id)] if failures == 3 else [])
    assert counted(metrics, "kurir_quarantined_total") == ({"webhook": 1} if failures == 3 else {})
    assert receiver.webhook_calls[-1].text == "behind it"


async def _idle(deliverer: deliver.Deliverer) -> bool:
    return not deliverer._workers


async def test_an_account_that_cannot_be_fanned_out_is_logged_and_counted(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, original, left = Metrics(), deliver.fan_out, [ZeroDivisionError("unforeseen")]

    def broken(connection: sa.Connection, account_id: int) -> bool:
        if left:
            raise left[0]
        return original(connection, account_id)

    monkeypatch.setattr(deliver, "fan_out", broken)
    async with receiving() as receiver:
        await harness.endpoint(receiver.url())
        await harness.comes_in()
        with capture_logs() as lines:
            async with delivering(harness.database, harness.time, metrics) as deliverer:
                await eventually(lambda: _failures(metrics), 1)
                error = left.pop()
                deliverer.wake()
                await receiver.until(1)
    account_id = harness.harness.number.account_id
    assert lines_of(lines, "fan_out_failed")[0] == {"account": account_id, "exc_info": error, "log_level": "error"}


async def _failures(metrics: Metrics) -> float:
    return min(counted(metrics, "kurir_task_failures_total").get("webhook-fan-out", 0), 1)


async def test_at_most_four_of_an_endpoint_and_as_many_as_there_are_places_are_posted_at_once(
    harness: WebhookHarness,
) -> None:
    hanging, most, go_on = 0, 0, asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        nonlocal hanging, most
        hanging += 1
        most = max(most, hanging)
        await go_on.wait()
        hanging -= 1
        return web.Response()

    async with receiving() as receiver:
        receiver.replies["/hook"] = hang
        await harness.endpoint(receiver.url())
        for n in range(6):
            await harness.comes_in(chat=f"62811{n}")
        async with delivering(harness.database, harness.time):
            await receiver.until(4)
            await eventually(harness.states, {"sending": 4, "pending": 2})
            go_on.set()
            await eventually(harness.states, {"delivered": 6})
    assert most == 4


async def test_what_is_due_later_is_posted_then_without_another_event(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deliverer sleeps until the earliest retry, not until its next poll."""
    monkeypatch.setattr(deliver, "_POLL", 3_600.0)
    async with receiving() as receiver:
        await harness.endpoint(receiver.url())
        await harness.comes_in()
        await harness.fan_out()
        later = webhook_deliveries.update().values(due_at=harness.time() + 0.2)
        await harness.database.write(lambda c: c.execute(later) and None)
        began = asyncio.get_running_loop().time()

        def clock() -> float:
            return harness.time() + asyncio.get_running_loop().time() - began

        async with delivering(harness.database, clock):
            await receiver.until(1)
        assert clock() - harness.time() >= 0.2


async def test_a_delivery_is_signed_for_its_number_by_the_clock_of_the_system(harness: WebhookHarness) -> None:
    """The harness's clock is years ahead: a receiver compares the time with its own."""
    async with receiving() as receiver:
        _, secret = await harness.endpoint(receiver.url())
        await harness.comes_in(text="halo")
        async with delivering(harness.database, harness.time):
            (webhook_call,) = await receiver.until(1)
    assert verified(webhook_call, secret)["data"]["message_body"] == "halo"
    assert webhook_call.headers["bls-oto-numberid"] == harness.harness.number.key
    assert webhook_call.headers["content-type"] == "application/json"

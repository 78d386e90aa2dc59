"""What a commit sets off: to whom it goes in this process, and what other gateways are notified of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from kurir.dispatch import notifier as module
from kurir.dispatch.notifier import Notifier
from kurir.store.database import DatabaseUnavailable
from kurir.store.pg_notify import Notification

HELD, OTHERS = 7, 8
"""A number of this gateway's, and one of another's."""


class Parts:
    """The dispatcher, the outbox, the deliverer, the feed and the leases: they note how they were called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.awaited: set[int] = {5}
        self.looked = asyncio.Event()
        self.away = False

    def wake(self, account_id: int, number_id: int) -> None:
        self.calls.append(("lane", account_id, number_id))

    def deliver(self) -> None:
        self.calls.append(("deliverer",))

    def publish(self, accounts: Any) -> None:
        self.calls.append(("feed", list(accounts)))

    def hold(self, number_id: int) -> object | None:
        return object() if number_id == HELD else None

    def look(self) -> None:
        self.calls.append(("leases",))

    def awaits(self, message_id: int) -> bool:
        return message_id in self.awaited

    async def look_at(self, account_id: int, message_id: int) -> None:
        self.looked.set()
        if self.away:
            raise DatabaseUnavailable("gone")
        self.calls.append(("outbox", account_id, message_id))


class Channel:
    """A channel to other gateways that keeps what is sent."""

    def __init__(self, database: object, heard: Callable[[Notification], None], health: object) -> None:
        self.made_with = (database, health)
        self.heard = heard
        self.calls: list[object] = []

    def start(self) -> None:
        self.calls.append("start")

    async def close(self) -> None:
        self.calls.append("close")

    def notify(self, notify: Notification) -> None:
        self.calls.append(notify)


@pytest.fixture
def parts() -> Parts:
    return Parts()


def notifier(parts: Parts, *, shared: bool = True, wired: bool = True) -> tuple[Notifier, Channel | None]:
    made = Notifier(cast("Any", "database"), cast("Any", parts if shared else None), feed=cast("Any", parts))
    if wired:
        made.dispatcher, made.outbox, made.deliverer = cast("Any", parts), cast("Any", parts), parts.deliver
    return made, cast("Any", made._channel)


@pytest.fixture(autouse=True)
def channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NotifyChannel", Channel)


async def test_a_number_is_for_the_lane_here_or_for_the_gateway_that_holds_it(parts: Parts) -> None:
    shared, channel = notifier(parts)
    assert channel is not None
    shared.number_due(1, HELD)
    assert (parts.calls, channel.calls) == ([("lane", 1, HELD)], [])
    shared.number_due(1, OTHERS)
    assert (parts.calls, channel.calls) == ([("lane", 1, HELD)], [Notification("number", 1, OTHERS)])
    alone, none = notifier(parts, shared=False)
    assert none is None
    alone.number_due(1, OTHERS)
    assert parts.calls[1:] == [("lane", 1, OTHERS)]


async def test_events_outcomes_and_released_numbers_go_to_readers_here_and_to_other_gateways(parts: Parts) -> None:
    shared, channel = notifier(parts)
    assert channel is not None
    shared.appended(frozenset({3}))
    shared.settled(3, 5)
    shared.released()
    assert parts.calls == [("feed", [3]), ("deliverer",)]
    assert channel.calls == [Notification("events", 3), Notification("settled", 3, 5), Notification("leases")]
    alone, _ = notifier(parts, shared=False)
    alone.appended(frozenset({4}))
    alone.settled(4, 5)
    alone.released()
    assert parts.calls[2:] == [("feed", [4]), ("deliverer",)]


@pytest.mark.parametrize(
    ("heard", "calls"),
    [
        (Notification("number", 1, OTHERS), [("lane", 1, OTHERS)]),
        (Notification("settled", 1, 5), [("outbox", 1, 5)]),
        (Notification("settled", 1, 6), []),
        (Notification("events", 3), [("feed", [3]), ("deliverer",)]),
        (Notification("leases"), [("leases",)]),
    ],
)
async def test_what_other_gateways_send_reaches_whom_it_concerns(
    parts: Parts, heard: Notification, calls: list[Any]
) -> None:
    shared, channel = notifier(parts)
    assert channel is not None
    channel.heard(heard)
    await shared.close()
    assert parts.calls == calls


@pytest.mark.parametrize("about", ["number", "settled", "events", "leases"])
async def test_before_its_parts_are_there_nothing_fails(parts: Parts, about: Any) -> None:
    shared, channel = notifier(parts, wired=False)
    assert channel is not None
    channel.heard(Notification(about, 1, 5))
    shared.number_due(1, HELD)
    shared.appended([1])
    await shared.close()
    assert {call[0] for call in parts.calls} <= {"feed", "leases"}


async def test_a_look_at_an_outcome_that_the_database_does_not_answer_is_logged_and_no_more(parts: Parts) -> None:
    shared, channel = notifier(parts)
    assert channel is not None
    parts.away = True
    with capture_logs() as lines:
        channel.heard(Notification("settled", 1, 5))
        await parts.looked.wait()
        await shared.close()
    assert lines == [
        {"event": "database_unavailable", "task": "outcome_wait", "reason": "gone", "log_level": "warning"}
    ]


async def test_it_listens_only_where_there_may_be_other_gateways(parts: Parts) -> None:
    shared, channel = notifier(parts)
    assert channel is not None
    assert channel.made_with == ("database", None)
    shared.start()
    await shared.close()
    assert channel.calls == ["start", "close"]
    alone, _ = notifier(parts, shared=False)
    alone.start()
    await alone.close()

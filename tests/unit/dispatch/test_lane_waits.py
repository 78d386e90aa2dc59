"""When a lane looks again, how much it takes at once and how long it pauses: its rules, without a gateway around it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from kurir.channels.channel import Capabilities
from kurir.dispatch import lane as module
from kurir.dispatch.lane import Lane
from kurir.kit.metrics import Metrics
from kurir.kit.pauses import Pauses
from kurir.messages.channel_reports import InDoubt, Outcome, Refused, Sent, TryLater, Unknown
from kurir.messages.content import Outgoing, Text
from kurir.numbers.numbers import Number
from kurir.outbox.message_rows import Claimed, Claims, Upcoming
from kurir.reasons import NOTHING, as_written

NOW = 1_800_000_000.0
NUMBER = Number(
    id=3,
    account_id=7,
    key="BO-1",
    channel="linked_device",
    phone="628111",
    name="",
    state="connected",
    state_reason=NOTHING,
    last_connected_at=NOW,
    jid="jid",
    phone_number_id="",
    waba_id="",
    app_id="",
    created_at=NOW,
)
RECHECK = 30.0
WINDOW, CHANNEL_TIMEOUT = 4, 120.0


class Ticks:
    """Stands where the module `time` does: it moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class Parts:
    """A lane's outbox, channel, database, media store and hold: they answer what a test sets, and note the calls."""

    def __init__(self) -> None:
        self.capabilities = Capabilities(frozenset(), groups=True, typing=True, window=WINDOW, timeout=CHANNEL_TIMEOUT)
        self.number: Number | None = NUMBER
        self.connected, self.inherited, self.is_valid = True, False, True
        self.claims: list[Claims] = []
        self.claimed: list[dict[str, Any]] = []
        self.ahead: list[dict[str, Any]] = []
        self.otherwise: dict[str, Any] = {}
        self.doubts: list[dict[str, Any]] = []
        self.next_doubt: float | None = None
        self.left: list[Claimed] = []
        self.recorded: list[tuple[int, Outcome, Any]] = []

    async def read(self, _work: Any, *, of: int) -> Number | None:
        assert of == NUMBER.account_id
        return self.number

    def ready(self, _number: Number) -> bool:
        return self.connected

    def valid(self) -> bool:
        return self.is_valid

    def guard(self, _connection: Any) -> bool:
        return True

    async def claim(self, account_id: int, number_id: int, limit: int, guard: Any, **how: Any) -> Claims:
        assert (account_id, number_id) == (NUMBER.account_id, NUMBER.id)
        self.claimed.append({"limit": limit, "deep": how["deep"]})
        return self.claims.pop(0) if self.claims else Claims(self.number, **self.otherwise)

    async def upcoming(self, account_id: int, number_id: int, now: float, **how: Any) -> Upcoming:
        assert (account_id, number_id) == (NUMBER.account_id, NUMBER.id)
        self.ahead.append({"now": now, "deep": how["deep"]})
        return Upcoming([], set())

    async def settle_doubts(self, account_id: int, number_id: int, *, since: float, timeout: float) -> float | None:
        assert (account_id, number_id) == (NUMBER.account_id, NUMBER.id)
        self.doubts.append({"since": since, "timeout": timeout})
        return self.next_doubt

    async def left_in_flight(self, account_id: int, number_id: int) -> list[Claimed]:
        assert (account_id, number_id) == (NUMBER.account_id, NUMBER.id)
        return self.left

    async def record(self, claimed: Claimed, outcome: Outcome, timeout: float, guard: Any) -> Any:
        assert timeout == CHANNEL_TIMEOUT
        self.recorded.append((claimed.id, outcome, guard))
        return SimpleNamespace(state="sent", error_reason=NOTHING)

    async def send(self, _number: Number, outgoing: Outgoing) -> Outcome:
        return Sent(f"w{outgoing.message_id}")

    async def evidence(self, _number: Number, _outgoing: Outgoing) -> Unknown:
        return Unknown("w9")


class Scene:
    """A lane on these parts; `clock` is the system's, `ticks` the steady one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gap: float = 0.0, inherited: bool = False) -> None:
        self.ticks = Ticks()
        monkeypatch.setattr(module, "time", self.ticks)
        self.parts = Parts()
        self.parts.inherited = inherited
        self.clock = NOW
        parts = cast("Any", self.parts)
        self.lane = Lane(
            NUMBER,
            parts,
            database=parts,
            outbox=parts,
            media=parts,
            metrics=Metrics(),
            clock=lambda: self.clock,
            gap=gap,
            hold=parts,
            pauses=Pauses(lane_idle=0.0),
        )

    async def landed(self) -> None:
        """Waits until nothing is in flight, and its end was noted."""
        await self.lane.recorded()
        await asyncio.sleep(0)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def message(message_id: int) -> Claimed:
    return Claimed(
        message_id, NUMBER.account_id, NUMBER.id, f"628{message_id}", Text("x"), False, "api", 1, NOW, NOW + 60, NOW
    )


# -- when it looks again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due_at", "clock", "restricted", "wait"),
    [
        (None, NOW, None, None),
        (NOW + 5, NOW, None, 5.0),
        (NOW + 5, NOW + 2, None, 3.0),  # the look itself took two seconds
        (NOW + 1, NOW + 2, None, 0.01),
        (NOW + 500, NOW, None, 500.0),
        (NOW, NOW, None, RECHECK),
        (NOW - 9, NOW, None, RECHECK),
        (NOW + 500, NOW, NOW + 900, RECHECK),
        (NOW + 5, NOW, NOW + 900, 5.0),
    ],
)
def test_the_wait_for_what_is_due(
    scene: Scene, due_at: float | None, clock: float, restricted: float | None, wait: float | None
) -> None:
    scene.clock = clock
    scene.lane.number = msgspec.structs.replace(NUMBER, restricted_until=restricted)
    assert scene.lane._until_due(due_at, NOW) == (pytest.approx(wait) if wait is not None else None)


def taking(*ids: int, **what: Any) -> Claims:
    """A claim of these messages, as many as it was to take."""
    return Claims(NUMBER, [message(one) for one in ids], full=True, **what)


async def test_after_a_claim_it_looks_for_more_at_once_and_takes_no_more_than_the_window(scene: Scene) -> None:
    scene.parts.claims = [taking(1, 2)]
    assert await scene.lane._turn() == 0.0
    assert scene.parts.claimed == [{"limit": WINDOW, "deep": False}]
    assert scene.parts.ahead == [{"now": NOW, "deep": False}]
    assert await scene.lane._turn() is None
    assert scene.parts.claimed[1:] == [{"limit": WINDOW - 2, "deep": False}]
    scene.parts.claims = [taking(3, 4)]
    await scene.lane._turn()
    assert await scene.lane._turn() == RECHECK, "with a full window it claims nothing"
    assert len(scene.parts.claimed) == 3
    await scene.landed()
    assert await scene.lane._turn() is None
    assert scene.parts.claimed[-1] == {"limit": WINDOW, "deep": False}
    assert [message_id for message_id, _, _ in scene.parts.recorded] == [1, 2, 3, 4]


async def test_it_waits_until_the_next_is_due_and_half_a_minute_without_the_hold(scene: Scene) -> None:
    scene.parts.otherwise = {"due_at": NOW + 12}
    assert await scene.lane._turn() == 12.0
    scene.parts.otherwise = {"held": False}
    assert await scene.lane._turn() == RECHECK


async def test_while_files_come_it_looks_for_more_files_a_quarter_of_a_second_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefetch = cast("Any", SimpleNamespace(pause=lambda: 0.2, busy=True, ready=lambda: (), failed=lambda: ()))
    monkeypatch.setattr(scene.lane, "_prefetch", prefetch)
    assert await scene.lane._take(2) == 0.2
    scene.parts.otherwise = {"due_at": NOW + 0.1}
    assert await scene.lane._take(2) == pytest.approx(0.1)
    scene.parts.otherwise = {}
    scene.parts.claims = [taking(1)]
    assert await scene.lane._take(2) == 0.0
    prefetch.busy = False
    assert await scene.lane._take(2) is None
    assert scene.parts.ahead == []
    prefetch.fetching, prefetch.begin, prefetch.pause = tuple, lambda _files, _given_up: None, lambda: 0.0
    scene.parts.otherwise = {"files": True}
    assert await scene.lane._take(2) is None
    prefetch.busy, scene.parts.otherwise = True, {}
    assert await scene.lane._take(2) is None
    assert len(scene.parts.ahead) == 2
    await scene.landed()


# -- behind a crowd ----------------------------------------------------------------------------------------------------


async def test_behind_a_crowd_it_scans_the_whole_queue_at_most_a_tenth_of_the_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.parts.otherwise = {"due_at": NOW + 50, "crowded": True}
    took, claim = 0.0, scene.parts.claim

    async def slow(*number: Any, **how: Any) -> Claims:
        if how["deep"]:
            scene.ticks.now += took
        return await claim(*number, **how)

    monkeypatch.setattr(scene.parts, "claim", slow)
    assert await scene.lane._turn() == pytest.approx(1.0), "a second at least"
    assert scene.parts.claimed == [{"limit": WINDOW, "deep": False}, {"limit": WINDOW, "deep": True}]
    assert scene.parts.ahead == [{"now": NOW, "deep": True}]
    scene.ticks.now += 0.75
    assert await scene.lane._turn() == pytest.approx(0.25)
    assert [how["deep"] for how in scene.parts.claimed] == [False, True, False]
    scene.ticks.now += 0.25
    took = 0.5
    assert await scene.lane._turn() == pytest.approx(5.0), "ten times what it took"
    assert [how["deep"] for how in scene.parts.claimed[3:]] == [False, True]
    scene.ticks.now += 5.0
    took = 20.0
    assert await scene.lane._turn() == pytest.approx(50.0), "or sooner, when something is due"
    scene.parts.otherwise = {"crowded": True}
    scene.ticks.now += 100.0
    assert await scene.lane._turn() == RECHECK


async def test_what_a_scan_claims_is_followed_by_another_at_once(scene: Scene) -> None:
    crowd = Claims(NUMBER, crowded=True)
    scene.parts.claims = [crowd, taking(1), crowd, taking(2)]
    assert await scene.lane._turn() == 0.0
    assert await scene.lane._turn() == 0.0
    assert [how["deep"] for how in scene.parts.claimed] == [False, True, False, True]
    await scene.landed()


async def test_where_something_was_claimed_nothing_is_scanned(scene: Scene) -> None:
    scene.parts.claims = [taking(1, crowded=True)]
    assert await scene.lane._turn() == 0.0
    assert [how["deep"] for how in scene.parts.claimed] == [False]
    await scene.landed()


# -- pauses ------------------------------------------------------------------------------------------------------------


async def test_with_a_gap_one_is_in_flight_and_the_next_begins_after_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, gap=3.0)
    scene.parts.claims = [taking(1)]
    await scene.lane._turn()
    assert scene.parts.claimed == [{"limit": 1, "deep": False}]
    assert await scene.lane._turn() == RECHECK
    await scene.landed()
    assert await scene.lane._turn() == 3.0
    scene.ticks.now += 2.5
    assert await scene.lane._turn() == 0.5
    assert len(scene.parts.claimed) == 1
    scene.ticks.now += 0.5
    assert await scene.lane._turn() is None
    assert len(scene.parts.claimed) == 2


async def test_what_never_reached_the_channel_begins_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, gap=3.0)
    refused = Refused("media_url_refused", as_written("no"))
    monkeypatch.setattr(scene.lane._prefetch, "take", lambda _message_id: refused)
    scene.parts.claims = [taking(1)]
    await scene.lane._turn()
    await scene.landed()
    assert scene.parts.recorded == [(1, refused, None)]
    assert await scene.lane._turn() is None


@pytest.mark.parametrize(
    ("outcome", "rests"),
    [
        (TryLater("429", NOTHING, after=7.0, whole_number=True), 7.0),
        (TryLater("429", NOTHING, whole_number=True), 1.0),
        (TryLater("429", NOTHING, after=7.0), 0.0),
        (Refused("429", NOTHING), 0.0),
        (Sent("w"), 0.0),
    ],
)
def test_what_slows_a_whole_number_down(scene: Scene, outcome: Outcome, rests: float) -> None:
    scene.lane._slow_down(outcome)
    assert max(0.0, scene.lane._rests_until - scene.ticks.now) == rests


def test_several_in_flight_slow_a_number_down_once_and_a_success_begins_anew(scene: Scene) -> None:
    slowed = TryLater("429", NOTHING, after=10.0, whole_number=True)
    lane, ticks = scene.lane, scene.ticks

    def rests() -> float:
        return lane._rests_until - ticks.now

    for _ in range(3):
        lane._slow_down(slowed)
        assert rests() == 10.0
    ticks.now += 10.0
    lane._slow_down(slowed)
    assert rests() == 20.0
    lane._slow_down(Sent("w"))
    assert rests() == 20.0, "what was asked for is kept"
    ticks.now += 20.0
    lane._slow_down(slowed)
    assert rests() == 10.0


# -- connection, removal, doubt ----------------------------------------------------------------------------------------


async def test_a_number_that_is_not_connected_claims_nothing_and_its_receipts_begin_to_count_anew(scene: Scene) -> None:
    scene.parts.next_doubt = NOW + 100
    await scene.lane._turn()
    assert scene.parts.doubts == [{"since": NOW, "timeout": CHANNEL_TIMEOUT}]
    scene.parts.connected = False
    assert await scene.lane._turn() == RECHECK
    assert len(scene.parts.claimed) == 1
    scene.clock += 100
    assert await scene.lane._turn() == RECHECK
    assert len(scene.parts.doubts) == 1
    scene.parts.connected = True
    await scene.lane._turn()
    assert scene.parts.doubts[1:] == [{"since": NOW + 100, "timeout": CHANNEL_TIMEOUT}]


async def test_doubts_are_settled_when_their_time_is_over(scene: Scene) -> None:
    scene.parts.next_doubt = NOW + 100
    await scene.lane._turn()
    scene.clock += 99.9
    await scene.lane._turn()
    assert len(scene.parts.doubts) == 1
    scene.clock = NOW + 100
    scene.parts.next_doubt = None
    await scene.lane._turn()
    assert scene.parts.doubts == [{"since": NOW, "timeout": CHANNEL_TIMEOUT}] * 2
    scene.clock += 1_000
    await scene.lane._turn()
    assert len(scene.parts.doubts) == 2


@pytest.mark.parametrize("connected", [True, False])
async def test_a_removed_number_ends_its_lane_once_what_was_in_flight_is_settled(scene: Scene, connected: bool) -> None:
    scene.parts.number, scene.parts.connected = None, connected
    scene.parts.left = [message(1)]
    assert await scene.lane._turn() is None
    assert [(one[0], type(one[1])) for one in scene.parts.recorded] == [(1, InDoubt)]
    assert len(scene.parts.claimed) == int(connected), "the claim is where it is found out"
    assert scene.lane._next_doubt is None


@pytest.mark.parametrize(
    ("inherited", "connected", "seconds", "judged"),
    [
        (True, False, 0.0, False),
        (True, False, 59.9, False),
        (True, False, 60.0, True),
        (True, True, 0.0, True),
        (False, False, 0.0, True),
    ],
)
async def test_when_what_another_gateway_left_in_flight_is_judged(
    monkeypatch: pytest.MonkeyPatch, inherited: bool, connected: bool, seconds: float, judged: bool
) -> None:
    scene = Scene(monkeypatch, inherited=inherited)
    scene.parts.connected = connected
    scene.parts.left = [message(1)]
    scene.ticks.now += seconds
    await scene.lane._turn()
    assert [(one[0], type(one[1])) for one in scene.parts.recorded] == ([(1, InDoubt)] if judged else [])
    for _, outcome, guard in scene.parts.recorded:
        assert isinstance(outcome, InDoubt)
        assert outcome.remote_id == "w9", "as the channel knew it"
        assert guard == scene.parts.guard
    scene.parts.left = []
    await scene.lane._turn()
    assert len(scene.parts.recorded) == int(judged), "each is judged once"


async def test_what_this_lane_claimed_without_learning_of_it_has_not_left(scene: Scene) -> None:
    await scene.lane._turn()
    scene.lane._recovered = False  # a claim ended in an error
    scene.parts.left = [message(1)]
    await scene.lane._turn()
    ((message_id, outcome, _),) = scene.parts.recorded
    assert (message_id, type(outcome)) == (1, TryLater)
    assert isinstance(outcome, TryLater)
    assert outcome.code == "never_left"


async def test_with_nothing_to_send_it_ends(scene: Scene) -> None:
    await asyncio.wait_for(scene.lane.run(), 10)
    assert scene.lane.closed
    assert len(scene.parts.claimed) == 1


async def test_without_the_hold_it_touches_nothing(scene: Scene) -> None:
    scene.parts.is_valid = False
    running = asyncio.create_task(scene.lane.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    assert scene.parts.claimed == scene.parts.ahead == scene.parts.doubts == []
    assert await scene.lane.stop(1.0) == 0
    await running
    assert scene.lane.closed


async def test_a_lane_with_an_open_doubt_stays(scene: Scene) -> None:
    scene.parts.next_doubt = NOW + 100
    running = asyncio.create_task(scene.lane.run())
    while not scene.parts.claimed:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    scene.parts.next_doubt = None
    scene.clock += 100
    scene.lane.wake()
    await asyncio.wait_for(running, 10)
    assert len(scene.parts.doubts) == 2

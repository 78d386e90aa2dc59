"""F11: somebody sets the system's clock under a running gateway. Nothing expires, dies, repeats or stands still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.kit.clock import SteadyClock
from kurir.messages.channel_reports import InDoubt, Sent, TryLater
from kurir.reasons import as_written

HOUR, DAY = 3600.0, 86_400.0
JUMPS = [-HOUR, HOUR, DAY + 60, -DAY]
_real = time.time
SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the system's clock forward (or back) by seconds, counted from the truth."""

    def set_(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: _real() + seconds)

    return set_


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


async def send(harness: Harness) -> str:
    answer = await harness.send("send_personal_message", phone_no=PHONE, message="halo")
    assert answer.json()["code"] == "200"
    return answer.headers["X-Message-Id"]


async def states(harness: Harness) -> list[str]:
    rows = await harness.gateway.database.read(
        lambda c: c.exec_driver_sql("SELECT state FROM messages ORDER BY id").all()
    )
    return [row[0] for row in rows]


async def until(harness: Harness, wanted: list[str]) -> None:
    async with asyncio.timeout(10):
        while (now := await states(harness)) != wanted:
            await asyncio.sleep(0.02)
    assert now == wanted


@pytest.mark.parametrize("jump", JUMPS)
async def test_what_waits_goes_on_waiting_and_is_sent(harness: Harness, set_clock: SetClock, jump: float):
    harness.devices.connected = False
    await send(harness)
    set_clock(jump)
    await send(harness)
    assert await harness.gateway.outbox.expire() == 0
    harness.devices.connected = True
    harness.gateway.dispatcher.wake(harness.ours.account.id, harness.ours.device.id)
    await until(harness, ["sent", "sent"])


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_retry_comes_when_it_was_due(harness: Harness, set_clock: SetClock, jump: float):
    tries = []

    def outcome(outgoing):
        tries.append(time.monotonic())
        return TryLater("131000", as_written("later"), 1.0) if len(tries) == 1 else Sent("3EB0")

    harness.devices.outcome = outcome
    await send(harness)
    await harness.until_sent(1)
    set_clock(jump)
    await until(harness, ["sent"])
    assert tries[1] - tries[0] > 0.9


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_code_lives_as_long_as_it_was_given(harness: Harness, set_clock: SetClock, jump: float):
    made = (await harness.send("send_otp", phone_no=PHONE, message="Kode: {{otp}}", expired_time=300)).json()
    code = next(str(value) for key, value in _flat(made) if key in {"otp", "otp_code", "code"} and len(str(value)) == 6)
    set_clock(jump)
    assert (await harness.send("validate_otp", otp_code=code)).json()["code"] == "200"
    assert (await harness.send("validate_otp", otp_code=code)).json()["code"] != "200"


def _flat(value, key=""):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, name)
    else:
        yield key, value


async def test_doubt_does_not_end_early(harness: Harness, set_clock: SetClock):
    await harness.gateway.database.write(lambda c: c.exec_driver_sql("UPDATE accounts SET doubt = 'resend'") and None)
    harness.devices.outcome = lambda _: InDoubt(as_written("cut off"))
    await send(harness)
    await until(harness, ["unconfirmed"])
    set_clock(HOUR)
    harness.gateway.dispatcher.wake(harness.ours.account.id, harness.ours.device.id)
    await asyncio.sleep(0.5)  # a second try would come at once
    assert len(harness.devices.sent) == 1


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_repeated_request_is_still_known(harness: Harness, set_clock: SetClock, jump: float):
    headers = {"Idempotency-Key": "order-1"}
    for shift in (0.0, jump):
        set_clock(shift)
        body = harness.ours.credentials() | {"phone_no": PHONE, "message": "halo"}
        answer = await harness.post("send_personal_message", body, headers=headers)
        assert answer.json()["code"] == "200"
    await until(harness, ["sent"])


def test_daylight_saving_is_no_time_at_all(monkeypatch: pytest.MonkeyPatch):
    """Everything counts in unix seconds: across both changes of the year, an hour is an hour."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for change in (1_774_746_000.0, 1_792_890_000.0):  # 2026-03-29 and 2026-10-25, 01:00 UTC
            wall, counted = [change - 1800], [50.0]
            clock = SteadyClock(lambda wall=wall: wall[0], lambda counted=counted: counted[0])
            before, before_local = clock(), time.localtime(wall[0]).tm_hour
            wall[0], counted[0] = wall[0] + 3600, counted[0] + 3600
            assert clock() - before == 3600
            assert time.localtime(wall[0]).tm_hour - before_local in (0, 2)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_it_says_so_once_and_follows_again(capsys: pytest.CaptureFixture[str]):
    wall, counted = [1000.0], [0.0]
    clock = SteadyClock(lambda: wall[0], lambda: counted[0])
    wall[0], counted[0] = 1012.0, 10.0  # the time service was two seconds ahead
    assert clock() == 1012.0
    wall[0] += DAY
    assert [clock(), clock()] == [1012.0, 1012.0]
    wall[0], counted[0] = wall[0] - DAY + 21, counted[0] + 20
    assert clock() == 1033.0
    output = capsys.readouterr().out
    assert output.count("clock_jumped") == output.count("clock_recovered") == 1


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e7, 1e7)), max_size=30))
def test_however_it_is_set_time_goes_on_evenly(steps: list[tuple[float, float]]):
    wall, counted = [1.8e9], [0.0]
    clock = SteadyClock(lambda: wall[0], lambda: counted[0])
    last = clock()
    for elapsed, jump in steps:
        counted[0] += elapsed
        wall[0] += elapsed + jump
        now = clock()
        assert abs(now - last - elapsed) <= 5.0 + 1e-3
        last = now

"""A connection that ends right after each login is not begun anew without a pause, and says so."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.e2e.device_rig import KEY, Rig, number
from tests.e2e.sandbox_network import SandboxNetwork, eventually
from tests.hostile.test_engine_stream import UNRELAXED
from tests.sentences import english

from kurir.channels.linked_device import logins
from kurir.channels.linked_device.channel import LinkedDevices
from kurir.channels.linked_device.logins import Logins, pause
from kurir.messages.channel_reports import ConnectionChanged, Sent
from kurir.messages.content import Text

PAUSES = 3
STREAM_ENDS = 5


def reported(rig: Rig, number_id: int) -> list[ConnectionChanged]:
    return [one for one in rig.events if isinstance(one, ConnectionChanged) and one.number_id == number_id]


@pytest.mark.e2e
@pytest.mark.parametrize("ending", [{}, {"code": 503}, {"code": 515}, {"seconds": 0.2}], ids=str)
async def test_a_connection_that_ends_after_each_login_is_tried_with_growing_pauses(
    sandbox: SandboxNetwork, tmp_path: Path, ending: dict[str, Any]
) -> None:
    owners = await sandbox.person("Satu"), await sandbox.person("Dua")
    siti = await sandbox.person("Siti")
    async with Rig(sandbox, tmp_path, number(1), number(2)) as rig:
        bad, good = [await rig.pair(owner, index) for index, owner in enumerate(owners)]
        others = len(reported(rig, good.id))
        fault = await sandbox.post("/faults", {"effect": "end_login", "number": owners[0], **ending})
        with capture_logs() as log:
            await sandbox.post(f"/devices/{bad.jid}/drop")
            troubles = rig.devices.device_stats().troubles
            await eventually(lambda: troubles["reconnects_often"] >= PAUSES, 120, what="paused a few times")
            (hits,) = [one["hits"] for one in (await sandbox.get("/faults"))["faults"] if one["id"] == fault["id"]]
            await eventually(lambda: rig.devices.state(bad)[0] == "disconnected", what="says that it is away")
        assert "right after each login" in english(rig.devices.state(bad)[1])
        assert hits <= 40, "a few at first and for each pause, where the engine by itself makes a hundred a second"
        lines = [one for one in log if one["event"] == "device_unstable"]
        assert [one["pauses"] for one in lines][:PAUSES] == list(range(1, PAUSES + 1))
        away = [
            one.at
            for one in reported(rig, bad.id)
            if one.state == "disconnected" and "each login" in english(one.reason)
        ]
        gaps = [later - earlier for earlier, later in itertools.pairwise(away)]
        assert all(gap >= 2**n for n, gap in enumerate(gaps)), gaps
        since = [one.state for one in reported(rig, bad.id) if one.at > away[0]]
        assert "connected" not in since, "what does not hold is not published as connected"
        rig.numbers.reverse()
        assert isinstance(await rig.send(siti, Text("masih di sini")), Sent)
        assert len(reported(rig, good.id)) == others, "the other device has not noticed"
        await sandbox.delete("/faults")
        await eventually(lambda: rig.devices.ready(bad), 30, what="connected again")


@pytest.mark.e2e
async def test_a_number_that_is_left_alone_and_paired_again_is_not_left_in_mid_pairing(
    sandbox: SandboxNetwork, tmp_path: Path
) -> None:
    owner = await sandbox.person("Toko")
    async with Rig(sandbox, tmp_path) as rig:
        one = await rig.pair(owner)
        await sandbox.post("/faults", {"effect": "end_login", "number": owner})
        await sandbox.post(f"/devices/{one.jid}/drop")
        troubles = rig.devices.device_stats().troubles
        await eventually(lambda: troubles["reconnects_often"] >= PAUSES, 60, what="left alone for some seconds")
        await eventually(lambda: rig.devices.state(one)[0] == "disconnected", what="says that it is away")
        pairing = await rig.devices.start_pairing(one)
        await eventually(lambda: not pairing.running, 30, what=f"an end of the pairing, now {pairing.state}")
        await sandbox.delete("/faults")
        await eventually(lambda: rig.devices.ready(one), 90, what="connected again")


@pytest.mark.e2e
async def test_an_event_stream_that_ends_after_each_login_is_begun_anew_with_growing_pauses(
    sandbox: SandboxNetwork, tmp_path: Path
) -> None:
    owner, siti = await sandbox.person("Toko"), await sandbox.person("Siti")
    rig = Rig(sandbox, tmp_path)
    rig.devices = LinkedDevices(rig.settings, KEY, rig._list, time.time, UNRELAXED)
    async with rig:
        one = await rig.pair(owner)
        troubles, ends = rig.devices.device_stats().troubles, []
        while len(ends) < STREAM_ENDS:
            await eventually(lambda: rig.devices.ready(one), 30, what="connected again")
            await sandbox.post(f"/people/{siti}/receipts", {"to": owner, "type": "server-error", "ids": ["A"]})
            await eventually(lambda: troubles["event_stream_ended"] > len(ends), what="the stream has ended")
            ends.append(time.monotonic())
            await eventually(lambda: not rig.devices.ready(one), what="says that it is away")
        gaps = [later - earlier for earlier, later in itertools.pairwise(ends)][1:]  # the first one costs no pause
        assert all(gap >= 2**n for n, gap in enumerate(gaps)), gaps
        assert not any("proto" in english(change.reason) for change in reported(rig, one.id))


def test_a_line_that_breaks_now_and_then_is_none_of_these() -> None:
    steady, tunnel = Logins(), Logins()
    assert all(steady.note(n * logins.SHORT) for n in range(100))
    assert all(tunnel.note(n) for n in range(logins.MOST + 1))
    assert tunnel.note(logins.MOST + logins.STEADY + 1)
    assert tunnel.short == 0


def test_short_connections_are_counted_until_one_was_steady() -> None:
    seen = Logins()
    answers = [seen.note(n * 0.01) for n in range(logins.MOST + 3)]
    assert answers == [True] * (logins.MOST + 1) + [False] * 2
    assert not seen.note(logins.SHORT * 2), "not steady yet"
    assert seen.note(logins.SHORT * 2 + logins.STEADY)
    wary = Logins(0)
    assert wary.on_probation(0.0)
    assert wary.note(0.0)
    assert not wary.note(logins.SHORT / 2)
    assert not wary.on_probation(logins.SHORT + logins.STEADY)


def test_after_a_pause_a_line_that_is_lost_at_once_is_enough() -> None:
    wary = Logins(0)
    assert not wary.lost(0.0), "before the engine has told of the login"
    assert wary.note(0.0)
    assert not wary.lost(logins.SHORT / 2)
    assert wary.lost(logins.SHORT)
    usual = Logins()
    assert usual.lost(0.0)
    assert usual.note(0.0)
    assert usual.lost(0.1)


def test_pauses_grow_to_a_limit_and_differ() -> None:
    least = [min(pause(times) for _ in range(200)) for times in range(1, 9)]
    assert least == sorted(least)
    assert least[0] >= 1.0
    assert max(pause(10**6) for _ in range(200)) <= 300.0 * 1.25
    assert len({pause(3) for _ in range(20)}) > 1

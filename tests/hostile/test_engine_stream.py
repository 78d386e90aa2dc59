"""Words of WhatsApp's that the engine does not know neither end its event stream nor cost what people write."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.device_rig import KEY, Rig, number
from tests.e2e.sandbox_network import SandboxNetwork, eventually
from tests.sentences import english

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.messages.channel_reports import ConnectionChanged, Received, Sent
from kurir.messages.content import Text
from kurir.reasons.numbers import UNREADABLE

pytestmark = pytest.mark.e2e

MESSAGES = int(os.environ.get("KURIR_STREAM_MESSAGES", "40"))
RECEIPTS = ("server-error", "played-self", "peer_msg", "hist_sync", "sender", "inactive", "view", "x" * 300, "\u202e1")
UNKNOWN_RECEIPTS = 4
"""How many of `RECEIPTS` the engine has no word for; `played-self` is one that it takes for another."""
NOTIFICATIONS = ("newsletter", "mex", "business", "privacy_token", "link_code_companion_reg", "of tomorrow")
UNRELAXED = (sys.executable, str(Path(__file__).with_name("unrelaxed_host.py")))


def texts(rig: Rig) -> list[str]:
    return [event.text for event in rig.events if isinstance(event, Received)]


def states(rig: Rig, number_id: int = 1) -> list[tuple[str, str]]:
    changes = [event for event in rig.events if isinstance(event, ConnectionChanged)]
    return [(change.state, english(change.reason)) for change in changes if change.number_id == number_id]


async def test_receipts_and_notifications_of_unknown_types_cost_nothing(
    sandbox: SandboxNetwork, tmp_path: Path
) -> None:
    owner, siti = await sandbox.person("Toko"), await sandbox.person("Siti")
    async with Rig(sandbox, tmp_path) as rig:
        paired = await rig.pair(owner)
        before = states(rig)
        for n in range(MESSAGES):
            await sandbox.post(f"/people/{siti}/messages", {"to": owner, "text": f"m{n}"})
            kind = RECEIPTS[n % len(RECEIPTS)]
            await sandbox.post(f"/people/{siti}/receipts", {"to": owner, "type": kind, "ids": [f"3EB0{n:04d}"]})
            await sandbox.post(f"/devices/{paired.jid}/notifications", {"type": NOTIFICATIONS[n % len(NOTIFICATIONS)]})
        await eventually(lambda: len(set(texts(rig))) == MESSAGES, 30, what="all messages")
        assert isinstance(await rig.send(siti, Text("masih di sini")), Sent)
        assert sorted(texts(rig)) == sorted(f"m{n}" for n in range(MESSAGES))
        assert states(rig) == before
        troubles = rig.devices.device_stats().troubles
        assert troubles["event_stream_ended"] == troubles["not_relaxed"] == 0
        rounds, rest = divmod(MESSAGES, len(RECEIPTS))
        assert rounds * UNKNOWN_RECEIPTS <= troubles["unknown_receipt"] <= (rounds + (rest > 0)) * UNKNOWN_RECEIPTS


REASONS: tuple[int | str, ...] = (400, 409, 418, 460, 499, 599, 1, "no number")


async def test_a_failure_for_any_reason_leaves_the_host_and_its_other_devices_alone(
    sandbox: SandboxNetwork, tmp_path: Path
) -> None:
    owners = await sandbox.person("Satu"), await sandbox.person("Dua")
    async with Rig(sandbox, tmp_path, number(1), number(2)) as alone:  # each in a host of its own while it is paired
        paired = [await alone.pair(owner, index) for index, owner in enumerate(owners)]
    async with Rig(sandbox, tmp_path, *paired) as rig:
        one = await rig.connected(0)
        await rig.connected(1)
        pids = rig.devices._connections.hosts.pids()
        assert len(pids) == 1
        before = states(rig, 2)
        for reason in REASONS:
            await sandbox.post(f"/devices/{one.jid}/failure", {"reason": reason})
            await eventually(lambda: not rig.devices.ready(one), what=f"failure {reason}")
            state, why = rig.devices.state(one)
            assert state in ("disconnected", "connecting"), (reason, state, why)
            assert "proto" not in english(why)
            assert "nil" not in english(why)
            await rig.devices.close_device(one.id)
            await rig.devices.open_device(one)
            await rig.connected(0)
        assert rig.devices._connections.hosts.pids() == pids
        assert states(rig, 2) == before
        assert rig.devices.device_stats().troubles["event_stream_ended"] == 0


async def test_where_the_stream_ends_the_client_is_stopped_at_once(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner, siti = await sandbox.person("Toko"), await sandbox.person("Siti")
    rig = Rig(sandbox, tmp_path)
    rig.devices = LinkedDevices(rig.settings, KEY, rig._list, time.time, UNRELAXED)
    async with rig:
        await rig.pair(owner)
        for n in range(10):
            await sandbox.post(f"/people/{siti}/messages", {"to": owner, "text": f"before{n}"})
        await eventually(lambda: len(texts(rig)) == 10, what="the first ten")
        # the way back takes a while, as it does in the world: meanwhile the old client must acknowledge nothing
        late = {"effect": "delay", "channel": "linked_device", "kind": "connect", "seconds": 2, "count": 1}
        await sandbox.post("/faults", late)
        await sandbox.post(f"/people/{siti}/receipts", {"to": owner, "type": "server-error", "ids": ["3EB0"]})
        for n in range(20):
            await sandbox.post(f"/people/{siti}/messages", {"to": owner, "text": f"after{n}"})
            await asyncio.sleep(0.05)
        await eventually(lambda: "after19" in texts(rig), what="what was written last")
        await rig.event(ConnectionChanged, lambda e: e.reason == UNREADABLE())
        lost = {f"after{n}" for n in range(20)} - set(texts(rig))
        assert len(lost) <= 8  # what the engine had acknowledged until it was stopped
        assert all(text.startswith("after") for text in lost)
        troubles = rig.devices.device_stats().troubles
        assert troubles["event_stream_ended"] == troubles["not_relaxed"] == 1
        assert not any("proto" in reason for _, reason in states(rig))

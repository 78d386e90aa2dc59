"""The channel and its hosts as processes, with a scripted engine: deaths, hangs, doubt, pairing, placement."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sentences import english
from tests.unit.linked_device.scripted_host import PAIRS_AT_ONCE, STAYS_PAIRED

from kurir.channels.linked_device import connections, hosts, pairing_progress
from kurir.channels.linked_device.channel import DeviceUnavailable
from kurir.channels.linked_device.host_process import masked
from kurir.channels.linked_device.hosts import environment
from kurir.channels.linked_device.pairing import Pairing, PairingView
from kurir.messages.channel_reports import (
    ConnectionChanged,
    InDoubt,
    NeverLeft,
    NotConnected,
    Sent,
    StatusChanged,
    Unknown,
)
from kurir.reasons import as_written
from kurir.reasons import numbers as reasons
from kurir.settings import Settings

pytestmark = pytest.mark.processes

MakeHarness = Callable[..., Awaitable[Any]]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_paired_number_is_opened_at_start_and_sends(make_harness: MakeHarness) -> None:
    harness = await make_harness()
    paired, unpaired = harness.numbers
    assert await harness.send(paired, "halo", 5) == Sent("id-5-0")
    assert await harness.send(paired, "halo", 6, typing=True) == Sent("id-6-0.52")
    assert isinstance(await harness.send(unpaired, "halo"), NotConnected)
    states = [(e.number_id, e.state, e.phone, e.jid) for e in harness.events if isinstance(e, ConnectionChanged)]
    assert states == [(1, "connecting", "", ""), (1, "connected", "62811", "62811:1@x")]


@pytest.mark.parametrize("how", ["die", "doubt", "fail", "garbage"])
async def test_a_cut_off_send_is_judged_by_what_the_session_holds(make_harness: MakeHarness, how: str) -> None:
    harness = await make_harness()
    number = harness.numbers[0]
    assert isinstance(await harness.send(number, how, 10), InDoubt)
    assert await harness.evidence(number, 10) == NeverLeft()
    await harness.connected(number)
    harness.leave_trace(number, 11, "3EB0AA")
    assert isinstance(await harness.send(number, how, 11), InDoubt)
    assert await harness.evidence(number, 11) == Unknown("3EB0AA")
    await harness.connected(number)
    harness.session(harness.number(paired=False))  # another file must not matter
    (harness.folder / "devices" / f"{number.key}.db").write_bytes(b"this is no database" * 100)
    assert isinstance(await harness.send(number, how, 12), InDoubt)
    assert await harness.evidence(number, 12) == Unknown()


async def test_a_hanging_host_is_ended_and_replaced_while_others_go_on(make_harness: MakeHarness) -> None:
    harness = await make_harness(2, devices_per_host=1, engine_timeout=1.0)
    first, second = harness.numbers[:2]
    pids = [await harness.pid(first), await harness.pid(second)]
    assert pids[0] != pids[1]
    hanging = asyncio.create_task(harness.send(first, "hang"))
    assert isinstance(await harness.send(second, "halo"), Sent)
    assert isinstance(await hanging, InDoubt)
    assert not _alive(pids[0])
    await harness.connected(first)
    assert await harness.pid(first) != pids[0]
    assert await harness.pid(second) == pids[1]
    assert isinstance(await harness.send(first, "halo"), Sent)


async def test_paired_numbers_share_hosts_up_to_the_setting(make_harness: MakeHarness) -> None:
    harness = await make_harness(5, devices_per_host=2)
    pids = [await harness.pid(number) for number in harness.numbers[:5]]
    assert sorted(pids.count(pid) for pid in set(pids)) == [1, 2, 2]
    await harness.stop()
    assert not any(_alive(pid) for pid in pids)


async def test_all_numbers_of_a_lost_host_come_back(make_harness: MakeHarness) -> None:
    harness = await make_harness(3)
    pid = await harness.pid(harness.numbers[0])
    harness.events.clear()
    os.kill(pid, signal.SIGKILL)
    await harness.until(lambda: sum(isinstance(e, ConnectionChanged) for e in harness.events) == 6)
    for number in harness.numbers[:3]:
        reported = [e.state for e in harness.events if isinstance(e, ConnectionChanged) and e.number_id == number.id]
        assert reported == ["connecting", "connected"]
        assert isinstance(await harness.send(number, "halo"), Sent)


async def test_a_host_does_not_outlive_its_gateway(tmp_path: Path) -> None:
    gateway = subprocess.Popen(  # noqa: ASYNC220  (it must be killed, not awaited)
        [
            sys.executable,
            "-c",
            "import asyncio, sys\n"
            "from kurir.channels.linked_device.host_process import HostProcess\n"
            "from kurir.channels.linked_device.hosts import ARGV, environment\n"
            "from kurir.channels.linked_device.protocol import Ping\n"
            "from kurir.settings import Settings\n"
            "async def news(_): pass\n"
            "async def main():\n"
            "    host = await HostProcess.launch(ARGV, environment(Settings()), news)\n"
            "    await host.call(Ping(), 60)\n"
            "    sys.stdout.write(f'{host.pid}\\n'); sys.stdout.flush()\n"
            "    await asyncio.Event().wait()\n"
            "asyncio.run(main())\n",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert gateway.stdout is not None
    with gateway.stdout:
        pid = int(await asyncio.to_thread(gateway.stdout.readline))
    assert _alive(pid)
    gateway.kill()
    gateway.wait()
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, "the host lives on"
        await asyncio.sleep(0.01)


async def test_a_flood_of_news_arrives_whole_and_in_order(make_harness: MakeHarness) -> None:
    harness = await make_harness()
    assert isinstance(await harness.send(harness.numbers[0], "flood 3000"), Sent)
    await harness.until(lambda: sum(isinstance(e, StatusChanged) for e in harness.events) == 3000)
    assert [e.remote_id for e in harness.events if isinstance(e, StatusChanged)] == [f"m{n}" for n in range(3000)]


async def test_noise_on_standard_output_harms_nothing(make_harness: MakeHarness) -> None:
    harness = await make_harness()
    assert isinstance(await harness.send(harness.numbers[0], "noise"), Sent)
    assert isinstance(await harness.send(harness.numbers[0], "halo"), Sent)
    assert masked("to 6281234567890 code 34DG-8G2E key AAAAAAAAAAAAAAAAAAAAAAAA==") == "to … code 34DG-8G2E key …"


async def test_pairing_by_qr_and_by_code(make_harness: MakeHarness) -> None:
    harness = await make_harness(0)
    (number,) = harness.numbers
    pairing = Pairing(harness.channel, time.time)
    assert pairing.state(number) == PairingView("none")
    view = await pairing.start(number)
    assert (view.state, view.qr) == ("qr", "qr-text")
    assert view.expires_at is not None
    assert 55 < view.expires_at - time.time() <= 60
    view = await pairing.start(number, "6281234567890")
    assert (view.state, view.qr, view.code) == ("code", "", "ABCD-1234")
    assert await pairing.start(number, "6281234567890") == view
    assert (await pairing.cancel(number)).state == "failed"
    assert pairing.state(number) == await pairing.next(number, 5.0)
    assert harness.channel.state(number) == ("disconnected", reasons.PAIRING_CANCELED())


async def test_a_device_that_is_paired_and_does_not_connect_is_opened_anew(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_STUCK", 0.3)
    harness = await make_harness(0)
    (number,) = harness.numbers
    await harness.channel.start_pairing(number, STAYS_PAIRED)
    await harness.connected(number)

    def reported() -> list[tuple[str, str]]:
        return [
            (event.state, english(event.reason)) for event in harness.events if isinstance(event, ConnectionChanged)
        ]

    await harness.until(lambda: reported()[-1][0] == "connected")
    paired = reported().index(("connecting", "paired; connecting to WhatsApp"))
    assert reported()[paired + 1] == ("connecting", "connecting anew after the pairing")


async def test_a_pairing_that_nobody_answers_expires(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing_progress, "LIFETIME", 0.6)
    harness = await make_harness(0)
    (number,) = harness.numbers
    pairing = Pairing(harness.channel, time.time)
    await pairing.start(number)
    await harness.until(lambda: pairing.state(number).state == "expired")
    await harness.until(lambda: harness.channel.state(number)[0] == "disconnected")
    assert pairing.state(number).error
    monkeypatch.undo()  # however long the next host takes to come up
    assert (await pairing.start(number)).state == "qr"


async def test_a_stale_qr_is_not_shown(make_harness: MakeHarness) -> None:
    harness = await make_harness(0)
    (number,) = harness.numbers
    now = time.time()
    pairing = Pairing(harness.channel, lambda: now)
    await pairing.start(number)
    shown = pairing.state(number)
    assert shown.qr
    assert shown.expires_at is not None
    now = shown.expires_at + 1
    assert pairing.state(number) == PairingView("starting")


async def test_a_paired_number_cannot_be_paired_again_before_its_logout(make_harness: MakeHarness) -> None:
    harness = await make_harness()
    number = harness.numbers[0]
    with pytest.raises(DeviceUnavailable, match="log it out first"):
        await harness.channel.start_pairing(number)
    await harness.channel.logout(number)
    assert not (harness.folder / "devices" / f"{number.key}.db").exists()
    assert [e.state for e in harness.events if isinstance(e, ConnectionChanged)].count("logged_out") <= 1
    assert harness.channel.state(number)[0] == "logged_out"
    assert (await Pairing(harness.channel, time.time).start(number)).state == "qr"


async def test_a_session_that_shows_a_qr_code_is_no_session(make_harness: MakeHarness) -> None:
    harness = await make_harness()
    number = harness.numbers[0]
    await harness.send(number, "news qr")
    await harness.until(lambda: harness.channel.state(number)[0] == "logged_out")
    await harness.until(lambda: not (harness.folder / "devices" / f"{number.key}.db").exists())


async def test_a_banned_number_is_taken_down_until_the_ban_ends(make_harness: MakeHarness) -> None:
    harness = await make_harness()
    number = harness.numbers[0]
    pid = await harness.pid(number)
    await harness.send(number, "news ban")
    await harness.until(lambda: harness.channel.state(number) == ("banned", as_written("banned for a while")))
    await harness.until(lambda: not _alive(pid))
    assert await harness.send(number, "halo") == NotConnected(as_written("banned for a while"))


async def test_a_banned_number_comes_back_when_the_ban_ends(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_SHORTEST_BAN", 0.2)
    harness = await make_harness()
    number = harness.numbers[0]
    await harness.send(number, "news ban 0.5")
    await harness.until(lambda: harness.channel.state(number)[0] == "banned")
    await harness.connected(number)
    assert isinstance(await harness.send(number, "halo"), Sent)


async def test_a_dead_line_is_opened_anew_once_and_others_in_its_host_never_notice(make_harness: MakeHarness) -> None:
    harness = await make_harness(2)
    dead, well = harness.numbers[:2]
    pid = await harness.pid(dead)
    assert pid == await harness.pid(well)
    await harness.until(
        lambda: sum(isinstance(e, ConnectionChanged) and e.state == "connected" for e in harness.events) == 2
    )
    harness.events.clear()
    await harness.send(dead, "news dead")
    await harness.until(lambda: sum(isinstance(e, ConnectionChanged) for e in harness.events) >= 4)
    reported = [(e.number_id, e.state) for e in harness.events if isinstance(e, ConnectionChanged)]
    assert reported == [(dead.id, state) for state in ("degraded", "connected", "connecting", "connected")]
    assert await harness.pid(dead) == await harness.pid(well) == pid
    assert isinstance(await harness.send(dead, "halo"), Sent)


async def test_a_host_that_hangs_when_a_device_stops_is_ended_and_its_other_devices_come_back(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "_CLOSE_TIMEOUT", 0.5)
    harness = await make_harness(2)
    clinging, other = harness.numbers[:2]
    pid = await harness.pid(clinging)
    await harness.send(clinging, "clings")
    await harness.send(clinging, "news degraded")
    await harness.until(lambda: harness.channel.state(other)[0] == "connecting")
    assert not _alive(pid)
    for number in (clinging, other):
        await harness.connected(number)
        assert await harness.pid(number) != pid
        assert isinstance(await harness.send(number, "halo"), Sent)


async def test_a_host_that_dies_again_and_again_is_started_ever_later(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "_BACK_OFF_FIRST", 0.1)
    harness = await make_harness()
    number = harness.numbers[0]
    pauses = []
    for n in range(3):
        await harness.send(number, "die")
        await harness.until(lambda n=n: sum(isinstance(e, ConnectionChanged) for e in harness.events) == 2 * (n + 2))
        lost, found = (e.at for e in harness.events[-2:] if isinstance(e, ConnectionChanged))
        pauses.append(found - lost)
    assert all(pause >= 0.1 * 2**n for n, pause in enumerate(pauses)), pauses


@pytest.mark.parametrize("guilty", [0, 3])
async def test_a_device_that_ends_its_host_again_and_again_ends_up_alone(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, guilty: int
) -> None:
    monkeypatch.setattr(hosts, "_BACK_OFF_FIRST", 0.01)
    monkeypatch.setattr(hosts, "_BACK_OFF_MOST", 0.05)
    harness = await make_harness(5)
    deadly = harness.folder / "devices" / f"{harness.numbers[guilty].key}.db.deadly"
    deadly.touch()
    os.kill(await harness.pid(harness.numbers[0]), signal.SIGKILL)
    others = [number for index, number in enumerate(harness.numbers[:5]) if index != guilty]
    slots = harness.channel._connections.hosts._slots
    await harness.until(lambda: any(list(slot.orders) == [harness.numbers[guilty].id] for slot in slots), 30)
    await harness.until(lambda: all(harness.channel.ready(number) for number in others), 30)
    pids = {await harness.pid(number) for number in others}
    for number in others:
        assert isinstance(await harness.send(number, "halo"), Sent)
    assert {await harness.pid(number) for number in others} == pids  # they suffer no more
    assert not harness.channel.ready(harness.numbers[guilty])
    deadly.unlink()
    await harness.connected(harness.numbers[guilty])


async def test_kills_from_outside_part_nothing(make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_BACK_OFF_FIRST", 0.01)
    harness = await make_harness(3)
    for _ in range(5):
        pid = await harness.pid(harness.numbers[0])
        os.kill(pid, signal.SIGKILL)
        await harness.until(lambda pid=pid: not _alive(pid))
        await harness.until(lambda: not harness.channel.ready(harness.numbers[2]))
        for number in harness.numbers[:3]:
            await harness.connected(number)
    assert len({await harness.pid(number) for number in harness.numbers[:3]}) == 1


def test_what_moves_from_a_host_that_keeps_dying() -> None:
    assert hosts.later_half([1, 2, 3, 4, 5]) == [4, 5]
    assert hosts.later_half([1, 2]) == [2]
    assert hosts.later_half([1]) == []


async def test_a_number_whose_session_is_missing_says_so(make_harness: MakeHarness, tmp_path: Path) -> None:
    harness = await make_harness(0)
    lost = harness.number(paired=True)
    (tmp_path / "devices" / f"{lost.key}.db").unlink()
    await harness.channel.start()
    await harness.until(
        lambda: any(isinstance(e, ConnectionChanged) and e.number_id == lost.id for e in harness.events)
    )
    assert harness.channel.state(lost) == ("logged_out", reasons.SESSION_MISSING())


async def test_a_newly_paired_number_moves_in_with_others(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_SETTLING", 0.5)
    harness = await make_harness(1)
    settled, fresh = harness.numbers
    await harness.channel.start_pairing(fresh, PAIRS_AT_ONCE)
    await harness.connected(fresh)
    own, shared = await harness.pid(fresh), await harness.pid(settled)
    assert own != shared
    slow = asyncio.create_task(harness.send(fresh, "slow 1.5", 77))
    await harness.until(lambda: harness.channel.state(fresh)[1] == reasons.MOVING())
    assert isinstance(await harness.send(fresh, "halo"), NotConnected)
    assert await slow == Sent("id-77-0")
    await harness.connected(fresh)
    assert await harness.pid(fresh) == shared
    await harness.until(lambda: not _alive(own))
    assert isinstance(await harness.send(fresh, "halo"), Sent)


def test_a_host_gets_only_the_environment_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KURIR_MASTER_KEY", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://office:3128")
    plain = environment(Settings(data_dir=tmp_path))
    assert "secret" not in plain.values()
    assert plain["NEONIZE_BOT_TAG"] == "off"
    assert plain["HTTPS_PROXY"] == "http://office:3128"
    assert "KURIR_SANDBOX_NOISE_ROOT" not in plain
    sandboxed = environment(
        Settings(data_dir=tmp_path, sandbox=True, sandbox_proxy="http://p", sandbox_ca="/ca", sandbox_noise_root="ab")
    )
    assert (sandboxed["HTTPS_PROXY"], sandboxed["SSL_CERT_FILE"], sandboxed["KURIR_SANDBOX_NOISE_ROOT"]) == (
        "http://p",
        "/ca",
        "ab",
    )

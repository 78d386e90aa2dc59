"""Linked devices with the real engine in real host processes, against the sandbox network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import stat
from pathlib import Path

import pytest
from tests.e2e.device_rig import Rig, number, png, stored
from tests.e2e.sandbox_network import SandboxNetwork, eventually
from tests.sentences import english

from kurir.channels.linked_device import connections, hosts
from kurir.channels.linked_device.channel import DeviceUnavailable
from kurir.messages.channel_reports import (
    ConnectionChanged,
    InDoubt,
    MediaFetched,
    NeverLeft,
    NotConnected,
    Outcome,
    Received,
    Refused,
    Sent,
    StatusChanged,
    TryLater,
    Unknown,
)
from kurir.messages.content import Document, Image, Location, Outgoing, TemplateUse, Text
from kurir.outbox.doubt import explained

pytestmark = pytest.mark.e2e

SITI, BUDI, NOBODY = "6281234567801", "6281234567802", "6281999999901"
FOREIGN_GROUP = "120363000000000002@g.us"


def _children(parent: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.add(int(entry.name))
    return found


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def _peers(pid: int) -> set[int]:
    """The ports on other ends of a process's TCP connections."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except OSError:
            continue  # closed between the two lines
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in sockets:
                ports.add(int(fields[2].rpartition(":")[2], 16))
    return ports


async def test_pairs_by_qr_and_sends_text_whose_receipts_come_back(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Satu")
    async with Rig(sandbox, tmp_path) as rig:
        paired = await rig.pair(owner)
        assert paired.phone == owner
        assert paired.jid.startswith(owner)
        assert stat.S_IMODE((tmp_path / "devices").stat().st_mode) == 0o700

        text = "Halo Siti 👋 @62812 https://example.test/ *tebal*"
        outcome = await rig.send(SITI, Text(text))
        assert isinstance(outcome, Sent)
        arrived = await sandbox.arrival(SITI, lambda m: m["wire_id"] == outcome.remote_id)
        assert (arrived["kind"], arrived["text"], arrived["from"]) == ("text", text, owner)

        delivered = await rig.event(
            StatusChanged, lambda e: e.remote_id == outcome.remote_id and e.status == "delivered"
        )
        assert (delivered.account_id, delivered.number_id, delivered.person) == (7, 1, SITI)
        await sandbox.post(f"/people/{SITI}/read")
        await rig.event(StatusChanged, lambda e: e.remote_id == outcome.remote_id and e.status == "read")


async def test_pairs_by_code(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Kode")
    async with Rig(sandbox, tmp_path) as rig:
        progress = await rig.devices.start_pairing(rig.numbers[0], owner)
        assert await rig.devices.start_pairing(rig.numbers[0], owner) is progress
        await eventually(lambda: bool(progress.code), what="a pairing code")
        assert len(progress.code.replace("-", "")) == 8
        assert not progress.qr
        await sandbox.post("/scan", {"phone": owner, "code": progress.code})
        assert (await rig.connected()).phone == owner
        assert progress.state == "paired"
        with pytest.raises(DeviceUnavailable, match="log it out first"):
            await rig.devices.start_pairing(rig.numbers[0])


async def test_sends_every_kind_and_the_bytes_arrive_unchanged(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Berkas")
    picture, contract = png(), b"%PDF-1.7 " + os.urandom(70_000)
    before = _children(os.getpid())
    async with Rig(sandbox, tmp_path) as rig:
        await rig.pair(owner)
        image = await rig.send(BUDI, Image("x", "Katalog"), stored(tmp_path, picture, "image/png", "k.png"))
        file = stored(tmp_path, contract, "application/pdf", "dari-url.pdf")
        document = await rig.send(BUDI, Document("x", "Kontrak Ünï.pdf", "Mohon dibaca"), file)
        place = await rig.send(BUDI, Location(-6.175392, 106.827153, "Monas", "Jakarta"))
        assert isinstance(image, Sent)
        assert isinstance(document, Sent)
        assert isinstance(place, Sent)

        arrived = await sandbox.arrival(BUDI, lambda m: m["wire_id"] == image.remote_id)
        assert (arrived["kind"], arrived["caption"]) == ("image", "Katalog")
        assert arrived["media"]["mime"] == "image/png"
        assert await sandbox.media(hashlib.sha256(picture).hexdigest()) == picture

        arrived = await sandbox.arrival(BUDI, lambda m: m["wire_id"] == document.remote_id)
        assert (arrived["kind"], arrived["caption"]) == ("document", "Mohon dibaca")
        assert (arrived["media"]["mime"], arrived["media"]["name"]) == ("application/pdf", "Kontrak Ünï.pdf")
        assert await sandbox.media(hashlib.sha256(contract).hexdigest()) == contract

        arrived = await sandbox.arrival(BUDI, lambda m: m["wire_id"] == place.remote_id)
        shown = arrived["location"] if "location" in arrived else arrived["place"]
        assert (shown["latitude"], shown["longitude"], shown["name"], shown["address"]) == (
            -6.175392,
            106.827153,
            "Monas",
            "Jakarta",
        )

        # links and paths in what is sent lead nowhere: the engine's only connections go to the network's proxy
        assert isinstance(await rig.send(BUDI, Text("http://127.0.0.1:9/ /etc/passwd @120363000000000001@g.us")), Sent)
        proxy = int(sandbox.info["proxy_url"].rpartition(":")[2])
        (host,) = _children(os.getpid()) - before
        assert _peers(host) == {proxy}

        refused = await rig.send(BUDI, TemplateUse("hello_world", "en_US"))
        assert isinstance(refused, Refused)
        assert refused.code == "unsupported"


async def test_typing_is_shown_before_the_message(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Ketik")
    customer = await sandbox.person("Pelanggan Ketik")
    async with Rig(sandbox, tmp_path, typing_per_character=0.01, typing_max=1.0) as rig:
        await rig.pair(owner)
        assert isinstance(await rig.send(customer, Text("Sebentar ya"), typing=True), Sent)
        await sandbox.arrival(customer, lambda m: m["from"] == owner)
        seen = [activity["kind"] for activity in await sandbox.get(f"/people/{customer}/activity")]
        assert "typing" in " ".join(seen) or "composing" in " ".join(seen), seen


async def test_says_who_is_on_whatsapp_and_refuses_who_is_not(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Cek")
    async with Rig(sandbox, tmp_path) as rig:
        await rig.pair(owner)
        assert await rig.devices.is_on_whatsapp(rig.numbers[0], [SITI, NOBODY]) == {SITI: True, NOBODY: False}
        refused = await rig.send(NOBODY, Text("Halo?"))
        assert isinstance(refused, Refused)
        assert refused.code == "not_on_whatsapp"


async def test_groups_and_contacts(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Grup")
    await sandbox.post(f"/people/{owner}/contacts", {"phone": SITI, "name": "Siti Langganan"})
    group = await sandbox.post(
        "/groups", {"subject": "Reseller", "owner": SITI, "members": [owner, {"phone": BUDI, "role": "admin"}]}
    )
    group_id = group["id"].removesuffix("@g.us") + "@g.us"
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        # the address book is synced some time after the pairing
        async with asyncio.timeout(15):
            while not (contacts := await rig.devices.contacts(device)):
                await asyncio.sleep(0.05)
        assert [(c.name, c.phone) for c in contacts] == [("Siti Langganan", SITI)]

        (listed,) = await rig.devices.groups(device)
        assert (listed.id, listed.subject) == (group_id, "Reseller")
        members = {member.phone: member for member in listed.participants}
        assert {phone: member.role for phone, member in members.items()} == {
            SITI: "superadmin",
            BUDI: "admin",
            owner: "participant",
        }
        assert (members[SITI].name, members[SITI].is_contact, members[BUDI].is_contact) == (
            "Siti Langganan",
            True,
            False,
        )

        sent = await rig.send(group_id, Text("Halo semua"))
        assert isinstance(sent, Sent)
        for phone in (SITI, BUDI):
            arrived = await sandbox.arrival(phone, lambda m: m["wire_id"] == sent.remote_id)
            assert arrived["text"] == "Halo semua"

        refused = await rig.send(FOREIGN_GROUP, Text("Halo"))
        assert isinstance(refused, Refused)
        assert refused.code == "not_a_group_member"

        # a group the number is taken into after the list was cached, and put out of again
        bare = FOREIGN_GROUP.removesuffix("@g.us")
        await sandbox.post(f"/groups/{bare}/members", {"phone": owner})
        await eventually_sent(rig, FOREIGN_GROUP)
        await sandbox.post(f"/groups/{bare}/members", {"phone": owner, "remove": True})


async def eventually_sent(rig: Rig, recipient: str) -> None:
    """Sends until it goes out: the engine learns of a new group a moment after it happened."""
    async with asyncio.timeout(15):
        while not isinstance(await rig.send(recipient, Text("Terima kasih sudah diundang")), Sent):
            await asyncio.sleep(0.05)


async def test_receives_text_pictures_and_group_messages(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Terima")
    picture = png("orange")
    group = await sandbox.post("/groups", {"subject": "Tanya Jawab", "owner": BUDI, "members": [owner]})
    group_id = group["id"].removesuffix("@g.us") + "@g.us"
    async with Rig(sandbox, tmp_path) as rig:
        await rig.pair(owner)
        wrote = await sandbox.post(f"/people/{SITI}/messages", {"to": owner, "text": "Masih buka?"})
        text = await rig.event(Received, lambda e: e.remote_id == wrote["wire_id"])
        assert (text.account_id, text.number_id, text.chat, text.sender) == (7, 1, SITI, SITI)
        assert (text.kind, text.text, text.sender_name, text.from_me) == (
            "text",
            "Masih buka?",
            "Siti Rahmawati",
            False,
        )

        wrote = await sandbox.post(
            f"/people/{SITI}/messages",
            {"to": owner, "image": {"data": base64.b64encode(picture).decode()}, "caption": "Yang ini?"},
        )
        image = await rig.event(Received, lambda e: e.remote_id == wrote["wire_id"])
        assert (image.kind, image.text) == ("image", "Yang ini?")
        assert image.media is not None
        assert image.media.state == "pending"
        media = (await rig.event(MediaFetched, lambda e: e.remote_id == wrote["wire_id"])).media
        assert _content(media.path) == picture
        assert Path(media.path).is_relative_to(tmp_path / "incoming")
        assert (media.mime, media.size, media.state) == ("image/png", len(picture), "stored")

        wrote = await sandbox.post(f"/people/{BUDI}/messages", {"group": group_id, "text": "Ada yang tahu?"})
        reported = await rig.event(Received, lambda e: e.remote_id == wrote["wire_id"])
        assert (reported.chat, reported.sender, reported.text) == (group_id, BUDI, "Ada yang tahu?")

        wrote = await sandbox.post(
            f"/people/{SITI}/messages", {"to": owner, "location": {"latitude": -6.2, "longitude": 106.8}}
        )
        place = await rig.event(Received, lambda e: e.remote_id == wrote["wire_id"])
        assert (place.kind, place.location) == ("location", (-6.2, 106.8))
        assert len([e for e in rig.events if isinstance(e, Received)]) == 4


async def test_a_killed_host_is_replaced_and_the_number_comes_back(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Tahan")
    before = _children(os.getpid())
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        (host,) = _children(os.getpid()) - before
        os.kill(host, signal.SIGKILL)
        await eventually(lambda: not rig.devices.ready(device))
        outcome = await rig.send(SITI, Text("terlalu cepat"))
        assert isinstance(outcome, NotConnected)
        with pytest.raises(DeviceUnavailable):
            await rig.devices.contacts(device)
        await eventually(lambda: rig.devices.ready(device), 30)
        outcome = await rig.send(SITI, Text("kembali"))
        assert isinstance(outcome, Sent)
        await sandbox.arrival(SITI, lambda m: m["wire_id"] == outcome.remote_id)
        states = [e.state for e in rig.events if isinstance(e, ConnectionChanged)]
        assert states[-2:] == ["connecting", "connected"]
    assert _children(os.getpid()) == before


async def test_evidence_separates_what_left_from_what_did_not(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Bukti")
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        sent = Outgoing(9001, SITI, Text("ada"))
        outcome = await rig.devices.send(device, sent)
        assert isinstance(outcome, Sent)
        assert await rig.devices.evidence(device, sent) == Unknown(outcome.remote_id)
        assert await rig.devices.evidence(device, Outgoing(9002, SITI, Text("tidak"))) == NeverLeft()
    async with Rig(sandbox, tmp_path, device) as rig:
        assert await rig.devices.evidence(device, sent) == Unknown(outcome.remote_id)


async def test_a_new_process_reconnects_paired_numbers(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    first, second = await sandbox.person("Toko Pagi"), await sandbox.person("Toko Sore")
    async with Rig(sandbox, tmp_path, number(1), number(2)) as rig:
        numbers = [await rig.pair(first, 0), await rig.pair(second, 1)]
    before = _children(os.getpid())
    async with Rig(sandbox, tmp_path, *numbers) as rig:
        for index in range(2):
            await rig.connected(index)
        assert len(_children(os.getpid()) - before) == 1, "paired numbers share a host"
        assert isinstance(await rig.send(SITI, Text("selamat pagi")), Sent)


async def test_a_host_killed_in_the_middle_of_sends_leaves_no_lie_behind(
    sandbox: SandboxNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent has arrived, TryLater has not, and what is in doubt is named so that a receipt can settle it."""
    monkeypatch.setattr(hosts, "_GOOD_LIFE", 0.0)  # no growing back-off
    owner = await sandbox.person("Toko Mati Lampu")
    people = [await sandbox.person(f"Pelanggan {n}") for n in range(4)]
    outcomes: dict[str, Outcome] = {}
    before = _children(os.getpid())
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)

        async def send(id_: int) -> None:
            text = f"nomor {id_}"
            outgoing = Outgoing(id_, people[id_ % len(people)], Text(text))
            outcome = await rig.devices.send(device, outgoing)
            if isinstance(outcome, InDoubt):  # as a lane does
                outcome = explained(outcome, await rig.devices.evidence(device, outgoing))
            outcomes[text] = outcome

        for round_ in range(5):
            await eventually(lambda: rig.devices.ready(device), 30)
            sends = [asyncio.create_task(send(7000 + round_ * 100 + n)) for n in range(20)]
            await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
            (host,) = _children(os.getpid()) - before
            os.kill(host, signal.SIGKILL)
            await asyncio.gather(*sends)
        await eventually(lambda: rig.devices.ready(device), 30)

    arrived: list[str] = []
    for phone in people:
        arrived += [m["text"] for m in await sandbox.get(f"/people/{phone}/inbox?after=0")]
    assert len(arrived) == len(set(arrived)), "a message arrived twice"
    assert len(outcomes) == 100
    for text, outcome in outcomes.items():
        match outcome:
            case Sent():
                assert text in arrived
            case TryLater():
                assert text not in arrived
            case InDoubt(remote_id=remote_id):
                assert remote_id
            case _:
                raise AssertionError(outcome)
    assert any(isinstance(outcome, TryLater) for outcome in outcomes.values())
    assert any(isinstance(outcome, Sent) for outcome in outcomes.values())


async def test_newly_paired_numbers_move_in_together(
    sandbox: SandboxNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_SETTLING", 1.0)
    first, second = await sandbox.person("Toko Kiri"), await sandbox.person("Toko Kanan")
    before = _children(os.getpid())
    async with Rig(sandbox, tmp_path, number(1), number(2)) as rig:
        await rig.pair(first, 0)
        await rig.pair(second, 1)
        await eventually(lambda: len(_children(os.getpid()) - before) == 1, 30, what="one host for both")
        for device in rig.numbers:
            await eventually(lambda device=device: rig.devices.ready(device), 30)
            outcome = await rig.devices.send(device, Outgoing(500 + device.id, SITI, Text(f"dari {device.id}")))
            assert isinstance(outcome, Sent)
            await sandbox.arrival(SITI, lambda m, sent=outcome: m["wire_id"] == sent.remote_id)


async def test_logout_removes_the_device_and_allows_pairing_again(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Keluar")
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        await rig.devices.logout(device)
        await rig.event(ConnectionChanged, lambda e: e.state == "logged_out")
        assert not list((tmp_path / "devices").iterdir())
        assert all(d["jid"] != device.jid for d in await sandbox.get("/devices"))
        assert isinstance(await rig.send(SITI, Text("x")), NotConnected)
        with pytest.raises(DeviceUnavailable):
            await rig.devices.logout(device)
        rig.events.clear()
        again = await rig.pair(owner)
        assert again.phone == owner
        assert isinstance(await rig.send(SITI, Text("kembali lagi")), Sent)


async def test_the_phone_removes_the_device(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Dicabut")
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        await sandbox.post(f"/devices/{device.jid}/unlink")
        reported = await rig.event(ConnectionChanged, lambda e: e.state == "logged_out")
        assert "pair it again" in english(reported.reason)
        await eventually(lambda: not list((tmp_path / "devices").iterdir()), what="the session is deleted")


async def test_a_dropped_connection_comes_back_and_a_replaced_one_stays_away(
    sandbox: SandboxNetwork, tmp_path: Path
) -> None:
    owner = await sandbox.person("Toko Putus")
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        rig.events.clear()
        await sandbox.post(f"/devices/{device.jid}/drop")
        await rig.event(ConnectionChanged, lambda e: e.state == "connecting")
        await rig.event(ConnectionChanged, lambda e: e.state == "connected")
        assert isinstance(await rig.send(SITI, Text("tersambung lagi")), Sent)
        await sandbox.post(f"/devices/{device.jid}/replace")
        await rig.event(ConnectionChanged, lambda e: e.state == "replaced")
        assert isinstance(await rig.send(SITI, Text("x")), NotConnected)


async def test_a_canceled_pairing_ends_its_host_and_leaves_nothing(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    before = _children(os.getpid())
    async with Rig(sandbox, tmp_path) as rig:
        unpaired = rig.numbers[0]
        progress = await rig.devices.start_pairing(unpaired)
        await eventually(lambda: bool(progress.qr), what="a QR code")
        await rig.devices.stop_pairing(unpaired)
        assert progress.state == "failed"
        assert _children(os.getpid()) == before
        assert not list((tmp_path / "devices").iterdir())
        await rig.event(ConnectionChanged, lambda e: e.state == "disconnected")


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        ({"reason": 402, "code": "101", "expire": "3600"}, "banned"),
        ({"reason": 405}, "outdated"),
        ({"reason": 401}, "logged_out"),
    ],
)
async def test_a_refused_login_says_why(
    sandbox: SandboxNetwork, tmp_path: Path, failure: dict[str, str], state: str
) -> None:
    owner = await sandbox.person(f"Toko {state}")
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        await sandbox.post("/logins", failure)
        try:
            await sandbox.post(f"/devices/{device.jid}/drop")
            reported = await rig.event(ConnectionChanged, lambda e: e.state == state)
            assert reported.reason
            outcome = await rig.send(SITI, Text("x"))
            assert outcome == NotConnected(reported.reason)
        finally:
            await sandbox.post("/logins", {"reason": None})


async def test_a_server_in_trouble_is_tried_again(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner = await sandbox.person("Toko Sabar")
    async with Rig(sandbox, tmp_path) as rig:
        device = await rig.pair(owner)
        rig.events.clear()
        await sandbox.post("/logins", {"reason": 503})
        try:
            await sandbox.post(f"/devices/{device.jid}/drop")
            await rig.event(ConnectionChanged, lambda e: e.state == "connecting")
        finally:
            await sandbox.post("/logins", {"reason": None})
        await rig.event(ConnectionChanged, lambda e: e.state == "connected", 40)
        assert isinstance(await rig.send(SITI, Text("sudah kembali")), Sent)

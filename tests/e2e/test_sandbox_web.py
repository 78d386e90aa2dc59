"""The sandbox's WhatsApp Web wire against the real, unmodified engine (neonize) in child processes."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image
from tests.e2e.sandbox_engine.driver import EngineError
from tests.e2e.sandbox_engine.stage import (
    ABSENT,
    ALICE,
    BOB,
    OTHER,
    OWNER,
    Sandbox,
    conversation,
    stage,
    text,
    until,
)

from kurir_sandbox.faults import Fault
from kurir_sandbox.ledger import Search
from kurir_sandbox.traffic import Content, Media, Place
from kurir_sandbox.web_protocol.downlink import WriteError
from kurir_sandbox.web_protocol.pairing import ScanError
from kurir_sandbox.world import Member

pytestmark = pytest.mark.e2e


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with stage(tmp_path) as sandbox:
        yield sandbox


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(out, "PNG")
    return out.getvalue()


async def test_every_kind_of_message_reaches_the_phone_and_is_answered(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    image, pdf = picture(), b"%PDF-1.4 invoice"

    first = await engine.call("send", to=ALICE, kind="text", text="halo")
    entry = await sandbox.arrived(ALICE, "halo")
    assert (entry.arrival.sender, entry.arrival.chat, entry.arrival.wire_id) == (OWNER, OWNER, first)
    await engine.event("Receipt", lambda r: r["MessageIDs"] == [first] and r["Type"] == "DELIVERED")

    await engine.call("send", to=ALICE, kind="image", data=base64.b64encode(image).decode(), caption="foto")
    entry = await sandbox.entry(ALICE, lambda e: e.arrival.content.kind == "image")
    assert entry.arrival.content.caption == "foto"
    assert entry.arrival.content.media and entry.arrival.content.media.data == image

    await engine.call(
        "send", to=ALICE, kind="document", data=base64.b64encode(pdf).decode(), caption="tagihan", name="a.pdf"
    )
    content = (await sandbox.entry(ALICE, lambda e: e.arrival.content.kind == "document")).arrival.content
    assert content.media and (content.caption, content.media.name, content.media.data) == ("tagihan", "a.pdf", pdf)

    await engine.call("send", to=ALICE, kind="location", lat=-6.2, lon=106.8, name="Jakarta")
    content = (await sandbox.entry(ALICE, lambda e: e.arrival.content.kind == "location")).arrival.content
    assert content.place == Place(-6.2, 106.8, "Jakarta", "")

    await engine.call("send", to=ALICE, kind="contact", name="Bob B", phone=BOB)
    content = (await sandbox.entry(ALICE, lambda e: e.arrival.content.kind == "contact")).arrival.content
    assert BOB in content.text and "Bob B" in content.bubble

    await engine.call("send", to=ALICE, kind="poll", text="makan?", options=["ya", "tidak"])
    content = (await sandbox.entry(ALICE, lambda e: e.arrival.content.kind == "poll")).arrival.content
    assert content.bubble.splitlines() == ["makan?", "○ ya", "○ tidak"]

    await engine.call("send", to=ALICE, kind="reaction", message=first, text="👍")
    content = (await sandbox.entry(ALICE, lambda e: e.arrival.content.kind == "reaction")).arrival.content
    assert content.text == "👍" and first in content.bubble

    assert await sandbox.phones.read(ALICE) == 7
    await engine.event("Receipt", lambda r: r["MessageIDs"] == [first] and r["Type"] == "READ")

    await sandbox.web.write(ALICE, OWNER, text("balasan"))
    heard = await engine.event("Message", conversation("balasan"))
    assert heard["Info"]["MessageSource"]["SenderAlt"]["User"] == ALICE and heard["Info"]["Pushname"] == "Alice"

    wire_id = await sandbox.web.write(
        ALICE, OWNER, Content("image", caption="lihat", media=Media("image/png", "", image))
    )
    heard = await engine.event("Message", lambda m: m["Info"]["ID"] == wire_id)
    assert heard["Message"]["imageMessage"]["caption"] == "lihat"
    assert base64.b64decode(await engine.call("download", message=wire_id)) == image

    wire_id = await sandbox.web.write(ALICE, OWNER, Content("document", media=Media("application/pdf", "b.pdf", pdf)))
    heard = await engine.event("Message", lambda m: m["Info"]["ID"] == wire_id)
    assert heard["Message"]["documentMessage"]["fileName"] == "b.pdf"
    assert base64.b64decode(await engine.call("download", message=wire_id)) == pdf

    wire_id = await sandbox.web.write(ALICE, OWNER, Content("location", place=Place(1.5, 2.5, "Pasar")))
    heard = await engine.event("Message", lambda m: m["Info"]["ID"] == wire_id)
    assert heard["Message"]["locationMessage"]["degreesLatitude"] == 1.5

    device = sandbox.web.linked_devices()[0]
    await until(lambda: sandbox.web.queued(device.jid) == 0)
    assert len(sandbox.ledger.records(Search())) == 7


async def test_pairing_by_code_contacts_names_and_lookups(sandbox: Sandbox) -> None:
    sandbox.world.set_contact(OWNER, ALICE, "Alice Kantor")
    engine = await sandbox.engine("code")
    await engine.event("qr")
    with pytest.raises(ScanError, match="qr"):
        await sandbox.web.scan(OWNER, "https://wa.me/settings/linked_devices#2@xx,AA==,AA==,AA==,1")
    with pytest.raises(ScanError, match="code"):
        await sandbox.web.enter_code(OWNER, "1234-ABCD")
    code = await engine.call("pair_code", phone=OWNER)
    with pytest.raises(ScanError, match="wrong"):
        await sandbox.web.enter_code(OWNER, "1234-ABCD")
    device = await sandbox.web.enter_code(OWNER, code)
    await engine.event("Connected")
    me = await engine.call("me")
    assert (me["phone"], f"{me['phone']}:{me['device']}@s.whatsapp.net") == (OWNER, device.jid)

    async def contacts(expected: dict[str, str]) -> None:
        async with asyncio.timeout(10):
            while (found := await engine.call("contacts")) != expected:
                assert len(found) <= 3
                await asyncio.sleep(0.05)

    await contacts({ALICE: "Alice Kantor"})
    sandbox.world.set_contact(OWNER, BOB, "Bob Baru")
    await sandbox.web.contacts_changed(OWNER)
    await contacts({ALICE: "Alice Kantor", BOB: "Bob Baru"})

    found = await engine.call("on_whatsapp", numbers=[f"+{ALICE}", BOB, f"+{ABSENT}", "+6289999999999"])
    assert found == {f"+{ALICE}": True, BOB: True, f"+{ABSENT}": False, "+6289999999999": False}
    with pytest.raises(EngineError):
        await engine.call("send", to=ABSENT, kind="text", text="ke mana")

    await engine.call("rename", name="Toko Owner")
    await engine.call("available")
    seen = await until(lambda: [a for a in sandbox.phones.activities(OWNER) if a.kind == "presence"])
    assert seen[0].detail["name"] == "Toko Owner"


async def test_groups_both_ways_and_changes(sandbox: Sandbox) -> None:
    members = [Member(OWNER, "participant"), Member(BOB, "admin")]
    group = sandbox.world.add_group("Keluarga", ALICE, members)
    engine = await sandbox.linked("one", OWNER)
    assert await engine.call("groups") == {
        group.id: {"subject": "Keluarga", "members": {ALICE: "superadmin", OWNER: "participant", BOB: "admin"}}
    }
    for words in ("grup satu", "grup dua"):
        wire_id = await engine.call("send", to=group.id, kind="text", text=words)
        for phone in (ALICE, BOB):
            arrival = (await sandbox.arrived(phone, words)).arrival
            assert (arrival.chat, arrival.sender, arrival.wire_id) == (group.id, OWNER, wire_id)
    await engine.event("Receipt", lambda r: r["MessageIDs"] == [wire_id] and r["MessageSource"]["IsGroup"])

    for words in ("dari bob 1", "dari bob 2"):
        await sandbox.web.write(BOB, group.id, text(words))
        heard = await engine.event("Message", conversation(words))
        assert heard["Info"]["MessageSource"]["Chat"]["User"] == group.id
        assert heard["Info"]["MessageSource"]["SenderAlt"]["User"] == BOB
    with pytest.raises(WriteError, match="not a member"):
        await sandbox.web.write(OTHER, group.id, text("boleh?"))

    sandbox.world.set_subject(group.id, "Keluarga Besar")
    await sandbox.web.group_changed(group.id, {"kind": "subject", "by": ALICE})
    await engine.event("GroupInfo", lambda g: g.get("Name", {}).get("Name") == "Keluarga Besar")

    sandbox.world.set_member(group.id, OTHER)
    await sandbox.web.group_changed(group.id, {"kind": "add", "phones": [OTHER], "by": ALICE})
    await engine.event("GroupInfo", lambda g: bool(g.get("Join")))
    await engine.call("send", to=group.id, kind="text", text="selamat datang")
    await sandbox.arrived(OTHER, "selamat datang")

    sandbox.world.remove_member(group.id, OWNER)
    with pytest.raises(EngineError, match="401"):
        await engine.call("send", to=group.id, kind="text", text="masih di sini?")
    await sandbox.web.group_changed(group.id, {"kind": "remove", "phones": [OWNER], "by": ALICE})
    await engine.event("GroupInfo", lambda g: bool(g.get("Leave")))
    with pytest.raises(EngineError):
        await engine.call("group", group=group.id)
    assert await engine.call("groups") == {}

    sandbox.world.set_member(group.id, OWNER, "admin")
    await sandbox.web.group_changed(group.id, {"kind": "add", "phones": [OWNER], "by": ALICE})
    joined = await engine.event("JoinedGroup")
    assert joined["GroupInfo"]["JID"]["User"] == group.id


async def test_a_restarted_sandbox_goes_on_with_everything(sandbox: Sandbox) -> None:
    group = sandbox.world.add_group("Kerja", ALICE, [Member(OWNER, "admin")])
    engine = await sandbox.linked("one", OWNER)
    await engine.call("send", to=ALICE, kind="text", text="sebelum")
    await sandbox.arrived(ALICE, "sebelum")
    await engine.call("send", to=group.id, kind="text", text="grup sebelum")
    await sandbox.web.write(ALICE, OWNER, text("jawab"))
    await engine.event("Message", conversation("jawab"))
    await sandbox.web.write(ALICE, group.id, text("grup jawab"))
    await engine.event("Message", conversation("grup jawab"))

    before = (sandbox.web.proxy_url, sandbox.web.noise_root, sandbox.web.linked_devices()[0].jid)
    seen = len(engine.events)
    await sandbox.stop()
    await engine.event("Disconnected", after=seen)
    await sandbox.start()
    assert (sandbox.web.proxy_url, sandbox.web.noise_root, sandbox.web.linked_devices()[0].jid) == before
    await sandbox.web.write(ALICE, OWNER, text("selagi pergi"))
    await engine.event("Connected", after=seen)
    await engine.event("Message", conversation("selagi pergi"), after=seen)

    await engine.call("send", to=ALICE, kind="text", text="sesudah")
    await sandbox.arrived(ALICE, "sesudah")
    await engine.call("send", to=group.id, kind="text", text="grup sesudah")
    await sandbox.arrived(ALICE, "grup sesudah")
    await sandbox.web.write(ALICE, group.id, text("grup lagi"))
    await engine.event("Message", conversation("grup lagi"), after=seen)
    assert not [n for n, _ in engine.events if n == "UndecryptableMessage"]


async def test_an_offline_engine_finds_its_messages_when_it_comes_back(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    device = sandbox.web.linked_devices()[0].jid
    await until(lambda: sandbox.web.queued(device) == 0)
    await engine.kill()
    await until(lambda: not sandbox.web.linked_devices()[0].connected)
    for words in ("satu", "dua", "tiga"):
        await sandbox.web.write(ALICE, OWNER, text(words))
    assert sandbox.web.queued(device) == 3
    engine = await sandbox.engine("one")
    for words in ("satu", "dua", "tiga"):
        await engine.event("Message", conversation(words))
    await until(lambda: sandbox.web.queued(device) == 0)


async def test_two_devices_of_one_account_and_one_of_another(sandbox: Sandbox) -> None:
    first, second, other = await asyncio.gather(
        sandbox.linked("first", OWNER), sandbox.linked("second", OWNER), sandbox.linked("other", OTHER)
    )
    assert len(sandbox.web.linked_devices()) == 3
    await first.call("send", to=ALICE, kind="text", text="dari satu")
    await sandbox.arrived(ALICE, "dari satu")
    mirrored = await second.event("Message", conversation("dari satu"))
    assert mirrored["Info"]["MessageSource"]["IsFromMe"]

    await sandbox.web.write(ALICE, OWNER, text("untuk dua-duanya"))
    await asyncio.gather(*(e.event("Message", conversation("untuk dua-duanya")) for e in (first, second)))

    await first.call("send", to=OTHER, kind="text", text="antar mesin")
    await other.event("Message", conversation("antar mesin"))
    await sandbox.arrived(OTHER, "antar mesin")
    await other.call("send", to=OWNER, kind="text", text="kembali")
    await asyncio.gather(*(e.event("Message", conversation("kembali")) for e in (first, second)))

    await first.call("send", to=OWNER, kind="text", text="catatan sendiri")
    await sandbox.arrived(OWNER, "catatan sendiri")
    await sandbox.web.write(OWNER, ALICE, text("dari ponsel sendiri"))
    for engine in (first, second):
        mirrored = await engine.event("Message", conversation("dari ponsel sendiri"))
        assert mirrored["Info"]["MessageSource"]["IsFromMe"]

    group = sandbox.world.add_group("Semua", ALICE, [Member(OWNER, "participant"), Member(OTHER, "participant")])
    await sandbox.web.group_changed(group.id, {"kind": "create"})
    await first.call("send", to=group.id, kind="text", text="grup dari satu")
    for phone in (ALICE, OTHER):
        await sandbox.arrived(phone, "grup dari satu")
    for engine in (second, other):
        heard = await engine.event("Message", conversation("grup dari satu"))
        assert heard["Info"]["MessageSource"]["Chat"]["User"] == group.id
    await sandbox.web.write(ALICE, group.id, text("grup dari alice"))
    await asyncio.gather(*(e.event("Message", conversation("grup dari alice")) for e in (first, second, other)))

    await first.call("type", to=ALICE)
    seen = await until(lambda: [a for a in sandbox.phones.activities(ALICE) if a.kind == "typing"])
    assert seen[0].detail["from"] == OWNER and seen[0].detail["state"] == "composing"
    await first.call("available")
    await sandbox.web.typing(ALICE, OWNER, on=True)
    await first.event("ChatPresence")


async def test_a_device_that_is_linked_later_gets_what_others_send(sandbox: Sandbox) -> None:
    first, other = await asyncio.gather(sandbox.linked("first", OWNER), sandbox.linked("other", OTHER))
    await first.call("send", to=ALICE, kind="text", text="daftar perangkat")
    await other.call("send", to=OWNER, kind="text", text="diingat")
    await first.event("Message", conversation("diingat"))
    second = await sandbox.linked("second", OWNER)
    await first.call("send", to=ALICE, kind="text", text="cermin")
    await other.call("send", to=OWNER, kind="text", text="untuk kalian")
    await second.event("Message", conversation("cermin"))
    await second.event("Message", conversation("untuk kalian"))
    assert "hash doesn't match" not in first.log_text() + other.log_text()


async def test_lost_sessions_are_repaired_by_retry_receipts(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    await engine.call("send", to=ALICE, kind="text", text="awal")
    await sandbox.arrived(ALICE, "awal")
    await sandbox.web.write(ALICE, OWNER, text("balas"))
    await engine.event("Message", conversation("balas"))

    device = sandbox.web.linked_devices()[0]
    sandbox.web.lose_session(ALICE, device.jid)
    wire_id = await engine.call("send", to=ALICE, kind="text", text="tak terbaca")
    assert (await sandbox.arrived(ALICE, "tak terbaca")).arrival.wire_id == wire_id

    group = sandbox.world.add_group("Bertiga", ALICE, [Member(OWNER, "participant")])
    await engine.call("send", to=group.id, kind="text", text="grup awal")
    await sandbox.arrived(ALICE, "grup awal")
    sandbox.web.lose_session(ALICE, device.jid)
    await engine.call("send", to=group.id, kind="text", text="grup tak terbaca")
    await sandbox.arrived(ALICE, "grup tak terbaca")

    sandbox.web.garble_session(ALICE, device.jid)
    await sandbox.web.write(ALICE, OWNER, text("rusak lalu pulih"))
    await engine.event("UndecryptableMessage")
    await engine.event("Message", conversation("rusak lalu pulih"))


async def test_an_engine_that_runs_out_of_keys_uploads_more(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    device = sandbox.web.linked_devices()[0].jid
    sandbox.web.use_up_keys(device, left=5)
    await sandbox.web.write(ALICE, OWNER, text("yang terakhir"))
    await engine.event("Message", conversation("yang terakhir"))
    await until(lambda: sandbox.web.keys_left(device) >= 50)


async def test_messages_can_be_refused_or_left_unconfirmed(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    sandbox.web.faults.add(Fault("refuse_message", number=OWNER, code=463))
    with pytest.raises(EngineError, match="463"):
        await engine.call("send", to=ALICE, kind="text", text="ditolak")
    sandbox.web.faults.clear()

    sandbox.web.faults.add(Fault("withhold_ack"))
    sending = asyncio.ensure_future(engine.call("send", to=ALICE, kind="text", text="tanpa kabar"))
    await sandbox.arrived(ALICE, "tanpa kabar")
    await engine.event("Receipt")
    assert not sending.done()
    sending.cancel()
    assert [r.content["text"] for r in sandbox.ledger.records(Search())] == ["tanpa kabar"]


async def test_logout_removal_replacement_and_refused_logins(sandbox: Sandbox) -> None:
    engine = await sandbox.linked("one", OWNER)
    device = sandbox.web.linked_devices()[0].jid

    seen = len(engine.events)
    sandbox.web.fail_logins(503)
    await sandbox.web.drop(device)
    await engine.event("Disconnected", after=seen)
    await until(lambda: sandbox.web.faults.all()[0].hits > 0)
    sandbox.web.fail_logins(None)
    await engine.event("Connected", after=seen, within=30)

    seen = len(engine.events)
    sandbox.web.fail_logins(402, {"code": "101", "expire": "3600"})
    await sandbox.web.drop(device)
    await engine.event("TemporaryBan", after=seen)
    sandbox.web.fail_logins(None)
    await engine.kill()

    engine = await sandbox.engine("one")
    await engine.event("Connected")
    await sandbox.web.replace(device)
    await engine.event("StreamReplaced")
    await engine.kill()

    engine = await sandbox.engine("one")
    await engine.event("Connected")
    await sandbox.web.unlink(device)
    await engine.event("LoggedOut")
    assert sandbox.web.linked_devices() == [] and not sandbox.web.owns(OWNER)
    await engine.kill()

    engine = await sandbox.linked("again", OWNER)
    again = sandbox.web.linked_devices()[0].jid
    assert again != device
    await engine.call("send", to=ALICE, kind="text", text="hidup lagi")
    await sandbox.arrived(ALICE, "hidup lagi")
    await engine.call("logout")
    await until(lambda: sandbox.web.linked_devices() == [])

"""The world keeps what it is told; the ledger keeps what arrived; the phones send receipts in order."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kurir_sandbox.content_fields import content_hash, describe
from kurir_sandbox.ledger import Ledger, Search
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.phones import Phones
from kurir_sandbox.traffic import Arrival, Content, Entry, Media, Place, ReceiptKind, TemplateUse
from kurir_sandbox.world import Business, Member, World

ANI, BUDI = "6281200000001", "6281200000002"
TEXT = Arrival(ANI, "cloud_api", BUDI, BUDI, "wamid.1", Content("text", text="Halo", bubble="Halo"))
PICTURE = replace(
    TEXT,
    wire_id="wamid.2",
    content=Content("image", caption="Lihat", media=Media("image/png", "", b"\x89PNG")),
)
PIN = replace(TEXT, wire_id="wamid.3", content=Content("location", place=Place(-6.2, 106.8, "Monas", "Jakarta")))
PROMO = replace(TEXT, wire_id="wamid.4", content=Content("template", template=TemplateUse("promo", "id", ("a", "b"))))


class Wire:
    """A carrier that notes the receipts it is given, or refuses them."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.receipts: list[tuple[str, ReceiptKind]] = []
        self.changed = asyncio.Event()

    def owns(self, phone: str) -> bool:
        return True

    async def write(self, sender: str, to: str, content: Content) -> str:
        return "wire-id"

    async def receipt(self, entry: Entry, kind: ReceiptKind) -> None:
        if self.broken:
            raise ConnectionError
        await asyncio.sleep(0)
        self.receipts.append((entry.arrival.wire_id, kind))
        self.changed.set()


def open_phones(data: Path) -> Phones:
    return Phones(Ledger(data, MediaFiles(data / "media")))


def test_world_survives_reopening(tmp_path: Path) -> None:
    world = World(tmp_path)
    ani = world.add_person(ANI, "Ani")
    world.add_person(BUDI, "Budi", on_whatsapp=False)
    group = world.add_group("Pelanggan", ANI, [Member(BUDI, "admin")])
    world.set_contact(ANI, BUDI, "Budi Toko")
    world.add_business(Business("62811", "Kurir", "10", "20", "30", "s", "t", "v", None))
    world.state.put_many([("queue", "1", b"a"), ("queue", "2", b"b"), ("other", "1", b"c")])
    world.state.delete("queue", "1")
    world.close()

    again = World(tmp_path)
    assert again.person(ANI) == ani == again.person_by_lid(ani.lid)
    assert not again.people()[1].on_whatsapp
    assert again.group(group.id) == group
    assert [(m.phone, m.role) for m in group.members] == [(ANI, "superadmin"), (BUDI, "admin")]
    assert again.contacts_of(ANI) == {BUDI: "Budi Toko"}
    assert again.business("10") == again.business_by_phone("62811")
    assert again.state.items("queue") == [("2", b"b")]
    assert again.state.get("queue", "1") is None
    again.clear(keep_spaces=["other"])
    assert (again.people(), again.groups(), again.businesses()) == ([], [], [])
    assert again.state.items("queue") == []
    assert again.state.get("other", "1") == b"c"
    again.close()


def test_groups_and_people_change(tmp_path: Path) -> None:
    world = World(tmp_path)
    lid = world.add_person(ANI, "Ani").lid
    assert world.add_person(ANI, "Ani Wijaya").lid == lid
    group = world.add_group("Lama", ANI)
    world.set_subject(group.id, "Baru")
    world.set_member(group.id, BUDI)
    world.set_member(group.id, BUDI, "admin")
    changed = world.group(group.id)
    assert changed and changed.subject == "Baru" and changed.role_of(BUDI) == "admin"
    world.remove_member(group.id, BUDI)
    changed = world.group(group.id)
    assert changed and changed.role_of(BUDI) is None
    world.set_contact(ANI, BUDI, "B")
    world.set_contact(ANI, BUDI, "")
    assert world.contacts_of(ANI) == {}
    world.add_business(Business("62811", "Kurir", "10", "20", "30", "s", "t", "v", None))
    with pytest.raises(ValueError, match="62811"):
        world.add_business(Business("62811", "Lain", "11", "20", "30", "s", "t", "v", None))
    world.close()


@pytest.mark.parametrize("arrival", [TEXT, PICTURE, PIN, PROMO], ids=lambda a: a.content.kind)
async def test_ledger_gives_back_what_arrived(tmp_path: Path, arrival: Arrival) -> None:
    ledger = Ledger(tmp_path, MediaFiles(tmp_path / "media"))
    entry = await ledger.write(arrival)
    assert entry
    await ledger.close()
    again = Ledger(tmp_path, MediaFiles(tmp_path / "media"))
    assert again.entry(entry.id) == entry
    assert again.find(ANI, arrival.wire_id) == entry
    assert again.find(BUDI, arrival.wire_id) is None
    await again.close()


async def test_ledger_search_narrows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, MediaFiles(tmp_path / "media"))
    first, second = await ledger.write(TEXT), await ledger.write(PICTURE)
    third = await ledger.write(replace(TEXT, phone=BUDI, sender=ANI, channel="linked_device"))
    assert first and second and third
    ids = lambda **search: [r.id for r in ledger.records(Search(**search))]  # noqa: E731
    assert ids() == [first.id, second.id, third.id]
    assert ids(phone=ANI) == [first.id, second.id]
    assert ids(channel="linked_device") == ids(sender=ANI) == [third.id]
    assert ids(text="Lihat") == ids(phone=ANI, after=first.id) == [second.id]
    assert ids(text="_") == ids(text="%") == []
    assert ids(since=third.at + 1) == []
    assert ledger.count(Search(phone=ANI)) == 2
    assert [r.id for r in ledger.records(Search(), limit=2, newest=True)] == [second.id, third.id]
    await ledger.note_receipt(first.id, "delivered")
    assert ids(lacks="delivered") == [second.id, third.id]
    await ledger.clear()
    again = await ledger.write(TEXT)
    assert again and again.id > third.id
    await ledger.close()


async def test_what_comes_again_is_counted_and_not_added(tmp_path: Path) -> None:
    phones, wire = open_phones(tmp_path), Wire()
    phones.attach({"cloud_api": wire})
    first = await phones.deliver(TEXT)
    assert first
    altered = replace(TEXT, content=Content("text", text="Lain", bubble="Lain"))
    assert [await phones.deliver(again) for again in (TEXT, altered)] == [None, None]
    others = [replace(TEXT, phone=BUDI), replace(TEXT, sender="62899"), replace(TEXT, chat="120363")]
    assert all([await phones.deliver(other) for other in others])
    ledger = phones.ledger
    assert [r.content["text"] for r in ledger.records(Search())] == ["Halo"] * 4
    assert (ledger.duplicates(Search()), ledger.duplicates(Search(phone=BUDI))) == (2, 0)
    assert ledger.duplicates(Search(phone=ANI, text="Halo")) == 2
    await phones.read(ANI)
    assert wire.receipts.count(("wamid.1", "delivered")) == 4
    await phones.stop()
    await phones.forget()
    assert (ledger.count(Search()), ledger.duplicates(Search())) == (0, 0)
    assert await phones.deliver(TEXT)
    await phones.stop()
    await ledger.close()


def test_content_hash_differs_between_contents() -> None:
    fields = [describe(a.content, "0" * 64) for a in (TEXT, PICTURE, PIN, PROMO)]
    assert len({content_hash(f) for f in fields}) == 4
    assert content_hash(fields[0]) == content_hash(dict(reversed(fields[0].items())))


async def test_delivery_is_seen_and_receipted_in_order(tmp_path: Path) -> None:
    phones, wire = open_phones(tmp_path), Wire()
    phones.attach({"cloud_api": wire})
    waiting = asyncio.create_task(phones.inbox(ANI, wait=10))
    await asyncio.sleep(0)
    entry = await phones.deliver(TEXT)
    assert entry
    assert [record.id for record in await waiting] == [entry.id]
    assert await phones.read(ANI) == 1
    assert wire.receipts == [("wamid.1", "delivered"), ("wamid.1", "read")]
    assert await phones.read(ANI) == 0
    found = phones.ledger.entry(entry.id)
    assert found and set(found.receipts) == {"delivered", "read"}
    assert await phones.inbox(ANI, after=entry.id, wait=0.01) == []


async def test_owed_receipts_are_sent_by_the_next_run(tmp_path: Path) -> None:
    phones = open_phones(tmp_path)
    phones.attach({"cloud_api": Wire(broken=True)})
    for arrival in (TEXT, PICTURE):
        await phones.deliver(arrival)
    await phones.read(ANI)
    await phones.stop()
    await phones.ledger.close()

    again, wire = open_phones(tmp_path), Wire()
    again.attach({"cloud_api": wire})
    again.resume()
    assert await again.read(ANI, upto=1) == 1
    async with asyncio.timeout(5):
        while len(wire.receipts) < 3:
            wire.changed.clear()
            await wire.changed.wait()
    assert sorted(wire.receipts) == [("wamid.1", "delivered"), ("wamid.1", "read"), ("wamid.2", "delivered")]


async def test_activity_is_listed_per_phone() -> None:
    phones = Phones(ledger=None)  # pyright: ignore[reportArgumentType] - activity never touches the ledger
    phones.activity(ANI, "typing", {"from": BUDI, "on": True})
    phones.activity(BUDI, "typing", {"from": ANI, "on": True})
    seen = phones.activities(ANI)
    assert [(a.kind, a.detail) for a in seen] == [("typing", {"from": BUDI, "on": True})]
    assert phones.activities(ANI, after=seen[-1].id) == []

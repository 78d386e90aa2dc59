"""Contact lists, the people in them, their two endpoints, and what a linked device adds to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from kurir.accounts import accounts
from kurir.accounts.accounts import Account
from kurir.channels.linked_device.channel import DeviceUnavailable
from kurir.channels.linked_device.protocol import DeviceContact, DeviceGroup, DeviceParticipant
from kurir.contacts import contacts
from kurir.contacts.contacts import Added, ContactList, Person
from kurir.contacts.sync import CheckReport, NoSuchGroup, check_numbers, sync_contacts, sync_group
from kurir.data_folder import renew_schema
from kurir.messages.addresses import AddressError
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.reasons import as_written
from kurir.services.contacts import Contacts
from kurir.store.database import Database
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.dates import written_date
from kurir.web.compat_v1.endpoint import Call
from kurir.web.compat_v1.endpoints.contacts import list_audiences, list_contacts
from kurir.web.compat_v1.envelopes import WireError

AT = datetime(2025, 8, 10, 14, 4, tzinfo=ZoneInfo("UTC")).timestamp()


@dataclass
class Book:
    """An account's lists on a real database."""

    database: Database
    account: Account
    number: Number

    async def new_list(self, name: str, *, at: float = AT, people: Sequence[Person] = ()) -> ContactList:
        def work(connection: Any) -> ContactList:
            contact = contacts.create_list(connection, self.account.id, name, at=at)
            contacts.add_audiences(connection, self.account.id, contact.id, people, at=at)
            return contact

        return await self.database.write(work)

    async def people(self, contact: ContactList) -> list[contacts.Audience]:
        return await self.database.read(lambda c: contacts.audience_after(c, contact.account_id, contact.id))

    async def post(self, handler: Any, **fields: Any) -> dict[str, Any]:
        services = SimpleNamespace(contacts=Contacts(self.database, lambda: AT))
        gateway = cast("Any", SimpleNamespace(database=self.database, services=services))
        return (await handler(gateway, Call(account=self.account, body=Body(fields), now=AT))).body

    async def refusal(self, handler: Any, **fields: Any) -> str:
        with pytest.raises(WireError) as refused:
            await self.post(handler, **fields)
        assert refused.value.code == "405"
        assert refused.value.body("id")["message"]
        return refused.value.body("en")["message"]


@pytest.fixture
async def book(where: Path | str) -> AsyncIterator[Book]:
    database = Database(where)
    renew_schema(database)
    await database.start()
    account = await database.write(lambda c: accounts.create(c, name="Toko", email="toko@example.com"))
    number = await database.write(lambda c: numbers.add_linked_device(c, account.id, "Kasir"))
    yield Book(database, account, number)
    await database.close()


def names(answer: dict[str, Any]) -> list[str]:
    return [row["contacts_name"] if "contacts_name" in row else row["name"] for row in answer["data"]]


# -- lists and people ------------------------------------------------------------------------------------------------


async def test_a_person_is_in_a_list_once_and_adding_again_merges(book: Book) -> None:
    contact = await book.new_list("Pelanggan", people=[Person("6281", "Jono", {"kota": "Bogor", "usia": "30"})])
    added = await book.database.write(
        lambda c: contacts.add_audiences(
            c,
            book.account.id,
            contact.id,
            [Person("6282", "Sri"), Person("6281", "", {"kota": "Depok"}), Person("6282", "Sri Ayu", {"a": "b"})],
            at=AT,
        )
    )
    assert added == Added(new=1, merged=2)
    first, second = await book.people(contact)
    assert (first.name, first.custom_fields) == ("Jono", {"kota": "Depok", "usia": "30"})
    assert (second.name, second.custom_fields) == ("Sri Ayu", {"a": "b"})


async def test_renaming_and_deleting_a_list(book: Book) -> None:
    contact = await book.new_list("Lama", people=[Person("6281")])
    other = await book.new_list("Lain", people=[Person("6281")])
    await book.database.write(lambda c: contacts.rename_list(c, book.account.id, contact.id, "Baru", at=AT + 60))
    renamed = await book.database.read(lambda c: contacts.by_key(c, book.account.id, contact.key))
    assert renamed is not None
    assert (renamed.name, renamed.created_at, renamed.updated_at, renamed.audience) == ("Baru", AT, AT + 60, 1)
    await book.database.write(lambda c: contacts.delete_list(c, book.account.id, contact.id, at=1.0))
    assert await book.database.read(lambda c: contacts.by_key(c, book.account.id, contact.key)) is None
    assert await book.people(contact) == []
    assert len(await book.people(other)) == 1


async def test_another_accounts_list_can_neither_be_read_nor_changed(book: Book) -> None:
    contact = await book.new_list("Rahasia", people=[Person("6281", "Jono")])
    other = await book.database.write(lambda c: accounts.create(c, name="Lain", email="lain@example.com"))
    assert await book.database.read(lambda c: contacts.by_key(c, other.id, contact.key)) is None
    with pytest.raises(KeyError):
        await book.database.write(lambda c: contacts.add_audience(c, other.id, contact.id, "X", "6299", at=AT))
    with pytest.raises(KeyError):
        await book.database.write(lambda c: contacts.rename_list(c, other.id, contact.id, "X", at=AT))
    await book.database.write(lambda c: contacts.delete_list(c, other.id, contact.id, at=1.0))
    await book.database.write(lambda c: contacts.set_statuses(c, other.id, contact.id, {"6281": "invalid"}, at=1.0))
    await book.database.write(lambda c: contacts.keep_only(c, other.id, contact.id, [], at=1.0))
    assert await book.database.read(lambda c: contacts.audience_after(c, other.id, contact.id)) == []
    people = await book.people(contact)
    assert [(person.phone, person.status) for person in people] == [("6281", "not_checked")]
    owner, book.account = book.account, other
    foreign = await book.refusal(list_audiences, contact_id=contact.key)
    unknown = await book.refusal(list_audiences, contact_id="no such list")
    assert foreign == unknown
    assert "`contact_id`" in foreign
    assert (await book.post(list_contacts))["data"] == []
    book.account = owner
    assert len((await book.post(list_contacts))["data"]) == 1


# -- get-list-contacts -----------------------------------------------------------------------------------------------


async def test_the_answer_of_get_list_contacts_has_exactly_the_samples_shape(book: Book) -> None:
    contact = await book.new_list("Jono", people=[Person("6281"), Person("6282")])
    assert await book.post(list_contacts, start=0, length=10, search="", order_by="contacts_created_at") == {
        "code": "200",
        "message": "Successfully",
        "type": "successfully",
        "data": [
            {
                "contacts_id": contact.key,
                "contacts_name": "Jono",
                "contacts_type": "manual",
                "contacts_type_defined": "Manual Input",
                "contacts_audience": 2,
                "contacts_created_at": "10 Aug 2025 21:04 WIB",
                "contacts_last_updated": "10 Aug 2025 21:04 WIB",
            }
        ],
        "draw": 0,
        "iTotalRecords": "1",
        "iTotalDisplayRecords": "1",
    }


async def test_lists_are_paged_searched_and_ordered(book: Book) -> None:
    for n, name in enumerate(("beta", "Alfa", "50% diskon", "gamma", "al_fa")):
        await book.new_list(name, at=AT + n, people=[Person(f"628{i}") for i in range(n)])
    assert names(await book.post(list_contacts)) == ["al_fa", "gamma", "50% diskon", "Alfa", "beta"]
    page = await book.post(list_contacts, start="1", length="2", order_by="contacts_name", order_dir="ASC", draw="7")
    assert names(page) == ["al_fa", "Alfa"]
    assert (page["draw"], page["iTotalRecords"], page["iTotalDisplayRecords"]) == (7, "5", "5")
    found = await book.post(list_contacts, search="alf")
    assert (names(found), found["iTotalRecords"], found["iTotalDisplayRecords"]) == (["Alfa"], "5", "1")
    assert names(await book.post(list_contacts, search={"value": "50%"})) == ["50% diskon"]
    assert names(await book.post(list_contacts, search="_")) == ["al_fa"]
    assert names(await book.post(list_contacts, order_by="contacts_audience", order_dir="desc"))[0] == "al_fa"
    tables = {"order": [{"column": 1, "dir": "desc"}], "columns": [{"data": "x"}, {"data": "contacts_name"}]}
    assert names(await book.post(list_contacts, **tables))[0] == "gamma"
    assert names(await book.post(list_contacts, start=5)) == []


# -- get-list-audiences ----------------------------------------------------------------------------------------------


async def test_the_answer_of_get_list_audiences_has_exactly_the_samples_shape(book: Book) -> None:
    contact = await book.new_list("Jono", people=[Person("6281234567890", "Jono", {"kota": "Bogor"})])
    person = (await book.people(contact))[0]
    answer = await book.post(
        list_audiences,
        contact_id=contact.key,
        draw=1,
        start=0,
        length=10,
        search={"value": ""},
        order=[{"column": 0, "dir": "asc"}],
        columns=[{"data": "name"}, {"data": "wa_number"}, {"data": "status"}, {"data": "date_insert"}],
    )
    assert answer == {
        "code": "200",
        "message": "Successfully",
        "type": "successfully",
        "data": [
            {
                "audience_id": person.key,
                "name": "Jono",
                "wa_number": "6281234567890",
                "status": "not_checked",
                "status_defined": "Pending",
                "date_insert": "10 Aug 2025 21:04 WIB",
                "custom_fields": [{"name": "kota", "value": "Bogor"}],
            }
        ],
        "draw": 1,
        "iTotalRecords": "1",
        "iTotalDisplayRecords": "1",
    }


async def test_people_are_paged_searched_and_ordered(book: Book) -> None:
    people = [Person("6281234567890", "Jono"), Person("6281299990000", "Sri"), Person("6591234567", "ana")]
    contact = await book.new_list("Semua", people=people)
    await book.database.write(
        lambda c: contacts.set_statuses(c, book.account.id, contact.id, {"6591234567": "valid", "0": "invalid"}, at=1.0)
    )

    async def ask(**fields: Any) -> list[str]:
        return names(await book.post(list_audiences, contact_id=contact.key, **fields))

    assert await ask() == ["Jono", "Sri", "ana"]
    assert await ask(order_by="name") == ["ana", "Jono", "Sri"]
    assert await ask(order_by="wa_number", order_dir="desc", length=1) == ["ana"]
    assert await ask(order=[{"column": "1", "dir": "desc"}], start=1, length=1) == ["Sri"]
    assert await ask(order=[{"column": 2, "dir": "desc"}, {"column": 0, "dir": "desc"}]) == ["ana", "Sri", "Jono"]
    assert await ask(search="0812-9999") == ["Sri"]
    assert await ask(search="+62 812") == ["Jono", "Sri"]
    assert await ask(search={"value": "JON"}) == ["Jono"]
    assert await ask(search="x") == []
    statuses = await book.post(list_audiences, contact_id=contact.key, search="ana")
    assert (statuses["data"][0]["status"], statuses["data"][0]["status_defined"]) == ("valid", "Valid")
    counts = await book.database.read(lambda c: contacts.status_counts(c, book.account.id, contact.id))
    assert counts == {"not_checked": 2, "valid": 1, "invalid": 0}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"length": 0}, "length"),
        ({"length": 501}, "length"),
        ({"length": -1}, "length"),
        ({"start": -1}, "start"),
        ({"start": "x"}, "start"),
        ({"draw": "x"}, "draw"),
        ({"order_by": "account_id"}, "order_by"),
        ({"order_by": "name", "order_dir": "up"}, "order_dir"),
        ({"order": "name"}, "order"),
        ({"order": ["name"]}, "order"),
        ({"order": [{"column": 99}]}, "order"),
        ({"order": [{"column": "name"}]}, "order"),
        ({"order": [{"column": 0, "dir": "sideways"}]}, "order.dir"),
        ({"order": [{"column": 0}] * 6}, "order"),
        ({"order": [{"column": 0}], "columns": [{"data": "password_hash"}]}, "columns"),
        ({"order": [{"column": 0}], "columns": [{"data": {}}]}, "columns"),
        ({"order": [{"column": 0}], "columns": [None]}, "columns"),
        ({"columns": "name", "order": [{"column": 0}]}, "columns"),
        ({"search": ["x"]}, "search"),
        ({"search": {"value": {}}}, "search"),
        ({"search": "%" * 101}, "search"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named_on_both_endpoints(
    book: Book, fields: dict[str, Any], named: str
) -> None:
    contact = await book.new_list("Semua")
    assert f"`{named}`" in await book.refusal(list_audiences, contact_id=contact.key, **fields)
    if fields.get("order_by") != "name":
        assert f"`{named}`" in await book.refusal(list_contacts, **fields)


async def test_a_missing_contact_id_is_named(book: Book) -> None:
    assert "`contact_id` is required" in await book.refusal(list_audiences)


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Asia/Jakarta", "3 Jun 2025 15:38 WIB"),
        ("Asia/Pontianak", "3 Jun 2025 15:38 WIB"),
        ("Asia/Makassar", "3 Jun 2025 16:38 WITA"),
        ("Asia/Jayapura", "3 Jun 2025 17:38 WIT"),
        ("Europe/Berlin", "3 Jun 2025 10:38 CEST"),
        ("Asia/Singapore", "3 Jun 2025 16:38 +08"),
    ],
)
def test_dates_are_in_the_accounts_zone_with_its_abbreviation(zone: str, words: str) -> None:
    at = datetime(2025, 6, 3, 8, 38, tzinfo=ZoneInfo("UTC"))
    assert written_date(at.astimezone(ZoneInfo(zone)), "en") == words


def test_months_are_english() -> None:
    written = [written_date(datetime(2026, month, 1, 7, 5, tzinfo=ZoneInfo("UTC")), "en") for month in range(1, 13)]
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    assert written == [f"1 {name} 2026 07:05 UTC" for name in names]


# -- from WhatsApp ---------------------------------------------------------------------------------------------------


@dataclass
class Device:
    """A linked device that knows what the test told it."""

    book: list[DeviceContact] = field(default_factory=list)
    member_of: list[DeviceGroup] = field(default_factory=list)
    on_whatsapp: dict[str, bool] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    answers_left: int = 1_000

    async def contacts(self, number: Number) -> list[DeviceContact]:
        return self.book

    async def groups(self, number: Number) -> list[DeviceGroup]:
        return self.member_of

    async def is_on_whatsapp(self, number: Number, phones: Sequence[str]) -> dict[str, bool]:
        if self.answers_left == 0:
            raise DeviceUnavailable(as_written("the phone has logged the device out"))
        self.answers_left -= 1
        self.asked.append(list(phones))
        return {phone: self.on_whatsapp[phone] for phone in phones if phone in self.on_whatsapp}


async def test_a_devices_address_book_fills_one_list_per_number(book: Book) -> None:
    device = Device(
        [DeviceContact("Jono", "6281234567890"), DeviceContact("?", ""), DeviceContact("Sri", "6281299990000")]
    )
    first = await sync_contacts(book.database, device, book.account, book.number)
    assert (first.stored, first.merged, first.removed, first.hidden) == (2, 0, 0, 1)
    device.book = [DeviceContact("Jono Susilo", "6281234567890")]
    again = await sync_contacts(book.database, device, book.account, book.number)
    assert (again.contact_key, again.stored, again.merged) == (first.contact_key, 0, 1)
    contact = await book.database.read(lambda c: contacts.by_key(c, book.account.id, first.contact_key))
    assert contact is not None
    assert (contact.name, contact.type, contact.number_id) == ("Kasir", "sync_from_whatsapp", book.number.id)
    assert [person.name for person in await book.people(contact)] == ["Jono Susilo", "Sri"]


async def test_a_groups_list_follows_its_members(book: Book) -> None:
    def member(phone: str, name: str) -> DeviceParticipant:
        return DeviceParticipant(phone, name, "participant", False)

    group_id = "120363322806000000@g.us"
    jono, sri, tuti = (member(f"628123456789{n}", name) for n, name in enumerate(("Jono", "Sri", "Tuti")))
    device = Device(member_of=[DeviceGroup(group_id, "Arisan", [jono, sri, member("", "")])])
    first = await sync_group(book.database, device, book.account, book.number, "120363322806000000")
    assert (first.stored, first.hidden) == (2, 1)
    device.member_of = [DeviceGroup(group_id, "Arisan", [sri, tuti])]
    second = await sync_group(book.database, device, book.account, book.number, group_id)
    assert (second.contact_key, second.stored, second.merged, second.removed) == (first.contact_key, 1, 1, 1)
    contact = await book.database.read(lambda c: contacts.by_key(c, book.account.id, first.contact_key))
    assert contact is not None
    assert (contact.name, contact.type, contact.group_id) == ("Arisan", "group", group_id)
    assert [person.name for person in await book.people(contact)] == ["Sri", "Tuti"]
    with pytest.raises(NoSuchGroup):
        await sync_group(book.database, device, book.account, book.number, "120363322806000001")
    with pytest.raises(AddressError):
        await sync_group(book.database, device, book.account, book.number, "../etc/passwd")


async def test_checking_numbers_records_answers_and_leaves_the_unanswered_unchecked(book: Book) -> None:
    phones = [f"62812345678{n:02d}" for n in range(60)]
    contact = await book.new_list("Semua", people=[Person(phone) for phone in phones])
    device = Device(on_whatsapp={phone: n % 3 == 0 for n, phone in enumerate(phones[:55])})
    steps: list[int] = []
    report = await check_numbers(book.database, device, book.account, book.number, contact.id, progress=steps.append)
    assert report == CheckReport(valid=19, invalid=36, unknown=5)
    assert steps == [50, 60]
    statuses = {person.phone: person.status for person in await book.people(contact)}
    assert [statuses[phone] for phone in phones[:4]] == ["valid", "invalid", "invalid", "valid"]
    assert {statuses[phone] for phone in phones[55:]} == {"not_checked"}
    await check_numbers(book.database, device, book.account, book.number, contact.id)
    assert device.asked[2:] == [phones[55:]]


async def test_what_was_checked_before_a_device_went_away_stays(book: Book) -> None:
    phones = [f"62812345678{n:02d}" for n in range(60)]
    contact = await book.new_list("Semua", people=[Person(phone) for phone in phones])
    device = Device(on_whatsapp=dict.fromkeys(phones, True), answers_left=1)
    with pytest.raises(DeviceUnavailable):
        await check_numbers(book.database, device, book.account, book.number, contact.id)
    counts = await book.database.read(lambda c: contacts.status_counts(c, book.account.id, contact.id))
    assert counts == {"not_checked": 10, "valid": 50, "invalid": 0}

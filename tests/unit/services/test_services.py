"""The services over a data folder: what commands do, without a gateway; another account's things do not exist."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from tests.sentences import english
from tests.sqlite import new_database

from kurir.accounts.accounts import Account
from kurir.contacts.contacts import Person, Query
from kurir.data_folder import open_data_folder
from kurir.messages.channel_reports import Quarantined
from kurir.numbers import numbers
from kurir.numbers.tables import numbers as numbers_table
from kurir.quarantine import quarantine
from kurir.reasons import NOTHING
from kurir.services.accounts import AccountChange, NewAccount
from kurir.services.errors import Invalid, NotFound, NotPossible
from kurir.services.numbers import OfficialNumber
from kurir.services.stored_services import StoredServices, over_data_folder
from kurir.settings import Settings
from kurir.store.database import BadValue

OFFICIAL = OfficialNumber(
    phone="6281100000001",
    phone_number_id="1",
    waba_id="2",
    app_id="3",
    access_token="token",
    app_secret="secret",
    verify_token="verify",
    name="Resmi",
)


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[StoredServices]:
    settings = Settings(data_dir=tmp_path)
    new_database(settings.sqlite_path)
    async with over_data_folder(settings, create=True) as services:
        yield services


@pytest.fixture
async def ours(services: StoredServices) -> Account:
    return (await services.accounts.create(NewAccount(email="ours@example.com"))).account


@pytest.fixture
async def theirs(services: StoredServices) -> Account:
    return (await services.accounts.create(NewAccount(email="theirs@example.com"))).account


async def test_a_number_is_added_renamed_paused_resumed_and_removed(services: StoredServices, ours: Account) -> None:
    added = await services.numbers.add_official(ours.id, OFFICIAL)
    assert (added.phone, added.name, added.state) == ("6281100000001", "Resmi", "connected")
    assert (await services.numbers.rename(ours.id, added.key, "Kasir")).name == "Kasir"
    paused = await services.numbers.pause(ours.id, added.key, "the shop is closed")
    assert (paused.paused, english(paused.pause_reason), paused.state) == (True, "the shop is closed", "connected")
    with pytest.raises(NotPossible, match="paused already"):
        await services.numbers.pause(ours.id, added.key)
    resumed = await services.numbers.resume(ours.id, added.key)
    assert (resumed.paused, resumed.paused_at, resumed.pause_reason) == (False, None, NOTHING)
    with pytest.raises(NotPossible, match="only a paused number"):
        await services.numbers.resume(ours.id, added.key)
    await services.numbers.remove(ours.id, added.key)
    assert await services.numbers.list(ours.id) == []
    with pytest.raises(NotFound):
        await services.numbers.get_of_any(added.key)


async def test_a_new_token_lets_a_paused_number_go_on(services: StoredServices, ours: Account, tmp_path: Path) -> None:
    key = (await services.numbers.add_official(ours.id, OFFICIAL)).key
    assert not (await services.numbers.set_token(ours.id, key, "second")).resumed
    await services.numbers.pause(ours.id, key)
    answer = await services.numbers.set_token(ours.id, key, " third\n")
    assert (answer.resumed, answer.number.paused) == (True, False)
    database, sealing = open_data_folder(Settings(data_dir=tmp_path))
    with database.snapshot() as connection:
        assert numbers.credentials(connection, sealing, ours.id, answer.number.id).access_token == "third"
    database.engine.dispose()
    with pytest.raises(Invalid) as refused:
        await services.numbers.set_token(ours.id, key, " ")
    assert refused.value.field == "access_token"


async def test_a_removed_number_leaves_no_secret(services: StoredServices, ours: Account, tmp_path: Path) -> None:
    key = (await services.numbers.add_official(ours.id, OFFICIAL)).key
    await services.numbers.remove(ours.id, key)
    database, sealing = open_data_folder(Settings(data_dir=tmp_path))
    secret = ["access_token_sealed", "app_secret_sealed", "verify_token_hash"]
    with database.snapshot() as connection:
        row = connection.execute(sa.select(*(numbers_table.c[name] for name in secret))).one()
        assert not numbers.verify_token_matches(connection, sealing, "verify")
    database.engine.dispose()
    assert tuple(row) == ("", "", "")


async def test_a_device_is_not_removed_while_its_phone_knows_it(
    services: StoredServices, ours: Account, tmp_path: Path
) -> None:
    device = await services.numbers.add_device(ours.id, "Kasir")
    database, _ = open_data_folder(Settings(data_dir=tmp_path))
    with database.transaction() as connection:
        numbers.set_state(
            connection, ours.id, device.id, "connected", reason=NOTHING, at=1.0, jid="62811:1@s.whatsapp.net"
        )
    database.engine.dispose()
    with pytest.raises(NotPossible, match="log it out first"):
        await services.numbers.remove(ours.id, device.key)
    assert [one.key for one in await services.numbers.list(ours.id)] == [device.key]
    await services.numbers.remove(ours.id, device.key, left=True)
    assert await services.numbers.list(ours.id) == []


@pytest.mark.parametrize("field", ["phone", "access_token", "app_secret", "verify_token"])
async def test_an_official_number_needs_its_secrets(services: StoredServices, ours: Account, field: str) -> None:
    values = {name: getattr(OFFICIAL, name) for name in OFFICIAL.__slots__} | {field: " "}
    with pytest.raises(Invalid) as refused:
        await services.numbers.add_official(ours.id, OfficialNumber(**values))
    assert refused.value.field == field
    assert await services.numbers.list(ours.id) == []


async def test_another_accounts_things_do_not_exist(services: StoredServices, ours: Account, theirs: Account) -> None:
    number = await services.numbers.add_official(theirs.id, OFFICIAL)
    endpoint = (await services.webhooks.add(theirs.id, "https://93.184.216.34/hook")).endpoint
    contacts = await services.contacts.create(theirs.id, "Pelanggan", [Person("62811", "Jono")])
    key = await services.accounts.add_key(theirs.id, "theirs")
    for refused in (
        services.numbers.get(ours.id, number.key),
        services.numbers.rename(ours.id, number.key, "mine"),
        services.numbers.pause(ours.id, number.key),
        services.numbers.resume(ours.id, number.key),
        services.numbers.set_token(ours.id, number.key, "x"),
        services.numbers.remove(ours.id, number.key),
        services.webhooks.test(ours.id, endpoint.key),
        services.webhooks.rotate(ours.id, endpoint.key),
        services.webhooks.enable(ours.id, endpoint.key),
        services.webhooks.remove(ours.id, endpoint.key),
        services.contacts.get(ours.id, contacts.key),
        services.contacts.people(ours.id, contacts.key, Query()),
        services.accounts.revoke_key(ours.id, key[-4:]),
        services.messages.show(ours.id, 1),
    ):
        with pytest.raises(NotFound):
            await refused
    with pytest.raises(Invalid, match="no number"):
        await services.webhooks.add(ours.id, "https://93.184.216.34/hook", number_key=number.key)
    assert (await services.numbers.get(theirs.id, number.key)).name == "Resmi"
    assert [line.endpoint.state for line in await services.webhooks.list(theirs.id)] == ["active"]
    assert len(await services.accounts.keys(theirs.id)) == 2


async def test_a_package_ends_with_its_last_day_in_the_accounts_zone(services: StoredServices) -> None:
    day = date(2031, 5, 17)
    made = await services.accounts.create(
        NewAccount(email="a@example.com", until=day, timezone="Asia/Jayapura", language="en")
    )
    end = datetime(2031, 5, 18, tzinfo=ZoneInfo("Asia/Jayapura")).timestamp()
    assert made.account.package_until == end
    changed = await services.accounts.change(
        made.account.id, AccountChange(until=date(2032, 1, 1), timezone="UTC", name="Toko", language="id")
    )
    assert changed.package_until == datetime(2032, 1, 2, tzinfo=UTC).timestamp()
    assert (changed.name, changed.language, changed.timezone, changed.email) == ("Toko", "id", "UTC", "a@example.com")
    assert await services.accounts.change(changed.id, AccountChange()) == changed


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (AccountChange(name=" "), "name"),
        (AccountChange(timezone="Mars/Base"), "timezone"),
        (AccountChange(timezone="../../etc/passwd"), "timezone"),
        (AccountChange(timezone="America"), "timezone"),
        (AccountChange(language="fr"), "language"),
        (AccountChange(country_code="+62"), "country_code"),
        (AccountChange(until=date.max), "until"),
        (AccountChange(until=date(2030, 1, 1), timezone="nowhere"), "timezone"),
        (AccountChange(doubt="guess"), "doubt"),
        (AccountChange(repeat_guard_seconds=float("nan")), "repeat_guard_seconds"),
    ],
)
async def test_a_wrong_change_names_its_field_and_changes_nothing(
    services: StoredServices, ours: Account, change: AccountChange, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await services.accounts.change(ours.id, change)
    assert refused.value.field == field
    assert await services.accounts.get(ours.id) == ours


async def test_keys_are_made_listed_and_revoked(services: StoredServices, ours: Account) -> None:
    text = await services.accounts.add_key(ours.id, "the shop")
    assert [(key.last4, key.label) for key in await services.accounts.keys(ours.id)][1:] == [(text[-4:], "the shop")]
    assert await services.accounts.revoke_key(ours.id, text[-4:]) == 1
    with pytest.raises(NotFound):
        await services.accounts.revoke_key(ours.id, text[-4:])
    with pytest.raises(NotFound):
        await services.accounts.add_key(999, "nobody's")


async def test_the_quarantine_names_whose_an_entry_is(services: StoredServices, ours: Account, tmp_path: Path) -> None:
    device = await services.numbers.add_device(ours.id)
    database, _ = open_data_folder(Settings(data_dir=tmp_path))
    with database.transaction() as connection:
        quarantine.add(connection, Quarantined(ours.id, device.id, "inbox", "a", "broken", b"1"), 1.0)
        quarantine.add(connection, Quarantined(0, 0, "callback", "b", "unknown", b"22"), 2.0)
    database.engine.dispose()
    newest, oldest = await services.quarantine.list()
    assert (newest.email, newest.number_key, newest.line.size) == ("", "", 2)
    assert (oldest.email, oldest.number_key) == (ours.email, device.key)
    assert [one.line.id for one in await services.quarantine.list(ours.id)] == [oldest.line.id]
    assert (await services.quarantine.discard_of_any(oldest.line.id)).payload == b"1"
    with pytest.raises(NotFound):
        await services.quarantine.get_of_any(oldest.line.id)
    with pytest.raises(Invalid):
        await services.quarantine.list(limit=0)


async def test_a_new_list_is_stored_with_its_people_or_not_at_all(services: StoredServices, ours: Account) -> None:
    with pytest.raises(BadValue):
        await services.contacts.create(ours.id, "Pelanggan", [Person("62811"), Person("62812", "half a \ud800 pair")])
    assert (await services.contacts.lists(ours.id, Query())).total == 0
    assert (await services.contacts.create(ours.id, "Kosong")).audience == 0


async def test_a_list_takes_more_people_than_one_transaction(services: StoredServices, ours: Account) -> None:
    people = [Person(f"628{number:09}", f"Nama {number}") for number in range(2_500)]
    made = await services.contacts.create(ours.id, "Pelanggan", people)
    assert made.audience == 2_500
    page = await services.contacts.people(ours.id, made.key, Query(search="Nama 2499"))
    assert (page.total, [person.phone for person in page.rows]) == (2_500, ["628000002499"])

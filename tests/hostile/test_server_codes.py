"""Error codes in the server's answers to messages, on the real engine and wire: whom they are about decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.device_rig import Rig
from tests.e2e.sandbox_network import SandboxNetwork, eventually
from tests.sentences import english

from kurir.accounts import accounts
from kurir.app import RunningGateway, running
from kurir.channels.linked_device.server_codes import CODES
from kurir.cli.doctor import _look_into
from kurir.data_folder import open_data_folder
from kurir.messages.channel_reports import Refused, Restricted, Sent, TryLater
from kurir.messages.content import Text
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.outbox import Draft

pytestmark = pytest.mark.e2e


async def refuse(sandbox: SandboxNetwork, code: int, **values: Any) -> None:
    await sandbox.post("/faults", {"effect": "refuse_message", "channel": "linked_device", "code": code, **values})


async def test_each_code_is_about_somebody(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner, siti = await sandbox.person("Toko"), await sandbox.person("Siti")
    async with Rig(sandbox, tmp_path) as rig:
        await rig.pair(owner)
        for code in (*CODES, 421, 599, 777):
            await refuse(sandbox, code, phone=siti, count=1)
            outcome = await rig.send(siti, Text("halo"))
            about = CODES[code].about if code in CODES else "unknown"
            match outcome:
                case Refused(reason=reason):
                    assert about in ("message", "person")
                case TryLater(reason=reason, whole_number=True):
                    assert code == 429
                case TryLater(reason=reason, most=most):
                    assert about == ("unknown" if most else "passing")
                case Restricted(reason=reason):
                    assert code == 463
                case _:
                    pytest.fail(f"{code}: {outcome}")
            assert f"error {code}" in english(reason)
        assert isinstance(await rig.send(siti, Text("akhirnya")), Sent)


class Shop:
    """A whole gateway with one paired device, and what is asked of it."""

    def __init__(self, sandbox: SandboxNetwork, gateway: RunningGateway, number: Number) -> None:
        self.sandbox = sandbox
        self.gateway = gateway
        self.number = number

    async def accept(self, to: str, words: str) -> int:
        draft = Draft(account_id=self.number.account_id, number_id=self.number.id, recipient=to, content=Text(words))
        return (await self.gateway.outbox.accept([draft])).ids[0]

    async def stands(self, message_id: int) -> Snapshot:
        found = await self.gateway.outbox.snapshot(self.number.account_id, message_id)
        assert found is not None
        return found

    async def reaches(self, message_id: int, *states: str) -> Snapshot:
        """Waits for one of some states."""
        async with asyncio.timeout(20):
            while (found := await self.stands(message_id)).state not in states:
                await asyncio.sleep(0.05)
        return found

    async def stored(self) -> Number:
        found = await self.gateway.database.read(lambda c: numbers.by_id(c, self.number.account_id, self.number.id))
        assert found is not None
        return found

    async def wrote(self, person: str, to: str) -> None:
        """A person writes, and it is stored."""
        await self.sandbox.post(f"/people/{person}/messages", {"to": to, "text": "Halo"})
        async with asyncio.timeout(20):
            while not await self.gateway.database.read(
                lambda c: c.exec_driver_sql(f"SELECT 1 FROM incoming WHERE chat = '{person}'").all()
            ):
                await asyncio.sleep(0.05)


async def in_a_shop(
    sandbox: SandboxNetwork, folder: Path, work: Callable[[Shop, str], Awaitable[None]], **settings: Any
) -> None:
    """A gateway in `folder` with a device that has been paired."""
    wanted = sandbox.settings(folder, **settings)
    database, _ = open_data_folder(wanted)
    with database.transaction() as connection:
        account = accounts.create(connection, name="a", email="a@example.com")
        number = numbers.add_linked_device(connection, account.id)
    database.engine.dispose()
    owner = await sandbox.person("Toko")
    async with running(wanted) as gateway:
        progress = await gateway.linked_devices.start_pairing(number)
        await eventually(lambda: bool(progress.qr), what="a QR code")
        await sandbox.post("/scan", {"phone": owner, "qr": progress.qr})
        await eventually(lambda: gateway.linked_devices.ready(number), 30, what="connected")
        await work(Shop(sandbox, gateway, number), owner)


async def test_a_restricted_number_goes_on_with_those_it_knows(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    siti, budi = await sandbox.person("Siti"), await sandbox.person("Budi")
    cold = [await sandbox.person(f"Baru {n}") for n in range(6)]

    async def work(shop: Shop, owner: str) -> None:
        await shop.wrote(siti, owner)
        made = await sandbox.post("/groups", {"subject": "G", "owner": owner, "members": [budi]})
        group = made["id"].removesuffix("@g.us") + "@g.us"
        await refuse(sandbox, 463, first_contact=True)
        first = await shop.accept(cold[0], "dingin 0")
        await eventually_restricted(shop)
        waiting = [first] + [await shop.accept(one, f"dingin {n}") for n, one in enumerate(cold[1:], 1)]
        replies = [await shop.accept(siti, f"balasan {n}") for n in range(3)]
        posts = [await shop.accept(group, f"grup {n}") for n in range(2)]
        for message in (*replies, *posts):
            await shop.reaches(message, "sent", "delivered")
        got = [one["text"] for one in await sandbox.get(f"/people/{siti}/inbox")]
        assert got == ["balasan 0", "balasan 1", "balasan 2"]
        for message in waiting:
            found = await shop.stands(message)
            assert (found.state, found.attempts, found.error_code) == ("queued", 0, "restricted"), found
        tries = await shop.gateway.database.read(
            lambda c: c.exec_driver_sql("SELECT count(*) FROM attempts WHERE outcome = 'restricted'").scalar()
        )
        assert tries == 1  # the others were passed over, not burnt
        stored = await shop.stored()
        state, reason = numbers.shown_state(stored, *shop.gateway.linked_devices.state(stored))
        assert state == "restricted"
        assert "first contacts wait until" in english(reason)
        findings = await shop.gateway.database.read(lambda c: list(_look_into(c, shop.gateway.settings)))
        assert next(one for one in findings if not one.fine).what == "numbers that WhatsApp restricts"
        # somebody who writes is no first contact any more
        await shop.wrote(cold[5], owner)
        await shop.accept(siti, "bangun")  # the lane looks again
        await shop.reaches(waiting[5], "sent", "delivered")
        await sandbox.delete("/faults")
        assert (await shop.stands(waiting[1])).state == "queued"

    await in_a_shop(sandbox, tmp_path, work)


async def eventually_restricted(shop: Shop) -> None:
    async with asyncio.timeout(20):
        while (await shop.stored()).restricted_until is None:
            await asyncio.sleep(0.05)


async def test_a_restriction_ends_when_a_first_contact_gets_through(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    cold = [await sandbox.person(f"Baru {n}") for n in range(4)]

    async def work(shop: Shop, _owner: str) -> None:
        await refuse(sandbox, 463, first_contact=True)
        messages = [await shop.accept(cold[0], "0")]
        await eventually_restricted(shop)
        messages += [await shop.accept(one, str(n)) for n, one in enumerate(cold[1:], 1)]
        await sandbox.delete("/faults")
        for message in messages:
            await shop.reaches(message, "sent", "delivered")
        assert (await shop.stored()).restricted_until is None

    await in_a_shop(sandbox, tmp_path, work, device_restriction=1.0)


async def test_of_somebody_known_the_same_code_is_about_that_person(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    siti, budi = await sandbox.person("Siti"), await sandbox.person("Budi")

    async def work(shop: Shop, owner: str) -> None:
        await shop.wrote(siti, owner)
        await refuse(sandbox, 463, phone=siti, count=1)
        again = await shop.accept(siti, "lagi")
        found = await shop.reaches(again, "sent", "delivered")
        assert found.attempts == 2
        assert (await shop.stored()).restricted_until is None
        await shop.reaches(await shop.accept(budi, "halo"), "sent", "delivered")

    await in_a_shop(sandbox, tmp_path, work)


async def test_a_number_that_sends_too_fast_rests_and_burns_nobodys_tries(
    sandbox: SandboxNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [await sandbox.person(f"P {n}") for n in range(8)]
    monkeypatch.setattr("kurir.dispatch.lane._LONGEST_REST", 6.0)

    async def work(shop: Shop, _owner: str) -> None:
        window = shop.gateway.settings.device_window
        await refuse(sandbox, 429)
        messages = [await shop.accept(one, "halo") for one in people]
        refused: list[int] = []
        async with asyncio.timeout(20):
            under_way = True
            while under_way or not refused:
                await asyncio.sleep(0.05)
                found = [await shop.stands(one) for one in messages]
                refused = [one.id for one in found if one.error_code == "slow_down"]
                under_way = any(one.state == "sending" for one in found)
        await sandbox.delete("/faults")
        for message in set(messages) - set(refused):  # nobody's turn came while the number rested
            assert (await shop.reaches(message, "sent", "delivered")).attempts == 1
        assert len(refused) <= window
        for message in refused:
            waits = await shop.stands(message)
            assert (waits.state, waits.attempts, waits.error_code) == ("queued", 0, "slow_down")

    await in_a_shop(sandbox, tmp_path, work)

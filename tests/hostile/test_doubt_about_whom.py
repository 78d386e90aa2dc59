"""A send is in doubt only where a recipient's phone may have been left out; what WhatsApp does not say is asked again.

The real engine writes the log lines that are read here: that they name message and device is what this pins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from tests.e2e.device_rig import Rig, number
from tests.e2e.sandbox_network import SandboxNetwork
from tests.sentences import english

from kurir.messages.channel_reports import InDoubt, Outcome, Refused, Sent, TryLater
from kurir.messages.content import Text
from kurir.reasons.messages import NO_ADDRESS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

NOBODY = "6281999999901"


class Shop(Rig):
    """A paired device and a second one of the same owner, whose sends are judged."""

    owner = ""

    async def fault(self, effect: str, **values: Any) -> None:
        """From now on, and until the test ends."""
        await self.sandbox.post("/faults", {"effect": effect, "channel": "linked_device", **values})

    async def group(self, *members: str) -> str:
        made = await self.sandbox.post("/groups", {"subject": "G", "owner": self.owner, "members": list(members)})
        return made["id"] if made["id"].endswith("@g.us") else made["id"] + "@g.us"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what a notice of the host changes: it comes beside the answer."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.02)

    def left_out(self) -> int:
        return self.devices.device_stats().troubles["device_left_out"]

    async def got(self, phone: str, words: str) -> bool:
        """Whether the message is on the phone; asked once its send is over."""
        return any(one["text"] == words for one in await self.sandbox.get(f"/people/{phone}/inbox"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(sandbox: SandboxNetwork, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    async with Shop(sandbox, folder, number(1), number(2), number(3)) as rig:
        rig.owner = await sandbox.person("Toko")
        await rig.pair(rig.owner, 0)
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def shop(network: Shop) -> AsyncIterator[Shop]:
    yield network
    await network.sandbox.delete("/faults")


async def send(shop: Shop, to: str, words: str = "halo") -> Outcome:
    return await shop.send(to, Text(words))


@pytest.mark.parametrize(
    "fault",
    [
        {"effect": "no_keys", "device": 0},
        {"effect": "omit_keys", "device": 0},
        {"effect": "no_keys", "code": 500},
    ],
    ids=["none for the phone", "phone left out", "server error"],
)
async def test_without_keys_for_the_recipients_phone_a_send_is_in_doubt(shop: Shop, fault: dict[str, Any]) -> None:
    stranger = await shop.sandbox.person("Siti")
    await shop.fault(**fault, phone=stranger)
    await shop.fault("withhold_receipt", phone=stranger, kind="retry")
    outcome = await send(shop, stranger)
    assert isinstance(outcome, InDoubt), outcome
    assert outcome.remote_id
    assert "phone" in english(outcome.reason)
    assert not await shop.got(stranger, "halo")


async def test_a_companion_of_the_recipient_without_keys_is_a_note(shop: Shop) -> None:
    siti = await shop.sandbox.person("Siti")
    theirs = await shop.pair(siti, 2)
    device = int(theirs.jid.partition("@")[0].partition(":")[2])
    await shop.fault("omit_keys", phone=siti, device=device)
    before = shop.left_out()
    assert isinstance(await send(shop, siti), Sent)
    assert await shop.got(siti, "halo")
    await shop.until(lambda: shop.left_out() == before + 1)
    await shop.devices.logout(theirs)


async def test_an_own_companion_without_keys_is_a_note(shop: Shop) -> None:
    budi = await shop.sandbox.person("Budi")
    another = await shop.pair(shop.owner, 1)
    device = int(another.jid.partition("@")[0].partition(":")[2])
    await shop.fault("no_keys", phone=shop.owner, device=device)
    before = shop.left_out()
    assert isinstance(await send(shop, budi), Sent)
    assert await shop.got(budi, "halo")
    await shop.until(lambda: shop.left_out() == before + 1)


@pytest.mark.parametrize("without", [1, 2, 3])
async def test_in_a_group_only_when_no_phone_got_it(shop: Shop, without: int) -> None:
    members = [await shop.sandbox.person(f"Anggota {n}") for n in range(3)]
    group = await shop.group(*members)
    for member in members[:without]:
        await shop.fault("omit_keys", phone=member, device=0)
        await shop.fault("withhold_receipt", phone=member, kind="retry")
    before = shop.left_out()
    outcome = await send(shop, group, f"tanpa {without}")
    if without == len(members):
        assert isinstance(outcome, InDoubt), outcome
    else:
        assert isinstance(outcome, Sent), outcome
        await shop.until(lambda: shop.left_out() == before + 1)
    for index, member in enumerate(members):
        assert await shop.got(member, f"tanpa {without}") == (index >= without)


async def test_a_number_whose_address_is_unknown_is_tried_again_once_it_is_known(shop: Shop) -> None:
    ani = await shop.sandbox.person("Ani")
    await shop.fault("hide_lid", phone=ani)
    assert await shop.devices.is_on_whatsapp(shop.numbers[0], [ani]) == {ani: True}
    outcome = await send(shop, ani)
    assert outcome == TryLater("lookup_failed", NO_ADDRESS())
    await shop.sandbox.delete("/faults")
    assert isinstance(await send(shop, ani), Sent)
    assert await shop.got(ani, "halo")


async def test_only_the_answer_that_a_number_is_not_there_says_so(shop: Shop) -> None:
    assert await shop.devices.is_on_whatsapp(shop.numbers[0], [NOBODY]) == {NOBODY: False}
    outcome = await send(shop, NOBODY)
    assert isinstance(outcome, Refused)
    assert outcome.code == "not_on_whatsapp"


@pytest.mark.parametrize(
    ("phone", "alias"),
    [("551187654321", "5511987654321"), ("5215512345678", "525512345678"), ("5491123456789", "541123456789")],
    ids=["BR", "MX", "AR"],
)
async def test_a_number_that_can_be_written_otherwise_is_sent_to_where_whatsapp_says(
    shop: Shop, phone: str, alias: str
) -> None:
    await shop.sandbox.post("/people", {"phone": phone, "name": "Joana"})
    await shop.sandbox.post(f"/people/{phone}/aliases", {"alias": alias})
    assert await shop.devices.is_on_whatsapp(shop.numbers[0], [alias]) == {alias: True}
    assert isinstance(await send(shop, alias, "olá"), Sent)
    assert isinstance(await send(shop, phone, "de novo"), Sent)
    assert await shop.got(phone, "olá")
    assert await shop.got(phone, "de novo")

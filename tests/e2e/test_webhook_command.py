"""`kurir webhook …` beside a running gateway: from a new endpoint to a replay, and mistakes in one sentence."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.webhooks import Receiver, receiving, verified

from kurir.accounts import accounts
from kurir.app import RunningGateway, running
from kurir.messages.channel_reports import Received
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.settings import Settings

pytestmark = pytest.mark.e2e

EMAIL, NETWORK = "toko@example.com", "127.0.0.0/8"


async def kurir(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs `kurir webhook …`; returns what it printed, or on a failure what it complained."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KURIR_")}
    environment |= {"KURIR_DATA_DIR": str(folder), "KURIR_ALLOWED_NETWORKS": NETWORK, "COLUMNS": "250", "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kurir",
        "webhook",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, (out.decode(), err.decode())
    assert b"Traceback" not in err
    return (out if code == 0 else err).decode()


def field(text: str, name: str) -> str:
    found = re.search(rf"{name}\s+(\S+)", text)
    assert found, text
    return found[1]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running(Settings(data_dir=tmp_path, allowed_networks=(NETWORK,))) as gateway:
        yield gateway


@pytest.fixture
async def device(gateway: RunningGateway) -> Number:
    def work(connection) -> Number:
        account = accounts.create(connection, name="Toko", email=EMAIL)
        return numbers.add_linked_device(connection, account.id)

    return await gateway.database.write(work)


async def comes_in(gateway: RunningGateway, device: Number, text: str) -> None:
    message = Received(device.account_id, device.id, text, "62811", "62811", "Siti", time.time(), "text", text)
    await gateway.inbox.take([(message, "")])


async def test_from_a_new_endpoint_to_a_replay(
    gateway: RunningGateway, device: Number, receiver: Receiver, tmp_path: Path
) -> None:
    made = await kurir(tmp_path, "add", EMAIL, receiver.url(), "--number", device.key, "--event", "incoming_chat")
    endpoint, secret = field(made, "endpoint"), field(made, "secret")

    output = await kurir(tmp_path, "test", EMAIL, endpoint)
    assert "HTTP 200" in output
    assert "thanks" in output
    (webhook_call,) = await receiver.until(1)
    assert verified(webhook_call, secret)["type"] == "test"
    assert webhook_call.headers["bls-oto-numberid"] == device.key

    await comes_in(gateway, device, "satu")
    webhook_call = (await receiver.until(2))[1]
    assert verified(webhook_call, secret)["data"]["message_body"] == "satu"
    log = await kurir(tmp_path, "log", EMAIL)
    assert webhook_call.id in log
    assert "incoming_chat" in log

    # the command is another process; the gateway finds by itself what it asks for
    assert "1 to be delivered again" in await kurir(tmp_path, "replay", EMAIL, "--event", webhook_call.id)
    again = (await receiver.until(3))[2]
    assert (again.id, again.body) == (webhook_call.id, webhook_call.body)

    new = field(await kurir(tmp_path, "rotate", EMAIL, endpoint), "secret")
    await comes_in(gateway, device, "dua")
    rotated = (await receiver.until(4))[3]
    assert verified(rotated, new) == verified(rotated, secret)

    receiver.replies["/hook"] = (410,)
    assert "expected any 2xx" in await kurir(tmp_path, "test", EMAIL, endpoint, code=1)
    await comes_in(gateway, device, "tiga")
    await receiver.until(6)
    async with asyncio.timeout(15):
        while "disabled: the receiver answered 410 (Gone)" not in (listed := await kurir(tmp_path, "list", EMAIL)):
            assert endpoint in listed
    receiver.replies["/hook"] = (200,)
    await kurir(tmp_path, "enable", EMAIL, endpoint)
    assert "1 to be delivered again" in await kurir(tmp_path, "replay", EMAIL, "--since", "1h")
    assert (await receiver.until(7))[6].text == "tiga"

    await kurir(tmp_path, "remove", EMAIL, endpoint)
    assert endpoint not in await kurir(tmp_path, "list", EMAIL)


async def test_mistakes_are_one_sentence(gateway: RunningGateway, device: Number, tmp_path: Path) -> None:
    for arguments, sentence in (
        (("add", "nobody@example.com", "https://example.com/"), "there is no account"),
        (("add", EMAIL, "ftp://example.com/"), "url: the URL must start with http"),
        (("add", EMAIL, "http://10.0.0.1/"), "url: the URL's host is not on the public internet"),
        (("add", EMAIL, "https://example.com/", "--number", "BO-0"), "--number: "),
        (("add", EMAIL, "https://example.com/", "--event", "nonsense"), "--event: expected one of"),
        (("test", EMAIL, "ep_none"), "has no endpoint ep_none"),
        (("rotate", EMAIL, "ep_none"), "has no endpoint ep_none"),
        (("replay", EMAIL), "give either --event or --since"),
        (("replay", EMAIL, "--since", "yesterday"), "--since: expected"),
        (("replay", EMAIL, "--event", "evt_none"), "nothing to deliver again"),
    ):
        output = await kurir(tmp_path, *arguments, code=1)
        assert output.startswith("kurir: "), output
        assert sentence in output
        assert len(output.strip().splitlines()) <= 2, output

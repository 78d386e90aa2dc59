"""Clients that break the protocol: each is hung up on or told so, and the wire goes on for the others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from kurir_sandbox.ledger import Ledger
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.phones import Phones
from kurir_sandbox.web_protocol.curve import KEY_TYPE, KeyPair
from kurir_sandbox.web_protocol.noise import frame
from kurir_sandbox.web_protocol.protobufs import wa6
from kurir_sandbox.web_protocol.server import WebNetwork
from kurir_sandbox.web_protocol.stanza import SERVER, Node
from kurir_sandbox.world import World

from .noise_client import HEADER, Initiator, RawClient

Payload = wa6.ClientPayload


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[WebNetwork]:
    world = World(tmp_path)
    world.add_person("6281", "Owner")
    ledger = Ledger(tmp_path, MediaFiles(tmp_path / "media"))
    network = WebNetwork(world, Phones(ledger), tmp_path)
    await network.start()
    yield network
    await network.stop()
    await ledger.close()
    world.close()


def client(network: WebNetwork, static: KeyPair | None = None) -> RawClient:
    return RawClient(network.proxy_url, network.ca_file, network.noise_root, static)


def registration() -> wa6.ClientPayload:
    identity, signed = KeyPair.generate(), KeyPair.generate()
    return Payload(
        devicePairingData=Payload.DevicePairingRegistrationData(
            eRegid=bytes(4),
            eKeytype=b"\x05",
            eIdent=identity.public,
            eSkeyID=bytes(3),
            eSkeyVal=signed.public,
            eSkeySig=identity.sign(KEY_TYPE + signed.public),
        )
    )


async def still_works(network: WebNetwork) -> None:
    async with client(network) as good:
        await good.log_in(registration())
        refs = (await good.receive()).need("pair-device").all("ref")
        assert len(refs) == 6 and len({ref.data for ref in refs}) == 6


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\n", HEADER + frame(b""), HEADER + frame(os.urandom(60)), b"WA\x06\x03\xff\xff\xff"],
    ids=["http", "empty", "random", "unfinished"],
)
async def test_a_broken_handshake_ends_the_connection(network: WebNetwork, first: bytes) -> None:
    async with client(network) as bad:
        await bad.socket.send_bytes(first)
        if first.endswith(b"\xff"):
            await bad.socket.close()
        with pytest.raises(EOFError):
            await bad.frame()
    await still_works(network)


async def test_text_instead_of_frames_ends_the_connection(network: WebNetwork) -> None:
    async with client(network) as bad:
        await bad.socket.send_str("hello")
        with pytest.raises(EOFError):
            await bad.frame()


async def test_a_forged_handshake_ends_the_connection(network: WebNetwork) -> None:
    async with client(network) as bad:
        initiator = Initiator(bad.static)
        await bad.socket.send_bytes(HEADER + frame(initiator.hello()))
        await bad.frame()
        finish = wa6.HandshakeMessage(
            clientFinish=wa6.HandshakeMessage.ClientFinish(static=bytes(48), payload=bytes(20))
        )
        await bad.socket.send_bytes(frame(finish.SerializeToString()))
        with pytest.raises(EOFError):
            await bad.frame()
    await still_works(network)


async def test_a_registration_with_wrong_keys_ends_the_connection(network: WebNetwork) -> None:
    for field, value in (("eIdent", bytes(31)), ("eSkeySig", bytes(64)), ("eRegid", b"")):
        payload = registration()
        setattr(payload.devicePairingData, field, value)
        async with client(network) as bad:
            await bad.log_in(payload)
            with pytest.raises(EOFError):
                await bad.receive()
    await still_works(network)


async def test_a_login_as_an_unknown_device_is_refused(network: WebNetwork) -> None:
    for device in (0, 1, 300):
        async with client(network) as bad:
            await bad.log_in(Payload(username=6281, device=device))
            answer = await bad.receive()
            assert (answer.tag, answer.text("reason")) == ("failure", "401")


async def test_garbage_after_the_handshake_ends_the_connection(network: WebNetwork) -> None:
    for frame_bytes in (os.urandom(40), b""):
        async with client(network) as bad:
            await bad.log_in(registration())
            await bad.receive()
            await bad.socket.send_bytes(frame(frame_bytes))
            with pytest.raises(EOFError):
                await bad.receive()
    async with client(network) as bad:
        await bad.log_in(registration())
        await bad.receive()
        await bad.socket.send_bytes(frame(bad.transport.seal(b"\0\xf8\x03")))
        with pytest.raises(EOFError):
            await bad.receive()
    await still_works(network)


@pytest.mark.parametrize(
    "node",
    [
        Node("iq", {"type": "result"}, [Node("pair-device-sign", {}, [Node("device-identity", {}, b"\xff")])]),
        Node("iq", {"type": "set", "xmlns": "md"}, [Node("link_code_companion_reg", {"stage": "companion_finish"})]),
        Node("iq", {"type": "set", "xmlns": "md", "id": "1"}, [Node("link_code_companion_reg", {"stage": "nonsense"})]),
        Node("iq", {"type": "get"}),
    ],
    ids=["sign", "finish", "stage", "no id"],
)
async def test_a_candidate_that_breaks_the_order_is_hung_up_on(network: WebNetwork, node: Node) -> None:
    async with client(network) as bad:
        await bad.log_in(registration())
        await bad.receive()
        await bad.send(node)
        with pytest.raises(EOFError):
            await bad.receive()
    await still_works(network)


async def test_a_candidate_may_ask_for_other_things(network: WebNetwork) -> None:
    async with client(network) as good:
        await good.log_in(registration())
        await good.receive()
        await good.send(Node("presence"))
        await good.send(Node("iq", {"type": "get", "id": "7", "xmlns": "w:p", "to": SERVER}, [Node("ping")]))
        answer = await good.receive()
        assert (answer.text("type"), answer.text("id")) == ("result", "7")


async def test_the_proxy_leads_every_host_here_and_does_nothing_else(network: WebNetwork) -> None:
    host, port = network.proxy_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 405")
    writer.close()
    async with aiohttp.ClientSession() as session:
        url = "https://anywhere.example/v/" + "0" * 64
        async with session.get(url, proxy=network.proxy_url, ssl=False) as answer:
            assert answer.status == 404 and "no such media" in await answer.text()
        upload = "https://mmg.whatsapp.net/mms/image/wrong"
        async with session.post(upload, data=b"x", proxy=network.proxy_url, ssl=False) as answer:
            assert answer.status == 400 and "token" in await answer.text()

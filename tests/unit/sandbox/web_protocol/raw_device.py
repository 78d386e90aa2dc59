"""A raw linked device for tests: it says what the test wants, stanza by stanza, to a wire with three people on it."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

from kurir_sandbox.ledger import Ledger
from kurir_sandbox.media_files import MediaFiles
from kurir_sandbox.phones import Phones
from kurir_sandbox.web_protocol.curve import KEY_TYPE, KeyPair, verify
from kurir_sandbox.web_protocol.protobufs import adv, wa6
from kurir_sandbox.web_protocol.server import WebNetwork
from kurir_sandbox.web_protocol.stanza import JID, SERVER, Node
from kurir_sandbox.web_protocol.symmetric import hmac_sha256
from kurir_sandbox.world import World

from .noise_client import RawClient

OWNER, ALICE, BOB = "6281", "6282", "6283"
Payload = wa6.ClientPayload


class Stage:
    """A wire with people, and one raw device that is linked to the owner."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        for phone in (OWNER, ALICE, BOB):
            self.world.add_person(phone, f"Person {phone}")
        self.ledger = Ledger(folder, MediaFiles(folder / "media"))
        self.phones = Phones(self.ledger)
        self.network = WebNetwork(self.world, self.phones, folder)
        self.noise_key, self.identity, self.signed = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()

    def client(self, static: KeyPair | None = None) -> RawClient:
        return RawClient(
            self.network.proxy_url, self.network.ca_file, self.network.noise_root, static or self.noise_key
        )

    def lid(self, phone: str) -> JID:
        person = self.world.person(phone)
        assert person
        return JID(person.lid, "lid")

    async def link(self) -> None:
        async with self.client() as client:
            secret = os.urandom(32)
            await client.log_in(self._registration())
            ref = (await client.receive()).need_data("pair-device", "ref").decode()
            keys = (base64.b64encode(k).decode() for k in (self.noise_key.public, self.identity.public, secret))
            scanning = asyncio.create_task(self.network.scan(OWNER, ",".join([f"https://wa.me/x#{ref}", *keys, "1"])))
            offer = await client.receive()
            box = adv.ADVSignedDeviceIdentityHMAC.FromString(offer.need_data("pair-success", "device-identity"))
            assert hmac_sha256(secret, box.details) == box.HMAC
            signed = adv.ADVSignedDeviceIdentity.FromString(box.details)
            message = b"\x06\x00" + signed.details + self.identity.public
            assert verify(signed.accountSignatureKey, message, signed.accountSignature)
            own = b"\x06\x01" + signed.details + self.identity.public + signed.accountSignatureKey
            signed.deviceSignature = self.identity.sign(own)
            await client.send(
                Node(
                    "iq",
                    {"type": "result", "id": offer.text("id")},
                    [Node("pair-device-sign", {}, [Node("device-identity", {}, signed.SerializeToString())])],
                )
            )
            assert (await client.receive()).text("code") == "515"
            assert (await scanning).phone == OWNER

    def _registration(self) -> wa6.ClientPayload:
        return Payload(
            devicePairingData=Payload.DevicePairingRegistrationData(
                eRegid=bytes(4),
                eKeytype=b"\x05",
                eIdent=self.identity.public,
                eSkeyID=bytes(3),
                eSkeyVal=self.signed.public,
                eSkeySig=self.identity.sign(KEY_TYPE + self.signed.public),
            )
        )


async def logged_in(client: RawClient, device: int = 1, *, passive: bool = True) -> Node:
    """Logs in, by default as one who gets nothing before it says that it is ready; the server's first answer."""
    await client.log_in(Payload(username=int(OWNER), device=device, passive=passive))
    return await client.receive()


async def ask(client: RawClient, node: Node) -> Node:
    """Sends `node`; the next stanza that is no news."""
    await client.send(node)
    while (answer := await client.receive()).tag in ("ib", "notification", "message"):
        pass
    return answer


def iq(namespace: str, *children: Node, to: JID = SERVER) -> Node:
    return Node("iq", {"id": "9", "type": "set", "xmlns": namespace, "to": to}, list(children))

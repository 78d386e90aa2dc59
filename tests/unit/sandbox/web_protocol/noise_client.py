"""The client's side of the WhatsApp Web wire, for tests: a Noise XX initiator and a raw connection."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import aiohttp
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kurir_sandbox.web_protocol import codec
from kurir_sandbox.web_protocol.curve import KeyPair, verify
from kurir_sandbox.web_protocol.noise import Frames, Transport, frame
from kurir_sandbox.web_protocol.protobufs import cert, wa6
from kurir_sandbox.web_protocol.stanza import Node
from kurir_sandbox.web_protocol.symmetric import hkdf

HEADER = b"WA\x06\x03"


class Initiator:
    """Noise_XX_25519_AESGCM_SHA256, first party; checks the server's certificate chain against `root`."""

    def __init__(self, static: KeyPair, root: bytes | None = None) -> None:
        self.static, self.root, self.ephemeral = static, root, KeyPair.generate()
        self.h = self.ck = self.k = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
        self.n = 0
        self._hash(HEADER)

    def hello(self) -> bytes:
        self._hash(self.ephemeral.public)
        return wa6.HandshakeMessage(
            clientHello=wa6.HandshakeMessage.ClientHello(ephemeral=self.ephemeral.public)
        ).SerializeToString()

    def finish(self, server_hello: bytes, payload: bytes) -> tuple[bytes, Transport]:
        answer = wa6.HandshakeMessage.FromString(server_hello).serverHello
        self._hash(answer.ephemeral)
        self._key(self.ephemeral.agree(answer.ephemeral))
        server_static = self._decrypt(answer.static)
        self._key(self.ephemeral.agree(server_static))
        self._check(server_static, self._decrypt(answer.payload))
        static = self._encrypt(self.static.public)
        self._key(self.static.agree(answer.ephemeral))
        finish = wa6.HandshakeMessage.ClientFinish(static=static, payload=self._encrypt(payload))
        keys = hkdf(b"", 64, salt=self.ck)
        message = wa6.HandshakeMessage(clientFinish=finish).SerializeToString()
        return message, Transport(receiving=keys[32:], sending=keys[:32])

    def _check(self, server_static: bytes, raw: bytes) -> None:
        chain = cert.CertChain.FromString(raw)
        upper = cert.CertChain.NoiseCertificate.Details.FromString(chain.intermediate.details)
        lower = cert.CertChain.NoiseCertificate.Details.FromString(chain.leaf.details)
        assert lower.key == server_static and lower.issuerSerial == upper.serial and upper.issuerSerial == 0
        assert verify(upper.key, chain.leaf.details, chain.leaf.signature)
        if self.root is not None:
            assert verify(self.root, chain.intermediate.details, chain.intermediate.signature)

    def _hash(self, data: bytes) -> None:
        self.h = hashlib.sha256(self.h + data).digest()

    def _key(self, secret: bytes) -> None:
        keys = hkdf(secret, 64, salt=self.ck)
        self.ck, self.k, self.n = keys[:32], keys[32:], 0

    def _nonce(self) -> bytes:
        self.n += 1
        return bytes(8) + (self.n - 1).to_bytes(4, "big")

    def _encrypt(self, plain: bytes) -> bytes:
        sealed = AESGCM(self.k).encrypt(self._nonce(), plain, self.h)
        self._hash(sealed)
        return sealed

    def _decrypt(self, sealed: bytes) -> bytes:
        plain = AESGCM(self.k).decrypt(self._nonce(), sealed, self.h)
        self._hash(sealed)
        return plain


class RawClient:
    """A connection to the wire through its CONNECT proxy, with the sandbox's CA only."""

    def __init__(self, proxy: str, ca_file: Path, root: bytes, static: KeyPair | None = None) -> None:
        self._proxy, self._root = proxy, root
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._frames = Frames()
        self._frames.header = HEADER  # the server sends none
        self._pending: list[bytes] = []
        self.static = static or KeyPair.generate()

    async def __aenter__(self) -> RawClient:
        self._session = aiohttp.ClientSession()
        self.socket = await self._session.ws_connect(
            "https://web.whatsapp.com/ws/chat",
            proxy=self._proxy,
            ssl=self._tls,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        await self._session.close()

    async def log_in(self, payload: wa6.ClientPayload) -> None:
        initiator = Initiator(self.static, self._root)
        await self.socket.send_bytes(HEADER + frame(initiator.hello()))
        message, self.transport = initiator.finish(await self.frame(), payload.SerializeToString())
        await self.socket.send_bytes(frame(message))

    async def frame(self) -> bytes:
        while not self._pending:
            message = await self.socket.receive(timeout=10)
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise EOFError(str(message.type))
            self._pending += self._frames.feed(message.data)
        return self._pending.pop(0)

    async def receive(self) -> Node:
        return codec.decode(self.transport.open(await self.frame()))

    async def send(self, node: Node) -> None:
        await self.send_raw(codec.encode(node))

    async def send_raw(self, data: bytes) -> None:
        """Sends one sealed frame, whatever is in it."""
        await self.socket.send_bytes(frame(self.transport.seal(data)))

"""Noise_XX_25519_AESGCM_SHA256 as a WhatsApp Web server speaks it, and the frames it travels in.

The prologue is the client's 4-byte header ("WA", 6, dictionary version 3). The server proves itself with a
certificate chain under a root key that the client has compiled in (see `certificates.py`). After the handshake each
direction counts its frames from 0 in the AES-GCM nonce.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from .curve import CurveError, KeyPair
from .protobufs import wa6
from .symmetric import hkdf

_NAME = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
_HEADER_SIZE = 4
_MAX_FRAME = 1 << 24


class NoiseError(ValueError):
    """A handshake or a frame that does not fit the protocol or the keys."""


class Frames:
    """Cuts the byte stream of one direction into frames (3-byte length first); frames may arrive split or joined."""

    def __init__(self) -> None:
        self._buffer = b""
        self.header = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes. Raises NoiseError for a header that is not WhatsApp Web's."""
        self._buffer += data
        if not self.header and not self._read_header():
            return []
        frames: list[bytes] = []
        while len(self._buffer) >= 3:
            end = 3 + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                break
            frames.append(self._buffer[3:end])
            self._buffer = self._buffer[end:]
        return frames

    def _read_header(self) -> bool:
        if self._buffer[:2] == b"ED":  # routing prefix: "ED", 0, 1, 3-byte length, routing data
            if len(self._buffer) < 7:
                return False
            end = 7 + int.from_bytes(self._buffer[4:7], "big")
            if len(self._buffer) < end:
                return False
            self._buffer = self._buffer[end:]
        if len(self._buffer) < _HEADER_SIZE:
            return False
        self.header, self._buffer = self._buffer[:_HEADER_SIZE], self._buffer[_HEADER_SIZE:]
        if self.header[:2] != b"WA":
            raise NoiseError(f"unknown protocol header {self.header.hex()}")
        return True


def frame(data: bytes) -> bytes:
    """`data` with its 3-byte length in front."""
    if len(data) >= _MAX_FRAME:
        raise NoiseError(f"a frame of {len(data)} bytes is too long")
    return len(data).to_bytes(3, "big") + data


class Transport:
    """The two ciphers after the handshake, as the side that owns them sees them."""

    def __init__(self, receiving: bytes, sending: bytes) -> None:
        self._receiving, self._sending = AESGCM(receiving), AESGCM(sending)
        self._received = self._sent = 0

    def seal(self, plain: bytes) -> bytes:
        """The next outgoing frame's bytes."""
        self._sent += 1
        return self._sending.encrypt(_nonce(self._sent - 1), plain, None)

    def open(self, sealed: bytes) -> bytes:
        """The plain bytes of the next incoming frame. Raises NoiseError when it was altered or reordered."""
        try:
            plain = self._receiving.decrypt(_nonce(self._received), sealed, None)
        except InvalidTag as error:
            raise NoiseError(f"frame {self._received} does not decrypt") from error
        self._received += 1
        return plain


@dataclass(frozen=True, slots=True)
class Greeting:
    """The handshake's result: the client's static key and its request (ClientPayload, serialised)."""

    client_static: bytes
    payload: bytes
    transport: Transport


class Handshake:
    """The symmetric state of Noise; the two methods `respond` and `finish` are the server's whole part."""

    def __init__(self, prologue: bytes, static: KeyPair, certificate_chain: bytes) -> None:
        self._static, self._chain = static, certificate_chain
        self._hash = self._chaining = self._key = _NAME
        self._counter = 0
        self._ephemeral = KeyPair.generate()
        self._mix_hash(prologue)

    def respond(self, client_hello: bytes) -> bytes:
        """ClientHello in, ServerHello out (both serialised HandshakeMessage). Raises NoiseError."""
        theirs = _parse(client_hello).clientHello.ephemeral
        self._mix_hash(theirs)
        self._mix_hash(self._ephemeral.public)
        self._mix_key(_agree(self._ephemeral, theirs))
        static = self._encrypt(self._static.public)
        self._mix_key(_agree(self._static, theirs))
        payload = self._encrypt(self._chain)
        hello = wa6.HandshakeMessage.ServerHello(ephemeral=self._ephemeral.public, static=static, payload=payload)
        return wa6.HandshakeMessage(serverHello=hello).SerializeToString()

    def finish(self, client_finish: bytes) -> Greeting:
        """ClientFinish in; the client's identity, payload and the transport out. Raises NoiseError."""
        message = _parse(client_finish).clientFinish
        static = self._decrypt(message.static)
        self._mix_key(_agree(self._ephemeral, static))
        payload = self._decrypt(message.payload)
        keys = hkdf(b"", 64, salt=self._chaining)
        return Greeting(static, payload, Transport(receiving=keys[:32], sending=keys[32:]))

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, secret: bytes) -> None:
        keys = hkdf(secret, 64, salt=self._chaining)
        self._chaining, self._key, self._counter = keys[:32], keys[32:], 0

    def _encrypt(self, plain: bytes) -> bytes:
        sealed = AESGCM(self._key).encrypt(_nonce(self._counter), plain, self._hash)
        self._counter += 1
        self._mix_hash(sealed)
        return sealed

    def _decrypt(self, sealed: bytes) -> bytes:
        try:
            plain = AESGCM(self._key).decrypt(_nonce(self._counter), sealed, self._hash)
        except (InvalidTag, ValueError) as error:
            raise NoiseError("handshake message does not decrypt") from error
        self._counter += 1
        self._mix_hash(sealed)
        return plain


def _nonce(counter: int) -> bytes:
    return bytes(8) + counter.to_bytes(4, "big")


def _parse(data: bytes) -> wa6.HandshakeMessage:
    try:
        return wa6.HandshakeMessage.FromString(data)
    except DecodeError as error:
        raise NoiseError("not a handshake message") from error


def _agree(own: KeyPair, public: bytes) -> bytes:
    try:
        return own.agree(public)
    except CurveError as error:
        raise NoiseError(str(error)) from error

"""Signal sessions between two devices: X3DH key agreement and the Double Ratchet, protocol version 3.

Sources: signal.org/docs/specifications (x3dh, doubleratchet) and the constants of libsignal: HKDF infos
"WhisperText", "WhisperRatchet", "WhisperMessageKeys", chain steps HMAC 1 and 2, an 8-byte MAC over both identity
keys and the message. A session is a value that can be stored; `decrypt` changes it only when the message was
genuine.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .curve import KEY_TYPE, CurveError, KeyPair, bare, verify
from .signal_messages import MAC_SIZE, PlainMessage, PreKeyMessage, SignalError
from .symmetric import CipherError, cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256, same

EncryptionType = Literal["pkmsg", "msg"]

MAX_SKIP = 2000
_MAX_CHAINS = 5
_DISCONTINUITY = b"\xff" * 32


class DuplicateMessageError(SignalError):
    """A message that was already read (its key is used up)."""


class Bundle(msgspec.Struct, frozen=True):
    """What a device publishes so that others can start a session with it; keys are 32 bytes."""

    registration: int
    identity: bytes
    signed_key_id: int
    signed_key: bytes
    signature: bytes
    one_time_id: int | None = None
    one_time_key: bytes | None = None


class ReceivingChain(msgspec.Struct):
    """The chain of messages under one ratchet key of the other side; `index` is the next message's number."""

    ratchet: bytes
    key: bytes
    index: int = 0


class SkippedKey(msgspec.Struct, frozen=True):
    """The 80 bytes of keys of a message that was overtaken by a later one."""

    ratchet: bytes
    index: int
    keys: bytes


class Invitation(msgspec.Struct, frozen=True):
    """Our half of the key agreement; it goes with every message until the other side answered."""

    registration: int
    signed_key_id: int
    one_time_id: int | None
    base: bytes


class Session(msgspec.Struct):
    """One pairwise session. `base` identifies it: the base key of the message that started it."""

    own_identity: bytes
    their_identity: bytes
    base: bytes
    root: bytes
    ratchet: KeyPair
    sending: bytes
    sent: int = 0
    previous: int = 0
    receiving: list[ReceivingChain] = []
    skipped: list[SkippedKey] = []
    invitation: Invitation | None = None

    def encrypt(self, plain: bytes) -> tuple[EncryptionType, bytes]:
        """The next message for the other side: "pkmsg" until it answered, then "msg"."""
        cipher, mac, iv = _split(_message_keys(self.sending))
        signed = PlainMessage.write(
            KEY_TYPE + self.ratchet.public, self.sent, self.previous, cbc_encrypt(cipher, iv, plain)
        )
        message = signed + _mac(mac, self.own_identity, self.their_identity, signed)
        self.sending = _next_chain(self.sending)
        self.sent += 1
        if self.invitation is None:
            return "msg", message
        return "pkmsg", PreKeyMessage(
            self.invitation.one_time_id,
            self.invitation.signed_key_id,
            KEY_TYPE + self.invitation.base,
            KEY_TYPE + self.own_identity,
            message,
            self.invitation.registration,
        ).write()

    def decrypt(self, data: bytes) -> bytes:
        """The plain bytes of a "msg". Raises DuplicateMessageError or SignalError and then changes nothing."""
        message = PlainMessage.parse(data)
        try:
            ratchet = bare(message.ratchet)
            known = next((c for c in self.receiving if c.ratchet == ratchet), None)
            if known is None:
                root, key = _ratchet_step(self.root, self.ratchet.agree(ratchet))
                chain = ReceivingChain(ratchet, key)
            else:
                root, chain = self.root, known
        except CurveError as error:
            raise SignalError(str(error)) from error

        key, index = chain.key, chain.index
        overtaken: list[SkippedKey] = []
        old = None
        if message.counter < index:
            old = next((s for s in self.skipped if s.ratchet == ratchet and s.index == message.counter), None)
            if old is None:
                raise DuplicateMessageError(f"message {message.counter} was already read")
            keys = old.keys
        else:
            if message.counter - index > MAX_SKIP:
                raise SignalError(f"message {message.counter} is too far ahead of {index}")
            while index < message.counter:
                overtaken.append(SkippedKey(ratchet, index, _message_keys(key)))
                key, index = _next_chain(key), index + 1
            keys = _message_keys(key)
            key, index = _next_chain(key), index + 1

        cipher, mac, iv = _split(keys)
        if not same(_mac(mac, self.their_identity, self.own_identity, message.signed), message.mac):
            raise SignalError("mismatching MAC")
        try:
            plain = cbc_decrypt(cipher, iv, message.body)
        except CipherError as error:
            raise SignalError(str(error)) from error

        self.invitation = None
        if old is not None:
            self.skipped.remove(old)
            return plain
        chain.key, chain.index = key, index
        self.skipped = (self.skipped + overtaken)[-MAX_SKIP:]
        if known is None:
            self._turn_ratchet(root, chain)
        return plain

    def _turn_ratchet(self, root: bytes, chain: ReceivingChain) -> None:
        self.receiving = [*self.receiving, chain][-_MAX_CHAINS:]
        self.previous, self.sent = max(self.sent - 1, 0), 0
        self.ratchet = KeyPair.generate()
        self.root, self.sending = _ratchet_step(root, self.ratchet.agree(chain.ratchet))


def start(identity: KeyPair, registration: int, bundle: Bundle) -> Session:
    """A session with the device that published `bundle`, from our side. Raises SignalError for a bad bundle."""
    if not verify(bundle.identity, KEY_TYPE + bundle.signed_key, bundle.signature):
        raise SignalError("the signed pre-key is not signed by its identity key")
    base, ratchet = KeyPair.generate(), KeyPair.generate()
    try:
        secret = _DISCONTINUITY + identity.agree(bundle.signed_key)
        secret += base.agree(bundle.identity) + base.agree(bundle.signed_key)
        if bundle.one_time_key is not None:
            secret += base.agree(bundle.one_time_key)
        derived = hkdf(secret, 64, b"WhisperText")
        root, sending = _ratchet_step(derived[:32], ratchet.agree(bundle.signed_key))
    except CurveError as error:
        raise SignalError(str(error)) from error
    return Session(
        own_identity=identity.public,
        their_identity=bare(bundle.identity),
        base=base.public,
        root=root,
        ratchet=ratchet,
        sending=sending,
        # the other side may write before it saw our ratchet key: its signed pre-key is its first one
        receiving=[ReceivingChain(bare(bundle.signed_key), derived[32:])],
        invitation=Invitation(registration, bundle.signed_key_id, bundle.one_time_id, base.public),
    )


def accept(identity: KeyPair, signed_key: KeyPair, one_time_key: KeyPair | None, message: PreKeyMessage) -> Session:
    """The session that a "pkmsg" starts, from the receiver's side; the inner message is yet to be decrypted."""
    try:
        theirs, base = bare(message.identity), bare(message.base)
        secret = _DISCONTINUITY + signed_key.agree(theirs) + identity.agree(base) + signed_key.agree(base)
        if one_time_key is not None:
            secret += one_time_key.agree(base)
    except CurveError as error:
        raise SignalError(str(error)) from error
    derived = hkdf(secret, 64, b"WhisperText")
    return Session(
        own_identity=identity.public,
        their_identity=theirs,
        base=base,
        root=derived[:32],
        ratchet=signed_key,
        sending=derived[32:],
    )


def _message_keys(chain: bytes) -> bytes:
    return hkdf(hmac_sha256(chain, b"\x01"), 80, b"WhisperMessageKeys")


def _split(keys: bytes) -> tuple[bytes, bytes, bytes]:
    return keys[:32], keys[32:64], keys[64:]


def _next_chain(chain: bytes) -> bytes:
    return hmac_sha256(chain, b"\x02")


def _ratchet_step(root: bytes, secret: bytes) -> tuple[bytes, bytes]:
    keys = hkdf(secret, 64, b"WhisperRatchet", root)
    return keys[:32], keys[32:]


def _mac(key: bytes, sender: bytes, receiver: bytes, message: bytes) -> bytes:
    return hmac_sha256(key, KEY_TYPE, sender, KEY_TYPE, receiver, message)[:MAC_SIZE]

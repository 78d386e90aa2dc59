"""Sender keys: one ratchet per sender and group, handed to each member once, so that a group message is encrypted
once.

Constants as in libsignal: HKDF info "WhisperGroup" gives 16 bytes IV and 32 bytes key; chain steps as in a session.
"""

from __future__ import annotations

import secrets

import msgspec

from .curve import KEY_TYPE, KeyPair, verify
from .signal_messages import Distribution, SenderKeyMessage, SignalError
from .signal_sessions import MAX_SKIP, DuplicateMessageError
from .symmetric import CipherError, cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256

_MAX_KEYS = 5


class SenderKey(msgspec.Struct):
    """Another device's key in a group, as handed to us. `skipped` maps overtaken iterations to their 48 key bytes."""

    key_id: int
    signing: bytes
    chain: bytes
    iteration: int
    skipped: dict[int, bytes] = {}

    def decrypt(self, message: SenderKeyMessage) -> bytes:
        """Plain bytes. Raises DuplicateMessageError or SignalError and then changes nothing."""
        if not verify(self.signing, message.signed, message.signature):
            raise SignalError("group message has a wrong signature")
        chain, iteration = self.chain, self.iteration
        overtaken: dict[int, bytes] = {}
        if message.iteration < iteration:
            if message.iteration not in self.skipped:
                raise DuplicateMessageError(f"group message {message.iteration} was already read")
            keys = self.skipped[message.iteration]
        else:
            if message.iteration - iteration > MAX_SKIP:
                raise SignalError(f"group message {message.iteration} is too far ahead of {iteration}")
            while iteration < message.iteration:
                overtaken[iteration] = _message_keys(chain)
                chain, iteration = _next_chain(chain), iteration + 1
            keys = _message_keys(chain)
            chain, iteration = _next_chain(chain), iteration + 1
        try:
            plain = cbc_decrypt(keys[16:], keys[:16], message.body)
        except CipherError as error:
            raise SignalError(str(error)) from error
        self.chain, self.iteration = chain, iteration
        self.skipped.pop(message.iteration, None)
        self.skipped.update(overtaken)
        for oldest in list(self.skipped)[:-MAX_SKIP]:
            del self.skipped[oldest]
        return plain


class ReceivedKeys(msgspec.Struct):
    """The sender keys of one device in one group, newest first."""

    keys: list[SenderKey] = []

    def learn(self, distribution: Distribution) -> None:
        """Keeps a key that was handed to us; one we have already stays as far as it has moved on."""
        if any(k.key_id == distribution.key_id and k.signing == distribution.signing for k in self.keys):
            return
        key = SenderKey(distribution.key_id, distribution.signing, distribution.chain, distribution.iteration)
        self.keys = [key, *self.keys][:_MAX_KEYS]

    def decrypt(self, data: bytes) -> bytes:
        """The plain bytes of a "skmsg". Raises SignalError, e.g. when its key was never handed to us."""
        message = SenderKeyMessage.parse(data)
        for key in self.keys:
            if key.key_id == message.key_id:
                return key.decrypt(message)
        raise SignalError(f"no sender key {message.key_id}")


class OwnSenderKey(msgspec.Struct):
    """Our key in one group and the devices (as JID text) it was handed to."""

    key_id: int
    chain: bytes
    signing: KeyPair
    iteration: int = 0
    handed_to: set[str] = set()

    @classmethod
    def generate(cls) -> OwnSenderKey:
        """A fresh random key."""
        return cls(secrets.randbits(31), secrets.token_bytes(32), KeyPair.generate())

    def distribution(self) -> bytes:
        """The message that hands the key, as it is now, to a member."""
        return Distribution(self.key_id, self.iteration, self.chain, KEY_TYPE + self.signing.public).write()

    def encrypt(self, plain: bytes) -> bytes:
        """The next "skmsg"."""
        keys = _message_keys(self.chain)
        signed = SenderKeyMessage.write(self.key_id, self.iteration, cbc_encrypt(keys[16:], keys[:16], plain))
        self.chain, self.iteration = _next_chain(self.chain), self.iteration + 1
        return signed + self.signing.sign(signed)


def _message_keys(chain: bytes) -> bytes:
    return hkdf(hmac_sha256(chain, b"\x01"), 48, b"WhisperGroup")


def _next_chain(chain: bytes) -> bytes:
    return hmac_sha256(chain, b"\x02")

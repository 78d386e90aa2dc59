"""Curve25519 keys as the Signal protocol uses them: X25519 agreement and XEdDSA signatures with the same key.

Signatures follow libsignal's variant of XEdDSA (signal.org/docs/specifications/xeddsa): the sign bit of the Edwards
public key travels in the top bit of the last byte, because a Montgomery public key does not include it.
"""

from __future__ import annotations

import hashlib
import os

import msgspec
from nacl import bindings
from nacl.exceptions import CryptoError

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
KEY_TYPE = b"\x05"  # DJB_TYPE: the byte before a 32-byte public key in Signal messages


class CurveError(ValueError):
    """A public key that is no usable point of the curve."""


class KeyPair(msgspec.Struct, frozen=True):
    """A private and its public key, 32 bytes each (the public key without the type byte)."""

    private: bytes
    public: bytes

    @classmethod
    def generate(cls) -> KeyPair:
        """A fresh random pair."""
        private = _clamp(os.urandom(32))
        return cls(private, bindings.crypto_scalarmult_base(private))

    def agree(self, public: bytes) -> bytes:
        """The X25519 shared secret (32 bytes) with `public`. Raises CurveError for an unusable key."""
        try:
            return bindings.crypto_scalarmult(self.private, bare(public))
        except (CryptoError, ValueError) as error:
            raise CurveError(f"public key refused: {error}") from error

    def sign(self, message: bytes) -> bytes:
        """A 64-byte XEdDSA signature over `message`."""
        a = (int.from_bytes(self.private, "little") % _L).to_bytes(32, "little")
        point = bindings.crypto_scalarmult_ed25519_base_noclamp(a)
        seed = b"\xfe" + b"\xff" * 31 + self.private + message + os.urandom(64)
        nonce = int.from_bytes(hashlib.sha512(seed).digest(), "little") % _L
        r = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
        h = int.from_bytes(hashlib.sha512(r + point + message).digest(), "little") % _L
        s = bytearray(((nonce + h * int.from_bytes(a, "little")) % _L).to_bytes(32, "little"))
        s[31] |= point[31] & 0x80
        return r + bytes(s)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` was made with the private half of `public`."""
    if len(signature) != 64:
        return False
    try:
        u = int.from_bytes(bare(public), "little") & ((1 << 255) - 1)
    except CurveError:
        return False
    # the birational map of RFC 7748 section 4.1: y = (u - 1) / (u + 1)
    y = (u - 1) * pow(u + 1, _P - 2, _P) % _P
    point = bytearray(y.to_bytes(32, "little"))
    point[31] |= signature[63] & 0x80
    plain = bytearray(signature)
    plain[63] &= 0x7F
    try:
        bindings.crypto_sign_open(bytes(plain) + message, bytes(point))
    except (CryptoError, ValueError):
        return False
    return True


def bare(public: bytes) -> bytes:
    """The 32 bytes of a public key given with or without its type byte. Raises CurveError for another length."""
    if len(public) == 33 and public[:1] == KEY_TYPE:
        return public[1:]
    if len(public) != 32:
        raise CurveError(f"a public key has 32 bytes, not {len(public)}")
    return public


def _clamp(scalar: bytes) -> bytes:
    out = bytearray(scalar)
    out[0] &= 248
    out[31] = out[31] & 127 | 64
    return bytes(out)

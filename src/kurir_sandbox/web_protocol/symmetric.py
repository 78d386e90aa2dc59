"""Symmetric cryptography as the WhatsApp Web wire uses it: HKDF, HMAC-SHA256 and AES-256-CBC."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK = 16


class CipherError(ValueError):
    """A ciphertext that is not made of whole blocks or has wrong padding."""


def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 (32 bytes) over the concatenation of `parts`."""
    return hmac.digest(key, b"".join(parts), "sha256")


def same(a: bytes, b: bytes) -> bool:
    """Whether two MACs are equal, in constant time."""
    return hmac.compare_digest(a, b)


def hkdf(secret: bytes, size: int, info: bytes = b"", salt: bytes = b"") -> bytes:
    """HKDF-SHA256 (RFC 5869): `size` bytes; an empty salt means 32 zero bytes."""
    key = hmac_sha256(salt or bytes(hashlib.sha256().digest_size), secret)
    out, block = b"", b""
    for counter in range(1, -(-size // 32) + 1):
        block = hmac_sha256(key, block, info, bytes([counter]))
        out += block
    return out[:size]


def cbc_encrypt(key: bytes, iv: bytes, plain: bytes) -> bytes:
    """AES-CBC with PKCS#7 padding."""
    fill = _BLOCK - len(plain) % _BLOCK
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(plain + bytes([fill]) * fill) + encryptor.finalize()


def cbc_decrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """The plain bytes of `cbc_encrypt`. Raises CipherError for broken blocks or padding."""
    if not data or len(data) % _BLOCK:
        raise CipherError(f"ciphertext of {len(data)} bytes is not whole blocks")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(data) + decryptor.finalize()
    fill = padded[-1]
    if not 1 <= fill <= _BLOCK or padded[-fill:] != bytes([fill]) * fill:
        raise CipherError("wrong padding")
    return padded[:-fill]

"""The ciphers of pairing by code: a key out of the 8 characters, and what it wraps."""

from __future__ import annotations

import asyncio
import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_ITERATIONS = 2 << 16


async def code_key(code: str, salt: bytes) -> bytes:
    """The 32-byte key of a linking code (without its dash)."""
    # 131,072 rounds take a while: not on the event loop
    return await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", code.encode(), salt, _ITERATIONS, 32)


def ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    """`data` encrypted or decrypted with AES in counter mode."""
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(data)

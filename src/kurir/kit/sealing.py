"""Secrets at rest: encrypted ("sealed") when they must be read again, hashed with a key when they are only compared.

One master key (32 bytes) in `<data_dir>/master.key` (mode 0600) or in `KURIR_MASTER_KEY` (64 hex digits); it is never
stored in the database. Sealing is AES-256-GCM bound to a context (table, column, owner), so that a sealed value moved
to another row cannot be opened. Two keys are derived from the master key: one for sealing, one for hashing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kurir.kit.atomic_files import place_new

_VERSION = "k1."


class SealError(Exception):
    """A sealed value cannot be opened: wrong key, wrong context, or damaged."""


class Sealing:
    """Seals, opens and hashes with keys derived from one master key of 32 bytes."""

    def __init__(self, master: bytes) -> None:
        if len(master) != 32:
            raise SealError("the master key must have 32 bytes")
        self._master = master
        self._aead = AESGCM(_derive(master, b"kurir seal"))
        self._hash_key = _derive(master, b"kurir hash")

    def seal(self, plain: str, context: str) -> str:
        """Encrypts `plain` for this key and the given `context`."""
        nonce = secrets.token_bytes(12)
        boxed = self._aead.encrypt(nonce, plain.encode(), context.encode())
        return _VERSION + base64.urlsafe_b64encode(nonce + boxed).decode()

    def open(self, sealed: str, context: str) -> str:
        """Decrypts what `seal` returned. Raises SealError."""
        if not sealed.startswith(_VERSION):
            raise SealError("this is not a sealed value")
        try:
            raw = base64.urlsafe_b64decode(sealed[len(_VERSION) :])
            return self._aead.decrypt(raw[:12], raw[12:], context.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise SealError("a sealed value does not open: was the master key or the row changed?") from error

    def hash(self, text: str, context: str = "") -> str:
        """A keyed hash (HMAC-SHA256, hex) to recognize a secret without storing it."""
        return hmac.new(self._hash_key, f"{context}\0{text}".encode(), hashlib.sha256).hexdigest()

    def derive(self, purpose: str) -> bytes:
        """Derives a further key of 32 bytes for one purpose."""
        return _derive(self._master, b"kurir " + purpose.encode())


def load_master_key(data_dir: Path) -> bytes:
    """The master key from `KURIR_MASTER_KEY` or `<data_dir>/master.key`, created on first use. Raises SealError."""
    known = find_master_key(data_dir)
    if known is not None:
        return known
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    place_new(data_dir / "master.key", (secrets.token_hex(32) + "\n").encode())
    made = find_master_key(data_dir)
    assert made is not None, "it is there now, whoever made it"
    return made


def find_master_key(data_dir: Path) -> bytes | None:
    """The existing master key, or None. Raises SealError for one that is malformed."""
    text, where = os.environ.get("KURIR_MASTER_KEY", ""), "KURIR_MASTER_KEY"
    if not text:
        path = data_dir / "master.key"
        try:
            text, where = path.read_text(encoding="ascii", errors="replace").strip(), str(path)
        except FileNotFoundError:
            return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise SealError(
            f"{where}: expected 64 hex digits; put the key of this data folder back, or, before the very "
            "first start, remove it"
        )
    return key


def _derive(master: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose).derive(master)

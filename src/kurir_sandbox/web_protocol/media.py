"""Media on the WhatsApp Web wire: encrypted blobs by HTTP, their keys inside the (end-to-end encrypted) message.

Four keys come from the message's 32-byte media key by HKDF with an info per kind; a blob is AES-CBC ciphertext and
10 bytes of HMAC over IV and ciphertext. Source: the WhatsApp Encryption Overview (white paper), "Transmitting Media
and Other Attachments".
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from .symmetric import CipherError, cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256, same

HOST = "mmg.whatsapp.net"
MAX_BLOB = 128 * 1024 * 1024
_MAC_SIZE = 10
_INFO = {
    "image": b"WhatsApp Image Keys",
    "sticker": b"WhatsApp Image Keys",
    "video": b"WhatsApp Video Keys",
    "audio": b"WhatsApp Audio Keys",
    "document": b"WhatsApp Document Keys",
    "history": b"WhatsApp History Keys",
    "app_state": b"WhatsApp App State Keys",
    "link_thumbnail": b"WhatsApp Link Thumbnail Keys",
}
MEDIA_KINDS = tuple(_INFO)
_FOLDER = "/v/t62.7118-24/"
# clients append "&hash=…" to a direct path without looking whether it has a query already
_QUERY = "?ccb=11-4&oh=sandbox"


class MediaError(ValueError):
    """A blob that is missing, too large or different from what the message states."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a blob is and how to decrypt it, as in a message; hashes are SHA-256."""

    direct_path: str
    media_key: bytes
    file_sha256: bytes
    encrypted_sha256: bytes
    size: int

    @property
    def url(self) -> str:
        """The blob's full address."""
        return f"https://{HOST}{self.direct_path}"


class MediaStore:
    """The blobs, as files in one folder named by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, blob: bytes) -> str:
        """Keeps an uploaded blob and returns its direct path. Raises MediaError when it is too large."""
        if not 0 < len(blob) <= MAX_BLOB:
            raise MediaError(f"media blob of {len(blob)} bytes")
        name = hashlib.sha256(blob).hexdigest()
        partial = self._folder / f"{name}.part"
        partial.write_bytes(blob)
        partial.replace(self._folder / name)
        return f"{_FOLDER}{name}{_QUERY}"

    def keep_upload(self, token: str, blob: bytes) -> str:
        """Like `keep`, for a blob under an upload address: its token must be the blob's hash. Raises MediaError."""
        # in URL-safe base64, which some clients pad and others do not
        if token.rstrip("=") != base64.urlsafe_b64encode(hashlib.sha256(blob).digest()).decode().rstrip("="):
            raise MediaError("token: not the SHA-256 of the uploaded bytes")
        return self.keep(blob)

    def read(self, direct_path: str) -> bytes:
        """The blob at `direct_path`. Raises MediaError when there is none."""
        name = direct_path.partition("?")[0].rpartition("/")[2]
        file = self._folder / name
        if not re.fullmatch(r"[0-9a-f]{64}", name) or not file.is_file():
            raise MediaError("no such media")
        return file.read_bytes()

    def seal(self, kind: str, data: bytes) -> Reference:
        """Encrypts and keeps a file that a phone sends."""
        media_key = secrets.token_bytes(32)
        iv, cipher, mac = _keys(kind, media_key)
        ciphertext = cbc_encrypt(cipher, iv, data)
        blob = ciphertext + hmac_sha256(mac, iv, ciphertext)[:_MAC_SIZE]
        path = self.keep(blob)
        return Reference(path, media_key, hashlib.sha256(data).digest(), hashlib.sha256(blob).digest(), len(data))

    def open(self, kind: str, reference: Reference) -> bytes:
        """The file that a linked device uploaded. Raises MediaError when a hash, the MAC or the size is wrong."""
        blob = self.read(reference.direct_path)
        if hashlib.sha256(blob).digest() != reference.encrypted_sha256:
            raise MediaError("the blob's SHA-256 is not the message's")
        if len(reference.media_key) != 32:
            raise MediaError(f"media key of {len(reference.media_key)} bytes")
        iv, cipher, mac = _keys(kind, reference.media_key)
        ciphertext, tag = blob[:-_MAC_SIZE], blob[-_MAC_SIZE:]
        if not same(hmac_sha256(mac, iv, ciphertext)[:_MAC_SIZE], tag):
            raise MediaError("the blob's MAC is wrong")
        try:
            data = cbc_decrypt(cipher, iv, ciphertext)
        except CipherError as error:
            raise MediaError(str(error)) from error
        if hashlib.sha256(data).digest() != reference.file_sha256:
            raise MediaError("the file's SHA-256 is not the message's")
        if len(data) != reference.size:
            raise MediaError(f"the file has {len(data)} bytes, the message says {reference.size}")
        return data


def _keys(kind: str, media_key: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(media_key, 112, _INFO[kind])
    return keys[:16], keys[16:48], keys[48:80]

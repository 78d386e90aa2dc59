"""Media blobs: what is sealed can be opened, and nothing else can."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path

import pytest

from kurir_sandbox.traffic import Content, Media, Place
from kurir_sandbox.web_protocol import contents
from kurir_sandbox.web_protocol.contents import UnsupportedContentError
from kurir_sandbox.web_protocol.media import MediaError, MediaStore
from kurir_sandbox.web_protocol.protobufs import e2e


@pytest.fixture
def store(tmp_path: Path) -> MediaStore:
    return MediaStore(tmp_path / "media")


def test_a_sealed_file_is_opened_with_its_keys_only(store: MediaStore) -> None:
    reference = store.seal("image", b"picture")
    assert b"picture" not in store.read(reference.direct_path)
    assert store.open("image", reference) == b"picture"
    assert "?" in reference.direct_path
    for wrong in (
        {"media_key": bytes(32)},
        {"media_key": b"short"},
        {"file_sha256": bytes(32)},
        {"encrypted_sha256": bytes(32)},
        {"size": 8},
        {"direct_path": "/v/t62.7118-24/" + "0" * 64},
    ):
        with pytest.raises(MediaError):
            store.open("image", dataclasses.replace(reference, **wrong))
    with pytest.raises(MediaError, match="MAC"):
        store.open("document", reference)


@pytest.mark.parametrize("path", ["", "/v/../secret", "/v/%2e%2e/x", "/v/" + "f" * 63, "/etc/passwd", "/v/" + "F" * 64])
def test_paths_lead_nowhere_else(store: MediaStore, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(b"no")
    with pytest.raises(MediaError):
        store.read(path)


def test_an_upload_must_have_the_hash_of_its_address(store: MediaStore) -> None:
    token = base64.urlsafe_b64encode(hashlib.sha256(b"blob").digest()).decode()
    assert store.read(store.keep_upload(token, b"blob")) == b"blob"
    with pytest.raises(MediaError, match="token"):
        store.keep_upload(token, b"other")
    empty = base64.urlsafe_b64encode(hashlib.sha256(b"").digest()).decode()
    with pytest.raises(MediaError, match="0 bytes"):
        store.keep_upload(empty, b"")


@pytest.mark.parametrize(
    "content",
    [
        Content("text", text="halo", bubble="halo"),
        Content("image", caption="c", media=Media("image/png", "", b"png"), bubble="c"),
        Content("document", media=Media("application/pdf", "a.pdf", b"pdf"), bubble="📄 a.pdf"),
        Content("location", place=Place(1.5, -2.5, "Pasar", "Jalan 1"), bubble="📍 Pasar"),
    ],
    ids=lambda content: content.kind,
)
def test_what_is_written_is_read(store: MediaStore, content: Content) -> None:
    assert contents.read(contents.write(content, store).message, store) == content


def test_wrapped_and_unknown_messages(store: MediaStore) -> None:
    wrapped = e2e.Message()
    wrapped.ephemeralMessage.message.viewOnceMessage.message.conversation = "inside"
    assert contents.read(wrapped, store) == Content("text", text="inside", bubble="inside")
    unknown = e2e.Message()
    unknown.stickerMessage.mimetype = "image/webp"
    unknown.messageContextInfo.messageSecret = b"s"
    assert contents.read(unknown, store) == Content("unsupported", bubble="stickerMessage")
    keys = e2e.Message()
    keys.senderKeyDistributionMessage.groupID = "g"
    assert contents.read(keys, store) is None
    with pytest.raises(UnsupportedContentError, match="poll"):
        contents.write(Content("poll", text="?"), store)

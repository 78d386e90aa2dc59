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
from kurir_sandbox.web_protocol.drafts import Outgoing
from kurir_sandbox.web_protocol.media import MediaError, MediaStore
from kurir_sandbox.web_protocol.protobufs import e2e
from kurir_sandbox.web_protocol.stanza import JID


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
    assert contents.read(contents.write(content, store).plaintext, store) == content


def test_wrapped_and_unknown_messages(store: MediaStore) -> None:
    wrapped = e2e.Message()
    wrapped.ephemeralMessage.message.viewOnceMessage.message.conversation = "inside"
    assert contents.read(wrapped.SerializeToString(), store) == Content("text", text="inside", bubble="inside")
    unknown = e2e.Message()
    unknown.stickerMessage.mimetype = "image/webp"
    unknown.messageContextInfo.messageSecret = b"s"
    assert contents.read(unknown.SerializeToString(), store) == Content("unsupported", bubble="stickerMessage")
    keys = e2e.Message()
    keys.senderKeyDistributionMessage.groupID = "g"
    assert contents.read(keys.SerializeToString(), store) is None
    with pytest.raises(UnsupportedContentError, match="poll"):
        contents.write(Content("poll", text="?"), store)


@pytest.mark.parametrize(
    ("plaintext", "content"),
    [
        (b"\x0a\x04ab\xff\xfe", Content("text", text="ab\ufffd\ufffd", bubble="ab\ufffd\ufffd")),
        (b"\x32\x03\x0a\x01\xff", Content("text", text="\ufffd", bubble="\ufffd")),
        (b"\x22\x0a\x0a\x02n\xff\x82\x01\x03v\xffv", Content("contact", text="v\ufffdv", bubble="👤 n\ufffd")),
        (b"\xff\xff\xff", Content("unsupported", bubble="no protobuf")),
        (b"\x0a\x7fshort", Content("unsupported", bubble="no protobuf")),
        (b"", None),
    ],
)
def test_invalid_strings_and_no_protobuf_are_shown_all_the_same(
    store: MediaStore, plaintext: bytes, content: Content | None
) -> None:
    assert contents.read(plaintext, store) == content


def test_a_location_that_is_no_number_can_be_written_in_json(store: MediaStore) -> None:
    pin = e2e.Message()
    pin.locationMessage.degreesLatitude, pin.locationMessage.degreesLongitude = float("nan"), float("-inf")
    found = contents.read(pin.SerializeToString(), store)
    assert found is not None and found.place == Place(0.0, 0.0)


@pytest.mark.parametrize("plaintext", [b"", b"\xff\xff", b"x" * 300, b"\x0a\x04ab\xff\xfe"])
def test_an_own_copy_holds_any_plaintext(plaintext: bytes) -> None:
    copy = contents.own_copy(Outgoing(plaintext, "text"), JID("1", "lid"))
    fields = e2e.DeviceSentMessage.DESCRIPTOR.fields_by_name
    start = copy.plaintext.index(b"1@lid") + len("1@lid")
    assert copy.plaintext[start] == fields["message"].number << 3 | 2
    assert copy.plaintext.endswith(plaintext)
    sent = contents.device_sent(copy.plaintext)
    assert sent == (None if plaintext == b"\xff\xff" else plaintext)

"""Our content as WhatsApp's protobufs, and theirs as ours."""

from __future__ import annotations

import io
import math
from pathlib import Path
from unittest.mock import patch

import pytest

from kurir.messages.content import Document, Image, Location, MediaFile, Preview, TemplateUse, Text

# neonize runs `uname` through pipes that it does not close when it is imported
with patch("os.popen", lambda _command: io.StringIO("Linux")):
    from kurir.channels.linked_device.engine_host.protobufs import (
        Attachment,
        NotSupportedError,
        Reading,
        Uploaded,
        compose,
        interpret,
    )

# isort: split
from neonize.proto.Neonize_pb2 import UploadResponse
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

SECRET = bytes(range(32))


def _uploaded(data: bytes, mime: str, name: str = "dari-url", preview: Preview | None = None) -> Uploaded:
    at = UploadResponse(
        url="https://mmg.whatsapp.net/x",
        DirectPath="/x?ccb=1",
        Handle="",
        MediaKey=b"k" * 32,
        FileEncSHA256=b"e" * 32,
        FileSHA256=b"s" * 32,
        FileLength=len(data),
    )
    return Uploaded(MediaFile("/nowhere", mime, name, len(data), "00"), at, preview)


@pytest.mark.parametrize("text", ["halo", "@6281234567890 https://example.test *x*", "👋\n\nbaris", "a" * 4096])
def test_text_is_a_plain_conversation_with_our_secret(text: str) -> None:
    message = compose(Text(text), SECRET)
    assert message.conversation == text
    assert message.messageContextInfo.messageSecret == SECRET
    assert not message.HasField("extendedTextMessage")


def test_a_picture_has_its_dimensions_and_a_small_preview() -> None:
    uploaded = _uploaded(b"picture", "image/png", preview=Preview(640, 320, b"small jpeg"))
    image = compose(Image("u", "lihat"), SECRET, uploaded).imageMessage
    assert (image.width, image.height, image.JPEGThumbnail) == (640, 320, b"small jpeg")
    assert (image.caption, image.mimetype, image.directPath, image.fileLength) == ("lihat", "image/png", "/x?ccb=1", 7)


@pytest.mark.parametrize("preview", [None, Preview(10_000, 5_000)], ids=["lost", "too large to decode"])
def test_a_picture_without_a_preview_is_sent_without_one(preview: Preview | None) -> None:
    image = compose(Image("u"), SECRET, _uploaded(b"\x89PNG", "image/png", preview=preview)).imageMessage
    assert image.JPEGThumbnail == b""
    assert (image.width, image.height) == ((10_000, 5_000) if preview else (0, 0))
    assert not image.HasField("caption")
    assert image.mediaKey == b"k" * 32


def test_a_document_is_called_what_the_caller_says() -> None:
    document = compose(Document("u", "Faktur.pdf", "ini"), SECRET, _uploaded(b"x", "application/pdf")).documentMessage
    assert (document.fileName, document.title, document.caption) == ("Faktur.pdf", "Faktur.pdf", "ini")
    assert compose(Document("u"), SECRET, _uploaded(b"x", "a/b", "dari-url.bin")).documentMessage.fileName == (
        "dari-url.bin"
    )


def test_a_location_and_a_template() -> None:
    place = compose(Location(-6.2, 106.8, "Monas"), SECRET).locationMessage
    assert (place.degreesLatitude, place.degreesLongitude, place.name) == (-6.2, 106.8, "Monas")
    assert not place.HasField("address")
    with pytest.raises(NotSupportedError):
        compose(TemplateUse("x", "id"), SECRET)


def test_received_messages_are_read() -> None:
    assert interpret(Message(conversation="oi")) == Reading("text", "oi")
    extended = Message()
    extended.extendedTextMessage.text = "diteruskan"
    extended.extendedTextMessage.contextInfo.isForwarded = True
    assert interpret(extended) == Reading("text", "diteruskan", forwarded=True)
    document = Message()
    document.documentMessage.mimetype = "application/pdf"
    document.documentMessage.fileName = "../../etc/passwd"
    document.documentMessage.fileLength = 12
    document.documentMessage.caption = "ini"
    assert interpret(document) == Reading("document", "ini", Attachment("application/pdf", "../../etc/passwd", 12))
    voice = Message()
    voice.audioMessage.mimetype = "audio/ogg; codecs=opus"
    assert interpret(voice) == Reading("audio", "", Attachment("audio/ogg", "", 0))
    place = Message()
    place.locationMessage.degreesLatitude = -6.2
    place.locationMessage.degreesLongitude = 106.8
    place.locationMessage.name = "Monas"
    assert interpret(place) == Reading("location", "Monas", location=(-6.2, 106.8))


@pytest.mark.parametrize("field", ["locationMessage", "liveLocationMessage"])
@pytest.mark.parametrize("degrees", [(math.nan, 106.8), (-6.2, math.inf), (-math.inf, math.nan)])
def test_a_place_that_is_none_is_left_out(field: str, degrees: tuple[float, float]) -> None:
    message = Message()
    place = getattr(message, field)
    place.degreesLatitude, place.degreesLongitude = degrees
    assert interpret(message) == Reading("location")


@pytest.mark.parametrize(
    "field", ["senderKeyDistributionMessage", "protocolMessage", "reactionMessage", "messageContextInfo"]
)
def test_what_is_no_bubble_is_not_read(field: str) -> None:
    message = Message()
    getattr(message, field).SetInParent()
    assert interpret(message) is None
    assert interpret(Message()) is None


def test_composing_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path or URL in the content is never followed: the bytes that were checked are what is sent."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a file or socket was opened")

    monkeypatch.setattr("socket.socket.connect", forbidden)
    monkeypatch.setattr("builtins.open", forbidden)
    trap = str(tmp_path / "trap")
    compose(Text(f"http://127.0.0.1:1/ {trap}"), SECRET)
    compose(Image("http://127.0.0.1:1/", trap), SECRET, _uploaded(b"broken", "image/png"))
    compose(Document(trap, trap, trap), SECRET, _uploaded(b"x", "a/b"))

"""Whatever strangers write: valid on our side, never in silence, and no trouble to anybody else.

Random messages go through a whole gateway in `test_whole_gateway`.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.gateway import open_harness
from tests.hostile import strangers
from tests.unit.linked_device import receiver_rig
from tests.unit.linked_device.receiver_rig import OURS, ReceiverRig, text

from kurir.channels.linked_device.engine_host.incoming_messages import read_message, read_receipt, user_of
from kurir.channels.linked_device.engine_host.receiver import TRIES
from kurir.channels.linked_device.protocol import Notice, decode_upward, sound_frame
from kurir.messages import bounds
from kurir.messages.channel_reports import Received

# isort: split
from neonize.events import ReceiptEv
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

ORDER = ReceiverRig.opening(Path("/nowhere"), f"{OURS}:1@s.whatsapp.net")
LONGEST = {"text": bounds.TEXT, "sender_name": bounds.NAME, "name": bounds.FILE_NAME, "mime": bounds.MIME}


class Person(receiver_rig.Device):
    """Knows nobody's phone number: what the sender claims to be is used as it is."""

    def phone(self, *jids: JID) -> str:

        return next((user_of(jid) for jid in jids if jid.User), "")


def read(event: bytes) -> Received | str:
    return read_message(MessageEvent.FromString(event), ORDER, Person(), 1, 1_800_000_000.0)


def assert_sound(value: Any, name: str = "") -> None:
    """Every string is valid, without NUL, and of limited length."""
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            assert_sound(getattr(value, field), field)
    elif isinstance(value, str):
        value.encode()
        assert "\0" not in value
        assert len(value) <= LONGEST.get(name, bounds.ID), name
    else:
        assert value is None or isinstance(value, (int, float, tuple, bool)), (name, value)


@pytest.mark.parametrize("kind", strangers.KINDS)
@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_every_kind_is_read_or_named_whatever_its_fields_hold(kind: str, seed: int):
    result = read(strangers.event(random.Random(seed), kind))
    if isinstance(result, str):
        assert result in {*strangers.KINDS, "editedMessage", "empty", "other"}
        return
    assert_sound(result)
    upward = decode_upward(sound_frame(Notice(result))[4:])
    assert upward == Notice(result)


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_receipts_are_bounded_too(seed: int):
    rng = random.Random(seed)
    event = ReceiptEv()
    receiver_rig.complete(event)
    event.MergeFromString(strangers._message(event.DESCRIPTOR, rng, 1, every=True))
    event.Type = ReceiptEv.READ
    event.MessageSource.IsFromMe = False
    for one in read_receipt(ReceiptEv.FromString(event.SerializeToString()), ORDER, Person(), 1, 1_800_000_000.0):
        assert_sound(one)
        assert decode_upward(sound_frame(Notice(one))[4:]) == Notice(one)


async def test_what_is_read_can_be_stored(where: Path | str, tmp_path: Path):
    """On both databases, with the webhook bodies that tell of it."""
    async with open_harness(tmp_path, database_url=where if isinstance(where, str) else "") as harness:
        number = harness.ours.device
        rng = random.Random(1)
        events = []
        for n in range(600):
            result = read(strangers.event(rng))
            if isinstance(result, Received):
                fields = {
                    "account_id": number.account_id,
                    "number_id": number.id,
                    "remote_id": f"{n}{result.remote_id}",
                }
                events.append(msgspec.structs.replace(result, **fields))
        assert len(events) > 50
        assert await harness.gateway.inbox.take([(event, "") for event in events]) == len(events)


def test_a_picture_of_an_album_is_a_picture():
    for wrapper in strangers.WRAPPERS:
        message = Message()
        inner = getattr(message, wrapper).message
        inner.imageMessage.caption = "satu dari tiga"
        inner.imageMessage.mimetype = "image/jpeg"
        result = read(receiver_rig.event("A", message).SerializeToString())
        assert isinstance(result, Received), wrapper
        assert (result.kind, result.text) == ("image", "satu dari tiga")
        assert result.media is not None
        assert result.media.state == "pending"


def test_wrappers_without_end_are_named():
    message = inner = Message()
    for _ in range(40):
        inner = inner.ephemeralMessage.message
    inner.conversation = "deep"
    assert read(receiver_rig.event("A", message).SerializeToString()) == "ephemeralMessage"


def test_an_entry_that_cannot_be_read_is_quarantined_whole_and_can_be_replayed(tmp_path: Path, monkeypatch):
    rig = ReceiverRig(tmp_path)
    bad = text("poison").SerializeToString()
    reading = read_message

    def choke(event: MessageEvent, *rest: Any) -> Received | str:
        if event.Info.ID == "poison":
            raise RuntimeError("unforeseen")
        return reading(event, *rest)

    monkeypatch.setattr("kurir.channels.linked_device.engine_host.receiver.read_message", choke)
    rig.receiver.online(connected=True)
    for one in ("before", "poison", "after"):
        rig.receiver.take(text(one))
    assert rig.received().remote_id == "before"
    quarantined = rig.quarantined()
    assert (quarantined.payload, quarantined.queue, quarantined.reason) == (bad, "journal", "RuntimeError: unforeseen")
    assert rig.received().remote_id == "after"
    assert len(rig.device.failures) == TRIES
    assert rig.kept() == 3, "it leaves when the gateway has it"
    rig.store(quarantined)
    assert rig.kept() == 2
    monkeypatch.undo()
    rig.receiver.replay(quarantined.payload)
    assert rig.received().remote_id == "poison"
    rig.receiver.close()


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\xff"])
def test_what_is_no_protobuf_is_quarantined(tmp_path: Path, garbage: bytes):
    rig = ReceiverRig(tmp_path)
    rig.receiver._journal.append("message", garbage, OURS)
    rig.receiver._journal.append("receipt", garbage, OURS)
    rig.receiver.take(text("after"))
    rig.receiver.online(connected=True)
    assert rig.quarantined().payload == garbage
    assert rig.quarantined().payload == b"receipt\0" + garbage
    assert rig.received().remote_id == "after"
    rig.receiver.close()


_DYING = """
import os, sys
from pathlib import Path
from tests.unit.linked_device.receiver_rig import ReceiverRig
from kurir.channels.linked_device.engine_host import receiver

def dies(event, *rest):
    if event.Info.ID == "poison":
        os._exit(11)
    return reading(event, *rest)

reading, receiver.read_message = receiver.read_message, dies
rig = ReceiverRig(Path(sys.argv[1]))
rig.receiver.online(connected=True)
while True:
    news = rig.next()
    print(type(news).__name__, getattr(news, "remote_id", ""), flush=True)
    rig.store(news)
    if getattr(news, "remote_id", "") == "after":
        break
"""


def test_an_entry_that_ends_the_process_is_quarantined_after_three_lives(tmp_path: Path):
    rig = ReceiverRig(tmp_path)
    for one in ("before", "poison", "after"):
        rig.receiver.take(text(one))
    rig.receiver.close()
    lives = []
    for _ in range(TRIES + 1):
        done = subprocess.run(
            [sys.executable, "-c", _DYING, str(tmp_path)], capture_output=True, text=True, check=False
        )
        lives.append((done.returncode, done.stdout.split("\n")[:-1]))
    assert [code for code, _ in lives] == [11, 11, 11, 0], lives
    assert lives[-1][1][-2:] == ["Quarantined ", "Received after"]
    assert rig.kept() == 0


def test_news_that_cannot_be_encoded_are_quarantined(tmp_path: Path):
    rig = ReceiverRig(tmp_path)
    emit = rig.emit
    rig.receiver.close()
    rig.emit = lambda news: emit(news) if not isinstance(news, Received) else False
    rig.receiver = rig.open()
    rig.receiver.take(text("A"))
    rig.receiver.online(connected=True)
    assert rig.quarantined().reason == "what it says could not be encoded"
    rig.receiver.close()

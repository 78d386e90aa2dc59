"""Messages as a stranger with a modified client could write them: every field of every kind, with whatever in it."""

from __future__ import annotations

import random
import struct

from tests.unit.linked_device.receiver_rig import complete  # first: it readies what neonize needs

# isort: split
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from neonize.proto.Neonize_pb2 import Message as MessageEvent
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

KINDS = [field.name for field in Message.DESCRIPTOR.fields]
WRAPPERS = [
    field.name
    for field in Message.DESCRIPTOR.fields
    if field.message_type is not None and field.message_type.name == "FutureProofMessage"
]
_DEEPEST = 4
_NASTY = (
    b"\xff\xfe",
    b"\0",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x91",
    b"[red]\x1b[2J",
    "\u202e".encode(),
    b"'; --",
    b"\x80" * 9,
)
_BAD_LENGTHS = (0, 1, 7, 300, 5_000)
_NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_DOUBLES = (0.0, -6.2, 1e308, float("nan"), float("inf"), -91.0, 181.0)


def plaintext(rng: random.Random, kind: str | None = None) -> bytes:
    """A serialised `Message` of one kind, sometimes in wrappers; all its strings are random bytes."""
    field = Message.DESCRIPTOR.fields_by_name[kind or rng.choice(KINDS)]
    data = _field(field, rng, 0)
    for _ in range(rng.choice((0, 0, 1, 2))):
        wrapper = Message.DESCRIPTOR.fields_by_name[rng.choice(WRAPPERS)]
        data = _bytes(wrapper.number, _bytes(1, data))
    return data


def event(rng: random.Random, kind: str | None = None) -> bytes:
    """The engine's event for such a message, the sender's name, ids, and addresses random too, in a chat of ours."""
    reported = MessageEvent()
    complete(reported)
    info = reported.Info
    info.MergeFromString(_message(info.DESCRIPTOR, rng, 1, every=True))
    info.MessageSource.Chat.Server = rng.choice(("s.whatsapp.net", "lid", "g.us"))
    info.Category = ""
    reported.Message.MergeFromString(plaintext(rng, kind))
    return reported.SerializeToString()


def too_deep() -> bytes:
    """A plaintext that WhatsApp's engine decodes and Python's protobuf does not: nested beyond its limit."""
    data = _bytes(1, b"halo")
    for _ in range(90):
        wrapper = Message.DESCRIPTOR.fields_by_name["ephemeralMessage"]
        data = _bytes(wrapper.number, _bytes(1, data))
    return data


def string(rng: random.Random) -> bytes:
    """Bytes where a string is expected."""
    length = rng.choice(_BAD_LENGTHS)
    return rng.choice((rng.randbytes(length), rng.choice(_NASTY) * (length // 2 + 1), b"wajar"))


def _message(descriptor: Descriptor, rng: random.Random, depth: int, *, every: bool = False) -> bytes:
    fields = [one for one in descriptor.fields if every or one.is_required or rng.random() < 0.7]
    return b"".join(_field(one, rng, depth) for one in fields)


def _field(field: FieldDescriptor, rng: random.Random, depth: int) -> bytes:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return _bytes(field.number, string(rng))
        case FieldDescriptor.CPPTYPE_MESSAGE:
            if depth >= _DEEPEST and not field.is_required:
                return b""
            return _bytes(field.number, _message(field.message_type, rng, depth + 1))
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return _varint(field.number << 3 | 1) + struct.pack("<d", rng.choice(_DOUBLES))
        case FieldDescriptor.CPPTYPE_FLOAT:
            return _varint(field.number << 3 | 5) + struct.pack("<f", rng.choice((0.0, float("nan"), 1e30)))
        case FieldDescriptor.CPPTYPE_ENUM:
            return _varint(field.number << 3) + _varint(rng.choice(field.enum_type.values).number % 2**64)
        case _:
            pass
    if field.type in (FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32):
        return _varint(field.number << 3 | 5) + rng.randbytes(4)
    if field.type in (FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64):
        return _varint(field.number << 3 | 1) + rng.randbytes(8)
    return _varint(field.number << 3) + _varint(rng.choice(_NUMBERS))


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

"""The byte forms of Signal protocol messages, version 3: plain, pre-key, sender-key and sender-key distribution.

Each starts with the version byte 0x33. Field numbers are those of libsignal's `wire.proto`; the schema is declared
here because neonize's wheel doesn't contain it. MACs and signatures are checked by the sessions, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

VERSION = b"\x33"
MAC_SIZE = 8
SIGNATURE_SIZE = 64

_FieldType = descriptor_pb2.FieldDescriptorProto
_SCHEMA = {
    "Plain": {"ratchet": (1, "bytes"), "counter": (2, "int"), "previous": (3, "int"), "body": (4, "bytes")},
    "PreKey": {
        "pre_key_id": (1, "int"),
        "base": (2, "bytes"),
        "identity": (3, "bytes"),
        "inner": (4, "bytes"),
        "registration": (5, "int"),
        "signed_pre_key_id": (6, "int"),
    },
    "SenderKey": {"key_id": (1, "int"), "iteration": (2, "int"), "body": (3, "bytes")},
    "Distribution": {
        "key_id": (1, "int"),
        "iteration": (2, "int"),
        "chain": (3, "bytes"),
        "signing": (4, "bytes"),
    },
}


class SignalError(ValueError):
    """A message that cannot be read with the keys at hand."""


def _declare() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="kurir_sandbox/signal.proto", package="kurir_sandbox.signal", syntax="proto2"
    )
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            message.field.add(
                name=field,
                number=number,
                type=_FieldType.TYPE_BYTES if kind == "bytes" else _FieldType.TYPE_UINT32,
                label=_FieldType.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kurir_sandbox.signal.{name}"))
        for name in _SCHEMA
    }


_MESSAGES = _declare()


def _parse(name: str, data: bytes) -> Any:
    if data[:1] != VERSION:
        raise SignalError(f"{name}: version {data[:1].hex() or 'none'} is not 3")
    try:
        return _MESSAGES[name].FromString(data[1:])
    except DecodeError as error:
        raise SignalError(f"{name}: malformed protobuf") from error


def _write(name: str, **fields: int | bytes | None) -> bytes:
    present = {field: value for field, value in fields.items() if value is not None}
    return VERSION + _MESSAGES[name](**present).SerializeToString()


@dataclass(frozen=True, slots=True)
class PlainMessage:
    """A message of a running session ("msg"); `signed` is what its MAC covers."""

    ratchet: bytes
    counter: int
    body: bytes
    signed: bytes
    mac: bytes

    @classmethod
    def parse(cls, data: bytes) -> PlainMessage:
        """Raises SignalError for bytes that are no such message."""
        if len(data) <= MAC_SIZE + 1:
            raise SignalError("message is too short")
        signed, mac = data[:-MAC_SIZE], data[-MAC_SIZE:]
        m = _parse("Plain", signed)
        return cls(m.ratchet, m.counter, m.body, signed, mac)

    @staticmethod
    def write(ratchet: bytes, counter: int, previous: int, body: bytes) -> bytes:
        """The bytes that the MAC covers and precedes."""
        return _write("Plain", ratchet=ratchet, counter=counter, previous=previous, body=body)


@dataclass(frozen=True, slots=True)
class PreKeyMessage:
    """The first message(s) of a session ("pkmsg"): a plain message with the sender's half of the key agreement."""

    pre_key_id: int | None
    signed_pre_key_id: int
    base: bytes
    identity: bytes
    inner: bytes
    registration: int

    @classmethod
    def parse(cls, data: bytes) -> PreKeyMessage:
        """Raises SignalError for bytes that are no such message."""
        m = _parse("PreKey", data)
        pre_key = m.pre_key_id if m.HasField("pre_key_id") else None
        return cls(pre_key, m.signed_pre_key_id, m.base, m.identity, m.inner, m.registration)

    def write(self) -> bytes:
        """The message's bytes."""
        return _write(
            "PreKey",
            pre_key_id=self.pre_key_id,
            base=self.base,
            identity=self.identity,
            inner=self.inner,
            registration=self.registration,
            signed_pre_key_id=self.signed_pre_key_id,
        )


@dataclass(frozen=True, slots=True)
class SenderKeyMessage:
    """A group message ("skmsg"); `signed` is what its signature covers."""

    key_id: int
    iteration: int
    body: bytes
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> SenderKeyMessage:
        """Raises SignalError for bytes that are no such message."""
        if len(data) <= SIGNATURE_SIZE + 1:
            raise SignalError("group message is too short")
        signed, signature = data[:-SIGNATURE_SIZE], data[-SIGNATURE_SIZE:]
        m = _parse("SenderKey", signed)
        return cls(m.key_id, m.iteration, m.body, signed, signature)

    @staticmethod
    def write(key_id: int, iteration: int, body: bytes) -> bytes:
        """The bytes that the signature covers and precedes."""
        return _write("SenderKey", key_id=key_id, iteration=iteration, body=body)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A sender key handed to one member of a group, inside a 1:1 session."""

    key_id: int
    iteration: int
    chain: bytes
    signing: bytes

    @classmethod
    def parse(cls, data: bytes) -> Distribution:
        """Raises SignalError for bytes that are no such message."""
        m = _parse("Distribution", data)
        if len(m.chain) != 32:
            raise SignalError(f"sender key distribution: chain key of {len(m.chain)} bytes")
        return cls(m.key_id, m.iteration, m.chain, m.signing)

    def write(self) -> bytes:
        """The message's bytes."""
        return _write(
            "Distribution",
            key_id=self.key_id,
            iteration=self.iteration,
            chain=self.chain,
            signing=self.signing,
        )

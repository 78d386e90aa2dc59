"""Handsets: the primary devices (phones) of people as Signal endpoints, with their keys, sessions and sender keys.

Everything is written to the state store before it is used on the wire, so a restarted sandbox goes on with the same
keys.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from . import signal_sessions
from .curve import KEY_TYPE, KeyPair
from .sender_keys import OwnSenderKey, ReceivedKeys
from .signal_messages import Distribution, PreKeyMessage, SignalError
from .signal_sessions import Bundle, EncryptionType, Session
from .stanza import JID

if TYPE_CHECKING:
    from ..world import StateStore

_MAX_SESSIONS = 5
_MAX_ONE_TIME_KEYS = 200
_MAX_PADDING = 15
T = TypeVar("T")


class HandsetKeys(msgspec.Struct):
    """A handset's own keys. One-time keys are made when a bundle is asked for and go away when they are used."""

    registration: int
    identity: KeyPair
    signed_key_id: int
    signed_key: KeyPair
    signature: bytes
    next_one_time_id: int = 1
    one_time_keys: dict[int, KeyPair] = {}


class SessionRecord(msgspec.Struct):
    """The sessions with one device: the current one first, then older ones that late messages may still belong to."""

    sessions: list[Session] = []


class Handset:
    """The phone of the person with number `phone`. Addresses are the JIDs of linked devices (LID form)."""

    def __init__(self, phone: str, store: StateStore) -> None:
        self.phone = phone
        self._store = store
        raw = store.get("handsets", phone)
        self.keys = msgspec.msgpack.decode(raw, type=HandsetKeys) if raw else _new_keys()
        self._records: dict[str, SessionRecord] = {}
        self._received: dict[str, ReceivedKeys] = {}
        self._own: dict[str, OwnSenderKey] = {}
        if raw is None:
            self._save("handsets", "", self.keys)

    @property
    def identity(self) -> KeyPair:
        """The identity key pair that signs linked devices and certifies sessions."""
        return self.keys.identity

    def bundle(self) -> Bundle:
        """The public keys that start one session, with a one-time key of its own."""
        keys = self.keys
        one_time_id, one_time = keys.next_one_time_id, KeyPair.generate()
        keys.next_one_time_id = one_time_id % 0xFFFFFF + 1
        keys.one_time_keys[one_time_id] = one_time
        for oldest in list(keys.one_time_keys)[:-_MAX_ONE_TIME_KEYS]:
            del keys.one_time_keys[oldest]
        self._save("handsets", "", keys)
        return Bundle(
            keys.registration,
            keys.identity.public,
            keys.signed_key_id,
            keys.signed_key.public,
            keys.signature,
            one_time_id,
            one_time.public,
        )

    def decrypt(self, sender: JID, kind: str, data: bytes) -> bytes:
        """The protobuf bytes of a 1:1 message of `kind` "pkmsg" or "msg". Raises SignalError."""
        record = self._record(sender)
        if kind == "pkmsg":
            session, plain = self._open_invitation(record, PreKeyMessage.parse(data))
        elif kind == "msg":
            session, plain = _open(record, data)
        else:
            raise SignalError(f"unknown encryption type {kind!r}")
        rest = [s for s in record.sessions if s is not session]
        record.sessions = [session, *rest][:_MAX_SESSIONS]
        self._save("sessions", str(sender), record)
        return _unpad(plain)

    def encrypt(
        self, recipient: JID, plain: bytes, bundle: Callable[[], Bundle], padding: bytes | None = None
    ) -> tuple[EncryptionType, bytes]:
        """A message for a linked device; `bundle` is asked for its keys when there is no session yet.

        padding: appended in the place of WhatsApp's padding.
        """
        record = self._record(recipient)
        if not record.sessions:
            record.sessions = [signal_sessions.start(self.keys.identity, self.keys.registration, bundle())]
        sealed = record.sessions[0].encrypt(_pad(plain, padding))
        self._save("sessions", str(recipient), record)
        return sealed

    def greet(self, device: JID, bundle: Bundle) -> None:
        """Starts a new session with `device` from keys that it sent itself. Raises SignalError for bad keys."""
        record = self._record(device)
        session = signal_sessions.start(self.keys.identity, self.keys.registration, bundle)
        record.sessions = [session, *record.sessions][:_MAX_SESSIONS]
        self._save("sessions", str(device), record)

    def forget(self, device: JID) -> None:
        """Drops the sessions with `device`: the next message to it starts a new one."""
        self._records.pop(str(device), None)
        self._store.delete("sessions", f"{self.phone}/{device}")

    def forget_all(self, device: JID) -> None:
        """Drops the sessions with `device` and the sender keys that it handed to us."""
        self.forget(device)
        self._received.clear()
        for key, _ in self._store.items("sender_keys"):
            if key.startswith(f"{self.phone}/") and key.endswith(f"/{device}"):
                self._store.delete("sender_keys", key)

    def garble(self, device: JID) -> None:
        """Breaks the sending chain to `device`, like a restored backup: it cannot read what comes next."""
        record = self._record(device)
        for session in record.sessions:
            session.sending = secrets.token_bytes(32)
        self._save("sessions", str(device), record)

    def learn_sender_key(self, group: str, sender: JID, distribution: bytes) -> None:
        """Keeps the sender key that `sender` handed to us for `group`. Raises SignalError."""
        received = self._received_keys(group, sender)
        received.learn(Distribution.parse(distribution))
        self._save("sender_keys", f"{group}/{sender}", received)

    def decrypt_group(self, group: str, sender: JID, data: bytes) -> bytes:
        """The protobuf bytes of a "skmsg". Raises SignalError."""
        received = self._received_keys(group, sender)
        plain = received.decrypt(data)
        self._save("sender_keys", f"{group}/{sender}", received)
        return _unpad(plain)

    def encrypt_group(
        self, group: str, plain: bytes, devices: list[JID], padding: bytes | None = None
    ) -> tuple[bytes, dict[JID, bytes]]:
        """A "skmsg" for `group`, and the sender key distribution for each of `devices` that doesn't have the key yet.

        A key that is known to a device outside `devices` (someone left) is replaced first.
        """
        key = self._own_key(group)
        wanted = {str(d) for d in devices}
        if key.handed_to - wanted:
            key = self._own[group] = OwnSenderKey.generate()
        distribution = key.distribution()
        missing = {d: distribution for d in devices if str(d) not in key.handed_to}
        key.handed_to = wanted
        sealed = key.encrypt(_pad(plain, padding))
        self._save("own_sender_keys", group, key)
        return sealed, missing

    def hand_again(self, group: str, device: JID) -> None:
        """`device` lost our sender key for `group`: it gets it with the next message."""
        key = self._own_key(group)
        key.handed_to.discard(str(device))
        self._save("own_sender_keys", group, key)

    def _open_invitation(self, record: SessionRecord, message: PreKeyMessage) -> tuple[Session, bytes]:
        for session in record.sessions:
            if session.base == message.base[-32:]:
                return session, session.decrypt(message.inner)
        one_time = None
        if message.pre_key_id is not None:
            one_time = self.keys.one_time_keys.get(message.pre_key_id)
            if one_time is None:
                raise SignalError(f"one-time key {message.pre_key_id} is not there any more")
        session = signal_sessions.accept(self.keys.identity, self.keys.signed_key, one_time, message)
        plain = session.decrypt(message.inner)
        if message.pre_key_id is not None:
            del self.keys.one_time_keys[message.pre_key_id]
            self._save("handsets", "", self.keys)
        return session, plain

    def _record(self, device: JID) -> SessionRecord:
        return self._load(self._records, "sessions", str(device), SessionRecord, SessionRecord)

    def _received_keys(self, group: str, sender: JID) -> ReceivedKeys:
        return self._load(self._received, "sender_keys", f"{group}/{sender}", ReceivedKeys, ReceivedKeys)

    def _own_key(self, group: str) -> OwnSenderKey:
        return self._load(self._own, "own_sender_keys", group, OwnSenderKey, OwnSenderKey.generate)

    def _load(self, cache: dict[str, T], space: str, key: str, kind: type[T], new: Callable[[], T]) -> T:
        if key not in cache:
            raw = self._store.get(space, f"{self.phone}/{key}")
            cache[key] = msgspec.msgpack.decode(raw, type=kind) if raw else new()
        return cache[key]

    def _save(self, space: str, key: str, value: msgspec.Struct) -> None:
        self._store.put(space, f"{self.phone}/{key}" if key else self.phone, msgspec.msgpack.encode(value))


class Handsets:
    """All handsets, made when they are first needed."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._handsets: dict[str, Handset] = {}

    def of(self, phone: str) -> Handset:
        """The handset with the number `phone`."""
        if phone not in self._handsets:
            self._handsets[phone] = Handset(phone, self._store)
        return self._handsets[phone]


def _new_keys() -> HandsetKeys:
    identity, signed = KeyPair.generate(), KeyPair.generate()
    return HandsetKeys(
        registration=secrets.randbelow(0x3FFF) + 1,
        identity=identity,
        signed_key_id=1,
        signed_key=signed,
        signature=identity.sign(KEY_TYPE + signed.public),
    )


def _open(record: SessionRecord, data: bytes) -> tuple[Session, bytes]:
    failure: SignalError | None = None
    for session in record.sessions:
        try:
            return session, session.decrypt(data)
        except signal_sessions.DuplicateMessageError:
            raise
        except SignalError as error:
            failure = failure or error
    raise failure or SignalError("no session with this device")


def _pad(plain: bytes, padding: bytes | None) -> bytes:
    """WhatsApp hides the length of a message behind 1 to 15 bytes that all say how many they are."""
    if padding is not None:
        return plain + padding
    size = secrets.randbelow(_MAX_PADDING) + 1
    return plain + bytes([size]) * size


def _unpad(padded: bytes) -> bytes:
    size = padded[-1] if padded else 0
    if not 1 <= size <= 16 or padded[-size:] != bytes([size]) * size:
        raise SignalError("wrong message padding")
    return padded[:-size]

"""App state: what the devices of one account share (contacts, push name), as encrypted patches that clients verify.

Each collection has a version and an LTHash (64 little-endian 16-bit sums over its value MACs); a patch contains MACs
over both. Key derivation and MAC inputs as in whatsmeow's `appstate` package. A client that starts at version 0 gets
all patches.
"""

from __future__ import annotations

import json
import secrets
import struct
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from google.protobuf.message import DecodeError

from .protobufs import server_sync, sync_action
from .stanza import JID, LID_SERVER
from .symmetric import CipherError, cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256, same

if TYPE_CHECKING:
    from ..world import StateStore, World

COLLECTIONS = ("critical_block", "critical_unblock_low", "regular_high", "regular", "regular_low")
NAMES, CONTACTS = "critical_block", "critical_unblock_low"
_SET, _REMOVE = server_sync.SyncdMutation.SET, server_sync.SyncdMutation.REMOVE
_EMPTY_HASH = bytes(128)


class AppStateError(ValueError):
    """A patch of a client that doesn't fit: wrong key, MAC or version."""


class Collection(msgspec.Struct):
    """One collection: `value_macs` by index MAC, and all patches since version 0, serialised."""

    version: int = 0
    lt_hash: bytes = _EMPTY_HASH
    value_macs: dict[bytes, bytes] = {}
    patches: list[bytes] = []


class AccountState(msgspec.Struct):
    """The app state of one account. `contacts` is what the contacts collection holds: phone to name."""

    key_id: bytes
    key_data: bytes
    collections: dict[str, Collection]
    contacts: dict[str, str] = {}
    push_name: str = ""


class Mutation(msgspec.Struct, frozen=True):
    """One change: the index (a JSON list), the new value, or None to remove the old one."""

    index: list[str]
    value: bytes | None
    version: int


class _Keys:
    def __init__(self, key_data: bytes) -> None:
        keys = hkdf(key_data, 160, b"WhatsApp Mutation Keys")
        self.index, self.cipher, self.value, self.snapshot, self.patch = (keys[i : i + 32] for i in range(0, 160, 32))


class AppStates:
    """The app states of all accounts, kept in the state store."""

    def __init__(self, world: World, store: StateStore) -> None:
        self._world = world
        self._store = store

    def of(self, phone: str) -> AccountState:
        """The account's state; a new one gets the push name and the contacts of the world."""
        raw = self._store.get("app_state", phone)
        if raw:
            return msgspec.msgpack.decode(raw, type=AccountState)
        state = AccountState(
            key_id=b"\0\1" + secrets.token_bytes(4),
            key_data=secrets.token_bytes(32),
            collections={name: Collection() for name in COLLECTIONS},
        )
        self._follow(phone, state)
        self._save(phone, state)
        return state

    def refresh(self, phone: str) -> list[tuple[str, int]]:
        """Writes patches for what changed in the world; returns the changed collections and their new versions."""
        state = self.of(phone)
        changed = self._follow(phone, state)
        if changed:
            self._save(phone, state)
        return [(name, state.collections[name].version) for name in changed]

    def accept(self, phone: str, name: str, patch: bytes) -> int:
        """Takes over a patch that a linked device made; returns the new version. Raises AppStateError."""
        state = self.of(phone)
        if name not in state.collections:
            raise AppStateError(f"collection {name!r} is unknown")
        for action in accept_patch(state, name, patch):
            if action.value.HasField("pushNameSetting"):
                state.push_name = action.value.pushNameSetting.name
        self._save(phone, state)
        return state.collections[name].version

    def _follow(self, phone: str, state: AccountState) -> list[str]:
        changed: list[str] = []
        person = self._world.person(phone)
        if person and not state.push_name:
            state.push_name = person.name
            add_patch(state, NAMES, [_push_name(person.name)])
            changed.append(NAMES)
        contacts = self._world.contacts_of(phone)
        mutations = list(self._contact_changes(state.contacts, contacts))
        if mutations:
            add_patch(state, CONTACTS, mutations)
            state.contacts = dict(contacts)
            changed.append(CONTACTS)
        return changed

    def _contact_changes(self, old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[Mutation]:
        for phone, name in new.items():
            if old.get(phone) != name:
                person = self._world.person(phone)
                yield _contact(phone, name, person.lid if person else None)
        for phone in old.keys() - new.keys():
            yield _contact(phone, None, None)

    def _save(self, phone: str, state: AccountState) -> None:
        self._store.put("app_state", phone, msgspec.msgpack.encode(state))


def patches_since(state: AccountState, name: str, version: int) -> list[bytes]:
    """The patches a client at `version` is missing."""
    return state.collections[name].patches[max(version, 0) :]


def add_patch(state: AccountState, name: str, mutations: list[Mutation]) -> None:
    """The phone changes collection `name`: a new version with one patch."""
    keys, collection = _Keys(state.key_data), state.collections[name]
    patch = server_sync.SyncdPatch()
    added: list[bytes] = []
    removed: list[bytes] = []
    for mutation in mutations:
        index = json.dumps(mutation.index, separators=(",", ":"), ensure_ascii=False).encode()
        index_mac = hmac_sha256(keys.index, index)
        old = collection.value_macs.get(index_mac)
        if mutation.value is None and old is None:
            continue
        operation = _REMOVE if mutation.value is None else _SET
        value = sync_action.SyncActionValue.FromString(mutation.value or b"")
        action = sync_action.SyncActionData(index=index, value=value, padding=b"", version=mutation.version)
        iv = secrets.token_bytes(16)
        content = iv + cbc_encrypt(keys.cipher, iv, action.SerializeToString())
        value_mac = _value_mac(keys, operation, state.key_id, content)
        record = patch.mutations.add()
        record.operation = operation
        record.record.index.blob = index_mac
        record.record.value.blob = content + value_mac
        record.record.keyID.ID = state.key_id
        if old is not None:
            removed.append(old)
        if operation == _SET:
            added.append(value_mac)
            collection.value_macs[index_mac] = value_mac
        else:
            collection.value_macs.pop(index_mac)
    collection.version += 1
    collection.lt_hash = lt_hash(collection.lt_hash, added, removed)
    patch.version.version = collection.version
    patch.keyID.ID = state.key_id
    all_macs = [m.record.value.blob[-32:] for m in patch.mutations]
    patch.snapshotMAC = _snapshot_mac(keys, collection, name)
    patch.patchMAC = _patch_mac(keys, patch.snapshotMAC, all_macs, collection.version, name)
    collection.patches.append(patch.SerializeToString())


def accept_patch(state: AccountState, name: str, raw: bytes) -> list[sync_action.SyncActionData]:
    """A linked device changes collection `name`. Returns its actions; raises AppStateError and then changes nothing."""
    keys, collection = _Keys(state.key_data), state.collections[name]
    try:
        patch = server_sync.SyncdPatch.FromString(raw)
    except DecodeError as error:
        raise AppStateError("patch: malformed protobuf") from error
    macs = dict(collection.value_macs)
    added: list[bytes] = []
    removed: list[bytes] = []
    actions: list[sync_action.SyncActionData] = []
    for mutation in patch.mutations:
        blob = mutation.record.value.blob
        content, value_mac = blob[:-32], blob[-32:]
        expected = _value_mac(keys, mutation.operation, mutation.record.keyID.ID, content)
        if not same(expected, value_mac):
            raise AppStateError("patch: a value MAC is wrong")
        try:
            plain = cbc_decrypt(keys.cipher, content[:16], content[16:])
            actions.append(sync_action.SyncActionData.FromString(plain))
        except (CipherError, DecodeError) as error:
            raise AppStateError("patch: a value does not decrypt") from error
        old = macs.pop(mutation.record.index.blob, None)
        if old is not None:
            removed.append(old)
        if mutation.operation == _SET:
            added.append(value_mac)
            macs[mutation.record.index.blob] = value_mac
    after = Collection(
        collection.version + 1,
        lt_hash(collection.lt_hash, added, removed),
        macs,
        collection.patches,
    )
    if not same(patch.snapshotMAC, _snapshot_mac(keys, after, name)):
        raise AppStateError("patch: the snapshot MAC is wrong (made for another version?)")
    patch.version.version = after.version
    after.patches.append(patch.SerializeToString())
    state.collections[name] = after
    return actions


def lt_hash(base: bytes, added: Iterable[bytes], removed: Iterable[bytes]) -> bytes:
    """The homomorphic hash (128 bytes) after value MACs were added and removed; their order doesn't matter."""
    sums = list(struct.unpack("<64H", base))
    for macs, sign in ((added, 1), (removed, -1)):
        for mac in macs:
            for i, part in enumerate(struct.unpack("<64H", hkdf(mac, 128, b"WhatsApp Patch Integrity"))):
                sums[i] = (sums[i] + sign * part) & 0xFFFF
    return struct.pack("<64H", *sums)


def _value_mac(keys: _Keys, operation: int, key_id: bytes, content: bytes) -> bytes:
    mac = HMAC(keys.value, hashes.SHA512())
    mac.update(bytes([operation + 1]) + key_id + content + (len(key_id) + 1).to_bytes(8, "big"))
    return mac.finalize()[:32]


def _snapshot_mac(keys: _Keys, collection: Collection, name: str) -> bytes:
    version = collection.version.to_bytes(8, "big")
    return hmac_sha256(keys.snapshot, collection.lt_hash, version, name.encode())


def _patch_mac(keys: _Keys, snapshot_mac: bytes, macs: list[bytes], version: int, name: str) -> bytes:
    return hmac_sha256(keys.patch, snapshot_mac, *macs, version.to_bytes(8, "big"), name.encode())


def _push_name(name: str) -> Mutation:
    value = sync_action.SyncActionValue(timestamp=int(time.time() * 1000))
    value.pushNameSetting.name = name
    return Mutation(["setting_pushName"], value.SerializeToString(), 1)


def _contact(phone: str, name: str | None, lid: str | None) -> Mutation:
    index = ["contact", str(JID(phone))]
    if name is None:
        return Mutation(index, None, 2)
    value = sync_action.SyncActionValue(timestamp=int(time.time() * 1000))
    value.contactAction.fullName = name
    value.contactAction.firstName = name.split()[0] if name.split() else name
    if lid:
        value.contactAction.lidJID = str(JID(lid, LID_SERVER))
    return Mutation(index, value.SerializeToString(), 2)

"""App state: the homomorphic hash, and patches in both directions. (That a real client verifies them: tests/e2e.)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir_sandbox.web_protocol import app_state
from kurir_sandbox.web_protocol.app_state import (
    CONTACTS,
    NAMES,
    AccountState,
    AppStateError,
    AppStates,
    accept_patch,
    lt_hash,
    patches_since,
)
from kurir_sandbox.web_protocol.protobufs import server_sync
from kurir_sandbox.world import World

macs = st.lists(st.binary(min_size=32, max_size=32), max_size=6)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    for phone in ("621", "622", "623"):
        world.add_person(phone, f"Person {phone}")
    yield world
    world.close()


@given(macs, macs, st.randoms(use_true_random=False))
def test_the_hash_forgets_order_and_what_was_removed(kept: list[bytes], gone: list[bytes], random) -> None:
    start = bytes(128)
    everything = kept + gone
    random.shuffle(everything)
    assert lt_hash(lt_hash(start, everything, []), [], gone) == lt_hash(start, kept, [])
    assert lt_hash(lt_hash(start, kept, []), [], kept) == start


def follow(state: AccountState, key_holder: AccountState, name: str) -> list[str]:
    """A client with the account's key that applies all patches it is missing; returns the indexes it saw."""
    seen = []
    for raw in patches_since(key_holder, name, state.collections[name].version):
        seen += [action.index.decode() for action in accept_patch(state, name, raw)]
    return seen


def test_contacts_of_the_world_become_patches_that_a_client_can_follow(world: World) -> None:
    states = AppStates(world, world.state)
    world.set_contact("621", "622", "Budi")
    phone = states.of("621")
    client = AccountState(
        phone.key_id, phone.key_data, {name: app_state.Collection() for name in app_state.COLLECTIONS}
    )
    assert follow(client, phone, NAMES) == ['["setting_pushName"]']
    assert follow(client, phone, CONTACTS) == ['["contact","622@s.whatsapp.net"]']

    world.set_contact("621", "622", "Budi Baru")
    world.set_contact("621", "623", "Citra")
    assert states.refresh("621") == [(CONTACTS, 2)]
    assert states.refresh("621") == []
    assert len(follow(client, states.of("621"), CONTACTS)) == 2

    world.set_contact("621", "622", "")
    assert states.refresh("621") == [(CONTACTS, 3)]
    follow(client, states.of("621"), CONTACTS)
    kept, ours = client.collections[CONTACTS], states.of("621").collections[CONTACTS]
    assert (kept.version, kept.lt_hash, kept.value_macs) == (ours.version, ours.lt_hash, ours.value_macs)
    assert len(kept.value_macs) == 1


def test_a_new_app_states_object_goes_on_where_the_old_one_was(world: World) -> None:
    before = AppStates(world, world.state).of("621")
    assert msgspec.msgpack.encode(AppStates(world, world.state).of("621")) == msgspec.msgpack.encode(before)


@pytest.mark.parametrize("where", ["value", "snapshot", "key", "garbage"])
def test_a_patch_that_does_not_fit_is_refused_and_changes_nothing(world: World, where: str) -> None:
    states = AppStates(world, world.state)
    phone = states.of("621")
    raw = phone.collections[NAMES].patches[0]
    patch = server_sync.SyncdPatch.FromString(raw)
    if where == "value":
        blob = bytearray(patch.mutations[0].record.value.blob)
        blob[20] ^= 1
        patch.mutations[0].record.value.blob = bytes(blob)
    elif where == "snapshot":
        patch.snapshotMAC = bytes(32)
    elif where == "key":
        patch.mutations[0].record.keyID.ID = b"other"
    broken = b"\xff\xff" if where == "garbage" else patch.SerializeToString()
    with pytest.raises(AppStateError):
        states.accept("621", NAMES, broken)
    assert states.of("621").collections[NAMES].version == 1
    with pytest.raises(AppStateError, match="unknown"):
        states.accept("621", "no_such", raw)

"""For all unit tests: passwords are hashed at the least cost, for none of these tests is about what a guess costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from kurir.accounts import members


@pytest.fixture(autouse=True, scope="module")
def cheap_passwords() -> Iterator[None]:
    """Argon2id with the smallest parameters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        members._nobody.cache_clear()
        yield
    members._nobody.cache_clear()

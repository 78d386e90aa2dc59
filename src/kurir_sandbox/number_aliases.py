"""Number aliases: other ways to write a person's number that WhatsApp knows as the same account.

Some countries changed their mobile numbers, and accounts kept the old form: Brazil's ninth digit (55 11 9 8765-4321 for
55 11 8765-4321), Mexico's 52 1, Argentina's 54 9. Asked about the alias, WhatsApp answers with the account's number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kurir_sandbox.world import StateStore

_SPACE = "number_aliases"


def set_alias(state: StateStore, alias: str, phone: str | None) -> None:
    """`alias` is from now on answered with the number `phone`; None: it is a number of its own again."""
    if phone is None:
        state.delete(_SPACE, alias)
    else:
        state.put(_SPACE, alias, phone.encode())


def canonical(state: StateStore, number: str) -> str:
    """The number that `number` is an alias of, or `number` itself."""
    found = state.get(_SPACE, number)
    return found.decode() if found else number


def aliases_of(state: StateStore, phone: str) -> list[str]:
    """Every alias of the number `phone`."""
    return [alias for alias, owner in state.items(_SPACE) if owner.decode() == phone]

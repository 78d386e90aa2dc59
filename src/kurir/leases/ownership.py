"""The right to send for a number, as lanes and the inbox check it."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection


class Hold(Protocol):
    """The right to send for one number, from its acquisition until it is lost or released; never valid again after
    that."""

    inherited: bool
    """Whether another gateway may have held the number before."""

    def valid(self) -> bool:
        """Checks this process's own clock; called before anything is put on the wire."""
        ...

    def guard(self, connection: Connection) -> bool:
        """Checks the database, which keeps the answer true until the caller's transaction ends."""
        ...


class Ownership(Protocol):
    """The numbers that this process may send for."""

    def hold(self, number_id: int) -> Hold | None:
        """The hold on the number, None when this process does not have it."""
        ...


class Alone:
    """The only gateway: it holds every number."""

    inherited = False

    def hold(self, number_id: int) -> Hold | None:
        """Always a valid hold."""
        return self

    def valid(self) -> bool:
        """Always true."""
        return True

    def guard(self, connection: Connection) -> bool:
        """Always true."""
        return True

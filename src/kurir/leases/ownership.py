"""The right to carry a number, as lanes and the inbox ask for it."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection


class Hold(Protocol):
    """The right to carry one number, from when it was taken until it is lost or given up; never again after that."""

    inherited: bool
    """Whether another gateway may have carried the number before."""

    def valid(self) -> bool:
        """By this process's own clock: asked before anything is put on the wire."""
        ...

    def guard(self, connection: Connection) -> bool:
        """By the database, which keeps the answer true until the caller's transaction ends."""
        ...


class Ownership(Protocol):
    """Which numbers this process may carry."""

    def hold(self, number_id: int) -> Hold | None:
        """The right to carry the number, None when this process has it not."""
        ...


class Alone:
    """The only gateway: it carries every number."""

    inherited = False

    def hold(self, number_id: int) -> Hold | None:
        """Always."""
        return self

    def valid(self) -> bool:
        """Always."""
        return True

    def guard(self, connection: Connection) -> bool:
        """Always."""
        return True

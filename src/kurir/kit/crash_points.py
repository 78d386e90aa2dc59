"""Named places at which a test may end the process as a crash would: at once, without cleaning up.

Nothing happens at any of them unless the process was armed at its start, which the settings allow only beside a
sandbox (`KURIR_CRASH_AT=claim.committed`, or `claim.committed:3` for the third time).
"""

from __future__ import annotations

import os
import signal

from kurir.settings import SettingsError

POINTS = frozenset(
    {
        "accept.inserted",  # the message is in the transaction, which is not committed
        "accept.committed",  # it is stored, the caller has no answer
        "claim.committed",  # it is taken by its lane, nothing was tried
        "send.begun",  # the channel is about to be given it
        "engine.sending",  # in the engine host: the engine is about to be given it
        "engine.sent",  # in the engine host: WhatsApp took it, the gateway was not told
        "send.answered",  # the channel has answered, nothing is recorded
        "record.committed",  # the outcome is recorded
        "migration.step",  # one step to a newer schema is made, nothing is committed
    }
)

_armed: dict[str, int] = {}
"""The point at which this process ends, and how many passes are left."""


def arm(setting: str) -> None:
    """Makes this process end at a point: "" for none, `<point>` or `<point>:<n>` for its n-th pass.

    Raises SettingsError.
    """
    _armed.clear()
    point, _, passes = setting.partition(":")
    if not setting:
        return
    if point not in POINTS or (passes and not (passes.isascii() and passes.isdigit() and int(passes) > 0)):
        raise SettingsError(f"KURIR_CRASH_AT: expected one of {', '.join(sorted(POINTS))}, with :n for the n-th time")
    _armed[point] = int(passes or "1")


def reach(point: str) -> None:
    """A point is reached: this process ends when it was armed for that."""
    if point not in _armed:
        return
    _armed[point] -= 1
    if _armed[point] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

"""Crash points: named places at which a test can kill the process as a crash would, without any cleanup.

A point has no effect unless the process was armed at its start, which the settings allow only beside a sandbox
(`KURIR_CRASH_AT=claim.committed`, or `claim.committed:3` for the third pass).
"""

from __future__ import annotations

import os
import signal

from kurir.settings import SettingsError

POINTS = frozenset(
    {
        "accept.inserted",  # the message is in the transaction, which is not committed
        "accept.committed",  # it is stored, the caller has no answer
        "claim.committed",  # it is claimed by its lane, no attempt was made
        "send.begun",  # just before the call of the channel
        "engine.sending",  # in the engine host: just before the call of the engine
        "engine.sent",  # in the engine host: WhatsApp accepted it, the gateway has no answer
        "send.answered",  # the channel has answered, nothing is recorded
        "record.committed",  # the outcome is recorded
        "migration.step",  # one step to a newer schema is made, nothing is committed
    }
)

_armed: dict[str, int] = {}
"""The point at which this process ends, and how many passes are left."""


def arm(setting: str) -> None:
    """Arms one point: "" for none, `<point>` or `<point>:<n>` for its n-th pass.

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
    """Marks that a point is reached; kills this process when it is armed for it."""
    if point not in _armed:
        return
    _armed[point] -= 1
    if _armed[point] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

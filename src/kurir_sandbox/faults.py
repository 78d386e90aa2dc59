"""Faults: what the two wires should do wrong, when, and to whom. A pure plan: it decides, the wires act.

Nothing goes wrong unless a test or a person asks for it. A fault has an effect (`fault_effects.py` lists them), a match
(which number, phone and kind), and how often it applies: each time, with a probability, or the next n times. Its
own seeded randomness makes a run repeatable, whatever other faults stand beside it.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass, field

from kurir_sandbox.fault_effects import EFFECTS
from kurir_sandbox.traffic import ChannelName

_MAGIC = re.compile(r"6281999([01])([0-9]{6})")


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that may go wrong now. Empty means that it is not known here, so a fault that asks for it passes.

    number: the gateway's side, a phone number. phone: the person's, or a group id. kind: see `fault_effects`. detail: a
    narrower kind. path: of an HTTP request. device: the device id of `phone`, 0 the phone itself. first_contact:
    whether it is a message to a person who never wrote to `number`.
    """

    channel: ChannelName
    number: str = ""
    phone: str = ""
    kind: str = ""
    detail: str = ""
    path: str = ""
    device: int | None = None
    first_contact: bool = False


@dataclass(slots=True)
class Fault:
    """One fault of the plan.

    An empty `channel`, `number`, `phone`, `kind` or `path` (part of an HTTP path) and no `device` match all;
    `first_contact` matches only messages to people who never wrote. Of the matching occasions the first `skip` pass,
    then it strikes with `probability`, at most `count` times (None: without end). The other fields are the effect's
    parameters. `seen` counts matching occasions, `hits` how often it struck.
    """

    effect: str
    channel: ChannelName | None = None
    number: str = ""
    phone: str = ""
    kind: str = ""
    path: str = ""
    device: int | None = None
    first_contact: bool = False
    skip: int = 0
    count: int | None = None
    probability: float = 1.0
    seed: int = 0
    seconds: float | None = None
    status: int | None = None
    code: int | None = None
    reason: int | str | None = None
    retry_after: int | None = None
    text: str = ""
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    id: int = 0
    seen: int = 0
    hits: int = 0
    _chance: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - repeatable on purpose

    def strikes(self, occasion: Occasion) -> bool:
        """Whether it strikes at `occasion`; counts it."""
        if self.count is not None and self.hits >= self.count:
            return False
        if not self._matches(occasion):
            return False
        self.seen += 1
        if self.seen <= self.skip or self._chance.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def _matches(self, occasion: Occasion) -> bool:
        wanted = (self.channel, self.number, self.phone)
        given = (occasion.channel, occasion.number, occasion.phone)
        return (
            not any(want and want != have for want, have in zip(wanted, given, strict=True))
            and (not self.kind or self.kind in (occasion.kind, occasion.detail))
            and self.path in occasion.path
            and self.device in (None, occasion.device)
            and (occasion.first_contact or not self.first_contact)
        )


def magic(phone: str) -> tuple[str, int] | None:
    """What always happens to messages of official numbers to a magic phone number: the effect and Meta's code.

    62819990 and six digits: accepted, then `fail` with that code. 62819991 and six digits: `error` with it at once.
    """
    found = _MAGIC.fullmatch(phone)
    return None if found is None else ("error" if found[1] == "1" else "fail", int(found[2]))


class Faults:
    """The plan of both wires. It is kept in memory: a restarted sandbox has no faults."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> Fault:
        """Let `fault` stand from now on; returns it with its id."""
        assert fault.effect in EFFECTS, fault.effect
        fault.id = next(self._ids)
        self._faults[fault.id] = fault
        return fault

    def end(self, fault_id: int) -> Fault | None:
        """Removes one fault; returns it as it was, None when there is none."""
        return self._faults.pop(fault_id, None)

    def clear(self, *effects: str) -> None:
        """End every fault, or those with one of `effects`."""
        self._faults = {id_: f for id_, f in self._faults.items() if effects and f.effect not in effects}

    def all(self) -> list[Fault]:
        """Every fault by id, also those that have struck as often as they were to."""
        return list(self._faults.values())

    def strike(self, occasion: Occasion, *effects: str) -> Fault | None:
        """The first fault with one of `effects` that strikes at `occasion`, by id; None when all is well."""
        for fault in self._faults.values():
            if fault.effect in effects and fault.strikes(occasion):
                return fault
        return None

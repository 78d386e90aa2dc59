"""Faults: what the two wires should do wrong, when, and to whom. A pure plan: it decides, the wires act.

Nothing goes wrong unless a test or a person asks for it. A fault has an effect (`EFFECTS` lists them), a match (which
number, phone and kind), and says how often it strikes: each time, with a probability, or the next n times. Its own
seeded randomness makes a run repeatable, whatever other faults stand beside it.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass, field
from typing import get_args

from kurir_sandbox.traffic import ChannelName

REQUESTS = ("send", "read", "upload", "download", "object", "template", "account")
"""Kinds of requests to the Graph API: `read` is "mark as read", `object` is `/{id}`, `account` everything else."""
DOORS = ("connect", "upload", "download")
"""Kinds of HTTP requests on the linked-device wire: the WebSocket, and media."""
STANZAS = ("message", "receipt", "ack", "iq", "presence", "chatstate")
"""Kinds of stanzas that a linked device sends."""
CONTENTS = ("text", "image", "document", "location", "contact", "poll", "reaction", "template", "unsupported")
"""Kinds of messages, as the ledger names them."""
RECEIPTS = ("delivered", "read")
"""Kinds of receipts of a phone."""
CALLBACKS = ("sent", *RECEIPTS, "failed", "message", "template")
"""Kinds of callbacks: the status they tell, an inbound message, or a template's review."""

_MAGIC = re.compile(r"6281999([01])([0-9]{6})")
_BOTH: tuple[ChannelName, ...] = get_args(ChannelName)
_CLOUD: tuple[ChannelName, ...] = ("cloud_api",)
_WEB: tuple[ChannelName, ...] = ("linked_device",)
_HTTP = tuple(dict.fromkeys((*REQUESTS, *DOORS)))


@dataclass(frozen=True, slots=True)
class Effect:
    """What can go wrong.

    does: the sentence shown to people. channels: the wires that have it. kinds: what `kind` may be; empty when it has
    none. needs, takes: mandatory and optional parameters. to_phone: whether the recipient is known by then.
    """

    does: str
    channels: tuple[ChannelName, ...]
    kinds: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    to_phone: bool = True


EFFECTS: dict[str, Effect] = {
    # an HTTP request, before anything is done with it
    "reset": Effect("the connection is reset before the body is read", _BOTH, _HTTP, to_phone=False),
    "reset_after_body": Effect("the connection is reset once the whole body was read; nothing is done", _BOTH, _HTTP),
    "delay": Effect("the request is handled `seconds` later", _BOTH, _HTTP, ("seconds",)),
    "hang": Effect("no answer for `seconds`, then the connection is reset", _BOTH, _HTTP, ("seconds",)),
    "http": Effect("a bare `status` with an HTML body", _BOTH, _HTTP, ("status",), ("retry_after",)),
    "error": Effect("a Graph error `code` in JSON", _CLOUD, REQUESTS, ("code",), ("status", "retry_after")),
    # its answer, after all was done (of a send: after it was accepted)
    "drop_answer": Effect("done, but the connection is reset without an answer", _BOTH, _HTTP),
    "truncate_answer": Effect("done, but the answer breaks off in the middle", _BOTH, _HTTP),
    "late_answer": Effect("done, but answered `seconds` later", _BOTH, _HTTP, ("seconds",)),
    "callbacks_first": Effect(
        "the webhook hears `delivered` or `failed` before the send is answered", _CLOUD, takes=("seconds",)
    ),
    # an accepted message on its way to the phone
    "lose": Effect("accepted, but it never reaches the phone and nobody hears of it", _BOTH, CONTENTS),
    "fail": Effect("accepted, then a `failed` status with `code`", _CLOUD, CONTENTS, ("code",)),
    # callbacks
    "withhold_callback": Effect("the callback is never sent", _CLOUD, CALLBACKS),
    "late_callback": Effect(
        "the callback goes out `seconds` later; others overtake it", _CLOUD, CALLBACKS, ("seconds",)
    ),
    "duplicate_callback": Effect("the callback goes out twice", _CLOUD, CALLBACKS),
    "swap_callback": Effect(
        "the callback goes out after the next one for the person (`seconds` later at most)",
        _CLOUD,
        CALLBACKS,
        takes=("seconds",),
    ),
    # a linked device's login and line
    "refuse_login": Effect(
        "the login gets a failure with `reason`", _WEB, needs=("reason",), takes=("attributes",), to_phone=False
    ),
    "cut": Effect("the connection breaks off at a stanza of the device, which is not handled", _WEB, STANZAS),
    "silence": Effect("the connection stays open, but from the next stanza on it is dead", _WEB, to_phone=False),
    "logout": Effect("the device is unlinked at a stanza of it, which is not handled", _WEB, STANZAS),
    "replace": Effect("the device is told that it was replaced at a stanza of it, which is not handled", _WEB, STANZAS),
    # a linked device's messages
    "refuse_message": Effect("the message is refused with error `code`", _WEB, needs=("code",)),
    "swallow_message": Effect("the message reaches nobody, and no ack comes", _WEB),
    "withhold_ack": Effect("the message reaches the phone, but no ack comes", _WEB),
    "cut_before_ack": Effect("the message reaches the phone, then the connection breaks off before the ack", _WEB),
    "slow_ack": Effect("the message reaches the phone, and the ack comes `seconds` later", _WEB, needs=("seconds",)),
    "ask_again": Effect(
        "the phone cannot read the message and asks for it again `seconds` later", _WEB, takes=("seconds",)
    ),
    "withhold_receipt": Effect("the phone's receipt is never sent", _WEB, RECEIPTS),
    "late_receipt": Effect("the phone's receipt is sent `seconds` later", _WEB, RECEIPTS, ("seconds",)),
    "duplicate_receipt": Effect("the phone's receipt is sent twice", _WEB, RECEIPTS),
}


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that may go wrong now. Empty means that it is not known here, so a fault that asks for it passes.

    number: the gateway's side, a phone number. phone: the person's, or a group id. kind: see the constants above.
    """

    channel: ChannelName
    number: str = ""
    phone: str = ""
    kind: str = ""
    path: str = ""


@dataclass(slots=True)
class Fault:
    """One fault of the plan.

    An empty `channel`, `number`, `phone` or `kind` matches all. Of the matching occasions the first `skip` pass, then
    it strikes with `probability`, at most `count` times (None: without end). The other fields are the effect's
    parameters. `seen` counts matching occasions, `hits` how often it struck.
    """

    effect: str
    channel: ChannelName | None = None
    number: str = ""
    phone: str = ""
    kind: str = ""
    skip: int = 0
    count: int | None = None
    probability: float = 1.0
    seed: int = 0
    seconds: float | None = None
    status: int | None = None
    code: int | None = None
    reason: int | str | None = None
    retry_after: int | None = None
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
        wanted = (self.channel, self.number, self.phone, self.kind)
        given = (occasion.channel, occasion.number, occasion.phone, occasion.kind)
        if any(want and want != have for want, have in zip(wanted, given, strict=True)):
            return False
        self.seen += 1
        if self.seen <= self.skip or self._chance.random() >= self.probability:
            return False
        self.hits += 1
        return True


def magic(phone: str) -> tuple[str, int] | None:
    """What always happens to messages of official numbers to a magic phone number: the effect and Meta's code.

    62819990 and six digits: accepted, then `fail` with that code. 62819991 and six digits: `error` with it at once.
    """
    found = _MAGIC.fullmatch(phone)
    return None if found is None else ("error" if found[1] == "1" else "fail", int(found[2]))


class Faults:
    """The plan of both wires. It lives as long as the process: a restarted sandbox has no faults."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> Fault:
        """Let `fault` stand from now on; returns it with its id."""
        assert fault.effect in EFFECTS, fault.effect
        fault.id = next(self._ids)
        self._faults[fault.id] = fault
        return fault

    def end(self, fault_id: int) -> bool:
        """End one fault; says whether there was one."""
        return self._faults.pop(fault_id, None) is not None

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

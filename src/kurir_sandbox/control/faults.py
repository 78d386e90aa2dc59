"""Control API about faults: what the wires should do wrong. The effects are in `kurir_sandbox.faults`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from aiohttp import web

from kurir_sandbox.control.bodies import (
    Json,
    RefusalError,
    digits,
    flag,
    integer,
    json_object,
    number,
    sandbox,
    text,
)
from kurir_sandbox.fault_effects import CONNECTIONS, EFFECTS, Effect
from kurir_sandbox.faults import Fault
from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.traffic import ChannelName

_EVERY = ("effect", "channel", "number", "phone", "kind", "skip", "count", "probability", "seed")
_LONGEST = 3600.0
_LONGEST_REASON = 200


async def list_faults(request: web.Request) -> web.Response:
    """The standing faults with what they saw and did, and the effects there are."""
    effects = {
        name: {
            "does": effect.does,
            "channels": effect.channels,
            "kinds": effect.kinds or effect.free_kind,
            "needs": effect.needs,
            "takes": effect.takes,
        }
        for name, effect in EFFECTS.items()
    }
    standing = [shown(fault) for fault in sandbox(request).faults.all()]
    return web.json_response({"faults": standing, "effects": effects})


async def add_fault(request: web.Request) -> web.Response:
    """Let something go wrong: {effect, channel, number, phone, kind, skip, count, probability, seed, …parameters}."""
    body = await json_object(request)
    name = text(body, "effect")
    effect = EFFECTS.get(name)
    if effect is None:
        raise RefusalError("effect", f"must be one of {', '.join(EFFECTS)}")
    of_requests = ("path",) if set(CONNECTIONS) <= set(effect.kinds) else ()
    known = (*_EVERY, *of_requests, *effect.needs, *effect.takes)
    unknown = next((key for key in body if key not in known), None)
    if unknown is not None:
        raise RefusalError(unknown, f"is nothing that {name} takes; it takes {', '.join(known[1:])}")
    given = {key for key, value in body.items() if value is not None}
    lacking = next((key for key in effect.needs if key not in given), None)
    if lacking is not None:
        raise RefusalError(lacking, f"is needed by {name}")
    if "phone" in given and not effect.to_phone:
        raise RefusalError("phone", f"is not known yet when {name} strikes")
    fault = Fault(
        name,
        channel=_channel(body, effect),
        kind=_kind(body, effect),
        number=_number(request, body),
        phone=_phone(body),
        path=text(body, "path", ""),
        device=integer(body, "device", 0, 255) if "device" in given else None,
        first_contact=flag(body, "first_contact", False) if "first_contact" in given else False,
        skip=integer(body, "skip", 0, 10**9, 0),
        count=integer(body, "count", 1, 10**9) if "count" in given else None,
        probability=number(body, "probability", 0, 1) if "probability" in given else 1.0,
        seed=integer(body, "seed", 0, 2**62, 0),
        seconds=number(body, "seconds", 0, _LONGEST) if "seconds" in given else None,
        status=integer(body, "status", 400, 599) if "status" in given else None,
        code=integer(body, "code", 0, 10**9) if "code" in given else None,
        reason=failure_reason(body["reason"]) if "reason" in given else None,
        retry_after=integer(body, "retry_after", 0, 10**6) if "retry_after" in given else None,
        text=text(body, "text", ""),
        attributes=failure_attributes(body.get("attributes") or {}),
    )
    return web.json_response(shown(sandbox(request).faults.add(fault)), status=201)


async def end_faults(request: web.Request) -> web.Response:
    """End every fault."""
    faults = sandbox(request).faults
    ended = len(faults.all())
    faults.clear()
    return web.json_response({"ended": ended})


async def end_fault(request: web.Request) -> web.Response:
    """End one fault; the answer says what it saw and did until then."""
    ended = sandbox(request).faults.end(int(request.match_info["id"]))
    if ended is None:
        raise RefusalError("id", "is no fault", 404)
    return web.json_response({"ended": 1, "fault": shown(ended)})


def shown(fault: Fault) -> Json:
    """A fault as the control API shows it: what was asked for, and `id`, `seen` and `hits`."""
    values: dict[str, Any] = {f.name: getattr(fault, f.name) for f in fields(fault) if f.init}
    always = ("id", "effect", "seen", "hits", "probability", "skip", "seed")
    return {
        key: value
        for key, value in values.items()
        if key in always or (value not in (None, "", {}) and value is not False)
    }


def failure_attributes(given: JsonValue) -> dict[str, str]:
    """The further attributes of a login's failure: strings by name, none of them `reason`."""
    if not isinstance(given, dict):
        raise RefusalError("attributes", "must be an object")
    if "reason" in given:
        raise RefusalError("attributes", "cannot hold the reason")
    texts = {key: value for key, value in given.items() if isinstance(value, str)}
    wrong = next((key for key in given if key not in texts), None)
    if wrong is not None:
        raise RefusalError(wrong, "must be a string")
    return texts


def failure_reason(given: object, field: str = "reason") -> int | str:
    """The reason of a failure: those that exist, those that do not, and what is no number."""
    if isinstance(given, str) and 0 < len(given) <= _LONGEST_REASON:
        return given
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 2**63:
        return given
    raise RefusalError(field, f"must be an integer, or a string of 1 to {_LONGEST_REASON} characters")


def _channel(body: Json, effect: Effect) -> ChannelName | None:
    given = body.get("channel")
    if given is None:
        return None
    channel: ChannelName | None = next((name for name in get_args(ChannelName) if name == given), None)
    if channel not in effect.channels:
        raise RefusalError("channel", f"must be {' or '.join(effect.channels)} for {body['effect']}")
    return channel


def _kind(body: Json, effect: Effect) -> str:
    if body.get("kind") is None:
        return ""
    if effect.free_kind:
        return text(body, "kind")
    if body["kind"] not in effect.kinds:
        allowed = f"must be one of {', '.join(effect.kinds)}" if effect.kinds else "means nothing"
        raise RefusalError("kind", f"{allowed} for {body['effect']}")
    return body["kind"]


def _number(request: web.Request, body: Json) -> str:
    """The phone number of the gateway's side; the id of an official number is taken as well."""
    if body.get("number") is None:
        return ""
    given = digits(body, "number")
    business = sandbox(request).world.business(given)
    return business.phone if business else given


def _phone(body: Json) -> str:
    """The person's phone number, or a group's id."""
    if body.get("phone") is None:
        return ""
    return digits({"phone": str(body["phone"]).removesuffix("@g.us")}, "phone")

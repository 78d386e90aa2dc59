"""Control API about the sandbox itself: official numbers, policy, the ledger, media, and starting over."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Any, get_args

from aiohttp import web

from kurir_sandbox.control.bodies import (
    RefusalError,
    digits,
    flag,
    json_object,
    number,
    query_integer,
    query_seconds,
    sandbox,
    text,
)
from kurir_sandbox.control.people import shown
from kurir_sandbox.graph_api.identifiers import new_object_id
from kurir_sandbox.ledger import Record, Search
from kurir_sandbox.policy import Policy, WindowRule
from kurir_sandbox.traffic import ChannelName
from kurir_sandbox.world import Business


async def list_businesses(request: web.Request) -> web.Response:
    """Official numbers with their ids and secrets."""
    return web.json_response([asdict(business) for business in sandbox(request).world.businesses()])


async def add_business(request: web.Request) -> web.Response:
    """Add an official number: {phone, name, waba_id (of an existing account, optional)}."""
    body, world = await json_object(request), sandbox(request).world
    phone = digits(body, "phone")
    if world.person(phone) is not None or world.business_by_phone(phone) is not None:
        raise RefusalError("phone", "is taken", 409)
    waba_id = text(body, "waba_id", "")
    sibling = next((one for one in world.businesses() if one.waba_id == waba_id), None)
    if waba_id and sibling is None:
        raise RefusalError("waba_id", "is not known", 404)
    business = Business(
        phone=phone,
        name=text(body, "name"),
        phone_number_id=new_object_id(),
        waba_id=sibling.waba_id if sibling else new_object_id(),
        app_id=sibling.app_id if sibling else new_object_id(),
        app_secret=sibling.app_secret if sibling else secrets.token_hex(16),
        access_token=sibling.access_token if sibling else "EAA" + secrets.token_urlsafe(40),
        verify_token=sibling.verify_token if sibling else secrets.token_urlsafe(16),
        callback_url=sibling.callback_url if sibling else None,
    )
    return web.json_response(asdict(world.add_business(business)), status=201)


async def read_policy(request: web.Request) -> web.Response:
    """What the Cloud API enforces."""
    return web.json_response(asdict(sandbox(request).graph.policy))


async def set_policy(request: web.Request) -> web.Response:
    """Change what the Cloud API enforces: {window: failed_status|refuse|off, review_seconds}."""
    body, graph = await json_object(request), sandbox(request).graph
    changes = asdict(graph.policy)
    unknown = next((key for key in body if key not in changes), None)
    if unknown is not None:
        raise RefusalError(unknown, "is no part of the policy")
    if "window" in body and body["window"] not in get_args(WindowRule):
        raise RefusalError("window", f"must be one of {', '.join(get_args(WindowRule))}")
    if "review_seconds" in body:
        body["review_seconds"] = number(body, "review_seconds", 0, 86400)
    graph.set_policy(Policy(**{**changes, **body}))
    return web.json_response(asdict(graph.policy))


async def read_ledger(request: web.Request) -> web.Response:
    """What reached phones: filters phone, channel, from, since, text, after, wire_id; newest `limit` rows.

    With `since_id` instead of `after`: the next `limit` rows above that id, short, for reading the whole ledger.
    """
    query = request.query
    channel = query.get("channel")
    if channel not in (None, *get_args(ChannelName)):
        raise RefusalError("channel", f"must be one of {', '.join(get_args(ChannelName))}")
    search = Search(
        phone=query.get("phone"),
        channel=channel,
        sender=query.get("from"),
        wire_id=query.get("wire_id"),
        since=query_seconds(request, "since", 1e12),
        after=query_integer(request, "since_id" if "since_id" in query else "after", 0),
        text=query.get("text", ""),
    )
    limit = query_integer(request, "limit", 100, 100_000)
    ledger = sandbox(request).phones.ledger
    if "since_id" in query:
        rows = [_short(record) for record in ledger.records(search, limit)]
        return web.json_response({"entries": rows, "since_id": rows[-1]["id"] if rows else search.after})
    entries = [shown(record) for record in ledger.records(search, limit, newest="after" not in query)]
    counts = {"count": ledger.count(search), "duplicates": ledger.duplicates(search)}
    return web.json_response({**counts, "entries": entries})


def _short(record: Record) -> dict[str, Any]:
    """A ledger row with what identifies a message; `text` is the words a person reads first."""
    content = record.content
    return {
        "id": record.id,
        "channel": record.channel,
        "from": record.sender,
        "phone": record.phone,
        "wire_id": record.wire_id,
        "kind": record.kind,
        "text": content["text"] or content["caption"] or content["bubble"],
        "content_hash": record.content_hash,
    }


async def read_media(request: web.Request) -> web.Response:
    """The bytes of a picture or document by SHA-256."""
    data = sandbox(request).files.read(request.match_info["sha256"])
    if data is None:
        raise RefusalError("sha256", "is not known", 404)
    return web.Response(body=data, content_type="application/octet-stream")


async def reset(request: web.Request) -> web.Response:
    """Forget messages and activity; with {all: true} also devices and people: back to the seed."""
    everything = flag(await json_object(request), "all", False)
    await sandbox(request).reset(everything)
    return web.json_response({"reset": "all" if everything else "messages"})


async def health(request: web.Request) -> web.Response:
    """Whether the sandbox is up, and how many callbacks wait for the app."""
    parts = sandbox(request)
    return web.json_response({"status": "ok", "callbacks_waiting": parts.graph.callbacks.waiting()})

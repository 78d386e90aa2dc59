"""Control API about what people send: contents as a phone writes them, and anything else a stranger could send."""

from __future__ import annotations

import base64
from dataclasses import replace

from aiohttp import web

from kurir_sandbox.control.bodies import (
    Json,
    RefusalError,
    digits,
    file,
    json_object,
    number,
    query_integer,
    sandbox,
    table,
    text,
)
from kurir_sandbox.control.devices import web_network
from kurir_sandbox.control.people import person_of
from kurir_sandbox.traffic import Content, Place
from kurir_sandbox.web_protocol import stanza_json
from kurir_sandbox.web_protocol.drafts import FORM_KEYS, Draft, read_form
from kurir_sandbox.web_protocol.stanza import Node

_CONTENTS = ("text", "image", "document", "location")
_KEYS = (*_CONTENTS, "raw", "unavailable")
_ALL = (*_KEYS, *FORM_KEYS, "to", "group", "caption", "reply_to")


async def write_message(request: web.Request) -> web.Response:
    """A person writes: {to | group, text | image | document | location | raw | unavailable, attributes, …}."""
    person, parts = person_of(request), sandbox(request)
    body = await json_object(request)
    draft = _draft(body)
    if not person.on_whatsapp:
        raise RefusalError("phone", "is not on WhatsApp")
    if body.get("group") is not None:
        to = text(body, "group").removesuffix("@g.us")
        group = parts.world.group(to)
        if group is None:
            raise RefusalError("group", "is not known", 404)
        if group.role_of(person.phone) is None:
            raise RefusalError("group", f"does not have {person.phone} as a member")
        if parts.web is None:
            raise RefusalError("group", "needs the linked-device wire, which is off")
    else:
        to = digits(body, "to")
    reply_to = text(body, "reply_to", "")
    try:
        if body.get("group") is None and parts.graph.owns(to):
            wire_id, path = await parts.graph.write(person.phone, to, _plain(body, draft), reply_to or None), ""
        elif parts.web is not None and (body.get("group") is not None or parts.web.owns(to)):
            if reply_to:
                raise RefusalError("reply_to", "is for official numbers only")
            wire_id, path = await parts.web.send(person.phone, to, draft)
        else:
            raise RefusalError("to", "is neither an official number nor a number with linked devices", 404)
    except ValueError as problem:
        field, _, reason = str(problem).partition(": ")
        raise RefusalError(field, reason) from None
    return web.json_response({"wire_id": wire_id, **({"media_path": path} if path else {})}, status=201)


async def keep_media(request: web.Request) -> web.Response:
    """Encrypt a file for a raw message and put it on the media server: {kind, file: {url | data}}; bytes in base64."""
    from kurir_sandbox.web_protocol.media import MEDIA_KINDS  # noqa: PLC0415 - see `devices.scan`

    body, network = await json_object(request), web_network(request)
    kind = text(body, "kind")
    if kind not in MEDIA_KINDS:
        raise RefusalError("kind", f"must be one of {', '.join(MEDIA_KINDS)}")
    kept = network.keep_media(kind, file(body, "file", "application/octet-stream").data)
    answer = {
        "url": kept.url,
        "direct_path": kept.direct_path,
        "media_key": _base64(kept.media_key),
        "file_sha256": _base64(kept.file_sha256),
        "file_enc_sha256": _base64(kept.encrypted_sha256),
        "file_length": kept.size,
    }
    return web.json_response(answer, status=201)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def read_sent(request: web.Request) -> web.Response:
    """What people sent to linked devices, oldest first: filters from, to, after, limit; `raw` is the plaintext."""
    query = request.query
    rows = sandbox(request).phones.ledger.sent.rows(
        query_integer(request, "after", 0),
        query_integer(request, "limit", 100, 10_000),
        query.get("from"),
        query.get("to", "").removesuffix("@g.us") or None,
    )
    return web.json_response(rows)


def _draft(body: Json) -> Draft:
    unknown = next((key for key in body if key not in _ALL), None)
    if unknown is not None:
        raise RefusalError(unknown, f"is nothing a message has; it has {', '.join(_ALL)}")
    given = [key for key in _KEYS if body.get(key) is not None]
    if len(given) != 1:
        raise RefusalError("body", f"must have exactly one of {', '.join(_KEYS)}")
    kind = given[0]
    if kind in _CONTENTS:
        return Draft(_content(body, kind), form=read_form(body))
    if kind == "raw":
        plaintext = stanza_json.octets(body["raw"], "raw")
        stanza_json.check_size(Node("enc", {}, plaintext), "raw")
        return Draft(plaintext=plaintext, form=read_form(body))
    form = read_form({**body, "enc": None})
    placeholder = Node("unavailable", {"type": text(body, "unavailable", "") or None})
    return Draft(form=replace(form, children=[placeholder, *form.children]))


def _plain(body: Json, draft: Draft) -> Content:
    """The content for an official number, for which people cannot choose the form."""
    field = next((key for key in (*FORM_KEYS, "raw", "unavailable") if body.get(key) is not None), None)
    if draft.content is None or field is not None:
        raise RefusalError(field or "body", "is for numbers with linked devices only")
    return draft.content


def _content(body: Json, kind: str) -> Content:
    caption = text(body, "caption", "")
    if kind == "text":
        words = text(body, "text")
        return Content("text", text=words, bubble=words)
    if kind == "location":
        pin = table(body, "location")
        latitude, longitude = number(pin, "latitude", -90, 90), number(pin, "longitude", -180, 180)
        return Content("location", place=Place(latitude, longitude, text(pin, "name", ""), text(pin, "address", "")))
    if kind == "image":
        return Content("image", caption=caption, media=file(body, "image", "image/png"), bubble=caption)
    return Content(
        "document", caption=caption, media=file(body, "document", "application/octet-stream"), bubble=caption
    )

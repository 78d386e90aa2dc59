"""Routes of the Graph API about numbers, messages and media, with and without a version in the path."""

from __future__ import annotations

import re
from dataclasses import replace

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from kurir_sandbox.graph_api import outgoing, template_routes
from kurir_sandbox.graph_api.errors import GraphError, missing, unknown_object
from kurir_sandbox.graph_api.media_library import MEGABYTE, StoredMedia
from kurir_sandbox.graph_api.request_faults import faulty_requests, send_occasion
from kurir_sandbox.graph_api.requests import (
    NETWORK,
    account,
    find_number,
    graph_errors,
    json_object,
    network,
    number,
    token_holders,
)
from kurir_sandbox.graph_api.server import GraphNetwork
from kurir_sandbox.world import Business

_LARGEST_BODY = 101 * MEGABYTE


def application(graph: GraphNetwork) -> web.Application:
    """The Graph API as an application to mount under `/graph`."""
    app = web.Application(middlewares=[graph_errors, faulty_requests], client_max_size=_LARGEST_BODY)
    app[NETWORK] = graph
    routes = [
        ("POST", "/{id:\\d+}/messages", send_message),
        ("POST", "/{id:\\d+}/media", upload_media),
        ("GET", "/download/{id:\\d+}/{ticket}", download_media),
        ("GET", "/{id:\\d+}/phone_numbers", list_numbers),
        ("GET", "/{id:\\d+}/subscribed_apps", list_subscriptions),
        ("POST", "/{id:\\d+}/subscribed_apps", subscribe),
        ("DELETE", "/{id:\\d+}/subscribed_apps", unsubscribe),
        ("POST", "/{id:\\d+}/register", register_number),
        ("POST", "/{id:\\d+}/uploads", start_upload),
        ("POST", "/{id:upload:[^/]+}", finish_upload),
        *template_routes.ROUTES,
        ("GET", "/{id:\\d+}", read_object),
        ("POST", "/{id:\\d+}", change_object),
        ("DELETE", "/{id:\\d+}", delete_object),
    ]
    for method, path, handler in routes:
        app.router.add_route(method, path, handler)
        app.router.add_route(method, "/{version:v\\d+\\.\\d+}" + path, handler)
    return app


async def send_message(request: web.Request) -> web.Response:
    """`POST /{phone_number_id}/messages`: send, or mark as read."""
    business, graph = number(request), network(request)
    body = await json_object(request)
    outgoing.require_product(body)
    if "status" in body:
        graph.seen(business, outgoing.seen(body))
        return web.json_response({"success": True})
    named = outgoing.template_named(body)
    template = graph.templates.usable(business.waba_id, *named) if named else None
    wanted = outgoing.outgoing(body, template)
    send = graph.accept(business, wanted, template)
    if overtaken := graph.faults.strike(send_occasion(business, wanted.to), "callbacks_first"):
        await graph.callbacks.until_acknowledged(send.wire_id, overtaken.seconds)
    message = {"id": send.wire_id, **({"message_status": "accepted"} if template else {})}
    contact = {"input": wanted.given_to, "wa_id": wanted.to}
    return web.json_response({"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]})


async def upload_media(request: web.Request) -> web.Response:
    """`POST /{phone_number_id}/media`: multipart with messaging_product, file and type."""
    business, graph = number(request), network(request)
    if not request.content_type.startswith("multipart/"):
        raise GraphError(100, message="(#100) The parameter file is required.")
    fields: dict[str, str] = {}
    data, name, mime = None, "", ""
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name == "file":
                data = await _part(part)
                name, mime = part.filename or "", part.headers.get("Content-Type", "")
            elif part.name:
                fields[part.name] = (await _part(part)).decode("utf-8", "replace")
    except (ValueError, AssertionError, LookupError, HttpProcessingError):
        raise GraphError(100, message="(#100) The multipart body cannot be read.") from None
    outgoing.require_product(dict(fields))
    if data is None:
        raise GraphError(100, message="(#100) The parameter file is required.")
    stored = graph.media.upload(business.phone_number_id, fields.get("type") or mime, name, data)
    return web.json_response({"id": stored.id})


async def _part(part: BodyPartReader) -> bytes:
    """The bytes of one part of a multipart body, up to the largest that any media may have."""
    data = bytearray()
    while chunk := await part.read_chunk(65536):
        data += chunk
        if len(data) > _LARGEST_BODY:
            raise GraphError(131053, "Parameter 'file' is larger than any media may be")
    return bytes(data)


async def download_media(request: web.Request) -> web.Response:
    """The bytes behind a download address; needs the Bearer token as well."""
    media_id, graph = request.match_info["id"], network(request)
    stored = _own_media(request)
    if stored is None or not graph.media.admits(media_id, request.match_info["ticket"]):
        raise unknown_object(media_id, request.method)
    return web.Response(body=graph.media.read(stored), headers={"Content-Type": stored.mime})


async def list_numbers(request: web.Request) -> web.Response:
    """`GET /{waba}/phone_numbers`."""
    return web.json_response({"data": [_number(business) for business in account(request)]})


async def list_subscriptions(request: web.Request) -> web.Response:
    """`GET /{waba}/subscribed_apps`: the app and its override of the webhook address."""
    data = [
        {
            "whatsapp_business_api_data": {"id": business.app_id, "name": business.name},
            "override_callback_uri": business.callback_url,
        }
        for business in account(request)[:1]
        if business.callback_url
    ]
    return web.json_response({"data": data})


async def subscribe(request: web.Request) -> web.Response:
    """`POST /{waba}/subscribed_apps`: verify the webhook, then send callbacks there."""
    businesses, graph = account(request), network(request)
    body = await json_object(request)
    url, token = body.get("override_callback_uri"), body.get("verify_token")
    if url is None and token is None:
        return web.json_response({"success": True})
    if not isinstance(url, str) or not re.match(r"https?://[^\s/]+", url):
        raise GraphError(100, message="(#100) Param override_callback_uri must be an http or https address")
    if not isinstance(token, str) or not token:
        raise GraphError(100, message="(#100) Param verify_token must be a non-empty string")
    handshake = await graph.callbacks.verify(url, token)
    if not handshake.passed:
        raise GraphError(
            2200,
            message=f"(#2200) Callback verification failed with the following errors: {handshake.reason}",
        )
    for business in businesses:
        graph.world.add_business(replace(business, callback_url=url))
    return web.json_response({"success": True})


async def unsubscribe(request: web.Request) -> web.Response:
    """`DELETE /{waba}/subscribed_apps`: no more callbacks."""
    for business in account(request):
        network(request).world.add_business(replace(business, callback_url=None))
    return web.json_response({"success": True})


async def register_number(request: web.Request) -> web.Response:
    """`POST /{phone_number_id}/register`: accepted when the pin has six digits."""
    number(request)
    body = await json_object(request)
    outgoing.require_product(body)
    if not re.fullmatch(r"\d{6}", str(body.get("pin", ""))):
        raise missing("pin (six digits)")
    return web.json_response({"success": True})


async def start_upload(request: web.Request) -> web.Response:
    """`POST /{app_id}/uploads`: open a resumable upload for a template sample."""
    app_id = request.match_info["id"]
    if all(business.app_id != app_id for business in token_holders(request)):
        raise unknown_object(app_id, request.method)
    size, mime = request.query.get("file_length", ""), request.query.get("file_type", "")
    if not re.fullmatch(r"[1-9]\d{0,8}", size) or int(size) > 100 * MEGABYTE:
        raise GraphError(100, message="(#100) Param file_length must be 1 to 104857600")
    if not re.fullmatch(r"[\w.+-]+/[\w.+-]+", mime):
        raise GraphError(100, message="(#100) Param file_type must be a MIME type")
    return web.json_response({"id": network(request).media.start_upload(app_id, mime, int(size))})


async def finish_upload(request: web.Request) -> web.Response:
    """`POST /upload:…` with header file_offset and the raw bytes; answers the handle."""
    apps = {business.app_id for business in token_holders(request)}
    offset = request.headers.get("file_offset", "0")
    if not re.fullmatch(r"\d{1,9}", offset):
        raise GraphError(100, message="(#100) Header file_offset must be an integer")
    upload_id, data = request.match_info["id"], await request.read()
    for app_id in apps:
        return web.json_response({"h": network(request).media.finish_upload(upload_id, app_id, int(offset), data)})
    raise unknown_object(upload_id, request.method)


async def read_object(request: web.Request) -> web.Response:
    """`GET /{id}` of a number, a media or a template."""
    if business := find_number(request):
        return web.json_response(_number(business))
    if stored := _own_media(request):
        media = network(request).media
        url = request.url.origin() / "graph" / "download" / stored.id / media.ticket(stored.id)
        answer = {
            "messaging_product": "whatsapp",
            "url": str(url),
            "mime_type": stored.mime,
            "sha256": stored.sha256,
            "file_size": stored.size,
            "id": stored.id,
        }
        return web.json_response(answer)
    return template_routes.read_template(request)


async def change_object(request: web.Request) -> web.Response:
    """`POST /{id}`: edit a template."""
    return await template_routes.edit_template(request)


async def delete_object(request: web.Request) -> web.Response:
    """`DELETE /{media_id}`."""
    stored = _own_media(request)
    if stored is None:
        raise unknown_object(request.match_info["id"], request.method)
    network(request).media.delete(stored.id)
    return web.json_response({"success": True})


def _own_media(request: web.Request) -> StoredMedia | None:
    """The media in the path, if it belongs to a number of the token."""
    numbers = {business.phone_number_id for business in token_holders(request)}
    stored = network(request).media.stored(request.match_info["id"])
    wanted = request.query.get("phone_number_id")
    if stored is None or stored.phone_number_id not in numbers or wanted not in (None, stored.phone_number_id):
        return None
    return stored


def _number(business: Business) -> dict[str, object]:
    return {
        "id": business.phone_number_id,
        "display_phone_number": f"+{business.phone}",
        "verified_name": business.name,
        "quality_rating": "GREEN",
        "name_status": "APPROVED",
        "code_verification_status": "VERIFIED",
        "platform_type": "CLOUD_API",
        "throughput": {"level": "STANDARD"},
        "messaging_limit_tier": "TIER_100K",
    }

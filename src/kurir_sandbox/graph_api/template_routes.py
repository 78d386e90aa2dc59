"""Routes of the Graph API about templates: create, list, read, edit, unpause, delete."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from aiohttp import web

from kurir_sandbox.graph_api.errors import GraphError, template_refused, unknown_object
from kurir_sandbox.graph_api.requests import account, json_object, network, page_limit, token_holders
from kurir_sandbox.graph_api.templates import HEADER, MEDIA_FORMATS, NewTemplate, Template, checked

_FILTERS = ("status", "name", "category", "language")


async def create_template(request: web.Request) -> web.Response:
    """`POST /{waba}/message_templates`."""
    waba_id, graph = account(request)[0].waba_id, network(request)
    new = checked(await json_object(request))
    _check_sample(request, new)
    template = graph.templates.create(waba_id, new, graph.policy.review_seconds)
    return web.json_response({"id": template.id, "status": template.status, "category": template.category})


async def list_templates(request: web.Request) -> web.Response:
    """`GET /{waba}/message_templates` with filters, `fields`, and cursors."""
    waba_id = account(request)[0].waba_id
    found = [template for template in network(request).templates.of(waba_id) if _matches(template, request)]
    limit, after = page_limit(request), request.query.get("after")
    start = 0
    if after is not None:
        last = _cursor_id(after)
        ids = [template.id for template in found]
        if last not in ids:
            raise GraphError(100, message="(#100) Invalid cursor: after")
        start = ids.index(last) + 1
    page = found[start : start + limit]
    fields = [field for field in request.query.get("fields", "").split(",") if field]
    answer: dict[str, Any] = {"data": [_shown(template, fields) for template in page]}
    if page:
        cursors = {"before": _cursor(page[0]), "after": _cursor(page[-1])}
        paging: dict[str, Any] = {"cursors": cursors}
        if start + limit < len(found):
            paging["next"] = str(request.url.update_query(after=cursors["after"], limit=str(limit)))
        answer["paging"] = paging
    if "summary" in request.query:
        answer["summary"] = {"total_count": len(found), "message_template_count": len(found)}
    return web.json_response(answer)


def read_template(request: web.Request) -> web.Response:
    """`GET /{template_id}`."""
    fields = [field for field in request.query.get("fields", "").split(",") if field]
    return web.json_response(_shown(_own_template(request), fields))


async def edit_template(request: web.Request) -> web.Response:
    """`POST /{template_id}`: new components or category; back to review."""
    template, graph = _own_template(request), network(request)
    body = await json_object(request)
    if any(key in body and body[key] != getattr(template, key) for key in ("name", "language")):
        raise GraphError(100, message="(#100) name and language of a template cannot change")
    known = {
        "name": template.name,
        "language": template.language,
        "category": template.category,
        "components": template.components,
        "parameter_format": template.parameter_format,
    }
    new = checked({**known, **body})
    _check_sample(request, new)
    graph.templates.edit(template, new, graph.policy.review_seconds)
    return web.json_response({"success": True, "id": template.id, "name": template.name, "category": new.category})


async def unpause_template(request: web.Request) -> web.Response:
    """`POST /{template_id}/unpause`."""
    template = _own_template(request)
    if template.status != "PAUSED":
        raise GraphError(100, message="(#100) The template is not paused.")
    network(request).templates.set_status(template, "APPROVED")
    return web.json_response({"success": True})


async def delete_templates(request: web.Request) -> web.Response:
    """`DELETE /{waba}/message_templates` by name, by name and hsm_id, or by hsm_ids (at most 100)."""
    waba_id, book = account(request)[0].waba_id, network(request).templates
    name, one, several = (request.query.get(key) for key in ("name", "hsm_id", "hsm_ids"))
    if several is not None:
        ids = [part for part in several.strip("[]").replace('"', "").replace(" ", "").split(",") if part]
        if not 1 <= len(ids) <= 100:
            raise GraphError(100, message="(#100) Param hsm_ids must name 1 to 100 templates")
        doomed = [template for template in book.of(waba_id) if template.id in ids]
    elif name:
        doomed = [template for template in book.of(waba_id) if template.name == name and one in (None, template.id)]
    else:
        raise GraphError(100, message="(#100) The parameter name is required.")
    if not doomed:
        raise template_refused(2593002, "Message Template Not Found", "There is no such template to delete.")
    book.delete(doomed)
    return web.json_response({"success": True})


ROUTES = [
    ("POST", "/{id:\\d+}/message_templates", create_template),
    ("GET", "/{id:\\d+}/message_templates", list_templates),
    ("DELETE", "/{id:\\d+}/message_templates", delete_templates),
    ("POST", "/{id:\\d+}/unpause", unpause_template),
]


def _own_template(request: web.Request) -> Template:
    accounts = {business.waba_id for business in token_holders(request)}
    template = network(request).templates.template(request.match_info["id"])
    if template is None or template.waba_id not in accounts:
        raise unknown_object(request.match_info["id"], request.method)
    return template


def _check_sample(request: web.Request, new: NewTemplate) -> None:
    """The sample of a media header must be a handle that an upload gave out."""
    header = new.component("HEADER")
    if header and header["format"] in MEDIA_FORMATS:
        handle = header["example"]["header_handle"][0]
        if not network(request).media.knows_handle(handle):
            raise template_refused(HEADER, "Invalid sample", "example.header_handle is not an uploaded file")


def _matches(template: Template, request: web.Request) -> bool:
    for key in _FILTERS:
        wanted = request.query.get(key)
        value = getattr(template, key)
        if wanted is not None and (wanted not in value if key == "name" else wanted.upper() != value.upper()):
            return False
    return True


def _shown(template: Template, fields: list[str]) -> dict[str, Any]:
    everything = {
        "id": template.id,
        "name": template.name,
        "language": template.language,
        "status": template.status,
        "category": template.category,
        "components": template.components,
        "parameter_format": template.parameter_format,
        "rejected_reason": template.rejected_reason,
        "quality_score": {"score": template.quality, "date": int(template.created)},
    }
    if not fields:
        return everything
    return {key: value for key, value in everything.items() if key in fields or key == "id"}


def _cursor(template: Template) -> str:
    return base64.urlsafe_b64encode(template.id.encode()).decode().rstrip("=")


def _cursor_id(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""

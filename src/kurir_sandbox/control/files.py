"""Control API for links in messages: sample files, and addresses that behave badly."""

from __future__ import annotations

import asyncio

from aiohttp import web

from kurir_sandbox.control.bodies import RefusalError, query_seconds
from kurir_sandbox.samples import NAMES, sample

_DRIPS = 60


async def read_file(request: web.Request) -> web.StreamResponse:
    """A sample file, or `missing` (404), `redirect?to=`, `slow?seconds=`."""
    name = request.match_info["name"]
    if name == "redirect":
        return _redirect(request)
    if name == "slow":
        return await _slow(request)
    found = sample(name)
    if found is None:
        raise RefusalError("name", f"is none of {', '.join(NAMES)}, redirect, slow", 404)
    return web.Response(body=found.data, content_type=found.mime)


def _redirect(request: web.Request) -> web.Response:
    target = request.query.get("to", "")
    if not target or not target.isprintable():
        raise RefusalError("to", "must be an address")
    return web.Response(status=302, headers={"Location": target})


async def _slow(request: web.Request) -> web.StreamResponse:
    """The picture in 60 pieces over `seconds` (default 60)."""
    seconds = query_seconds(request, "seconds", 600)
    picture = sample("promo.png")
    assert picture is not None
    answer = web.StreamResponse(headers={"Content-Type": picture.mime, "Content-Length": str(len(picture.data))})
    await answer.prepare(request)
    size = -(-len(picture.data) // _DRIPS)
    for start in range(0, len(picture.data), size):
        await answer.write(picture.data[start : start + size])
        await asyncio.sleep((60 if seconds is None else seconds) / _DRIPS)
    return answer

"""Faults of HTTP requests, the same on both wires: delays, bare errors, resets, lost and broken answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

from kurir_sandbox.faults import Fault, Faults, Occasion

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TROUBLE = ("reset_after_body", "hang", "http", "error")
_BROKEN = ("drop_answer", "truncate_answer", "trickle_answer", "short_answer", "corrupt_answer")
_PIECES = 40
_LINGER_NOT = struct.pack("ii", 1, 0)
_PAGE = "<html><head><title>{status} {reason}</title></head><body><h1>{status} {reason}</h1></body></html>\n"
_REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}


async def answer(
    request: web.Request,
    handler: Handler,
    faults: Faults,
    *,
    glimpse: Occasion,
    look: Callable[[], Awaitable[Occasion]],
    error: Callable[[Fault], web.Response] | None = None,
) -> web.StreamResponse:
    """The answer of `handler`, unless a fault strikes before or after it.

    glimpse: what is known of the request without its body. look: reads the body to know more. error: makes the wire's
    own error out of the fault `error`.
    """
    if not faults.all():
        return await handler(request)
    if faults.strike(glimpse, "reset"):
        return reset(request)
    occasion = await look()
    if delay := faults.strike(occasion, "delay"):
        await asyncio.sleep(delay.seconds or 0)
    trouble = faults.strike(occasion, *_TROUBLE)
    if trouble is None:
        return await _broken(request, await handler(request), faults, occasion)
    if trouble.effect == "error" and error is not None:
        return error(trouble)
    if trouble.effect == "http":
        return _bare(trouble)
    if trouble.effect == "reset_after_body":
        async for _ in request.content.iter_any():
            pass
    await asyncio.sleep(trouble.seconds or 0)
    return reset(request)


def reset(request: web.Request) -> web.Response:
    """Resets the request's connection (RST, not FIN); the response returned goes nowhere."""
    abort(request.transport)
    return web.Response()


def abort(transport: asyncio.BaseTransport | None) -> None:
    """Breaks a connection off: what was not sent is dropped, and the other side sees a reset."""
    if not isinstance(transport, asyncio.WriteTransport):
        return
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


def retry_header(fault: Fault) -> dict[str, str]:
    """The `Retry-After` header that the fault asks for, if it does."""
    return {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}


async def _broken(
    request: web.Request, answer: web.StreamResponse, faults: Faults, occasion: Occasion
) -> web.StreamResponse:
    if answer.status >= 300 or not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
        return answer
    if late := faults.strike(occasion, "late_answer"):
        await asyncio.sleep(late.seconds or 0)
    broken = faults.strike(occasion, *_BROKEN)
    if broken is None:
        return answer
    body, half = answer.body, len(answer.body) // 2
    match broken.effect:
        case "drop_answer":
            return reset(request)
        case "short_answer":
            answer.body = body[:half]
        case "corrupt_answer":
            answer.body = body[:half] + bytes(byte ^ 0xFF for byte in body[half : half + 1]) + body[half + 1 :]
        case "trickle_answer":
            return await _trickle(request, answer, body, broken.seconds or 0)
        case _:
            return await _truncate(request, answer, body[:half], len(body))
    return answer


async def _truncate(request: web.Request, answer: web.Response, part: bytes, announced: int) -> web.StreamResponse:
    partial = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    partial.content_length = announced
    await partial.prepare(request)
    await partial.write(part)
    if request.transport is not None:
        request.transport.close()
    return partial


async def _trickle(request: web.Request, answer: web.Response, body: bytes, seconds: float) -> web.StreamResponse:
    slow = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    slow.content_length = len(body)
    await slow.prepare(request)
    size = max(1, -(-len(body) // _PIECES))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    for piece in pieces:
        await asyncio.sleep(seconds / len(pieces))
        await slow.write(piece)
    return slow


def _bare(fault: Fault) -> web.Response:
    status = fault.status or 500
    page = _PAGE.format(status=status, reason=_REASONS.get(status, "Error"))
    return web.Response(status=status, text=page, content_type="text/html", headers=retry_header(fault))

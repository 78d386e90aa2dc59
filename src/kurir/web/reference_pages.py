"""Pages for people: the start page with the state of the numbers, and the reference of the compatible API.

A page is in one language: the signed-in member's account's, else what `Accept-Language` asks for, else Indonesian; the
reference is in English.

Rendered here from the endpoint table, with our own style sheet and script; no other host is contacted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from kurir import __version__
from kurir.accounts.accounts import Account
from kurir.accounts.limits import Blocked
from kurir.numbers.numbers import Number, shown_state
from kurir.reasons import sentence
from kurir.reasons.states import state
from kurir.services.sign_in import Busy
from kurir.web.compat_v1 import openapi
from kurir.web.compat_v1.endpoint import Endpoint
from kurir.web.gateway import Gateway
from kurir.web.http.basic_credentials import basic_credentials
from kurir.web.http.languages import before_account
from kurir.web.page_words import WORDS

if TYPE_CHECKING:
    import jinja2

_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_CURL = """curl {url} \\
  -H 'Content-Type: application/json' \\
  -d '{body}'"""
_GOOD = frozenset({"connected"})
_PASSING = frozenset({"connecting", "pairing", "degraded", "restricted"})


@cache
def _pages() -> jinja2.Environment:
    """The templates; loaded with the first page, which most gateways are never asked for."""
    import jinja2  # noqa: PLC0415

    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("kurir.web"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    cast("dict[str, Any]", pages.globals)["version"] = __version__  # the library types it after its own globals
    return pages


def routes(gateway: Gateway, endpoints: Sequence[Endpoint], base_url: str) -> list[BaseRoute]:
    """The start page `/`, `/reference`, `/openapi.json`, and what they need under `/static`."""

    groups = itertools.groupby(endpoints, key=lambda endpoint: endpoint.section)
    reference: dict[str, Any] = {
        "sections": [(section, [_entry(e, base_url) for e in group]) for section, group in groups],
        "base_url": base_url,
    }

    async def start(request: Request) -> Response:
        shown: list[tuple[Account, list[Number]]]
        language = _asked_language(request)
        if gateway.settings.status_page == "open":
            shown = await _everyone(gateway)
        else:
            address = request.client.host if request.client else "unknown"
            try:
                given = basic_credentials(request.headers.get("authorization", ""))
                member = await gateway.services.sign_in.member(*given, address) if given else None
            except Blocked as blocked:
                return _page("sign_in.html", language, 429, {"Retry-After": str(blocked.seconds)})
            except Busy:
                return _page("sign_in.html", language, 503, {"Retry-After": "5"})
            if member is None:
                return _page(
                    "sign_in.html", language, 401, {"WWW-Authenticate": 'Basic realm="Kurir", charset="UTF-8"'}
                )
            shown = await _one(gateway, member.account_id)
            language = shown[0][0].language
        rows = [_row(account, number, language) for account, owned in shown for number in owned]
        return _page("start.html", language, 200, {"Cache-Control": "no-store"}, rows=rows, **reference)

    async def show_reference(_request: Request) -> Response:
        return _page("reference.html", "en", 200, **reference)

    async def show_openapi(_request: Request) -> Response:
        return JSONResponse(openapi.document(endpoints, base_url))

    return [
        Route("/", start),
        Route("/reference", show_reference),
        Route("/openapi.json", show_openapi),
        Mount("/static", StaticFiles(packages=[("kurir.web", "static")])),
    ]


def not_found_page(request: Request) -> Response:
    """The page for an unknown path."""
    return _page("not_found.html", _asked_language(request), 404)


def _asked_language(request: Request) -> str:
    return before_account(request.url.path, request.headers.get("accept-language", ""))


def _page(name: str, language: str, status: int, headers: dict[str, str] | None = None, **values: Any) -> Response:
    text = _pages().get_template(name).render(language=language, words=WORDS[language], **values)
    return HTMLResponse(text, status, _SECURITY | (headers or {}))


async def _everyone(gateway: Gateway) -> list[tuple[Account, list[Number]]]:
    owned: dict[int, list[Number]] = {}
    for number in sorted(await gateway.services.numbers.list_of_all(), key=lambda number: number.id):
        owned.setdefault(number.account_id, []).append(number)
    return [(account, owned.get(account.id, [])) for account in await gateway.services.accounts.list()]


async def _one(gateway: Gateway, account_id: int) -> list[tuple[Account, list[Number]]]:
    services = gateway.services
    return [(await services.accounts.get(account_id), await services.numbers.list(account_id))]


def _row(account: Account, number: Number, language: str) -> dict[str, Any]:
    words = WORDS[language]
    at = number.last_connected_at
    shown, reason = shown_state(number, number.state, number.state_reason)
    tone = "good" if shown in _GOOD else "passing" if shown in _PASSING else "bad"
    return {
        "account": account.name,
        "key": number.key,
        "phone": f"+{number.phone}" if number.phone else words["not_paired"],
        "name": number.name,
        "channel": words["linked_device" if number.channel == "linked_device" else "waba"],
        "state": sentence(state(shown), language),
        "tone": tone,
        "reason": sentence(reason, language),
        "last_connected": f"{account.local(at):%Y-%m-%d %H:%M:%S %Z}" if at else "–",
    }


def _entry(endpoint: Endpoint, base_url: str) -> dict[str, Any]:
    body = _pretty(openapi.request_example(endpoint))
    return {
        "path": endpoint.path,
        "summary": endpoint.summary,
        "fields": openapi.all_fields(endpoint),
        "curl": _CURL.format(url=f"{base_url}/public/v1/{endpoint.path}", body=body),
        "answers": [_pretty(answer) for answer in (endpoint.answer_sample, *endpoint.other_answers)],
    }


def _pretty(value: Any) -> str:
    # an apostrophe would end the shell's quotation
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode().replace("'", "\\u0027")

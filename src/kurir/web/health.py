"""Endpoints for supervisors and monitors: liveness, readiness, metrics.

Open to whoever reaches the port; the answers hold no account's data.
"""

from __future__ import annotations

import structlog
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kurir.kit.log_limit import LogLimit
from kurir.reasons import sentence
from kurir.web.gateway import Gateway
from kurir.web.http.languages import asked_for

log = structlog.get_logger(__name__)

_FRESH = {"Cache-Control": "no-store"}


def routes(gateway: Gateway) -> list[Route]:
    """`GET /healthz`, `/readyz` and `/metrics`. They answer from when the channels have started until these stop."""
    recent = LogLimit()

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_FRESH)

    async def readyz(request: Request) -> Response:
        reasons = await gateway.services.health.not_ready()
        if not reasons:
            return JSONResponse({"status": "ready"}, headers=_FRESH)
        english = [sentence(reason, "en") for reason in reasons]
        if recent.is_due(tuple(english)):
            log.warning("readiness_failed", reasons=english)
        language = asked_for(request.headers.get("accept-language", "")) or "en"
        body = {
            "status": "not_ready",
            "reasons": [sentence(reason, language) for reason in reasons],
            "codes": [reason.code for reason in reasons],
        }
        return JSONResponse(body, 503, headers=_FRESH)

    async def metrics(_request: Request) -> Response:
        return Response(gateway.metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4, headers=_FRESH)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]

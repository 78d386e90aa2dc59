"""The HTTP side of media: uploads, downloads and the faults they meet."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from kurir_sandbox import http_faults
from kurir_sandbox.faults import Faults, Occasion

from .media import MAX_BLOB, MediaError, MediaStore
from .queries.media_connection import account_of


class MediaServer:
    """The routes of media. `store` is asked for at each request: a reset of the wire has a new one."""

    def __init__(self, store: Callable[[], MediaStore], faults: Faults) -> None:
        self._store, self._faults = store, faults

    def application(self) -> web.Application:
        """An application with the media routes; faults meet every route that is added to it."""
        app = web.Application(client_max_size=MAX_BLOB, middlewares=[self._faulty])
        app.router.add_post("/mms/{kind}/{token}", self._upload)
        app.router.add_get("/v/{path:.*}", self._download)
        app.router.add_delete("/mms/{path:.*}", self._forget)
        return app

    @web.middleware
    async def _faulty(self, request: web.Request, handler: http_faults.Handler) -> web.StreamResponse:
        kind = "connect" if request.path == "/ws/chat" else "upload" if request.method == "POST" else "download"
        number = account_of(request.query.get("auth", ""))
        occasion = Occasion("linked_device", number, "", kind, path=request.path)

        async def look() -> Occasion:
            return occasion

        return await http_faults.answer(request, handler, self._faults, glimpse=occasion, look=look)

    async def _upload(self, request: web.Request) -> web.Response:
        try:
            path = self._store().keep_upload(request.match_info["token"], await request.read())
        except MediaError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"url": f"https://{request.host}{path}", "direct_path": path})

    async def _download(self, request: web.Request) -> web.Response:
        try:
            return web.Response(body=self._store().read(request.path))
        except MediaError as error:
            return web.json_response({"error": str(error)}, status=404)

    async def _forget(self, request: web.Request) -> web.Response:
        return web.Response(status=200)  # engines delete history blobs; nothing is kept under that name here

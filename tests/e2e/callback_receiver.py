"""An app's webhook for Meta's callbacks, as the sandbox's tests listen to it."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from tests.e2e.graph_client import TIMEOUT


class Receiver:
    """An app's webhook: checks signatures, keeps changes in order; can be closed and opened on the same port."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.changes: list[dict[str, Any]] = []
        self.bad_signatures = 0
        self.verify_token = "rahasia"
        self.port = 0
        self.answers: list[int] = []
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook"

    async def open(self) -> None:
        app = web.Application()
        app.router.add_get("/webhook", self._verify)
        app.router.add_post("/webhook", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _verify(self, request: web.Request) -> web.Response:
        if request.query.get("hub.verify_token") != self.verify_token:
            return web.Response(status=403)
        return web.Response(text=request.query["hub.challenge"])

    async def _take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        wanted = "sha256=" + hmac.new(self.secret.encode(), raw, hashlib.sha256).hexdigest()
        if request.headers.get("X-Hub-Signature-256") != wanted:
            self.bad_signatures += 1
            return web.Response(status=403)
        if self.answers and (status := self.answers.pop(0)) != 200:
            return web.Response(status=status)
        for entry in json.loads(raw)["entry"]:
            self.changes.extend(entry["changes"])
        self._news.set()
        return web.Response()

    def statuses(self, wire_id: str) -> list[dict[str, Any]]:
        found = [status for change in self.changes for status in change["value"].get("statuses", [])]
        return [status for status in found if status["id"] == wire_id]

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(TIMEOUT):
            while not (result := condition()):
                self._news.clear()
                await self._news.wait()
        return result

    async def wait_status(self, wire_id: str, kind: str) -> dict[str, Any]:
        return await self.until(
            lambda: next((status for status in self.statuses(wire_id) if status["status"] == kind), None)
        )

    async def wait_inbound(self, wire_id: str) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            values = [change["value"] for change in self.changes if change["field"] == "messages"]
            return next((v for v in values for m in v.get("messages", []) if m["id"] == wire_id), None)

        return await self.until(find)

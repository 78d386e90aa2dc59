"""Answers that are written at once: an ASGI extension of this server, for handlers whose header fields hardly change.

uvicorn checks, copies and joins every field of every answer, and writes its body separately. A handler that finds
`WHOLE` among `scope["extensions"]` may send one message of that type instead: `status`, `fields` (complete lines of
header fields, `content-length` among them, `connection` not), and `body`. The bytes on the wire are the same.
"""

from __future__ import annotations

from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

WHOLE = "kurir.response.whole"
EXTENSIONS: dict[str, dict[object, object]] = {WHOLE: {}}


def takes_whole(scope: Scope) -> bool:
    """Whether the server writes whole answers."""
    return WHOLE in (scope.get("extensions") or ())


class Cycle(RequestResponseCycle):
    """uvicorn's cycle of one request and its answer, which may be a whole one."""

    async def send(self, message: Any) -> None:
        """Writes (a part of) the answer."""
        if message["type"] != WHOLE:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError(WHOLE)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        pieces = [STATUS_LINE[message["status"]]]
        for name, value in self.default_headers:
            pieces += (name, b": ", value, b"\r\n")
        pieces.append(message["fields"])
        pieces.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        if cast(Any, self.scope)["method"] != "HEAD":
            pieces.append(message["body"])
        self.transport.write(b"".join(pieces))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

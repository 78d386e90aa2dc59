"""The least that the gateway's own server can do: an application that reads a request and answers a constant.

`python -m kurir.bench.hello` prints its port and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from kurir.serve import Server, server_config
from kurir.settings import Settings
from kurir.web.http.connection_limits import HttpFront, Limits

_BODY = b'{"code":"200","message":"The message is in the delivery process","type":"successfully"}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())],
}
_END = {"type": "http.response.body", "body": _BODY}
_LIMITS = Limits(head_bytes=65_536, head_seconds=10.0, idle_seconds=75.0, connections=4_096, per_address=4_096)


async def hello(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as an accepted send is answered."""
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_END)


async def serve() -> None:
    """Serves on a free port of loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    front = HttpFront(_LIMITS)
    server = Server(front, server_config(hello, front, Settings()))

    def stop() -> None:
        server.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    gc.freeze()  # what is only imported for the server's configuration costs nothing more
    uvloop.run(serve())

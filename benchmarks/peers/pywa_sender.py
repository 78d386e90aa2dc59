"""The peer of the delivery row: FastAPI and pywa, which sends within the request and stores nothing.

`GRAPH_STUB` is the address of the Graph stub. Prints its port and serves until SIGTERM.
"""

import os
import socket
import sys

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from pywa_async import WhatsApp

limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
client = WhatsApp(phone_id="100000000000", token="token", session=httpx.AsyncClient(limits=limits, timeout=30))
session = client.api._session
session.base_url = httpx.URL(str(session.base_url).replace("https://graph.facebook.com", os.environ["GRAPH_STUB"]))
app = FastAPI()


class Send(BaseModel):
    """A text to a phone number."""

    to: str
    text: str


@app.post("/send")
async def send(message: Send) -> dict[str, str]:
    """Sends it to Meta and answers with Meta's id."""
    sent = await client.send_message(to=message.to, text=message.text)
    return {"code": "200", "id": sent.id}


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
    sys.exit(0)

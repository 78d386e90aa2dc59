"""The ceiling of a drain: the gateway's own Graph client and nothing else.

`python -m kurir.bench.bare_client URL COUNT IN_FLIGHT` sends so many texts and prints how many seconds it took.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from kurir.channels.cloud_api.graph import Graph, GraphResponse
from kurir.channels.cloud_api.payloads import message_body
from kurir.messages.content import Outgoing, Text


async def main(url: str, count: int, in_flight: int) -> None:
    """Sends `count` texts, at most `in_flight` at a time."""
    graph = Graph(f"{url}/v25.0", 20.0)
    await graph.start()
    numbers = iter(range(count))

    async def work() -> None:
        for i in numbers:
            outgoing = Outgoing(message_id=i, recipient=f"62812{i:08d}", content=Text("Your order has left our shop"))
            answer = await graph.call("POST", "100000000000/messages", "token", json=message_body(outgoing))
            if not isinstance(answer, GraphResponse) or answer.status != 200:
                raise RuntimeError(f"the Graph stub did not answer: {answer}")

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    sys.stdout.write(f"{time.perf_counter() - began:.6f}\n")
    await graph.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

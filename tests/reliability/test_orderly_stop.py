"""F4: SIGTERM during sends: what is in flight is finished, the rest stays queued, nothing is in doubt."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.e2e.sandbox_network import eventually
from tests.reliability.site import Site, open_site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


class SlowGraph:
    """A Graph API that takes messages and answers when it is told to."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answer = asyncio.Event()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SlowGraph]:
        app = web.Application()
        app.router.add_post("/{number}/messages", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.answer.set()
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked[body["text"]["body"]] += 1
        await self.answer.wait()
        return web.json_response({"messages": [{"id": f"wamid.{body['biz_opaque_callback_data']}"}]})


async def test_sends_in_flight_are_finished_and_the_rest_waits(tmp_path: Path):
    async with open_site(tmp_path, people=4) as site, SlowGraph().running() as graph:
        shop = site.shops[0]
        assert await asyncio.to_thread(site.stop) == 0
        await asyncio.to_thread(lambda: site.start(KURIR_GRAPH_URL=graph.url))
        await connected(site)
        calls = [
            asyncio.create_task(say(site, {"reciptient": person, "message": f"to {person}", "method_send": "sync"}))
            for person in site.people[:3]
        ]
        await eventually(lambda: graph.asked.total() == 3)
        waiting = asyncio.create_task(
            say(site, {"reciptient": site.people[0], "message": "behind", "method_send": "sync"})
        )
        typed = "a text that takes a person some seconds to type on a phone, " * 3
        device = {"number_id": shop.device.key, "phone_no": site.people[3], "message": typed, "enable_typing": "1"}
        assert (await say(site, device))["code"] == "200"
        await until_states(site, {"sending": 4, "queued": 1})

        assert site.process is not None
        stops = site.logged("server_stopping")  # of the process before
        site.process.send_signal(signal.SIGTERM)
        await eventually(lambda: site.logged("server_stopping") > stops)
        assert site.process.poll() is None, "it waits for what is in flight"
        graph.answer.set()
        answers = await asyncio.wait_for(asyncio.gather(*calls, waiting), 30)
        assert [answer["code"] for answer in answers] == ["200", "200", "200", "408"]
        assert answers[3]["message"]["state"] == "queued"
        assert "stopping" in answers[3]["message"]["detail"], answers[3]
        assert await asyncio.to_thread(site.process.wait, 40) == 0, site.explain()
        ended = await states(site)
        assert ended.pop("queued") == 1
        assert set(ended) <= {"sent", "delivered"}
        assert sum(ended.values()) == 4
        assert await attempts_of(site, "behind") == 0
        await site.sandbox.arrival(site.people[3], lambda m: m["text"] == typed)

        await asyncio.to_thread(lambda: site.start(KURIR_GRAPH_URL=graph.url))
        await eventually(lambda: graph.asked["behind"] == 1, 20)
        assert set(graph.asked.values()) == {1}
        assert graph.asked.total() == 4


async def say(site: Site, fields: dict[str, Any]) -> dict[str, Any]:
    """One call of the first shop."""
    shop = site.shops[0]
    path = "send_personal_message" if "number_id" in fields else "send_meta_personal_message"
    body = {"licenses_key": shop.official.key, "api_key": shop.api_key, **fields}
    async with aiohttp.ClientSession() as session, session.post(f"{site.url}/public/v1/{path}", json=body) as answer:
        return await answer.json()


async def connected(site: Site) -> None:
    """Waits until the first shop's device is connected."""
    token = (site.settings.data_dir / "operator.token").read_text(encoding="ascii").strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with asyncio.timeout(30), aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.get(f"{site.url}/api/v1/numbers") as answer:
                found = (await answer.json())["numbers"]
            if next(one for one in found if one["key"] == site.shops[0].device.key)["state"] == "connected":
                return
            await asyncio.sleep(0.05)


async def states(site: Site) -> dict[str, int]:
    """How many messages are in which state."""
    return dict(await asyncio.to_thread(_rows, site, "SELECT state, count(*) FROM messages GROUP BY state"))


async def attempts_of(site: Site, text: str) -> int:
    """How often a text was tried."""
    rows = await asyncio.to_thread(_rows, site, f"SELECT attempts FROM messages WHERE content LIKE '%{text}%'")
    return rows[0][0]


async def until_states(site: Site, wanted: dict[str, int]) -> None:
    """Waits until the messages are in these states."""
    async with asyncio.timeout(20):
        while await states(site) != wanted:
            await asyncio.sleep(0.05)


def _rows(site: Site, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{site.settings.sqlite_path}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()

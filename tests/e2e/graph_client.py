"""The sandbox as a child process, and a client of its two APIs."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

START, TIMEOUT = 30.0, 15.0


class Program:
    """The sandbox as a child process on one data folder."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.facts: dict[str, Any] = {}

    async def start(self) -> None:
        ready = self.data / "sandbox.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "kurir_sandbox", "--data", str(self.data), "--port", "0", *self.options]
        with (self.data / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)  # noqa: ASYNC220 - forks in ms
        async with asyncio.timeout(START):
            while not ready.exists():
                assert self.process.poll() is None, (self.data / "log").read_text()
                await asyncio.sleep(0.02)
        self.facts = json.loads(ready.read_text())

    async def end(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), 10)

    @property
    def business(self) -> dict[str, Any]:
        return self.facts["businesses"][0]


class Client:
    """An app of the business: talks to the Graph API and, as the people, to the control API."""

    def __init__(self, program: Program, http: aiohttp.ClientSession) -> None:
        self.program = program
        self.http = http

    async def graph(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.program.business['access_token']}", **options.pop("headers", {})}
        url = f"{self.program.facts['graph_url']}/v25.0/{path}"
        async with self.http.request(method, url, json=body, headers=headers, **options) as answer:
            return answer.status, await answer.json()

    async def control(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        url = self.program.facts["url"] + path
        async with self.http.request(method, url, json=body, params=query) as answer:
            return answer.status, await answer.json()

    async def send(self, to: str, kind: str, content: dict[str, Any], **more: Any) -> str:
        body = {"messaging_product": "whatsapp", "to": to, "type": kind, kind: content, **more}
        status, answer = await self.graph("POST", f"{self.number}/messages", body)
        assert status == 200, answer
        assert answer["contacts"] == [{"input": to, "wa_id": to.lstrip("+")}]
        return answer["messages"][0]["id"]

    async def person_writes(self, phone: str, **content: Any) -> str:
        body = {"to": self.program.business["phone"], **content}
        status, answer = await self.control("POST", f"/people/{phone}/messages", body)
        assert status == 201, answer
        return answer["wire_id"]

    async def inbox(self, phone: str, after: int = 0) -> list[dict[str, Any]]:
        return (await self.control("GET", f"/people/{phone}/inbox", after=after, wait=10))[1]

    async def bubble(self, phone: str, wire_id: str) -> dict[str, Any]:
        after = 0
        async with asyncio.timeout(TIMEOUT):
            while True:
                for message in await self.inbox(phone, after):
                    if message["wire_id"] == wire_id:
                        return message
                    after = message["id"]

    async def subscribe(self, url: str, verify_token: str) -> tuple[int, Any]:
        body = {"override_callback_uri": url, "verify_token": verify_token}
        return await self.graph("POST", f"{self.waba}/subscribed_apps", body)

    @property
    def number(self) -> str:
        return self.program.business["phone_number_id"]

    @property
    def waba(self) -> str:
        return self.program.business["waba_id"]

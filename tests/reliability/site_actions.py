"""What one caller or operator does with a site by hand: a single call, a command, a look into the database."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from tests.reliability.site import Shop, Site

DEVICE, OFFICIAL = "linked_device", "cloud_api"


async def kurir(site: Site, *arguments: str, code: int = 0, **environment: str) -> str:
    """What a command prints; `environment` are further variables of its environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kurir",
        *arguments,
        env={**site.environment, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, output.decode()
    assert b"Traceback" not in output
    return output.decode()


@dataclass
class Answered:
    status: int
    body: dict[str, Any]
    message_id: str


async def send(site: Site, shop: Shop, channel: str, person: str, text: str) -> Answered | None:
    """One call under a key of its own; None when the gateway died over it."""
    if channel == DEVICE:
        path, fields = "send_personal_message", {"number_id": shop.device.key, "phone_no": person}
    else:
        path, fields = "send_meta_personal_message", {"licenses_key": shop.official.key, "reciptient": person}
    return await call(site, shop, path, {**fields, "message": text, "idempotency_key": text})


async def call(site: Site, shop: Shop, path: str, fields: dict[str, Any]) -> Answered | None:
    """One call of the compatible API; None when the gateway died over it."""
    body = {"api_key": shop.api_key, **fields}
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{site.url}/public/v1/{path}", json=body) as answer,
        ):
            return Answered(answer.status, await answer.json(), answer.headers.get("X-Message-Id", ""))
    except aiohttp.ClientError:
        return None


async def connected(site: Site, shop: Shop, channel: str) -> None:
    """Waits until the number can send in this life of the gateway."""
    if channel == OFFICIAL:
        return
    token = (site.settings.data_dir / "operator.token").read_text(encoding="ascii").strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{site.url}/api/v1/numbers", headers=headers) as answer:
                found = (await answer.json())["numbers"]
            if next(number for number in found if number["key"] == shop.device.key)["state"] == "connected":
                return
            await asyncio.sleep(0.05)


async def until(
    site: Site, statement: str, value: Any, holds: Callable[[Any], bool] = bool, timeout: float = 40.0
) -> Any:
    """The one value that a statement finds in the gateway's database, once it `holds`."""

    def look() -> Any:
        rows = site.rows(statement, value=value)
        return rows[0][0] if rows else None

    found = None
    try:
        async with asyncio.timeout(timeout):
            while not holds(found := await asyncio.to_thread(look)):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"still {json.dumps(found)}: {statement}\n{site.explain()}") from None
    return found

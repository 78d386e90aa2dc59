"""What everybody at the gateway's doors sees while it cannot store anything: refusals in their own shape, and soon."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from tests.reliability.load import GIVE_UP
from tests.reliability.site import Site

_INNER = re.compile(r"Traceback|File \"|127\.0\.0\.1|postgres|sqlite|psycopg|connection to server|\bport\b", re.I)


@dataclass(frozen=True)
class Answer:
    """One answer: HTTP status, body, and how long it took."""

    status: int
    text: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.text)


async def ask(site: Site, method: str, path: str, **more: Any) -> Answer:
    """One request; fails the test when it takes longer than a caller waits, or tells what is inside."""
    began = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=GIVE_UP)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, site.url + path, **more) as answer,
    ):
        found = Answer(answer.status, await answer.text(), time.monotonic() - began)
    if found.status >= 400:
        assert not _INNER.search(found.text), f"{path} tells too much: {found.text}"
    return found


def send_body(site: Site, text: str, **more: str) -> dict[str, str]:
    """A send of the first shop's device to its first customer."""
    shop = site.shops[0]
    return {"api_key": shop.api_key, "number_id": shop.device.key, "phone_no": site.people[0], "message": text, **more}


async def everything_is_refused(site: Site) -> None:
    """Every door that needs the database says so, in its own shape; the process counts as alive, but not as ready."""
    operator = {"Authorization": "Bearer " + (site.settings.data_dir / "operator.token").read_text().strip()}
    callback = {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": site.shops[0].official.waba_id,
                "changes": [
                    {
                        "field": "messages",
                        "value": {
                            "messaging_product": "whatsapp",
                            "metadata": {"phone_number_id": site.shops[0].official.phone_number_id},
                            "statuses": [],
                        },
                    }
                ],
            }
        ],
    }
    member = {"Authorization": "Basic " + base64.b64encode(b"toko0@example.com:secret").decode()}
    signed = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    alive, ready, sent, keyed, info, numbers, called, page = await asyncio.gather(
        ask(site, "GET", "/healthz"),
        ask(site, "GET", "/readyz"),
        ask(site, "POST", "/public/v1/send_personal_message", json=send_body(site, "never stored")),
        ask(
            site,
            "POST",
            "/public/v1/send_personal_message",
            json=send_body(site, "never stored"),
            headers={"Idempotency-Key": "never-stored"},
        ),
        ask(site, "POST", "/public/v1/info", json={"api_key": site.shops[0].api_key}),
        ask(site, "GET", "/api/v1/numbers", headers=operator),
        ask(site, "POST", "/meta/callbacks", json=callback, headers=signed),
        ask(site, "GET", "/", headers=member),
    )
    assert alive.status == 200
    assert (ready.status, ready.json["status"]) == (503, "not_ready")
    assert "the database does not answer writes" in " ".join(ready.json["reasons"])
    for answer in (sent, keyed, info):
        assert (answer.status, answer.json["code"], answer.json["type"]) == (503, "503", "unavailable"), answer
        assert answer.json["message"]
    assert (numbers.status, numbers.json["error"]["code"]) == (503, "unavailable")
    assert called.status == 503, "Meta repeats what is not answered with 200"
    assert page.status == 503


async def is_ready(site: Site) -> bool:
    """Whether the gateway says that it can take messages."""
    return (await ask(site, "GET", "/readyz")).status == 200


def command(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the operator, beside the running gateway."""
    return subprocess.run(
        [sys.executable, "-m", "kurir", *arguments],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

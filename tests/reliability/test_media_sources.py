"""F13: servers of pictures and files that misbehave, on both channels: bounded, said clearly, and never two versions.

What passes is tried again and arrives once and whole; what is final fails at once with its reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from tests.reliability.file_server import (
    Behaviour,
    FileServer,
    crawl,
    cut,
    endless,
    hold,
    serving_files,
    status,
    trickle,
    whole,
)
from tests.reliability.site import Shop, Site, open_site
from tests.reliability.site_actions import DEVICE, OFFICIAL, call, connected, send, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
IMAGE_LIMIT = 5_000_000

REASON = (
    "SELECT a.reason FROM attempts a JOIN messages m ON m.id = a.message_id WHERE m.recipient = :value ORDER BY a.id"
)
"""Of the first try."""
STATE = "SELECT state FROM messages WHERE recipient = :value"
TRIES = "SELECT attempts FROM messages WHERE recipient = :value"


def picture(seed: int = 1) -> bytes:
    """A PNG of about 90 kB, another one for each seed."""
    image = Image.frombytes("RGB", (200, 150), random.Random(seed).randbytes(200 * 150 * 3))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Scene:
    """A running gateway, a shop, and servers that misbehave; each message goes to a person of its own."""

    site: Site
    shop: Shop
    files: FileServer
    channel: str
    people: Iterator[str]
    _paths: itertools.count = field(default_factory=lambda: itertools.count(1))

    def offers(self, name: str, *behaviours: Behaviour) -> str:
        """The URL of a new path."""
        return self.files.offers(f"/{self.channel}-{next(self._paths)}-{name}", *behaviours)

    def asked(self, url: str) -> int:
        return self.files.asked[path_of(url)]

    def is_open(self, url: str) -> bool:
        return self.files.open[path_of(url)] > 0

    async def opens(self, url: str) -> None:
        """Waits until the gateway asks for it."""
        async with asyncio.timeout(20):
            while not self.is_open(url):
                await asyncio.sleep(0.02)

    async def send_picture(self, url: str) -> str:
        """Hands in a picture; returns whom it is for."""
        return await self._send({"image_url": url, "message": url, "send_as_caption": 1})

    async def send_file(self, url: str) -> str:
        """Hands in a file; returns whom it is for."""
        return await self._send({"file_url": url, "messageType": "document", "fileName": "kontrak.pdf"})

    async def send_text(self, text: str) -> str:
        person = next(self.people)
        answered = await send(self.site, self.shop, self.channel, person, f"{text} {person}")
        assert answered is not None
        assert answered.status == 200
        return person

    async def _send(self, fields: dict[str, Any]) -> str:
        person = next(self.people)
        if self.channel == OFFICIAL:
            path, to = "send_meta_personal_message", {"licenses_key": self.shop.official.key, "reciptient": person}
        else:
            path, to = "send_personal_message", {"number_id": self.shop.device.key, "phone_no": person}
            path = "send_personal_file" if "file_url" in fields else path
        answered = await call(self.site, self.shop, path, {**to, **fields})
        assert answered is not None
        assert answered.message_id, answered  # an official number's answer tells what is final
        return person

    async def arrives(self, person: str) -> dict[str, Any]:
        """What reached the person's phone from the shop: once, and nothing else."""
        ours = {self.shop.device_phone, self.shop.official.phone}
        return await self.site.sandbox.arrival(person, lambda m: m["from"] in ours, timeout=60)

    async def on_phone(self, person: str) -> list[dict[str, Any]]:
        return (await self.site.sandbox.get(f"/ledger?phone={person}&limit=100"))["entries"]


def path_of(url: str) -> str:
    return "/" + url.rpartition("/")[2]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Place:
    site: Site
    files: FileServer
    people: Iterator[str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder: Path = tmp_path_factory.mktemp("media")
    async with serving_files() as files, open_site(folder, people=45, shops=1) as site:
        yield Place(site, files, iter(site.people))


@pytest.fixture(params=[DEVICE, OFFICIAL])
def scene(request: pytest.FixtureRequest, place: Place) -> Scene:
    return Scene(place.site, place.site.shops[0], place.files, request.param, place.people)


@pytest.fixture
def both(place: Place) -> list[Scene]:
    """Both channels, for what takes its time."""
    return [
        Scene(place.site, place.site.shops[0], place.files, channel, place.people) for channel in (DEVICE, OFFICIAL)
    ]


async def test_slow_servers_are_given_up_and_hold_up_nobody(both: list[Scene]):
    await asyncio.gather(*map(_meets_slow_servers, both))


async def _meets_slow_servers(scene: Scene) -> None:
    """One is fast enough to be waited for, the other is not."""
    body, over = picture(1), asyncio.Event()
    crawls = scene.offers("crawls.png", crawl(over), whole(body))
    trickles = scene.offers("trickles.png", trickle(body), whole(body))
    urls = (crawls, trickles)
    async with asyncio.TaskGroup() as calls:
        late = [calls.create_task(scene.send_picture(url)) for url in urls]
        await asyncio.gather(*map(scene.opens, urls))
        prompt = [await scene.send_text("tidak menunggu"), await scene.send_picture(scene.offers("a.png", whole(body)))]
        for person in prompt:
            await scene.arrives(person)
        assert scene.is_open(crawls), "the others have waited for it"
        over.set()
    reasons = [await until(scene.site, REASON, task.result()) for task in late]
    assert reasons == [
        "image_url: the server stopped before the whole file had arrived",
        "image_url: the server sends too slowly",
    ]
    for task, url in zip(late, urls, strict=True):
        assert (await scene.arrives(task.result()))["media"]["sha256"] == sha256(body)
        assert len(await scene.on_phone(task.result())) == 1
        assert scene.asked(url) == 2


async def test_what_passes_is_fetched_again_and_arrives_once_and_whole(scene: Scene):
    body, paper = picture(2), b"%PDF-1.4\n" + random.Random(3).randbytes(300_000) + b"\n%%EOF\n"
    troubles = {
        "cut": cut(body),
        "busy": status(503),
        "limited": status(429),
        "shorter-than-it-says": whole(body[:1000], claims=len(body)),
        "longer-than-it-says": whole(body, claims=1000),
    }
    urls = [scene.offers(f"{name}.png", trouble, whole(body)) for name, trouble in troubles.items()]
    contract = scene.offers("kontrak.pdf", cut(paper), whole(paper))
    people = await asyncio.gather(*map(scene.send_picture, urls), scene.send_file(contract))
    bodies = [body] * len(urls) + [paper]
    for person, url, sent in zip(people, [*urls, contract], bodies, strict=True):
        arrived = await scene.arrives(person)
        assert arrived["media"]["sha256"] == sha256(sent), url
        assert await scene.site.sandbox.media(arrived["media"]["sha256"]) == sent
        assert len(await scene.on_phone(person)) == 1
        assert scene.asked(url) == 2
        await until(scene.site, STATE, person, lambda state: state == "delivered")
        assert scene.site.rows(TRIES, value=person)[0][0] == 2


async def test_what_is_final_fails_at_once_and_says_why(scene: Scene):
    body, trap = picture(4), scene.offers("trap.png", whole(picture(4)))
    finals = {
        "gone.png": (status(404), "the server answered with status 404"),
        "secret.png": (status(403), "the server answered with status 403"),
        "claims-much.png": (whole(body, claims=10**10), f"the file is larger than {IMAGE_LIMIT} bytes"),
        "endless.png": (endless(body), f"the file is larger than {IMAGE_LIMIT} bytes"),
        "empty.png": (whole(b""), "the server's answer is empty"),
        "page.png": (
            whole(b"<!DOCTYPE html><p>Please sign in"),
            "expected a JPEG or PNG picture, the address answers with a web page",
        ),
        "inward.png": (
            status(302, "Location: http://169.254.169.254/latest/meta-data"),
            "redirected: the URL's host is not on the public internet",
        ),
        "file.png": (
            status(302, "Location: file:///etc/passwd"),
            "redirected: the URL must start with http:// or https://",
        ),
        "circle.png": (status(302, f"Location: {path_of(trap)}-circle"), "the server redirects too often"),
    }
    circle = f"{path_of(trap)}-circle"
    scene.files.offers(circle, status(302, f"Location: {circle}"))
    urls = [scene.offers(name, behaviour) for name, (behaviour, _) in finals.items()]
    people = await asyncio.gather(*map(scene.send_picture, urls))
    found, wanted = {}, {}
    for person, url, (_, why) in zip(people, urls, finals.values(), strict=True):
        await until(scene.site, STATE, person, lambda state: state == "failed")
        found[url] = (scene.site.rows(REASON, value=person)[0][0], scene.asked(url), await scene.on_phone(person))
        wanted[url] = (f"image_url: {why}", 1, [])
    assert found == wanted


async def test_what_was_fetched_first_is_what_arrives(scene: Scene):
    """The channel fails, the message is tried again, and meanwhile another picture stands under its address."""
    versions = [picture(seed) for seed in range(10, 14)]
    url = scene.offers("changes.png", *map(whole, versions))
    fault = {"effect": "http", "status": 503, "kind": "upload", "channel": scene.channel}
    # an engine asks several hosts within one try
    fault = await scene.site.sandbox.post("/faults", fault if scene.channel == DEVICE else {**fault, "count": 1})
    person = await scene.send_picture(url)
    assert "upload" in (await until(scene.site, REASON, person))
    await scene.site.sandbox.delete(f"/faults/{fault['id']}")
    arrived = await scene.arrives(person)
    assert arrived["media"]["sha256"] == sha256(versions[0])
    assert scene.asked(url) == 1
    assert len(await scene.on_phone(person)) == 1
    # another message to the same address is another question
    again = await scene.arrives(await scene.send_picture(url))
    assert again["media"]["sha256"] == sha256(versions[1])


async def test_a_message_whose_file_was_still_coming_is_in_no_doubt_after_a_crash(both: list[Scene]):
    """Nothing leaves before the file is here: that is evidence, on both channels."""
    body, site = picture(20), both[0].site
    urls = [scene.offers("coming.png", hold(whole(body), asyncio.Event()), whole(body)) for scene in both]
    people = await asyncio.gather(*(scene.send_picture(url) for scene, url in zip(both, urls, strict=True)))
    await asyncio.gather(*(scene.opens(url) for scene, url in zip(both, urls, strict=True)))
    await asyncio.to_thread(site.kill)
    await asyncio.to_thread(site.start)
    for scene, person in zip(both, people, strict=True):
        await connected(site, scene.shop, scene.channel)
        assert (await scene.arrives(person))["media"]["sha256"] == sha256(body)
        assert len(await scene.on_phone(person)) == 1
        await until(site, STATE, person, lambda state: state == "delivered")

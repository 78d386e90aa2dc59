"""Whatever strangers send, through a whole gateway on the real wire: nothing is lost in silence, it stays connected.

`KURIR_HOSTILE_MESSAGES` and `KURIR_HOSTILE_CALLBACKS` set the dose (2,000 each; `make storm` takes 10,000).
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import hmac
import io
import json
import os
import random
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from google.protobuf.message import DecodeError
from tests.hostile import strangers
from tests.reliability.site import Site, open_site

from kurir.messages import bounds
from kurir.reasons.numbers import HOST_STOPPED
from kurir.web.meta_callbacks import BODY_LIMIT

from neonize.proto.Neonize_pb2 import Message as MessageEvent  # isort: skip

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
MESSAGES = int(os.environ.get("KURIR_HOSTILE_MESSAGES", "2000"))
CALLBACKS = int(os.environ.get("KURIR_HOSTILE_CALLBACKS", "2000"))
AT_ONCE = 8
LARGEST = 500_000
"""Bytes of a plaintext; larger ones are for the unit tests."""
DEEP = "DEEP"
STILL = 20.0
"""Seconds without any progress after which what is missing is lost."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path / "site", people=6, shops=2) as site:
        yield site


async def get(site: Site, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(site.url + path) as answer:
        return answer.status, await answer.text()


async def metrics(site: Site, name: str) -> Counter[str]:
    """A metric's values by label."""
    found: Counter[str] = Counter()
    for line in (await get(site, "/metrics"))[1].splitlines():
        if matched := re.fullmatch(rf'{name}\{{\w+="([^"]*)"\}} (\S+)', line):
            found[matched[1]] = int(float(matched[2]))
    return found


NO_MESSAGES = frozenset({"peer"})
"""Kinds of what an account's own devices send each other (`call` and `chat` are fields of a message)."""


async def not_read(site: Site) -> Counter[str]:
    """How many messages were counted as not read, by kind."""
    found = await metrics(site, "kurir_incoming_unread_total")
    return Counter({kind: count for kind, count in found.items() if kind not in NO_MESSAGES})


def came_to(sentence: str) -> None:
    """Shows with `-s` what a run came to."""
    sys.stdout.write(f"\n{sentence}\n")


async def in_parallel(count: int, work: Any) -> None:
    """`work(i)` for each i, a few at once."""
    numbers = iter(range(count))

    async def worker() -> None:
        for i in numbers:
            await work(i)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


async def settled(question: Any) -> Any:
    """The answer once it is complete, or has not changed for a while: (complete, answer)."""
    answer, since = None, time.monotonic()
    while time.monotonic() - since < STILL:
        complete, now = await question()
        if complete:
            return now
        if now != answer:
            answer, since = now, time.monotonic()
        await asyncio.sleep(0.25)
    return answer


async def test_random_messages_are_stored_quarantined_or_counted(site: Site) -> None:
    shop, seed = site.shops[0], int(os.environ.get("KURIR_HOSTILE_SEED", "7"))
    before = await not_read(site)
    good, strange = set(), set()

    async def write(i: int) -> None:
        rng = random.Random(seed * 1_000_000 + i)
        body: dict[str, Any] = {"to": shop.device_phone}
        if i % 20 == 0:
            name = f"GOOD{i:06d}"
            good.add(name)
            body["text"] = f"pesan {i}"
        else:
            name = f"ODD{i:06d}"
            strange.add(name)
            raw = strangers.plaintext(rng)
            while len(raw) > LARGEST:
                raw = strangers.plaintext(rng)
            body["raw"] = base64.b64encode(raw).decode()
        body["attributes"] = {"id": name}
        if rng.random() < 0.2:
            notify = strangers.string(rng)[:2_000]
            in_base64 = {"base64": base64.b64encode(notify).decode()}
            body["attributes"]["notify"] = rng.choice((notify.decode("utf-8", "replace"), in_base64))
        await site.sandbox.post(f"/people/{site.people[i % len(site.people)]}/messages", body)

    await in_parallel(MESSAGES, write)
    deep = {"to": shop.device_phone, "raw": base64.b64encode(strangers.too_deep()).decode()}
    await site.sandbox.post(f"/people/{site.people[0]}/messages", deep | {"attributes": {"id": DEEP}})
    strange.add(DEEP)

    async def accounted() -> tuple[bool, tuple[int, int, int]]:
        stored, quarantined = await asyncio.to_thread(found_ids, site)
        unread = await not_read(site) - before
        missing = (good | strange) - stored - quarantined
        return unread.total() >= len(missing) and good <= stored, (len(stored), len(quarantined), unread.total())

    await settled(accounted)
    stored, quarantined = found_ids(site)
    unread = await not_read(site) - before
    missing = strange - stored - quarantined
    came_to(
        f"{MESSAGES} messages: {len(stored)} stored, {len(quarantined)} quarantined, {unread.total()} of {dict(unread)}"
    )
    assert good <= stored, f"{len(good - stored)} ordinary messages were lost"
    assert DEEP in quarantined, "what is nested too deep for us is quarantined whole"
    journal = site.settings.data_dir / "journals" / f"{shop.device.id}.db"
    with closing(sqlite3.connect(journal)) as file:
        assert file.execute("SELECT count(*) FROM received WHERE kind <> 'fetch'").fetchone() == (0,)
    # of what is not read only the kind is known: as many must be counted as are neither stored nor quarantined
    assert unread.total() == len(missing), site.explain()
    await is_well(site)


def found_ids(site: Site) -> tuple[set[str], set[str]]:
    """The ids at WhatsApp of what is in the database and in the quarantine."""
    stored = {row[0] for row in site.rows("SELECT remote_id FROM incoming")}
    quarantined = set()
    for queue, reference, payload in site.rows("SELECT queue, reference, payload FROM quarantine"):
        if queue == "journal":
            reported = MessageEvent()
            try:
                reported.MergeFromString(payload)
            except DecodeError:
                assert DEEP.encode() in payload, "only that one is more than we can decode"
                quarantined.add(DEEP)
            else:
                quarantined.add(reported.Info.ID)
        else:
            quarantined.add(reference.rpartition("/")[2])
    return stored, quarantined


async def is_well(site: Site) -> None:
    """Ready, the numbers connected, no task failed, no host ended, no traceback; a message goes out, and each number's
    next one comes in."""
    assert await get(site, "/readyz") == (200, '{"status":"ready"}')
    states = [row[0] for row in site.rows("SELECT state FROM numbers WHERE channel = 'linked_device'")]
    assert states == ["connected"] * len(site.shops)
    assert (await metrics(site, "kurir_task_failures_total")).total() == 0
    log = (site.folder / "gateway.log").read_text(errors="replace")
    assert "Traceback" not in log, log[log.index("Traceback") - 200 :][:3_000]
    # a device that was paired moves to a shared host a minute later, and its first one is stopped
    ends = [line for line in log.splitlines() if '"engine_host_ended"' in line and f'"{HOST_STOPPED.code}"' not in line]
    assert ends == []
    assert "engine_frame_invalid" not in log
    shop, person = site.shops[0], site.people[0]
    for one in site.shops:
        await site.sandbox.post(f"/people/{person}/messages", {"to": one.device_phone, "text": "masih hidup?"})
    form = {"api_key": shop.api_key, "number_id": shop.device.key, "phone_no": person, "message": "masih"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{site.url}/public/v1/send_personal_message", data=form) as answer,
    ):
        assert answer.status == 200, await answer.text()
    await site.sandbox.arrival(person, lambda record: record["text"] == "masih")

    async def answered() -> tuple[bool, Any]:
        found = await asyncio.to_thread(site.rows, "SELECT count(*) FROM incoming WHERE text = 'masih hidup?'")
        return found[0][0] == len(site.shops), found

    assert (await settled(answered))[0][0] == len(site.shops)


# -- callbacks ---------------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    "\ud800",
    "\0",
    "9" * 5_000,
    "x" * 70_000,
    [],
    {},
    [[[]]],
    {"id": {"id": {}}},
    ["a", 1, None],
)


KINDS = ("text", "image", "location", "interactive", "reaction", "order", "status", "failed", "template", "quality")


def callback(site: Site, i: int) -> dict[str, Any]:
    """An ordinary callback of one of Meta's kinds about the shop's number."""
    shop = site.shops[0]
    official = shop.official
    person = site.people[i % len(site.people)]
    kind = KINDS[i % len(KINDS)]
    value: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": official.phone, "phone_number_id": official.phone_number_id},
    }
    field = "messages"
    if kind in {"status", "failed"}:
        value["statuses"] = [
            {
                "id": f"wamid.S{i}",
                "status": "failed" if kind == "failed" else "delivered",
                "timestamp": "1800000000",
                "recipient_id": person,
                "errors": [{"code": 131026, "title": "x", "message": "y", "error_data": {"details": "z"}}],
                "pricing": {"billable": True, "category": "utility"},
            }
        ]
    elif kind == "template":
        field = "message_template_status_update"
        value = {"event": "APPROVED", "message_template_id": i, "message_template_name": "n", "reason": "NONE"}
    elif kind == "quality":
        field = "phone_number_quality_update"
        value = {"display_phone_number": official.phone, "event": "DOWNGRADE", "current_limit": "TIER_50"}
    else:
        value["contacts"] = [{"profile": {"name": "Sari"}, "wa_id": person}]
        value["messages"] = [
            {
                "id": f"wamid.M{i}",
                "from": person,
                "timestamp": "1800000000",
                "type": kind,
                "text": {"body": "halo"},
                "image": {"id": "1", "mime_type": "image/png", "caption": "c", "sha256": "s"},
                "location": {"latitude": -6.2, "longitude": 106.8, "name": "n", "address": "a"},
                "interactive": {"type": "button_reply", "button_reply": {"id": "b", "title": "Ya"}},
                "reaction": {"message_id": "wamid.x", "emoji": "👍"},
                "order": {"catalog_id": "1", "product_items": []},
            }
        ]
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": official.waba_id, "time": 5, "changes": [{"field": field, "value": value}]}],
    }


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def mutated(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The body with something in it changed, removed, doubled or misspelt."""
    body = copy.deepcopy(body)
    for _ in range(rng.choice((1, 1, 2, 4))):
        path = rng.choice(places(body)[1:] or [()])
        if not path:
            break
        node = body
        for key in path[:-1]:
            node = node[key]
        match rng.randrange(4):
            case 0:
                del node[path[-1]]
            case 1 if isinstance(node, dict):
                node[rng.choice(("Id", "tipe", "unknown_field", ""))] = node.pop(path[-1])
            case 2 if isinstance(node, list):
                node.extend([copy.deepcopy(node[path[-1]])] * rng.choice((1, 3, 50)))
            case _:
                node[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return body


def with_honest_neighbour(body: dict[str, Any], honest: dict[str, Any]) -> bool:
    """Puts an honest change beside what was mutated; False when the envelope leaves no place for one."""
    entries = body.get("entry")
    entry = entries[0] if isinstance(entries, list) and entries else None
    changes = entry.get("changes") if isinstance(entry, dict) else None
    if not isinstance(changes, list):
        return False
    changes.append(honest["entry"][0]["changes"][0])
    return True


def spoilt(raw: bytes, rng: random.Random) -> bytes:
    """The bytes cut, or with others among them."""
    cut = rng.randrange(len(raw))
    return rng.choice((raw[:cut], raw[:cut] + rng.randbytes(3) + raw[cut:]))


HONEST_EVERY = 5
"""Of so many callbacks of each kind one is honest."""


class Posted(NamedTuple):
    """Callbacks as they were posted: their bodies, and the ids of honest messages and the fingerprints of honest
    receipts in them."""

    bodies: list[bytes]
    texts: set[str]
    receipts: set[str]


def prepared(site: Site, count: int) -> Posted:
    """Callbacks of every kind: some honest, some mutated with an honest neighbour, a few cut or with stray bytes."""
    posted = Posted([], set(), set())
    for i in range(count):
        rng, kind = random.Random(i), KINDS[i % len(KINDS)]
        body = callback(site, i)
        if i // len(KINDS) % HONEST_EVERY == 0:
            if "messages" in body["entry"][0]["changes"][0]["value"]:
                posted.texts.add(f"wamid.M{i}")
            elif kind in {"status", "failed"}:
                posted.receipts.add(f"status:wamid.S{i}:{'failed' if kind == 'failed' else 'delivered'}")
            posted.bodies.append(json.dumps(body).encode())
            continue
        changed = mutated(body, rng)
        while len(json.dumps(changed)) > BODY_LIMIT - 10_000:  # Meta sends no larger ones, and they are refused
            changed = mutated(body, rng)
        body = changed
        beside = with_honest_neighbour(body, callback(site, 1_000_000 + i * len(KINDS)))
        raw = json.dumps(body).encode()
        if rng.random() < 0.05:
            raw = spoilt(raw, rng)
        elif beside:
            posted.texts.add(f"wamid.M{1_000_000 + i * len(KINDS)}")
        posted.bodies.append(raw)
    return posted


async def test_mutated_callbacks_are_stored_quarantined_or_counted(site: Site) -> None:
    ours = site.shops[0].official.phone
    secret = next(one["app_secret"] for one in await site.sandbox.get("/businesses") if one["phone"] == ours)
    before, answers = await metrics(site, "kurir_callbacks_total"), Counter[int]()
    posted = prepared(site, CALLBACKS)
    async with aiohttp.ClientSession() as session:

        async def post(i: int) -> None:
            raw = posted.bodies[i]
            signature = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
            headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
            async with session.post(f"{site.url}/meta/callbacks", data=io.BytesIO(raw), headers=headers) as answer:
                answers[answer.status] += 1
                assert answer.status == 200, (answer.status, await answer.text(), raw[:500])

        await in_parallel(CALLBACKS, post)
    counted = await metrics(site, "kurir_callbacks_total") - before
    came_to(f"{CALLBACKS} callbacks: answers {dict(answers)}, {dict(counted)}")
    stored = {row[0] for row in site.rows("SELECT remote_id FROM incoming")}
    assert posted.texts <= stored, f"lost beside mutated ones: {sorted(posted.texts - stored)[:10]}"
    # a fingerprint is stored in the transaction that applies the event
    applied = {row[0] for row in site.rows("SELECT fingerprint FROM callbacks")}
    assert posted.receipts <= applied, f"receipts were lost: {sorted(posted.receipts - applied)[:10]}"
    # each body is kept once: with the first event that it brought, raw when it was not understood, or quarantined
    kept = {row[0] for row in site.rows("SELECT body FROM callbacks")}
    quarantined = {bytes(row[0]) for row in site.rows("SELECT payload FROM quarantine WHERE queue = 'callback'")}
    traceless = [raw for raw in posted.bodies if bounds.text(raw, len(raw)) not in kept and raw not in quarantined]
    again = len(posted.bodies) - len(set(posted.bodies))  # mutations of large doses meet
    assert len(traceless) <= counted["duplicate"] <= len(traceless) + again, traceless[:3]
    await is_well(site)

"""The channel: what it puts on the wire for each kind, and what it makes of each answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from tests.harness.graph import Bench, graph_error
from tests.sentences import english

from kurir.channels.cloud_api import callbacks
from kurir.channels.cloud_api.templates.calls import MetaTemplate, Unreachable
from kurir.messages import bounds
from kurir.messages.channel_reports import Halted, InDoubt, Outcome, Refused, Sent, StatusChanged, TryLater, Unknown
from kurir.messages.content import Content, Document, Image, Location, MediaFile, Outgoing, TemplateUse, Text
from kurir.numbers import numbers
from kurir.numbers.tables import numbers as numbers_table
from kurir.reasons import as_written

TO = "6281234567801"


async def send(bench: Bench, content: Content, media: MediaFile | None = None, to: str = TO) -> Outcome:
    return await bench.channel.send(bench.number, Outgoing(77, to, content, media=media))


def file(folder: Path, data: bytes = b"%PDF-1.4 bytes", mime: str = "application/pdf") -> MediaFile:
    path = folder / "stored"
    path.write_bytes(data)
    return MediaFile(str(path), mime, "faktur.pdf", len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("content", "kind", "value"),
    [
        (Text("Halo 👋"), "text", {"body": "Halo 👋"}),
        (
            Location(-6.2, 106.8, "Monas", ""),
            "location",
            {"latitude": -6.2, "longitude": 106.8, "name": "Monas"},
        ),
        (TemplateUse("hello", "id"), "template", {"name": "hello", "language": {"code": "id"}}),
        (
            TemplateUse("hello", "id", [{"type": "body", "parameters": []}]),
            "template",
            {"name": "hello", "language": {"code": "id"}, "components": [{"type": "body", "parameters": []}]},
        ),
    ],
)
async def test_kinds_without_media(bench: Bench, content: Content, kind: str, value: Any) -> None:
    assert await send(bench, content) == Sent("wamid.one")
    [seen] = bench.seen
    assert (seen.method, seen.path) == ("POST", "v25.0/111/messages")
    assert seen.headers["Authorization"] == "Bearer a token"
    assert seen.body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": TO,
        "type": kind,
        kind: value,
        "biz_opaque_callback_data": "77",
    }


def uploads(request: web.Request, _body: Any) -> web.Response:
    if request.path.endswith("/media"):
        return web.json_response({"id": "555"})
    return web.json_response({"messages": [{"id": "wamid.two"}]})


async def test_media_are_uploaded_once_and_sent_by_id(bench: Bench, tmp_path: Path) -> None:
    bench.respond = uploads
    media = file(tmp_path)
    content = Document("https://example.com/f.pdf", "faktur.pdf", "INV")
    assert await send(bench, content, media) == Sent("wamid.two")
    assert await send(bench, content, media, to="6281234567802") == Sent("wamid.two")
    assert bench.paths() == ["POST v25.0/111/media", "POST v25.0/111/messages", "POST v25.0/111/messages"]
    upload = bench.seen[0].body
    assert upload["messaging_product"] == "whatsapp"
    assert upload["type"] == "application/pdf"
    assert upload["file"] == ("faktur.pdf", "application/pdf", b"%PDF-1.4 bytes")
    assert bench.seen[1].body["document"] == {"id": "555", "caption": "INV", "filename": "faktur.pdf"}


async def test_a_refused_send_uploads_again_next_time(bench: Bench, tmp_path: Path) -> None:
    media = file(tmp_path, mime="image/png")

    def refuse(request: web.Request, body: Any) -> web.Response:
        return uploads(request, body) if request.path.endswith("/media") else graph_error(131009)

    bench.respond = refuse
    assert isinstance(await send(bench, Image("https://example.com/a.png"), media), Refused)
    bench.respond = uploads
    assert await send(bench, Image("https://example.com/a.png"), media) == Sent("wamid.two")
    assert bench.paths().count("POST v25.0/111/media") == 2
    bench.time.now += 90_000
    await send(bench, Image("https://example.com/a.png"), media)
    assert bench.paths().count("POST v25.0/111/media") == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: graph_error(131053), Refused),
        (lambda: graph_error(131000, 500), TryLater),
        (lambda: web.Response(status=502), TryLater),
        (lambda: web.json_response({"ok": 1}), TryLater),
    ],
)
async def test_a_failed_upload_leaves_no_doubt(bench: Bench, tmp_path: Path, answer: Any, expected: type) -> None:
    bench.respond = lambda _request, _body: answer()
    assert isinstance(await send(bench, Image("https://example.com/a.png"), file(tmp_path)), expected)
    assert bench.paths() == ["POST v25.0/111/media"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: graph_error(131009), Refused("131009", as_written("No"))),
        (lambda: graph_error(190, 401), Halted),
        (lambda: graph_error(131056), TryLater("131056", as_written("No"))),
        (lambda: graph_error(131000, 500), TryLater("131000", as_written("No"))),
        (lambda: web.Response(status=404, text="<html>"), Refused),
        (lambda: web.Response(status=302, headers={"Location": "/x"}), Refused),
        (lambda: web.Response(status=429, headers={"Retry-After": "9"}), TryLater),
        (lambda: web.Response(status=502, text="<html>"), InDoubt),
        (lambda: web.Response(status=504), InDoubt),
        (lambda: web.Response(status=200, text="not json"), InDoubt),
        (lambda: web.json_response({"messages": []}), InDoubt),
        (lambda: web.json_response({"messages": [{"id": 5}]}), InDoubt),
        (lambda: web.json_response({"messages": "x"}), InDoubt),
        (lambda: web.json_response([]), InDoubt),
        (lambda: web.json_response({"error": "text"}, status=500), InDoubt),
    ],
)
async def test_answers(bench: Bench, answer: Any, expected: Any) -> None:
    bench.respond = lambda _request, _body: answer()
    outcome = await send(bench, Text("Halo"))
    assert outcome == expected if isinstance(expected, msgspec.Struct) else isinstance(outcome, expected)


NO_CHARACTER = [b"\xff", b"\xc3", b"\\ud800", b"\\udc00\\ud800", b"\0", b"\\u0000", b"\x1b", b"\xed\xa0\x80"]


def with_one(bad: bytes, template: bytes, status: int = 200) -> Callable[..., web.Response]:
    """An answer of Meta's as it is written, with what is no character in the place of `@`."""
    body = template.replace(b"@", bad)
    return lambda *_: web.Response(body=body, status=status, content_type="application/json")


@pytest.mark.parametrize("bad", NO_CHARACTER, ids=repr)
async def test_what_is_no_character_costs_only_the_text_in_which_it_is(
    bench: Bench, tmp_path: Path, bad: bytes
) -> None:
    bench.respond = with_one(bad, b'{"contacts":[{"input":"a@b"}],"messages":[{"id":"wamid.one"}]}')
    assert await send(bench, Text("Halo")) == Sent("wamid.one")
    # the message may go later: taken for an answer without an error it would have been refused for good
    bench.respond = with_one(bad, b'{"error":{"code":130429,"message":"Too@ many"}}', status=400)
    outcome = await send(bench, Text("Halo"))
    assert isinstance(outcome, TryLater)
    assert outcome.code == "130429"
    assert english(outcome.reason) == bounds.text(english(outcome.reason)), "fit for every database"
    assert english(outcome.reason).startswith("Too")

    bench.respond = with_one(
        bad,
        b'{"data":[{"id":"1","name":"a","language":"id","status":"APPROVED","components":[{"type":"BODY","text":"x@"}]},'
        b'{"id":"2","name":"b","language":"id","status":"APPROVED"}]}',
    )
    listed = await bench.channel.templates.list(bench.number)
    assert isinstance(listed, list)
    assert [(one.id, type(one)) for one in listed] == [("1", MetaTemplate), ("2", MetaTemplate)]

    bench.respond = with_one(bad, b'{"id":"555","note":"@"}')
    await send(bench, Document("https://example.com/f.pdf", "faktur.pdf"), file(tmp_path))
    bench.respond = with_one(bad, b'{"messages":[{"id":"wamid.two"}],"@":1}')
    outcome = await send(bench, Document("https://example.com/f.pdf", "faktur.pdf"), file(tmp_path))
    assert outcome == Sent("wamid.two")
    assert bench.paths().count("POST v25.0/111/media") == 1, "the id of the first upload was read"
    assert bench.seen[-1].body["document"]["id"] == "555"

    bench.respond = with_one(bad, b'{"success":true,"note":"@"}')
    assert await bench.channel.templates.delete(bench.number, "a") is True


def page(ids: range, after: object, **paging: object) -> web.Response:
    rows = [{"id": str(i), "name": f"t{i}", "language": "id", "status": "APPROVED"} for i in ids]
    return web.json_response({"data": rows, "paging": {"cursors": {"after": after}, **paging}})


async def test_all_pages_of_templates_are_one_list(bench: Bench) -> None:
    """As many as a business may have: 6,000 in 60 pages."""
    asked: list[str] = []

    def respond(request: web.Request, *_: object) -> web.Response:
        start = int(request.query.get("after", "0"))
        asked.append(str(start))
        more = {"next": "https://graph.example.com/"} if start < 5_900 else {}
        return page(range(start + 1, start + 101), str(start + 100), **more)

    bench.respond = respond
    listed = await bench.channel.templates.list(bench.number)
    assert isinstance(listed, list)
    assert [one.id for one in listed] == [str(i) for i in range(1, 6_001)]
    assert len(asked) == 60


@pytest.mark.parametrize("after", ["round and round", "", None, 7, ["x"]])
async def test_a_list_of_templates_without_an_end_is_none(bench: Bench, after: object) -> None:
    """Whoever gets a part of the list takes the rest for deleted."""
    bench.respond = lambda *_: page(range(1, 3), after, next="https://graph.example.com/")
    assert isinstance(await bench.channel.templates.list(bench.number), Unreachable)
    assert len(bench.seen) <= 70, "it is asked for so often at most"


async def test_nobody_listens(bench: Bench) -> None:
    unreachable = msgspec.structs.replace(bench.settings, graph_url="http://127.0.0.1:9/v25.0")
    channel = type(bench.channel)(unreachable, bench.database, bench.sealing, bench.time)
    await channel.start()
    try:
        outcome = await channel.send(bench.number, Outgoing(1, TO, Text("Halo")))
    finally:
        await channel.close()
    assert isinstance(outcome, TryLater)
    assert outcome.code == "unreachable"


async def test_what_the_channel_cannot_do(bench: Bench) -> None:
    assert isinstance(await send(bench, Text("Halo"), to="120363000000000001@g.us"), Refused)
    assert isinstance(await send(bench, Image("https://example.com/a.png")), Refused)
    missing = MediaFile("/nowhere/at/all", "image/png", "a.png", 1, "00")
    assert isinstance(await send(bench, Image("https://example.com/a.png"), missing), TryLater)
    assert bench.seen == []


async def test_a_number_without_a_token_is_refused(bench: Bench) -> None:
    await bench.database.write(lambda c: c.execute(numbers_table.update().values(access_token_sealed="damaged")))
    outcome = await send(bench, Text("Halo"))
    assert isinstance(outcome, Refused)
    assert outcome.code == "credentials"
    assert bench.seen == []


async def test_a_new_token_is_used_within_half_a_minute(bench: Bench) -> None:
    await send(bench, Text("Halo"))
    sealed = bench.sealing.seal("a new token", f"numbers.access_token:{bench.number.id}")
    await bench.database.write(lambda c: c.execute(numbers_table.update().values(access_token_sealed=sealed)))
    await send(bench, Text("Halo"))
    bench.time.now += 31
    await send(bench, Text("Halo"))
    tokens = [seen.headers["Authorization"] for seen in bench.seen]
    assert tokens == ["Bearer a token", "Bearer a token", "Bearer a new token"]


async def test_ready_evidence_and_events(bench: Bench) -> None:
    assert bench.channel.ready(bench.number)
    device = await bench.database.write(lambda c: numbers.add_linked_device(c, bench.number.account_id))
    assert not bench.channel.ready(device)
    assert await bench.channel.evidence(bench.number, Outgoing(1, TO, Text("x"))) == Unknown()
    assert not bench.channel.capabilities.groups

    async def every() -> list[object]:
        return [event async for event in bench.channel.events()]

    reported = asyncio.create_task(every())
    await bench.channel.close()
    assert await asyncio.wait_for(reported, 5) == []


@pytest.mark.parametrize(
    "odd", ["x" * 5_001 + "\0", "a\0b", "wamid.\u00e9", "\ud800", "a b", "w" * 300], ids=lambda value: repr(value[:8])
)
async def test_an_id_of_meta_s_fits_and_is_the_one_that_its_receipts_have(bench: Bench, odd: str) -> None:
    raw = json.dumps({"messages": [{"id": odd}]}).encode()
    bench.respond = lambda *_: web.Response(body=raw, content_type="application/json")
    outcome = await send(bench, Text("Halo"))
    assert isinstance(outcome, Sent)
    assert len(outcome.remote_id) <= bounds.ID
    value = {"metadata": {"phone_number_id": "111"}, "statuses": [{"id": odd, "status": "sent"}]}
    body = json.dumps({"entry": [{"changes": [{"field": "messages", "value": value}]}]}).encode()
    [status] = callbacks.read(callbacks.changes_of(body) or [], lambda _: [bench.number], 1.0).events
    assert isinstance(status.event, StatusChanged)
    assert status.event.remote_id == outcome.remote_id


@pytest.mark.parametrize("odd", ["", 7, None, "x" * 5_001, "a\0b", ["1"]], ids=lambda value: repr(value)[:8])
async def test_an_upload_without_a_usable_id_is_tried_again(bench: Bench, tmp_path: Path, odd: Any) -> None:
    bench.respond = lambda *_: web.json_response({"id": odd})
    outcome = await send(bench, Document("https://example.com/f.pdf", "faktur.pdf"), file(tmp_path))
    assert isinstance(outcome, TryLater)
    assert len(bench.seen) == 1

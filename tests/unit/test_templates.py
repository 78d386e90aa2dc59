"""Templates as kept: drafts, submission, adoption of Meta's list, lookup and paging; broadcasts' recipients."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import sqlalchemy as sa
from aiohttp import web
from tests.harness.gateway import quarantined
from tests.harness.graph import Bench, graph_error, open_bench

from kurir.broadcasts.broadcasts import RecipientsError, recipients_of
from kurir.channels.cloud_api.templates.calls import GraphRefusal, MetaTemplate, Unreachable, UnreadTemplate, _template
from kurir.messages import bounds
from kurir.messages.addresses import CountryCodeError
from kurir.messages.channel_reports import Refused
from kurir.messages.content import MediaFile
from kurir.messages.template_form import Button, Header, TemplateForm, Variable
from kurir.numbers import numbers
from kurir.reasons import as_written
from kurir.templates import templates
from kurir.templates.tables import templates as templates_table
from kurir.templates.templates import NAME_TAKEN, Faulty, Template, Templates

FORM = TemplateForm(
    "pesanan_siap",
    "id",
    "UTILITY",
    "Halo {{1}}, pesanan Anda sudah siap.",
    buttons=[Button("QUICK_REPLY", label="Ya")],
    variables=[Variable("{{1}}", "Nama", "Sari")],
)
PICTURE = msgspec.structs.replace(FORM, name="katalog", header=Header("IMAGE", url="https://example.com/a.png"))


class Media:
    """Gives out one file, or refuses."""

    def __init__(self, result: MediaFile | Refused) -> None:
        self.result = result

    async def prepare(self, _account_id: int, _message_id: int, _content: Any) -> MediaFile | Refused:
        return self.result


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


def store(bench: Bench, media: Media | None = None) -> Templates:
    return Templates(bench.database, bench.channel, cast(Any, media), bench.time)


def listing(*rows: dict[str, Any], after: str = "") -> web.Response:
    paging = {"cursors": {"before": "a", "after": after}} | ({"next": "https://x"} if after else {})
    return web.json_response({"data": list(rows), "paging": paging})


def meta_row(meta_id: str, name: str, status: str = "APPROVED", **more: Any) -> dict[str, Any]:
    body = {"type": "BODY", "text": "Halo {{1}}, pesanan Anda sudah siap.", "example": {"body_text": [["Sari"]]}}
    return {
        "id": meta_id,
        "name": name,
        "language": "id",
        "status": status,
        "category": "UTILITY",
        "components": [body],
        **more,
    }


async def all_of(bench: Bench, **options: Any) -> tuple[list[Template], int]:
    number = bench.number
    return await bench.database.read(lambda c: templates.page(c, number.account_id, number.id, **options))


async def test_a_draft_stays_here(bench: Bench) -> None:
    draft = await store(bench).create(bench.number, FORM, submit=False)
    assert isinstance(draft, Template)
    assert (draft.status, draft.meta_id, draft.form) == ("DRAFT", "", FORM)
    assert await store(bench).create(bench.number, FORM, submit=False) == Faulty({"name": [NAME_TAKEN()]})
    assert bench.seen == []


async def test_a_draft_is_replaced_by_its_submission(bench: Bench) -> None:
    draft = await store(bench).create(bench.number, FORM, submit=False)
    bench.respond = lambda _request, _body: web.json_response({"id": "900", "status": "PENDING", "category": "UTILITY"})
    submitted = await store(bench).create(bench.number, FORM, submit=True)
    assert isinstance(draft, Template)
    assert isinstance(submitted, Template)
    assert (submitted.key, submitted.status, submitted.meta_id) == (draft.key, "IN_REVIEW", "900")
    assert bench.paths() == ["POST v25.0/222/message_templates"]
    assert bench.seen[0].body["components"][0]["example"] == {"body_text": [["Sari"]]}
    assert await store(bench).create(bench.number, FORM, submit=True) == Faulty({"name": [NAME_TAKEN()]})
    assert len(bench.seen) == 1


async def test_what_breaks_a_rule_never_reaches_meta(bench: Bench) -> None:
    broken = msgspec.structs.replace(FORM, body="Halo {{1}}")
    refused = await store(bench).create(bench.number, broken, submit=True)
    assert isinstance(refused, Faulty)
    assert "body" in refused.errors
    assert bench.seen == []


async def test_refusal_and_silence_store_nothing(bench: Bench) -> None:
    bench.respond = lambda _request, _body: graph_error(100, error_subcode=2388024)
    refused = await store(bench).create(bench.number, FORM, submit=True)
    assert isinstance(refused, GraphRefusal)
    assert refused.error["error_subcode"] == 2388024
    for answer in (web.Response(status=502), web.json_response({"id": 5})):
        bench.respond = lambda _request, _body, answer=answer: answer
        assert isinstance(await store(bench).create(bench.number, FORM, submit=True), Unreachable)
    assert await all_of(bench) == ([], 0)


async def test_a_media_header_is_uploaded_as_a_sample(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "sample"
    path.write_bytes(b"picture")
    media = Media(MediaFile(str(path), "image/png", "a.png", 7, "00"))

    def respond(request: web.Request, _body: Any) -> web.Response:
        if request.path.endswith("/uploads"):
            return web.json_response({"id": "upload:abc"})
        if "upload:" in request.path:
            return web.json_response({"h": "4::handle"})
        return web.json_response({"id": "901", "status": "APPROVED"})

    bench.respond = respond
    made = await store(bench, media).create(bench.number, PICTURE, submit=True)
    assert isinstance(made, Template)
    assert made.status == "APPROVED"
    session, upload, create = bench.seen
    assert session.query == {"file_name": "a.png", "file_length": "7", "file_type": "image/png"}
    assert (upload.headers["Authorization"], upload.headers["file_offset"], upload.body) == (
        "OAuth a token",
        "0",
        b"picture",
    )
    assert create.body["components"][0]["example"] == {"header_handle": ["4::handle"]}


async def test_a_sample_that_cannot_be_fetched_is_the_header_s_fault(bench: Bench) -> None:
    media = Media(Refused("media_not_fetched", as_written("image_url: 404")))
    refused = await store(bench, media).create(bench.number, PICTURE, submit=True)
    assert refused == Faulty({"header": [as_written("image_url: 404")]})
    assert bench.seen == []


async def test_meta_s_list_is_adopted_page_by_page(bench: Bench) -> None:
    pages = {
        "": listing(meta_row("1", "satu"), meta_row("2", "dua", "PENDING"), after="c1"),
        "c1": listing(meta_row("3", "tiga", "REJECTED", rejected_reason="PROMOTIONAL"), {"id": 7}, "odd"),  # type: ignore[arg-type]
    }
    bench.respond = lambda request, _body: pages[request.query.get("after", "")]
    await store(bench).refresh(bench.number)
    found, total = await all_of(bench, order_by="template_name", descending=False)
    assert total == 3
    assert [(row.form.name, row.status, row.rejected_reason) for row in found] == [
        ("dua", "IN_REVIEW", ""),
        ("satu", "APPROVED", ""),
        ("tiga", "REJECTED", "PROMOTIONAL"),
    ]
    assert found[1].form.variables[0].example == "Sari"


async def test_meta_is_asked_at_most_every_half_minute(bench: Bench) -> None:
    bench.respond = lambda _request, _body: listing(meta_row("1", "satu"))
    for _ in range(3):
        await store(bench).refresh(bench.number)
    assert len(bench.seen) == 1
    bench.time.now += 31
    await store(bench).refresh(bench.number)
    assert len(bench.seen) == 2


async def test_at_the_start_every_official_number_is_refreshed(bench: Bench) -> None:
    await bench.database.write(lambda c: numbers.add_linked_device(c, bench.number.account_id))
    bench.respond = lambda _request, _body: listing(meta_row("1", "satu"))
    await store(bench).refresh_all()
    assert bench.paths() == ["GET v25.0/222/message_templates"]
    assert (await all_of(bench))[1] == 1


async def test_a_list_that_fails_leaves_ours_alone(bench: Bench) -> None:
    await store(bench).create(bench.number, FORM, submit=False)
    bench.respond = lambda _request, _body: graph_error(190, 401)
    await store(bench).refresh(bench.number)
    assert (await all_of(bench))[1] == 1


async def test_deleting_at_meta(bench: Bench) -> None:
    bench.respond = lambda _request, _body: web.json_response({"success": True})
    assert await bench.channel.templates.delete(bench.number, "satu", "1") is True
    assert (bench.paths(), bench.seen[0].query) == (
        ["DELETE v25.0/222/message_templates"],
        {"name": "satu", "hsm_id": "1"},
    )
    bench.respond = lambda _request, _body: graph_error(100, error_subcode=2593002)
    assert isinstance(await bench.channel.templates.delete(bench.number, "satu"), GraphRefusal)


async def test_changes_and_deletions_at_meta_are_taken_over(bench: Bench) -> None:
    await bench.database.write(
        lambda c: templates.put(c, bench.number, FORM, meta_id="1", status="IN_REVIEW", now=bench.time.now - 100)
    )
    number = bench.number

    async def after_listing(*rows: MetaTemplate) -> Template:
        bench.time.now += 10
        await store(bench)._adopt(number, rows, bench.time.now)
        found = await bench.database.read(
            lambda c: templates.by_name(c, number.account_id, number.id, FORM.name, FORM.language)
        )
        assert found is not None
        return found

    component = {"type": "BODY", "text": FORM.body}
    theirs = MetaTemplate("1", FORM.name, "id", "APPROVED", "MARKETING", [component])
    adopted = await after_listing(theirs)
    assert (adopted.status, adopted.form.category, adopted.updated_at) == ("APPROVED", "MARKETING", bench.time.now)
    # what Meta does not list about variables stays as we knew it
    assert adopted.form.variables == FORM.variables
    unchanged = await after_listing(theirs)
    assert unchanged.updated_at == adopted.updated_at
    gone = await after_listing()
    assert gone.status == "DELETED"
    assert (await all_of(bench)) == ([], 0)
    again = await store(bench).create(bench.number, FORM, submit=False)
    assert isinstance(again, Template)
    assert (again.status, again.meta_id) == ("DRAFT", "")


async def test_a_long_list_keeps_nobody_waiting_until_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [MetaTemplate(str(n), f"promo_{n}", "id", "APPROVED") for n in range(300)]
    begun, asked, adopt_one = threading.Event(), threading.Event(), templates.adopt_one

    def adopt_when_asked(*arguments: Any) -> None:
        begun.set()
        assert asked.wait(10)
        adopt_one(*arguments)

    monkeypatch.setattr(templates, "adopt_one", adopt_when_asked)
    adopting = asyncio.create_task(store(bench)._adopt(bench.number, listed, bench.time.now))
    assert await asyncio.to_thread(begun.wait, 10)
    count = sa.select(sa.func.count()).select_from(templates_table)
    between = asyncio.create_task(bench.database.write(lambda c: c.scalar(count)))
    await asyncio.sleep(0)  # it is handed in
    asked.set()
    assert 0 < (await between or 0) < 300
    await adopting
    assert (await all_of(bench))[1] == 300


async def test_a_list_that_is_older_than_our_news_changes_nothing(bench: Bench) -> None:
    now = bench.time.now
    await bench.database.write(
        lambda c: templates.put(c, bench.number, FORM, meta_id="1", status="APPROVED", now=now + 5)
    )
    await bench.database.write(
        lambda c: templates.adopt(c, bench.number, [MetaTemplate("1", FORM.name, "id", "PENDING")], now)
    )
    await bench.database.write(lambda c: templates.mark_gone(c, bench.number, [], now))
    [kept], _ = await all_of(bench)
    assert kept.status == "APPROVED"


async def test_a_list_without_an_end_deletes_nothing(bench: Bench) -> None:
    await bench.database.write(
        lambda c: templates.put(c, bench.number, FORM, meta_id="1", status="APPROVED", now=bench.time.now)
    )
    bench.time.now += 60
    bench.respond = lambda _request, _body: listing(meta_row("2", "another"), after="on and on")
    assert not await store(bench).refresh(bench.number, every=0.0)
    [kept], _ = await all_of(bench)
    assert kept.status == "APPROVED"
    bench.respond = lambda _request, _body: listing(meta_row("2", "another"))
    assert await store(bench).refresh(bench.number, every=0.0)
    assert [one.meta_id for one in (await all_of(bench))[0]] == ["2"]


async def test_lookup_asks_meta_when_ours_is_not_approved(bench: Bench) -> None:
    await bench.database.write(
        lambda c: templates.put(c, bench.number, FORM, meta_id="1", status="IN_REVIEW", now=bench.time.now)
    )
    bench.time.now += 1
    bench.respond = lambda _request, _body: listing(meta_row("1", FORM.name))
    found = await store(bench).find(bench.number, meta_id="1")
    assert found is not None
    assert found.status == "APPROVED"
    assert await store(bench).find(bench.number, name=FORM.name, language="id") == found
    assert await store(bench).find(bench.number, meta_id="404") is None
    assert len(bench.seen) == 1


async def test_search_order_and_paging(bench: Bench) -> None:
    for index, name in enumerate(("alpha", "beta_50", "gamma")):
        form = msgspec.structs.replace(FORM, name=name, body=f"Diskon {index}% untuk Anda")
        await bench.database.write(
            lambda c, form=form, index=index: templates.put(
                c, bench.number, form, meta_id="", status="DRAFT", now=1000.0 + index
            )
        )

    async def names(**options: Any) -> list[str]:
        return [row.form.name for row in (await all_of(bench, **options))[0]]

    assert await names() == ["gamma", "beta_50", "alpha"]
    assert await names(descending=False, start=1, length=1) == ["beta_50"]
    assert await names(search="BETA") == ["beta_50"]
    assert await names(search="1% untuk") == ["beta_50"]
    assert await names(search="%") == ["gamma", "beta_50", "alpha"]
    assert await names(search="_") == ["beta_50"]
    assert (await all_of(bench, length=1))[1] == 3


async def test_another_number_s_templates_are_not_seen(bench: Bench) -> None:
    other = await bench.database.write(lambda c: numbers.add_linked_device(c, bench.number.account_id))
    await bench.database.write(lambda c: templates.put(c, other, FORM, meta_id="1", status="APPROVED", now=1.0))
    assert await all_of(bench) == ([], 0)
    number = bench.number
    assert await bench.database.read(lambda c: templates.by_meta_id(c, number.account_id, number.id, "1")) is None
    assert await bench.database.read(lambda c: templates.by_meta_id(c, 999, other.id, "1")) is None


def test_recipients_are_each_once_in_order() -> None:
    assert recipients_of(["081234567801", "+62 812-3456-7802", "6281234567801"], "", "62") == [
        "6281234567801",
        "6281234567802",
    ]


def test_wrong_recipients_are_named() -> None:
    with pytest.raises(RecipientsError) as error:
        recipients_of(["081234567801", "abc", "12", *["x"] * 10], "", "62")
    assert error.value.count == 12
    assert error.value.wrong == ["abc", "12", "x", "x", "x"]
    with pytest.raises(CountryCodeError):
        recipients_of(["081234567801"], "999x", "62")


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "9", "name": "lain", "language": "id", "status": "APPROVED", "components": "none"},
        {"id": "9", "name": 7, "language": "id", "status": "APPROVED"},
        {"name": "lain", "language": "id", "status": "APPROVED"},
        {"id": "9", "name": "lain", "language": None, "status": []},
        "a text",
        ["a list"],
        7,
    ],
)
def test_a_template_in_an_unknown_shape_is_kept_whole_and_hides_no_other(odd: object) -> None:
    good = {"id": "1", "name": "promo", "language": "id", "status": "APPROVED", "components": [{"type": "BODY"}]}
    first, second, third = map(_template, [good, odd, {**good, "id": "2", "name": "promo_2"}])
    assert isinstance(first, MetaTemplate)
    assert isinstance(second, UnreadTemplate)
    assert isinstance(third, MetaTemplate)
    assert json.loads(second.row) == odd
    assert second.reason


def test_texts_of_listed_templates_are_valid_and_bounded() -> None:
    long = {"type": "BODY", "text": "a\ud800\0b" + "x" * 100_000, "\0key": [{"deep": "\udfff"}]}
    row = {"id": "1", "name": "n\0", "language": "id", "status": "APPROVED", "components": [long]}
    template = _template(row)
    assert isinstance(template, MetaTemplate)
    text = template.components[0]["text"]
    assert text.startswith("a\ufffd\ufffdb")
    assert len(text) == bounds.TEXT
    json.dumps(msgspec.to_builtins(template), ensure_ascii=False).encode()  # valid all through
    assert template.name == "n\ufffd"


async def test_a_template_that_cannot_be_taken_over_is_quarantined_and_the_others_are_adopted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = templates.form_of

    def breaks(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "poison":
            raise RuntimeError("unforeseen")
        return original(name, *arguments, **named)

    monkeypatch.setattr(templates, "form_of", breaks)
    body = {"type": "BODY", "text": "Halo"}
    names = ["satu", "poison", "dua"]
    listed = [MetaTemplate(str(i), name, "id", "APPROVED", "UTILITY", [body]) for i, name in enumerate(names)]
    unread = UnreadTemplate("77", b'{"id":"77"}', "its shape is not known")
    await store(bench)._adopt(bench.number, [*listed, unread], bench.time() + 5)
    found, total = await all_of(bench)
    assert {template.form.name for template in found} == {"satu", "dua"}
    assert total == 2
    entries = await bench.database.read(quarantined)
    assert {(entry.queue, entry.reference) for entry in entries} == {("template", "1"), ("template", "77")}


@pytest.mark.parametrize("damage", ["", "not json", '{"type": 1}', "[]"])
async def test_a_row_that_cannot_be_read_hides_no_other_and_is_healed_by_meta_s_list(bench: Bench, damage: str) -> None:
    body = {"type": "BODY", "text": "Halo"}
    listed = [MetaTemplate(str(i), name, "id", "APPROVED", "UTILITY", [body]) for i, name in enumerate(["satu", "dua"])]
    await store(bench)._adopt(bench.number, listed, bench.time() + 5)
    spoil = templates_table.update().where(templates_table.c.name == "satu").values(buttons=damage)
    await bench.database.write(lambda c: c.execute(spoil) and None)
    found, _ = await all_of(bench)
    names = {template.form.name for template in found}
    assert names == ({"satu", "dua"} if damage == "[]" else {"dua"})
    await store(bench)._adopt(bench.number, listed, bench.time() + 10)
    found, _ = await all_of(bench)
    assert {template.form.name for template in found} == {"satu", "dua"}


async def test_whoever_looks_while_metas_list_is_on_its_way_sees_it(bench: Bench) -> None:
    bench.respond = lambda *_: listing(meta_row("77", "promo"))
    kept = store(bench)

    async def look() -> list[str]:
        await kept.refresh(bench.number)
        found, _ = await all_of(bench)
        return [one.form.name for one in found]

    assert await asyncio.gather(look(), look(), look()) == [["promo"]] * 3
    assert len(bench.seen) == 1


@pytest.mark.parametrize("odd", [{}, {"data": None}, {"data": {}}, {"data": "none"}, {"data": 7}, {"error": None}, []])
async def test_an_answer_without_a_list_deletes_nothing(bench: Bench, odd: Any) -> None:
    bench.respond = lambda *_: listing(meta_row("77", "promo"))
    kept = store(bench)
    assert await kept.refresh(bench.number)
    bench.time.now += 60
    bench.respond = lambda *_: web.json_response(odd)
    assert not await kept.refresh(bench.number)
    # nor when it is the second page that has none
    pages = iter([listing(meta_row("1", "lain"), after="b"), web.json_response(odd)])
    bench.respond = lambda *_: next(pages)
    bench.time.now += 60
    assert not await kept.refresh(bench.number)
    found, _ = await all_of(bench)
    assert [(one.form.name, one.status) for one in found] == [("promo", "APPROVED")]


@pytest.mark.parametrize("meta_id", [77, "77"])
async def test_an_id_may_be_a_number(bench: Bench, meta_id: Any) -> None:
    bench.respond = lambda *_: listing(meta_row("77", "promo"))
    kept = store(bench)
    await kept.refresh(bench.number)
    bench.time.now += 60
    bench.respond = lambda *_: listing({**meta_row("", "promo"), "id": meta_id})
    await kept.refresh(bench.number)
    found, _ = await all_of(bench)
    assert [(one.meta_id, one.status) for one in found] == [("77", "APPROVED")]


@pytest.mark.parametrize("odd", [None, 7.5, True, [], {"id": "77"}, 10**40, "", -(2**70)], ids=repr)
async def test_nothing_is_deleted_while_meta_lists_a_template_without_a_readable_id(bench: Bench, odd: Any) -> None:
    bench.respond = lambda *_: listing(meta_row("77", "promo"), meta_row("78", "lama"))
    kept = store(bench)
    await kept.refresh(bench.number)
    bench.time.now += 60
    bench.respond = lambda *_: listing({**meta_row("", "promo"), "id": odd}, meta_row("79", "baru"))
    await kept.refresh(bench.number)
    found, _ = await all_of(bench)
    assert {one.form.name: one.status for one in found} == dict.fromkeys(("promo", "lama", "baru"), "APPROVED")
    [entry] = await bench.database.read(quarantined)
    assert entry.queue == "template"
    bench.time.now += 60  # once all can be read, what is gone is marked
    bench.respond = lambda *_: listing(meta_row("77", "promo"), meta_row("79", "baru"))
    await kept.refresh(bench.number)
    found, _ = await all_of(bench)
    assert {one.form.name for one in found} == {"promo", "baru"}


@pytest.mark.parametrize("answer", [{"id": "x" * 5_001 + "\0", "status": "P\0" * 900}, {"id": 77, "status": "PENDING"}])
async def test_what_meta_answers_to_a_submission_is_bounded(bench: Bench, answer: dict[str, Any]) -> None:
    bench.respond = lambda *_: web.json_response({**answer, "category": ["odd"]})
    created = await store(bench).create(bench.number, FORM, submit=True)
    assert isinstance(created, Template), created
    assert 0 < len(created.meta_id) <= bounds.ID
    assert created.meta_id == bounds.identifier(str(answer["id"]))
    assert "\0" not in created.status

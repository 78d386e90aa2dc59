"""The sending endpoints over the real outbox and dispatcher: what the channel gets for what the caller sends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from tests.harness.gateway import PHONE, Harness, open_harness

from kurir.kit.ids import parse_message_id
from kurir.messages.channel_reports import InDoubt, Refused, TryLater
from kurir.messages.content import Document, Image, Text
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.web.compat_v1.endpoints import conversations

ACCEPTED = {"code": "200", "message": "The message is in the delivery process", "type": "successfully"}
PICTURE = "https://example.com/picture.png"
FILE = "https://example.com/files/price%20list.pdf?x=1"


async def stored(harness: Harness) -> list[tuple[str, object]]:
    """Recipient and content of every stored message, in order of acceptance."""
    harness.devices.connected = False
    ids = await harness.gateway.database.read(lambda c: list(c.scalars(sa.select(messages.c.id))))
    claimed = await harness.gateway.outbox.claim(harness.ours.account.id, harness.ours.device.id, 100, ready=ids)
    return [(message.recipient, message.content) for message in claimed.messages]


@pytest.fixture
def away(harness: Harness) -> Harness:
    """The device is away, so that messages stay in the outbox where they can be looked at."""
    harness.devices.connected = False
    return harness


async def test_text_is_accepted_durably_and_reaches_the_channel(harness: Harness) -> None:
    answer = await harness.send("send_personal_message", phone_no="081234567890", country_code="62", message="Halo")
    assert (answer.status_code, answer.json()) == (200, ACCEPTED)
    message_id = parse_message_id(answer.headers["X-Message-Id"])
    assert message_id is not None
    sent = (await harness.until_sent(1))[0]
    assert (sent.message_id, sent.recipient, sent.content) == (message_id, "6281234567890", Text("Halo"))


@pytest.mark.parametrize(
    ("phone_no", "country_code"),
    [
        ("81234567890", "62"),
        ("6281234567890", "62"),
        ("081234567890", "62"),
        ("+62 812-3456-7890", "62"),
        ("+62 812-3456-7890", None),
        ("81234567890", None),
        (81234567890, 62),
        (6281234567890, "+62"),
        ("0062 81234567890", "62"),
        ("62 81234567890", ""),
    ],
)
async def test_every_spelling_of_a_phone_number_means_one_recipient(
    away: Harness, phone_no: object, country_code: object
) -> None:
    answer = await away.send("send_personal_message", phone_no=phone_no, country_code=country_code, message="x")
    assert answer.json() == ACCEPTED
    assert [recipient for recipient, _ in await stored(away)] == ["6281234567890"]


@pytest.mark.parametrize(
    ("fields", "contents"),
    [
        ({"message": "a", "image_url": PICTURE, "send_as_caption": "1"}, [Image(PICTURE, "a")]),
        ({"message": "a", "image_url": PICTURE}, [Image(PICTURE, "a")]),
        ({"message": "a", "image_url": PICTURE, "send_as_caption": "0"}, [Image(PICTURE), Text("a")]),
        ({"message": "a", "image_url": PICTURE, "send_as_caption": 0}, [Image(PICTURE), Text("a")]),
        ({"message": "a", "image_url": PICTURE, "send_as_caption": False}, [Image(PICTURE), Text("a")]),
        ({"message": "", "image_url": PICTURE}, [Image(PICTURE)]),
        ({"image_url": PICTURE, "send_as_caption": "0"}, [Image(PICTURE)]),
        ({"message": "a", "image_url": None}, [Text("a")]),
        ({"message": "a", "image_url": ""}, [Text("a")]),
        ({"message": 12345}, [Text("12345")]),
        ({"message": "a", "url": PICTURE, "type": "image"}, [Image(PICTURE, "a")]),
        ({"message": "a", "url": PICTURE}, [Image(PICTURE, "a")]),
        ({"message": "a", "media_url": PICTURE}, [Image(PICTURE, "a")]),
        ({"message": "a", "url": FILE, "type": "document"}, [Document(FILE, "price list.pdf", "a")]),
        ({"message": "a", "media_url": FILE}, [Document(FILE, "price list.pdf", "a")]),
        ({"message": "a", "document_url": FILE}, [Document(FILE, "price list.pdf", "a")]),
        ({"message": "a", "file_url": FILE}, [Document(FILE, "price list.pdf", "a")]),
        (
            {"message": "a", "image_url": PICTURE, "file_url": FILE},
            [Image(PICTURE, "a"), Document(FILE, "price list.pdf")],
        ),
    ],
)
@pytest.mark.parametrize("path", ["send_personal_message", "send_group_message"])
async def test_message_endpoints_make_the_bubbles_that_were_meant(
    away: Harness, path: str, fields: dict[str, object], contents: list[object]
) -> None:
    answer = await away.send(path, phone_no="81234567890", group_id="120363322806000000", **fields)
    assert answer.json() == ACCEPTED
    assert len(answer.headers["X-Message-Id"].split(", ")) == len(contents)
    recipient = "6281234567890" if path == "send_personal_message" else "120363322806000000@g.us"
    # one lane per recipient: the second bubble can only be claimed once the first has ended, so look at the rows
    assert await stored(away) == [(recipient, content) for content in contents][:1]
    assert (await away.rows())["messages"] == len(contents)


@pytest.mark.parametrize("path", ["send_personal_file", "send_group_file"])
@pytest.mark.parametrize("name", ["file_url", "document_url", "url", "media_url"])
async def test_file_endpoints_send_the_file_with_its_caption(away: Harness, path: str, name: str) -> None:
    fields = {name: FILE, "phone_no": "81234567890", "group_id": "120363322806000000@g.us", "message": "May"}
    assert (await away.send(path, **fields)).json() == ACCEPTED
    assert [content for _, content in await stored(away)] == [Document(FILE, "price list.pdf", "May")]


async def test_two_bubbles_arrive_in_order(harness: Harness) -> None:
    fields = {"phone_no": "81234567890", "message": "first", "method_send": "sync"}
    assert (await harness.send("send_personal_message", **fields)).json() == ACCEPTED
    assert (await harness.send("send_personal_message", **fields | {"message": "second"})).json() == ACCEPTED
    assert [outgoing.content for outgoing in harness.devices.sent] == [Text("first"), Text("second")]


async def test_typing_is_asked_of_the_channel_only_when_enabled(harness: Harness) -> None:
    for flag in ("1", "0"):
        await harness.send(
            "send_personal_message", phone_no="81234567890", message=flag, enable_typing=flag, method_send="sync"
        )
    assert [(o.content, o.typing) for o in harness.devices.sent] == [(Text("1"), True), (Text("0"), False)]


@pytest.mark.parametrize(
    ("outcome", "code", "type_", "words"),
    [
        (Refused("not_on_whatsapp", as_written("this number is not on WhatsApp")), 405, "failed", "not on WhatsApp"),
        (Refused("not_a_group_member", as_written("the sender is no member")), 405, "failed", "no member"),
        (Refused("131026", as_written("message undeliverable")), 400, "failed", "undeliverable"),
        (InDoubt(as_written("the connection was cut")), 408, "timeout", "may have been sent"),
    ],
)
async def test_sync_answers_with_the_channels_outcome(
    harness: Harness, outcome: Refused | InDoubt, code: int, type_: str, words: str
) -> None:
    harness.devices.outcome = lambda _: outcome
    answer = await harness.send("send_personal_message", phone_no="81234567890", message="x", method_send="sync")
    body = answer.json()
    assert (answer.status_code, body["code"], body["type"]) == (code, str(code), type_)
    assert words in body["message"]
    assert answer.headers["X-Message-Id"] in body["message"]


async def test_sync_without_an_outcome_reports_that_the_message_is_kept(tmp_path) -> None:
    async with open_harness(tmp_path, sync_timeout=0.1) as harness:
        harness.devices.connected = False
        answer = await harness.send("send_personal_message", phone_no="81234567890", message="x", method_send="sync")
        assert answer.status_code == 408
        assert "It is kept and will still go out" in answer.json()["message"]
        harness.devices.connected = True
        harness.gateway.dispatcher.wake(harness.ours.account.id, harness.ours.device.id)
        assert (await harness.until_sent(1))[0].content == Text("x")


async def test_a_full_queue_refuses_with_a_time_to_come_back(tmp_path) -> None:
    async with open_harness(tmp_path, queue_limit=1) as harness:
        harness.devices.connected = False
        assert (await harness.send("send_personal_message", phone_no="81234567890", message="x")).json() == ACCEPTED
        answer = await harness.send("send_personal_message", phone_no="81234567890", message="y")
        assert (answer.json()["code"], answer.json()["type"]) == ("400", "rate_limited")
        assert int(answer.headers["Retry-After"]) > 0
        assert (await harness.rows())["messages"] == 1


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("send_personal_message", {"phone_no": "81234567890"}, "message"),
        ("send_personal_message", {"phone_no": "81234567890", "message": "  "}, "message"),
        ("send_personal_message", {"message": "x"}, "phone_no"),
        ("send_personal_message", {"message": "x", "phone_no": "12"}, "phone_no"),
        ("send_personal_message", {"message": "x", "phone_no": "YOUR-TARGET-PHONE-NUMBER"}, "phone_no"),
        ("send_personal_message", {"message": "x", "phone_no": "812345678901234567890"}, "phone_no"),
        ("send_personal_message", {"message": "x", "phone_no": "81234567890", "country_code": "xx"}, "country_code"),
        ("send_personal_message", {"message": "x", "phone_no": "81234567890", "country_code": "999"}, "country_code"),
        ("send_personal_message", {"message": "x" * 4097, "phone_no": "81234567890"}, "message"),
        (
            "send_personal_message",
            {"message": "x" * 1025, "phone_no": "81234567890", "image_url": PICTURE},
            "send_as_caption",
        ),
        ("send_personal_message", {"message": "x", "phone_no": "81234567890", "method_send": "later"}, "method_send"),
        ("send_personal_message", {"message": "x", "phone_no": "81234567890", "enable_typing": "2"}, "enable_typing"),
        ("send_personal_message", {"phone_no": "81234567890", "image_url": "YOUR-IMAGE-URL"}, "image_url"),
        ("send_personal_message", {"phone_no": "81234567890", "image_url": "http://127.0.0.1/a.png"}, "image_url"),
        ("send_personal_message", {"phone_no": "81234567890", "media_url": "file:///etc/passwd"}, "media_url"),
        ("send_personal_message", {"phone_no": "81234567890", "url": PICTURE, "type": "video"}, "type"),
        ("send_personal_file", {"phone_no": "81234567890", "message": "x"}, "file_url"),
        ("send_group_message", {"message": "x"}, "group_id"),
        ("send_group_message", {"message": "x", "group_id": "family"}, "group_id"),
        ("send_group_file", {"group_id": "120363322806000000"}, "file_url"),
        ("validate_number", {}, "phone_no"),
        ("grab", {}, "type"),
        ("grab", {"type": "chats"}, "type"),
    ],
)
async def test_a_wrong_parameter_is_named_and_nothing_is_stored(
    harness: Harness, path: str, fields: dict[str, object], named: str
) -> None:
    before = await harness.rows()
    answer = await harness.send(path, **fields)
    body = answer.json()
    assert (answer.status_code, body["code"], body["type"]) == (405, "405", "invalid_request")
    assert f"`{named}`" in body["message"]
    assert await harness.rows() == before


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("send_personal_message", {"phone_no": PHONE, "message": "x"}),
        ("send_meta_personal_message", {"reciptient": PHONE, "message": "x"}),
        ("send_message_template", {"recipients": PHONE, "variables": ["Sari"]}),
    ],
)
async def test_waiters_are_notified_at_a_stop(harness: Harness, path: str, fields: dict[str, Any]) -> None:
    """Not that the time was up: it was not."""
    furnished = (await harness.furnish()).get(path, {})
    harness.devices.outcome = harness.cloud.outcome = lambda _: TryLater("busy", as_written("busy"), after=60.0)
    sending = asyncio.create_task(harness.send(path, **(furnished | fields), method_send="sync"))
    async with asyncio.timeout(10):
        while not (harness.devices.sent or harness.cloud.sent):
            await asyncio.sleep(0.01)
    harness.gateway.outbox.dismiss()
    answer = await asyncio.wait_for(sending, 4)  # the call's own patience is 5 s
    assert answer.status_code == 408
    assert "the service, which is stopping" in answer.text
    assert "within" not in answer.text
    assert "o not send it again" in answer.text or "queued" in answer.text


async def test_an_official_message_is_read_once(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    for name in ("recipients_in", "_contents"):
        original = getattr(conversations, name)
        monkeypatch.setattr(
            conversations, name, lambda *given, name=name, original=original: (read.append(name), original(*given))[1]
        )
    await harness.furnish()
    answer = await harness.send("send_meta_personal_message", reciptient=PHONE, message="Halo")
    assert answer.json()["message"]["to"] == PHONE
    assert read == ["recipients_in", "_contents"]

"""What strangers can send through the control API, as the real engine meets it: any plaintext in any stanza."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.sandbox_engine.control import BUDI, OTHER, OWNER, SITI, Control, b64, control
from tests.e2e.sandbox_network import SandboxNetwork

from kurir_sandbox.web_protocol.protobufs import e2e

pytestmark = pytest.mark.e2e


@pytest.fixture
async def rig(sandbox: SandboxNetwork, tmp_path: Path) -> AsyncIterator[Control]:
    async with control(sandbox, tmp_path) as rig:
        yield rig


def has_id(wire_id: str) -> Any:
    """A message with this id; a group's first one comes with an event for the sender key before, which is not meant."""
    return lambda event: (
        event["Info"].get("ID") == wire_id and set(event.get("Message", {"": 0})) != {"senderKeyDistributionMessage"}
    )


async def test_any_plaintext_reaches_a_device_in_any_stanza(rig: Control) -> None:
    engine, other = await rig.linked("one"), await rig.linked("other", OTHER)
    groups = await rig.network.get("/groups")
    group = next(g for g in groups if {OWNER, SITI} <= {m["phone"] for m in g["members"]})["id"]
    bad = b"\x0a\x08BAD \xff\xfe!!"
    for place in ({}, {"group": group}):
        wire_id = await rig.write(SITI, raw=b64(bad), **place)
        heard = await engine.event("Message", has_id(wire_id))
        assert base64.b64decode(heard["raw"]) == bad, place

    reaction = b"\xf2\x02\x08\x12\x06\xf0\x9f\x91\x8d\xf0\x9f"  # reactionMessage with a text that breaks off
    attributes = {"id": "x" * 300, "type": "reaction", "notify": "n" * 2000, "edit": "7", "sender_pn": None}
    assert await rig.write(BUDI, raw=b64(reaction), attributes=attributes) == "x" * 300
    heard = await engine.event("Message", has_id("x" * 300))
    assert base64.b64decode(heard["raw"]) == reaction
    source = (await rig.network.get(f"/sent?from={BUDI}"))[0]
    assert source["form"] == {"attributes": attributes} and source["raw"] == b64(reaction)

    sent = await rig.network.get(f"/sent?from={SITI}")
    assert [(row["to"], row["kind"], row["raw"]) for row in sent] == [
        (OWNER, "raw", b64(bad)),
        (group, "raw", b64(bad)),
    ]

    # the sender's own linked device gets the same bytes as a copy
    wire_id = await rig.write(OTHER, raw=b64(bad))
    mirrored = await other.event("Message", has_id(wire_id))
    assert base64.b64decode(mirrored["raw"]) == bad
    await engine.event("Message", has_id(wire_id))


async def test_what_no_device_can_read(rig: Control) -> None:
    engine = await rig.linked("one")
    for body in ({"raw": b64(b"\xff\xff\xff")}, {"raw": ""}, {"raw": "", "padding": ""}, {"text": "a", "enc": None}):
        await rig.write(SITI, **body)
    wire_id = await rig.write(SITI, text="masih hidup")
    await engine.event("Message", has_id(wire_id))

    groups = await rig.network.get("/groups")
    group = next(g for g in groups if {OWNER, SITI} <= {m["phone"] for m in g["members"]})["id"]
    for place in ({}, {"group": group}):
        wire_id = await rig.write(SITI, text="rusak dua kali", unreadable=2, **place)
        await engine.event("UndecryptableMessage", has_id(wire_id))
        heard = await engine.event("Message", has_id(wire_id))
        assert heard["Message"]["conversation"] == "rusak dua kali"

    wire_id = await rig.write(SITI, unavailable="view_once")
    heard = await engine.event("UndecryptableMessage", has_id(wire_id))
    assert heard["IsUnavailable"] is True


async def test_a_chat_without_a_number_and_same_ids_of_two_people(rig: Control) -> None:
    engine = await rig.linked("one")
    wire_id = await rig.write(SITI, text="tanpa nomor", attributes={"sender_pn": None})
    source = (await engine.event("Message", has_id(wire_id)))["Info"]["MessageSource"]
    assert source["Sender"]["Server"] == "lid" and not source.get("SenderAlt", {}).get("User")
    await engine.kill()
    for sender in (SITI, BUDI):
        await rig.write(sender, text=f"dari {sender}", attributes={"id": "SAMA"})
    engine = await rig.engine("one")
    for sender in (SITI, BUDI):
        await engine.event("Message", lambda e, words=f"dari {sender}": e["Message"].get("conversation") == words)

    for sender in (SITI, BUDI):
        await rig.write(sender, text=f"rusak {sender}", attributes={"id": "RUSAK"}, unreadable=1)
    for sender in (SITI, BUDI):
        await engine.event("Message", lambda e, words=f"rusak {sender}": e["Message"].get("conversation") == words)


async def test_raw_messages_with_media_of_every_kind(rig: Control) -> None:
    engine = await rig.linked("one")
    for kind, field in (("audio", "audioMessage"), ("video", "videoMessage"), ("sticker", "stickerMessage")):
        data = f"isi {kind}".encode()
        kept = await rig.network.post("/encrypted_media", {"kind": kind, "file": {"data": b64(data)}})
        message = e2e.Message()
        part = getattr(message, field)
        part.URL, part.directPath, part.fileLength = kept["url"], kept["direct_path"], kept["file_length"]
        part.mediaKey, part.fileSHA256, part.fileEncSHA256 = (
            base64.b64decode(kept[name]) for name in ("media_key", "file_sha256", "file_enc_sha256")
        )
        wire_id = await rig.write(SITI, raw=b64(message.SerializeToString()), attributes={"type": "media"})
        await engine.event("Message", has_id(wire_id))
        assert base64.b64decode(await engine.call("download", message=wire_id)) == data


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"raw": "?"}, "raw"),
    ({"raw": 5}, "raw"),
    ({"raw": "", "text": "a"}, "body"),
    ({"text": "a", "attributes": {"id": 5}}, "attributes.id"),
    ({"text": "a", "attributes": "x"}, "attributes"),
    ({"text": "a", "attributes": {"notify": {"base64": "?"}}}, "attributes.notify"),
    ({"text": "a", "children": [{"tag": ""}]}, "children.0.tag"),
    ({"text": "a", "enc": []}, "enc"),
    ({"text": "a", "unreadable": -1}, "unreadable"),
    ({"text": "a", "unreadable": True}, "unreadable"),
    ({"text": "a", "padding": 1}, "padding"),
    ({"text": "a", "nonsense": 1}, "nonsense"),
    ({"unavailable": 5}, "unavailable"),
]


async def test_invalid_input_names_its_field(rig: Control) -> None:
    await rig.linked("one")
    for body, field in INVALID:
        assert await rig.refused(f"/people/{SITI}/messages", {"to": OWNER, **body}) == (400, field), body
    official = rig.network.businesses[0]["phone"]
    for more in ({"attributes": {"id": "A"}}, {"unreadable": 1}, {"enc": {"v": "3"}}):
        body = {"to": official, "text": "a", **more}
        assert await rig.refused(f"/people/{SITI}/messages", body) == (400, next(iter(more)))
    assert (await rig.refused(f"/people/{SITI}/messages", {"to": official, "raw": ""}))[1] == "raw"
    assert await rig.network.get("/sent") == []


async def test_a_phone_shows_what_a_device_sends_with_invalid_strings(rig: Control) -> None:
    engine = await rig.linked("one")
    wire_id = await engine.call("send", to=SITI, kind="raw", data=b64(b"\x0a\x04ab\xff\xfe"))
    shown = await rig.network.arrival(SITI, lambda row: row["wire_id"] == wire_id)
    assert shown["text"] == "ab\ufffd\ufffd"
    await engine.event("Receipt", lambda r: r["MessageIDs"] == [wire_id])

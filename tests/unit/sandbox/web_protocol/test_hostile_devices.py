"""A linked device that sends malformed or forbidden stanzas: it is told what is wrong and stays connected."""

from __future__ import annotations

import os

import pytest

from kurir_sandbox.ledger import Search
from kurir_sandbox.traffic import Content
from kurir_sandbox.web_protocol import codec, signal_sessions
from kurir_sandbox.web_protocol.curve import KeyPair
from kurir_sandbox.web_protocol.pairing import ScanError
from kurir_sandbox.web_protocol.protobufs import e2e
from kurir_sandbox.web_protocol.signal_sessions import Bundle
from kurir_sandbox.web_protocol.stanza import GROUPS, JID, Node
from kurir_sandbox.world import Member

from .raw_device import ALICE, BOB, OWNER, Stage, ask, iq, logged_in


async def test_another_key_cannot_log_in_as_the_device(stage: Stage) -> None:
    async with stage.client(KeyPair.generate()) as thief:
        assert (await logged_in(thief)).text("reason") == "401"
    async with stage.client() as own:
        assert (await logged_in(own)).tag == "success"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (iq("usync"), "usync"),
        (iq("usync", Node("usync", {}, [Node("query"), Node("list", {}, [Node("user")])])), "jid"),
        (iq("encrypt", Node("list", {}, [Node("key", {}, [Node("id", {}, b"1")])])), "id"),
        (iq("encrypt", Node("key", {}, [Node("user")])), "jid"),
        (iq("w:sync:app:state"), "sync"),
        (iq("w:sync:app:state", Node("sync", {}, [Node("collection", {"name": "none"})])), "name"),
        (
            iq("w:sync:app:state", Node("sync", {}, [Node("collection", {"name": "regular", "version": "x"})])),
            "version",
        ),
    ],
    ids=["usync", "user", "upload", "fetch", "sync", "collection", "version"],
)
async def test_a_malformed_query_is_answered_with_what_is_wrong(stage: Stage, query: Node, words: str) -> None:
    async with stage.client() as client:
        await logged_in(client)
        answer = await ask(client, query)
        error = answer.need("error")
        assert (answer.text("type"), error.text("code")) == ("error", "400") and words in error.text("text")
        assert (await ask(client, iq("w:p"))).text("type") == "result"


@pytest.mark.parametrize(
    "node",
    [
        Node("message", {"id": "1"}),
        Node("message", {"to": JID("1", "lid")}),
        Node("message", {"id": "1", "to": JID("1", "lid")}, [Node("participants", {}, [Node("to")])]),
        Node("receipt", {"id": "1"}),
        Node("receipt", {"id": "1", "to": JID("1", "lid"), "type": "retry"}),
        Node("chatstate", {"to": JID("1", "lid")}),
        Node("presence", {"type": "subscribe"}),
        Node("iq", {"type": "get"}),
        Node("unheard-of", {"x": "y"}),
        Node("ack", {"class": "message", "id": "none"}),
    ],
    ids=str,
)
async def test_a_malformed_stanza_is_passed_over(stage: Stage, node: Node) -> None:
    async with stage.client() as client:
        await logged_in(client)
        await client.send(node)
        assert (await ask(client, iq("w:p"))).text("type") == "result"


ODD = [b"\xff\xfe", b"3EB0\xc3(", b"\xed\xa0\x80", b"\x80" * 300, b"\0\xff"]


@pytest.mark.parametrize("odd", ODD, ids=lambda raw: raw[:6].hex())
async def test_an_id_that_is_no_utf8_is_repeated_as_it_came(stage: Stage, odd: bytes) -> None:
    async with stage.client() as client:
        await logged_in(client)
        to = stage.lid(ALICE)
        for node in (
            Node("message", {"id": odd, "to": to}),
            Node("receipt", {"id": odd, "to": to}),
            Node("receipt", {"id": odd, "to": to, "type": "read"}, [Node("list", {}, [Node("item", {"id": odd})])]),
            Node("iq", {"id": odd, "type": "get", "xmlns": "w:p"}),
            Node("iq", {"id": odd, "type": "get", "xmlns": "unheard-of"}),
            Node("message", {"id": odd, "to": JID("12-34", "g.us")}),
        ):
            assert (await ask(client, node)).attrs["id"] == odd, node


@pytest.mark.parametrize("odd", ODD, ids=lambda raw: raw[:6].hex())
async def test_other_parts_that_are_no_utf8_leave_the_line_alone(stage: Stage, odd: bytes) -> None:
    marked = b"Q" * len(odd)
    name = marked.decode()
    async with stage.client() as client:
        await logged_in(client)
        for node in (
            Node(name),
            Node("message", {name: "x", "to": stage.lid(ALICE), "id": "1", "type": odd}),
            Node("receipt", {"to": odd, "id": "1", "participant": odd, "type": odd}),
            Node("chatstate", {"to": JID(name, "lid")}, [Node(name)]),
            Node("presence", {"type": "available", "name": odd}),
            Node("ack", {"class": odd, "id": odd, "to": odd, "type": odd}),
        ):
            await client.send_raw(codec.encode(node).replace(marked, odd))
        assert (await ask(client, Node("iq", {"id": "still", "type": "get", "xmlns": "w:p"}))).tag in ("ack", "iq")


async def test_a_frame_that_is_no_stanza_is_passed_over(stage: Stage) -> None:
    async with stage.client() as client:
        await logged_in(client)
        for frame in (b"", b"\0", b"\x02not zlib", bytes([0, 248, 3, 25, 6, 247, 99, 1, 255, 1, 0x12]), b"\0\xff\xff"):
            await client.send_raw(frame)
        assert (await ask(client, iq("w:p"))).text("type") == "result"


async def test_what_cannot_be_decrypted_is_asked_for_again_and_not_written_down(stage: Stage) -> None:
    async with stage.client() as client:
        await logged_in(client)
        await client.send(iq("passive", Node("active")))
        for kind, data in (
            ("msg", os.urandom(60)),
            ("pkmsg", b"\x33" + os.urandom(80)),
            ("skmsg", b""),
            ("what", b"x"),
        ):
            enc = Node("enc", {"v": "2", "type": kind}, data)
            to = Node("to", {"jid": stage.lid(ALICE)}, [enc])
            message = Node("message", {"id": f"M-{kind}", "to": stage.lid(ALICE)}, [Node("participants", {}, [to])])
            await client.send(message)
        seen = []
        while len(seen) < 5:
            answer = await client.receive()
            if answer.tag in ("receipt", "ack"):
                seen.append((answer.tag, answer.text("id"), answer.text("type")))
        assert seen.count(("receipt", "M-msg", "retry")) == 1 and seen.count(("receipt", "M-pkmsg", "retry")) == 1
    assert stage.ledger.records(Search()) == []


async def test_a_message_encrypted_anew_under_its_old_id_is_shown_once(stage: Stage) -> None:
    async with stage.client() as client:
        await logged_in(client)
        user = Node("user", {"jid": stage.lid(ALICE)})
        keys = (await ask(client, iq("encrypt", Node("key", {}, [user])))).need("list", "user")
        one_time = keys.need("key")
        session = signal_sessions.start(
            stage.identity,
            1,
            Bundle(
                int.from_bytes(keys.need_data("registration"), "big"),
                keys.need_data("identity"),
                int.from_bytes(keys.need_data("skey", "id"), "big"),
                keys.need_data("skey", "value"),
                keys.need_data("skey", "signature"),
                int.from_bytes(one_time.need_data("id"), "big"),
                one_time.need_data("value"),
            ),
        )
        for wire_id, words in (("A", "pertama"), ("A", "kedua"), ("B", "ketiga")):
            kind, sealed = session.encrypt(e2e.Message(conversation=words).SerializeToString() + b"\x01")
            enc = Node("enc", {"v": "2", "type": kind}, sealed)
            to = Node("to", {"jid": stage.lid(ALICE)}, [enc])
            message = Node("message", {"id": wire_id, "to": stage.lid(ALICE)}, [Node("participants", {}, [to])])
            await client.send(message)
            while (answer := await client.receive()).tag != "ack":
                pass
            assert (answer.text("id"), answer.text("error")) == (wire_id, "")
    assert [record.content["text"] for record in stage.ledger.records(Search())] == ["pertama", "ketiga"]
    assert stage.ledger.duplicates(Search(wire_id="A")) == 1


async def test_groups_are_closed_to_others(stage: Stage) -> None:
    group = stage.world.add_group("Tertutup", ALICE, [Member(BOB, "participant")])
    jid = JID(group.id, "g.us")
    async with stage.client() as client:
        await logged_in(client)
        for to, code in ((jid, "403"), (JID("120", "g.us"), "404"), (GROUPS, "404"), (stage.lid(ALICE), "404")):
            answer = await ask(client, iq("w:g2", Node("query"), to=to))
            assert answer.need("error").text("code") == code
        for to, code in ((jid, "401"), (JID("120", "g.us"), "404")):
            ack = await ask(client, Node("message", {"id": "1", "to": to}, [Node("enc", {"type": "skmsg"}, b"x" * 80)]))
            assert (ack.tag, ack.text("error")) == ("ack", code)


async def test_a_used_or_foreign_linking_code_is_refused(stage: Stage) -> None:
    for qr in ("", "hello", "2@ref,a,b,c", "https://wa.me/x#ref,AA==,AA==,AA==,1"):
        with pytest.raises(ScanError, match=r"^qr: "):
            await stage.network.scan(OWNER, qr)
    with pytest.raises(ScanError, match=r"^phone: "):
        await stage.network.scan("000", "x")
    for code in ("", "123", "ÄÖÜ-ßßß1", "12345678"):
        with pytest.raises(ScanError, match=r"^code: "):
            await stage.network.enter_code(OWNER, code)


async def test_a_reset_world_forgets_its_devices_but_not_its_address(stage: Stage) -> None:
    before = (stage.network.proxy_url, stage.network.noise_root)
    async with stage.client() as client:
        await logged_in(client)
        stage.world.clear(keep_spaces=["web_wire"])
        await stage.network.reset()
        with pytest.raises(EOFError):
            await client.receive()
    assert stage.network.linked_devices() == [] and not stage.network.owns(OWNER)
    async with stage.client() as client:
        assert (await logged_in(client)).text("reason") == "401"
    stage.world.add_person(OWNER, "Owner again")
    await stage.link()
    await stage.network.stop()
    await stage.network.start()
    assert (stage.network.proxy_url, stage.network.noise_root) == before
    async with stage.client() as client:
        assert (await logged_in(client)).tag == "success"


async def test_people_cannot_write_nonsense(stage: Stage) -> None:
    hello = Content("text", text="hello", bubble="hello")
    for sender, to, words in (("1", OWNER, "sender: 1"), (ALICE, "1", "to: 1"), (ALICE, BOB, "no linked device")):
        with pytest.raises(ValueError, match=words):
            await stage.network.write(sender, to, hello)
    with pytest.raises(ValueError, match="kind"):
        await stage.network.write(ALICE, OWNER, Content("poll", text="?"))
    for act in (stage.network.unlink, stage.network.drop, stage.network.replace):
        with pytest.raises(LookupError, match="jid"):
            await act("6281:99@s.whatsapp.net")
    with pytest.raises(ValueError, match="kind"):
        group = stage.world.add_group("G", OWNER)
        await stage.network.group_changed(group.id, {"kind": "explode"})

"""What the server and the phones answer to clients of any make, stanza by stanza."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kurir_sandbox.fault_effects import EFFECTS
from kurir_sandbox.faults import Fault
from kurir_sandbox.ledger import Search
from kurir_sandbox.number_aliases import set_alias
from kurir_sandbox.web_protocol import signal_sessions
from kurir_sandbox.web_protocol.curve import KEY_TYPE, KeyPair
from kurir_sandbox.web_protocol.key_bundles import bundle_nodes
from kurir_sandbox.web_protocol.signal_sessions import Bundle
from kurir_sandbox.web_protocol.stanza import GROUPS, JID, SERVER, Node
from kurir_sandbox.world import Member

from .noise_client import RawClient
from .raw_device import ALICE, BOB, OWNER, Stage, ask, iq, logged_in

DEVICE = f"{OWNER}:1@s.whatsapp.net"


async def until(client: RawClient, tag: str) -> Node:
    """The next stanza with this tag."""
    while (node := await client.receive()).tag != tag:
        pass
    return node


async def active(client: RawClient) -> None:
    """Logs in and says that it is ready; reads until the end of what waited."""
    await logged_in(client)
    await client.send(iq("passive", Node("active")))
    while (node := await client.receive()).tag != "ib" or node.child("offline") is None:
        pass


@pytest.mark.parametrize("padded", [True, False])
async def test_an_upload_token_may_be_padded(stage: Stage, padded: bool) -> None:
    blob = b"ciphertext"
    token = base64.urlsafe_b64encode(hashlib.sha256(blob).digest()).decode()
    url = f"https://mmg.whatsapp.net/mms/image/{token if padded else token.rstrip('=')}"
    tls = ssl.create_default_context(cafile=str(stage.network.ca_file))
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=blob, proxy=stage.network.proxy_url, ssl=tls) as answer,
    ):
        assert answer.status == 200
        path = (await answer.json())["direct_path"]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://mmg.whatsapp.net{path}&hash=x", proxy=stage.network.proxy_url, ssl=tls) as answer,
    ):
        assert await answer.read() == blob


async def test_the_digest_of_the_keys_that_the_server_holds(stage: Stage) -> None:
    async with stage.client() as client:
        await logged_in(client)
        keys = {number: KeyPair.generate().public for number in (1, 2, 70000)}
        listed = [
            Node("key", {}, [Node("id", {}, number.to_bytes(3, "big")), Node("value", {}, key)])
            for number, key in keys.items()
        ]
        assert (await ask(client, iq("encrypt", Node("list", {}, listed)))).text("type") == "result"
        digest = (await ask(client, iq("encrypt", Node("digest")))).need("digest")
        assert [int.from_bytes(node.data, "big") for node in digest.need("list").children] == list(keys)
        assert digest.need_data("identity") == stage.identity.public
        assert digest.need_data("skey", "value") == stage.signed.public
        held = [stage.identity.public, stage.signed.public, digest.need_data("skey", "signature"), *keys.values()]
        assert digest.need_data("hash") == hashlib.sha1(b"".join(held), usedforsecurity=False).digest()

        fresh = KeyPair.generate()
        rotated = Bundle(1, stage.identity.public, 7, fresh.public, stage.identity.sign(KEY_TYPE + fresh.public))
        skey = next(node for node in bundle_nodes(rotated) if node.tag == "skey")
        assert (await ask(client, iq("encrypt", Node("rotate", {}, [skey])))).text("type") == "result"
        digest = (await ask(client, iq("encrypt", Node("digest")))).need("digest")
        assert digest.need_data("skey", "value") == fresh.public


@pytest.mark.parametrize(
    ("namespace", "child", "code"),
    [
        ("w:p", None, ""),
        ("urn:xmpp:ping", Node("ping"), ""),
        ("passive", Node("passive"), ""),
        ("urn:xmpp:whatsapp:dirty", Node("clean"), ""),
        ("urn:xmpp:whatsapp:push", Node("config"), ""),
        ("abt", Node("props"), ""),
        ("w", Node("props"), ""),
        ("status", Node("status", {}, b"halo"), ""),
        ("privacy", Node("tokens"), ""),
        ("w:biz", Node("business_profile", {"v": "4"}, [Node("profile")]), "501"),  # only `get` is played
        ("w:mex", Node("query", {}, b"{}"), "501"),
        ("encrypt", Node("no-such-thing"), "501"),
        ("no-such-namespace", Node("x"), "501"),
        ("", Node("x"), "501"),
    ],
)
async def test_what_is_not_played_is_answered_as_such(
    stage: Stage, namespace: str, child: Node | None, code: str
) -> None:
    async with stage.client() as client:
        await logged_in(client)
        answer = await ask(client, iq(namespace, *([child] if child else [])))
        assert answer.text("type") == ("error" if code else "result")
        error = answer.child("error")
        assert (error.text("code"), error.text("text")) == (code, "feature-not-implemented") if error else not code


async def test_lookups_of_absent_and_renumbered_people(stage: Stage) -> None:
    set_alias(stage.world.state, "5511987654321", ALICE)
    asked = [
        Node("user", {"jid": JID("999")}),
        Node("user", {}, [Node("contact", {}, b"+5511987654321")]),
        Node("user", {"jid": JID(BOB)}),
    ]
    query = Node("query", {}, [Node(tag) for tag in ("contact", "devices", "lid")])
    async with stage.client() as client:
        await logged_in(client)
        hidden = stage.network.faults.add(Fault("hide_lid", phone=BOB))
        answer = await ask(client, iq("usync", Node("usync", {"sid": "1"}, [query, Node("list", {}, asked)])))
        absent, renumbered, without = answer.need("usync", "list").children
        error = absent.need("devices", "error")
        assert (error.text("code"), error.text("text")) == ("404", "item-not-found")
        assert (renumbered.jid("jid"), renumbered.jid("pn_jid")) == (stage.lid(ALICE), JID(ALICE))
        assert renumbered.need("contact").text("type") == "in" and renumbered.child("lid")
        assert without.child("lid") is None and without.child("devices")
        assert hidden.hits == 1


@pytest.mark.parametrize(
    ("effect", "match", "answers"),
    [
        ("no_keys", {"phone": ALICE, "device": 0}, ["404", None, None]),
        ("no_keys", {"phone": ALICE, "device": 1}, [None, None, None]),
        ("no_keys", {"phone": OWNER, "device": 0}, [None, None, None]),
        ("no_keys", {"phone": OWNER, "device": 1, "code": 500}, [None, None, "500"]),
        ("no_keys", {"phone": OWNER}, [None, None, "404"]),
        ("no_keys", {}, ["404", "404", "404"]),
        ("omit_keys", {"phone": BOB}, [None, None]),
        ("omit_keys", {"phone": BOB, "count": 1, "number": ALICE}, [None, None, None]),
    ],
)
async def test_keys_that_are_not_given(
    stage: Stage, effect: str, match: dict[str, Any], answers: list[str | None]
) -> None:
    async with stage.client() as client:
        await logged_in(client)
        stage.network.faults.add(Fault(effect, **match))
        users = [Node("user", {"jid": jid}) for jid in (stage.lid(ALICE), stage.lid(BOB), JID(OWNER, device=1))]
        listed = (await ask(client, iq("encrypt", Node("key", {}, users)))).need("list").children
        errors = [user.child("error") for user in listed]
        assert [error.text("code") if error else None for error in errors] == answers


@pytest.mark.parametrize(
    ("effect", "values", "expected"),
    [
        ("refuse_query", {"kind": "w:g2", "code": 429}, ("error", "429", "rate-overlimit")),
        ("refuse_query", {"kind": "w:g2/participating", "code": 999, "text": "x"}, ("error", "999", "x")),
        ("refuse_query", {"kind": "w:g2/query", "code": 429}, ("result", "", "")),
        ("refuse_query", {"kind": "usync", "code": 429}, ("result", "", "")),
    ],
)
async def test_refused_queries(stage: Stage, effect: str, values: dict[str, Any], expected: tuple[str, ...]) -> None:
    stage.network.faults.add(Fault(effect, **values))
    async with stage.client() as client:
        await logged_in(client)
        answer = await ask(client, iq("w:g2", Node("participating"), to=GROUPS))
        error = answer.child("error") or Node("error")
        assert (answer.text("type"), error.text("code"), error.text("text")) == expected


@pytest.mark.parametrize(
    "reason", [401, 402, 403, 405, 409, 411, 412, 413, 414, 415, 418, 463, 499, 500, 501, 503, 999, "x"]
)
async def test_every_reason_of_a_refused_login(stage: Stage, reason: int | str) -> None:
    stage.network.fail_logins(reason, {"code": "101", "expire": "60", "message": "kata"})
    async with stage.client() as client:
        failure = await logged_in(client)
    assert failure == Node("failure", {"reason": str(reason), "code": "101", "expire": "60", "message": "kata"})


async def test_any_stanza_can_be_played_and_is_kept_until_it_is_acknowledged(stage: Stage) -> None:
    odd = Node("notification", {"id": "1", "from": SERVER, "type": "x"}, [Node("y", {"z": "1"}, b"\xff")])
    assert not await stage.network.play(DEVICE, odd)
    assert await stage.network.play(DEVICE, odd, keep=True)
    async with stage.client() as client:
        await logged_in(client)
        await client.send(iq("passive", Node("active")))
        waited = await until(client, "notification")
        assert (waited.attrs["type"], waited.content) == ("x", odd.content)
        await until(client, "ib")
        assert stage.network.queued(DEVICE) >= 1
        assert await stage.network.play(DEVICE, Node("no-such-tag", {"a": JID("1", "lid", 3)}, b"z"))
        assert await until(client, "no-such-tag") == Node("no-such-tag", {"a": JID("1", "lid", 3)}, b"z")
        assert await stage.network.play(DEVICE, Node("stream:error", {"code": "516"}), close=True)
        assert (await until(client, "stream:error")).text("code") == "516"
        with pytest.raises(EOFError):
            await client.receive()


async def test_who_logs_in_active_gets_what_waits_at_once(stage: Stage) -> None:
    news = Node("notification", {"id": "1", "from": SERVER, "type": "x"})
    await stage.network.play(DEVICE, news, keep=True)
    async with stage.client() as client:
        assert (await logged_in(client, passive=False)).tag == "success"
        assert (await until(client, "notification")).attrs["id"] == "1"
        while (await until(client, "ib")).child("offline") is None:
            pass

        # saying so as well is no reason to hear it all again
        await client.send(iq("passive", Node("active")))
        assert (await client.receive()).tag == "iq"
        await client.send(iq("w:p"))
        assert (await client.receive()).tag == "iq"


async def test_a_passive_device_gets_nothing_until_it_is_active(stage: Stage) -> None:
    async with stage.client() as client:
        await logged_in(client)
        await stage.network.play(DEVICE, Node("notification", {"id": "1", "from": SERVER, "type": "x"}), keep=True)
        await client.send(iq("w:p"))
        assert (await client.receive()).tag == "iq"
        await client.send(iq("passive", Node("active")))
        assert (await until(client, "notification")).attrs["id"] == "1"
        while (await until(client, "ib")).child("offline") is None:
            pass

        await client.send(iq("passive", Node("passive")))
        assert (await client.receive()).tag == "iq"
        await stage.network.play(DEVICE, Node("notification", {"id": "2", "from": SERVER, "type": "x"}), keep=True)
        await client.send(iq("w:p"))
        assert (await client.receive()).tag == "iq"
        await client.send(iq("passive", Node("active")))
        while (await until(client, "notification")).attrs["id"] != "2":
            pass


async def test_what_a_device_sends_is_acknowledged_whatever_it_holds(stage: Stage) -> None:
    stage.phones.attach({"linked_device": stage.network})
    async with stage.client() as client:
        await active(client)
        keys = (await ask(client, iq("encrypt", Node("key", {}, [Node("user", {"jid": stage.lid(ALICE)})])))).need(
            "list", "user"
        )
        bundle = Bundle(
            int.from_bytes(keys.need_data("registration"), "big"),
            keys.need_data("identity"),
            int.from_bytes(keys.need_data("skey", "id"), "big"),
            keys.need_data("skey", "value"),
            keys.need_data("skey", "signature"),
            int.from_bytes(keys.need_data("key", "id"), "big"),
            keys.need_data("key", "value"),
        )
        session = signal_sessions.start(stage.identity, 1, bundle)
        for number, plain in enumerate((b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x02ok")):
            kind, sealed = session.encrypt(plain + b"\x01")
            enc = Node("enc", {"v": "2", "type": kind}, sealed)
            to = Node("to", {"jid": stage.lid(ALICE)}, [enc])
            message = Node("message", {"id": f"M{number}", "to": stage.lid(ALICE)}, [Node("participants", {}, [to])])
            await client.send(message)
            ack = await until(client, "ack")
            assert (ack.text("id"), ack.text("error")) == (f"M{number}", "")
        shown = [(row.kind, row.content["text"]) for row in stage.ledger.records(Search())]
        assert shown == [("unsupported", ""), ("text", "\ufffd\ufffd"), ("text", "ok")]
        receipt = await until(client, "receipt")
        assert receipt.jid("sender_pn") == JID(ALICE)


async def test_what_a_linked_device_sends_to_another_names_the_account(stage: Stage) -> None:
    async with stage.client() as client:
        await active(client)
        own = JID(stage.lid(OWNER).user, "lid", 1)  # the stage has one device, so it hears itself
        await client.send(Node("receipt", {"id": "R", "to": own, "type": "read"}))
        passed = await until(client, "receipt")
        assert (passed.jid("from"), passed.jid("sender_pn")) == (own, JID(OWNER))

        part = Node("to", {"jid": own}, [Node("enc", {"v": "2", "type": "msg"}, b"sealed")])
        group = stage.world.add_group("Berdua", OWNER, [Member(ALICE, "participant")])
        for to in (own.account, JID(group.id, "g.us")):
            await client.send(Node("message", {"id": to.user, "to": to}, [Node("participants", {}, [part])]))
            while (passed := await until(client, "message")).text("id") != to.user:
                pass
            assert passed.jid("participant_pn" if to.server == "g.us" else "sender_pn") == JID(OWNER)


async def test_a_device_that_is_linked_but_does_not_log_in(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.network.start()
    try:
        stage.network.faults.add(Fault("withhold_restart", number=OWNER))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await stage.link()
        assert stage.network.owns(OWNER)
    finally:
        await stage.network.stop()
        await stage.ledger.close()
        stage.world.close()


def test_every_effect_says_what_it_does() -> None:
    assert all(effect.does and effect.channels for effect in EFFECTS.values())
    assert {"no_keys", "hide_lid", "refuse_query"} <= set(EFFECTS)

"""Binary stanzas: what is written is read again, and no bytes do harm."""

from __future__ import annotations

import contextlib
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir_sandbox.web_protocol import codec
from kurir_sandbox.web_protocol.codec import CodecError
from kurir_sandbox.web_protocol.stanza import JID, Node, StanzaError

texts = st.text(max_size=300)
names = st.text(min_size=1, max_size=20)
jids = st.one_of(
    st.builds(
        JID,
        st.text("0123456789", min_size=1, max_size=16),
        st.sampled_from(["s.whatsapp.net", "lid"]),
        st.integers(0, 255),
    ),
    st.builds(JID, st.text("0123456789-", max_size=20), st.sampled_from(["g.us", "broadcast", "s.whatsapp.net"])),
)
odd = st.binary(max_size=20).filter(lambda raw: raw.decode("utf-8", "ignore").encode() != raw)
attributes = st.dictionaries(names, st.one_of(texts, jids, odd), max_size=5)
nodes = st.recursive(
    st.builds(Node, names, attributes, st.one_of(st.none(), st.binary(max_size=400))),
    lambda children: st.builds(Node, names, attributes, st.lists(children, min_size=1, max_size=4)),
    max_leaves=12,
)


@given(nodes)
def test_a_stanza_survives_the_wire(node: Node) -> None:
    assert codec.decode(codec.encode(node)) == node


@given(nodes)
def test_a_compressed_stanza_is_read_too(node: Node) -> None:
    assert codec.decode(b"\x02" + zlib.compress(codec.encode(node)[1:])) == node


@given(st.binary(max_size=300))
def test_random_bytes_are_a_codec_error_or_a_stanza(data: bytes) -> None:
    for frame in (data, b"\0" + data, b"\0\xf8" + data):
        with contextlib.suppress(CodecError):
            assert isinstance(codec.decode(frame), Node)


@given(nodes, st.data())
def test_a_cut_or_altered_stanza_is_a_codec_error_or_another_stanza(node: Node, data: st.DataObject) -> None:
    raw = bytearray(codec.encode(node))
    at = data.draw(st.integers(1, len(raw) - 1))
    with pytest.raises(CodecError):
        codec.decode(bytes(raw[:at]))
    raw[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CodecError):
        assert isinstance(codec.decode(bytes(raw)), Node)


def test_the_dictionary_and_packed_strings_are_understood() -> None:
    # list of 4: tag "iq" (single token 25), attribute "id" (8) = "12-3" packed as nibbles, content "enc" (token 29)
    assert codec.decode(bytes([0, 248, 4, 25, 8, 255, 2, 0x12, 0xA3, 29])) == Node("iq", {"id": "12-3"}, b"enc")
    # double token 236,0 "read-self"; hex packed with an odd number of digits
    assert codec.decode(bytes([0, 248, 3, 25, 236, 0, 251, 0x82, 0xAB, 0xC0])) == Node("iq", {"read-self": "ABC"})


def test_every_way_to_write_a_jid_is_understood() -> None:
    user = bytes([255, 1, 0x12])
    server = bytes([252, 3]) + b"lid"
    cases = {
        bytes([250]) + user + server: JID("12", "lid"),
        bytes([250, 0]) + server: JID("", "lid"),
        bytes([247, 1, 7]) + user: JID("12", "lid", 7),
        bytes([247, 0, 9]) + user: JID("12", "s.whatsapp.net", 9),
        bytes([246]) + user + bytes([0, 5]) + server: JID("12", "lid", 5),
        bytes([245]) + user + bytes([0, 5, 0, 1]) + server: JID("12", "lid", 5),
    }
    for raw, jid in cases.items():
        assert codec.decode(bytes([0, 248, 3, 25, 6]) + raw).attrs["from"] == jid


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        b"\0\0",
        bytes([0, 248, 0]),
        bytes([0, 248, 1, 0]),
        bytes([0, 248, 3, 25, 6, 247, 99, 1, 255, 1, 0x12]),
        bytes([0, 249, 255, 255, 25]),
        bytes([0, 248, 2, 25, 254, 255, 255, 255, 255]),
        bytes([0, 248, 1, 25, 77]),
        b"\x02not zlib",
        b"\x02" + zlib.compress(b"x" * 10)[:-3],
        b"\x02" + zlib.compress(bytes(codec.MAX_INFLATED + 1)),
        bytes([0]) + bytes([248, 2, 25, 248, 1]) * 5000,
    ],
    ids=lambda frame: frame[:8].hex(),
)
def test_malformed_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(frame)


def test_text_that_is_no_utf8_is_recognized() -> None:
    for raw in (b"\xff", b"\xfe", b"3EB0\xc3", b"\xed\xa0\x80"):
        node = codec.decode(bytes([0, 248, 3, 252, len(raw)]) + raw + bytes([8, 252, len(raw)]) + raw)
        assert node.attrs["id"] == node.need_id() == raw
        assert node.tag == node.text("id")
    assert Node("x", {"id": b"\xff"}).text("id") != Node("x", {"id": b"\xfe"}).text("id")


def test_what_does_not_fit_is_not_written() -> None:
    with pytest.raises(CodecError, match="65536"):
        codec.encode(Node("list", {}, [Node("a")] * 65536))
    with pytest.raises(CodecError, match="devices"):
        codec.encode(Node("a", {"to": JID("1", "g.us", 3)}))


def test_long_contents_use_longer_lengths() -> None:
    for size in (255, 256, (1 << 20) - 1, 1 << 20):
        content = os.urandom(size)
        assert codec.decode(codec.encode(Node("m", {}, content))).content == content


def test_missing_parts_of_a_stanza_are_named() -> None:
    node = Node("message", {"id": ""}, [Node("enc", {}, b"12")])
    for ask, words in (
        (lambda: node.need_jid("to"), "to is missing"),
        (lambda: node.need_text("id"), "id is missing"),
        (lambda: node.need("participants"), "participants"),
        (lambda: node.need_data("enc", size=3), "3 bytes expected, 2 found"),
        (lambda: JID.parse("12:x@lid"), "device"),
        (lambda: JID.parse("12:256@lid"), "device"),
    ):
        with pytest.raises(StanzaError, match=words):
            ask()
    assert JID.parse("12:3@lid") == JID("12", "lid", 3) and str(JID("12", "lid", 3)) == "12:3@lid"
    assert JID.parse("g.us") == JID("", "g.us")

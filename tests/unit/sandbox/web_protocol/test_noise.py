"""The Noise handshake with a client written for the tests, and the frames around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir_sandbox.web_protocol.certificates import make_noise_identity
from kurir_sandbox.web_protocol.curve import KeyPair
from kurir_sandbox.web_protocol.noise import Frames, Handshake, NoiseError, frame
from kurir_sandbox.web_protocol.protobufs import wa6

from .noise_client import HEADER, Initiator


def test_both_sides_agree_and_talk() -> None:
    identity, static = make_noise_identity(), KeyPair.generate()
    server, client = Handshake(HEADER, identity.static, identity.chain), Initiator(static, identity.root)
    message, theirs = client.finish(server.respond(client.hello()), b"who I am")
    greeting = server.finish(message)
    assert (greeting.client_static, greeting.payload) == (static.public, b"who I am")
    ours = greeting.transport
    for words in (b"one", b"two", b"three"):
        assert ours.open(theirs.seal(words)) == words
        assert theirs.open(ours.seal(words)) == words


def test_a_replayed_or_reordered_frame_is_refused() -> None:
    identity = make_noise_identity()
    server, client = Handshake(HEADER, identity.static, identity.chain), Initiator(KeyPair.generate())
    message, theirs = client.finish(server.respond(client.hello()), b"")
    ours = server.finish(message).transport
    first, second = theirs.seal(b"1"), theirs.seal(b"2")
    with pytest.raises(NoiseError):
        ours.open(second)
    assert ours.open(first) == b"1"
    with pytest.raises(NoiseError):
        ours.open(first)
    assert ours.open(second) == b"2"


def test_a_client_with_another_root_key_notices() -> None:
    identity, other = make_noise_identity(), make_noise_identity()
    server = Handshake(HEADER, identity.static, identity.chain)
    client = Initiator(KeyPair.generate(), other.root)
    with pytest.raises(AssertionError):
        client.finish(server.respond(client.hello()), b"")


def test_another_prologue_breaks_the_handshake() -> None:
    identity = make_noise_identity()
    server, client = Handshake(b"WA\x06\x02", identity.static, identity.chain), Initiator(KeyPair.generate())
    with pytest.raises(Exception, match=r"^$|tag"):
        client.finish(server.respond(client.hello()), b"")


@given(st.binary(max_size=120))
def test_garbage_in_the_handshake_is_a_noise_error(data: bytes) -> None:
    identity = make_noise_identity()
    with pytest.raises(NoiseError):
        Handshake(HEADER, identity.static, identity.chain).respond(data)
    server, client = Handshake(HEADER, identity.static, identity.chain), Initiator(KeyPair.generate())
    server.respond(client.hello())
    with pytest.raises(NoiseError):
        server.finish(data)
    message = wa6.HandshakeMessage(clientFinish=wa6.HandshakeMessage.ClientFinish(static=data, payload=data))
    with pytest.raises(NoiseError):
        server.finish(message.SerializeToString())


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 40), st.booleans())
def test_frames_may_be_split_and_joined(messages: list[bytes], step: int, routed: bool) -> None:
    stream = (b"ED\0\1\0\0\3abc" if routed else b"") + HEADER + b"".join(frame(m) for m in messages)
    frames = Frames()
    out = [f for i in range(0, len(stream), step) for f in frames.feed(stream[i : i + step])]
    assert out == messages and frames.header == HEADER


def test_another_protocol_is_refused() -> None:
    with pytest.raises(NoiseError, match="header"):
        Frames().feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(NoiseError, match="too long"):
        frame(bytes(1 << 24))

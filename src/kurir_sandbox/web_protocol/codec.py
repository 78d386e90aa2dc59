"""Binary XMPP: the byte form of stanzas on the WhatsApp Web wire.

A frame is a flag byte (bit 1: zlib) and a node. A node is a list: tag, attribute pairs, optional content. Strings
may be raw, packed (digits or hex, two to a byte) or an index into the dictionary of protocol version 3
(`tokens.json`), which equals the table in whatsmeow's `binary/token`. This encoder writes every string raw, which
every client accepts.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from .stanza import JID, USER_SERVER, Attribute, Node, NodeContent, StanzaError, readable

MAX_INFLATED = 1 << 25
MAX_DEPTH = 32

_DICTIONARY: dict[str, Any] = json.loads((Path(__file__).parent / "tokens.json").read_text("utf-8"))
_SINGLE: list[str] = _DICTIONARY["single"]
_DOUBLE: list[list[str]] = _DICTIONARY["double"]

_LIST_EMPTY, _DOUBLE_0, _INTEROP, _FACEBOOK, _AD_JID = 0, 236, 245, 246, 247
_LIST_8, _LIST_16, _JID_PAIR, _HEX, _BYTES_8, _BYTES_20, _BYTES_32, _NIBBLE = 248, 249, 250, 251, 252, 253, 254, 255
_DOMAINS = {0: USER_SERVER, 1: "lid", 128: "hosted", 129: "hosted.lid"}
_DOMAIN_BYTES = {server: byte for byte, server in _DOMAINS.items()}
_NIBBLES = "0123456789-.???\0"
_HEX_DIGITS = "0123456789ABCDEF"


class CodecError(ValueError):
    """Bytes that are no stanza."""


def decode(frame: bytes) -> Node:
    """The stanza in one decrypted frame. Raises CodecError for anything malformed, truncated or too large.

    To WhatsApp's server text is bytes, which clients choose and others repeat: an attribute that is not UTF-8 is given
    as bytes, a tag, a name or an address with `\\xff` in the place of such a byte.
    """
    if not frame:
        raise CodecError("empty frame")
    data = frame[1:]
    if frame[0] & 2:
        data = _inflate(data)
    reader = _Reader(data)
    try:
        node = reader.node(0)
    except (IndexError, StanzaError) as error:
        raise CodecError(f"malformed stanza near byte {reader.at}: {error}") from error
    if reader.at != len(data):
        raise CodecError(f"{len(data) - reader.at} bytes after the stanza")
    return node


def encode(node: Node) -> bytes:
    """One frame (uncompressed) that holds `node`."""
    return b"\0" + _node(node)


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise CodecError(f"bad zlib data: {error}") from error
    if inflater.unconsumed_tail or not inflater.eof:
        raise CodecError("zlib data is truncated or inflates to too much")
    return out


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def raw(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise CodecError(f"{size} bytes announced, {len(self.data) - self.at} left")
        value = self.data[self.at : end]
        self.at = end
        return value

    def number(self, size: int) -> int:
        return int.from_bytes(self.raw(size), "big")

    def list_size(self, tag: int) -> int:
        if tag == _LIST_EMPTY:
            return 0
        if tag == _LIST_8:
            return self.byte()
        if tag == _LIST_16:
            return self.number(2)
        raise CodecError(f"a list expected, byte {tag} found")

    def node(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise CodecError("stanza nested too deep")
        size = self.list_size(self.byte())
        if size == 0:
            raise CodecError("a node without a tag")
        tag = self.string("tag")
        attrs: dict[str, Attribute | None] = {}
        for _ in range((size - 1) // 2):
            name = self.string("attribute name")
            attrs[name] = self.value(self.byte())
        return Node(tag, attrs, self.content(depth) if size % 2 == 0 else None)

    def content(self, depth: int) -> NodeContent:
        tag = self.byte()
        if tag in (_LIST_8, _LIST_16):
            return [self.node(depth + 1) for _ in range(self.list_size(tag))]
        if tag in (_BYTES_8, _BYTES_20, _BYTES_32):
            return self.bytes(tag)
        value = self.value(tag)
        return value if value is None or isinstance(value, bytes) else str(value).encode()

    def string(self, what: str) -> str:
        value = readable(self.value(self.byte()))
        if not isinstance(value, str):
            raise CodecError(f"{what}: text expected")
        return value

    def bytes(self, tag: int) -> bytes:
        if tag == _BYTES_8:
            return self.raw(self.byte())
        return self.raw(self.number(3) & 0xFFFFF if tag == _BYTES_20 else self.number(4))

    def text(self, raw: bytes) -> str | bytes:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw

    def value(self, tag: int) -> Attribute | None:
        """A string, a JID or nothing; `tag` is the byte just read."""
        if tag == _LIST_EMPTY:
            return None
        if tag in (_BYTES_8, _BYTES_20, _BYTES_32):
            return self.text(self.bytes(tag))
        if tag in (_HEX, _NIBBLE):
            return self.packed(_HEX_DIGITS if tag == _HEX else _NIBBLES)
        if tag in (_JID_PAIR, _AD_JID, _FACEBOOK, _INTEROP):
            return self.jid(tag)
        if _DOUBLE_0 <= tag < _DOUBLE_0 + len(_DOUBLE):
            return _DOUBLE[tag - _DOUBLE_0][self.byte()]
        return _SINGLE[tag]

    def jid(self, tag: int) -> JID:
        if tag == _JID_PAIR:
            user = readable(self.value(self.byte()))
            return JID("" if user is None else str(user), self.string("jid server"))
        if tag == _AD_JID:
            domain, device = self.byte(), self.byte()
            if domain not in _DOMAINS:
                raise CodecError(f"jid: unknown domain {domain}")
            return JID(self.string("jid user"), _DOMAINS[domain], device)
        user, device = self.string("jid user"), self.number(2)
        if tag == _INTEROP:
            self.number(2)
        return JID(user, self.string("jid server"), device)

    def packed(self, alphabet: str) -> str:
        start = self.byte()
        text = "".join(alphabet[b >> 4] + alphabet[b & 15] for b in self.raw(start & 0x7F))
        return text[:-1] if start & 0x80 else text


def _list(size: int) -> bytes:
    if size == 0:
        return bytes([_LIST_EMPTY])
    if size < 256:
        return bytes([_LIST_8, size])
    if size < 1 << 16:
        return bytes([_LIST_16]) + size.to_bytes(2, "big")
    raise CodecError(f"a list of {size} does not fit in a stanza")


def _bytes(data: bytes) -> bytes:
    if len(data) < 256:
        return bytes([_BYTES_8, len(data)]) + data
    if len(data) < 1 << 20:
        return bytes([_BYTES_20]) + len(data).to_bytes(3, "big") + data
    return bytes([_BYTES_32]) + len(data).to_bytes(4, "big") + data


def _value(value: Attribute) -> bytes:
    if isinstance(value, str | bytes):
        return _bytes(value if isinstance(value, bytes) else value.encode())
    if value.device:
        if value.server not in _DOMAIN_BYTES:
            raise CodecError(f"a JID at {value.server} has no devices")
        return bytes([_AD_JID, _DOMAIN_BYTES[value.server], value.device]) + _bytes(value.user.encode())
    user = _bytes(value.user.encode()) if value.user else bytes([_LIST_EMPTY])
    return bytes([_JID_PAIR]) + user + _bytes(value.server.encode())


def _node(node: Node) -> bytes:
    attrs = [(k, v) for k, v in node.attrs.items() if v is not None]
    parts = [_list(1 + 2 * len(attrs) + (node.content is not None)), _bytes(node.tag.encode())]
    for name, value in attrs:
        parts += (_bytes(name.encode()), _value(value))
    if isinstance(node.content, list):
        parts.append(_list(len(node.content)))
        parts += [_node(child) for child in node.content]
    elif node.content is not None:
        parts.append(_bytes(node.content))
    return b"".join(parts)

"""Stanzas of the WhatsApp Web wire: an XML-like node with a tag, attributes and children or bytes, and JIDs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

USER_SERVER = "s.whatsapp.net"
LID_SERVER = "lid"
GROUP_SERVER = "g.us"


class StanzaError(ValueError):
    """A stanza that lacks a field or holds a wrong one; the text names the field."""


@dataclass(frozen=True, slots=True)
class JID:
    """An address on the wire: a phone number (`s.whatsapp.net`), a LID (`lid`), a group (`g.us`) or a server.

    `device` is 0 for the primary device (the phone) and for everything that is no device.
    """

    user: str
    server: str = USER_SERVER
    device: int = 0

    def __str__(self) -> str:
        if not self.user:
            return self.server
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}"

    @property
    def account(self) -> JID:
        """The same address without its device."""
        return JID(self.user, self.server)

    @classmethod
    def parse(cls, text: str) -> JID:
        """`user[:device]@server`, or a bare server. Raises StanzaError for a device that is no number."""
        user, at, server = text.rpartition("@")
        if not at:
            return cls("", text)
        user, _, device = user.partition(":")
        if device and not (device.isascii() and device.isdecimal() and int(device) < 256):
            raise StanzaError(f"jid: device {device[:20]!r} is not a number below 256")
        return cls(user, server, int(device or 0))


SERVER = JID("", USER_SERVER)
GROUPS = JID("", GROUP_SERVER)

Attribute: TypeAlias = str | JID | bytes
"""Text, an address, or bytes that are not UTF-8 in the place of text."""
NodeContent: TypeAlias = "list[Node] | bytes | None"


def readable(value: Attribute | None) -> str | JID | None:
    """A value to read; bytes that are not UTF-8 become text that shows them (`\\xff`), others other text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


@dataclass(slots=True)
class Node:
    """One stanza or a part of one. An attribute that is None is left out on the wire."""

    tag: str
    attrs: Mapping[str, Attribute | None] = field(default_factory=dict[str, Attribute | None])
    content: NodeContent = None

    @property
    def children(self) -> list[Node]:
        """The child nodes; empty when the content is bytes or nothing."""
        return self.content if isinstance(self.content, list) else []

    @property
    def data(self) -> bytes:
        """The byte content; empty when there is none."""
        return self.content if isinstance(self.content, bytes) else b""

    def child(self, *path: str) -> Node | None:
        """The first descendant along `path` of tags, or None."""
        node: Node | None = self
        for tag in path:
            node = next((c for c in node.children if c.tag == tag), None)
            if node is None:
                return None
        return node

    def all(self, tag: str) -> list[Node]:
        """The children named `tag`, in order."""
        return [c for c in self.children if c.tag == tag]

    def need(self, *path: str) -> Node:
        """Like `child`, but raises StanzaError naming the path when it isn't there."""
        found = self.child(*path)
        if found is None:
            raise StanzaError(f"{self.tag}/{'/'.join(path)} is missing")
        return found

    def text(self, name: str, default: str = "") -> str:
        """Attribute `name` as text, `default` when it isn't there."""
        value = readable(self.attrs.get(name))
        return default if value is None else str(value)

    def jid(self, name: str) -> JID | None:
        """Attribute `name` as a JID, None when it isn't there. Raises StanzaError for a malformed one."""
        value = self.attrs.get(name)
        return value if value is None or isinstance(value, JID) else JID.parse(self.text(name))

    def need_text(self, name: str) -> str:
        """Attribute `name` as text; raises StanzaError when it is absent or empty."""
        value = self.text(name)
        if not value:
            raise StanzaError(f"{self.tag}: attribute {name} is missing")
        return value

    def need_id(self) -> str | bytes:
        """The attribute id unchanged, for a repetition; raises StanzaError when it is absent or empty."""
        value = self.attrs.get("id")
        return value if isinstance(value, bytes) and value else self.need_text("id")

    def need_jid(self, name: str) -> JID:
        """Attribute `name` as a JID; raises StanzaError when it is absent."""
        value = self.jid(name)
        if value is None:
            raise StanzaError(f"{self.tag}: attribute {name} is missing")
        return value

    def need_data(self, *path: str, size: int | None = None) -> bytes:
        """The bytes under `path`; raises StanzaError when they are absent or not `size` bytes long."""
        node = self.need(*path) if path else self
        if not node.data or (size is not None and len(node.data) != size):
            wanted = f"{size} bytes" if size else "bytes"
            raise StanzaError(f"{self.tag}/{'/'.join(path)}: {wanted} expected, {len(node.data)} found")
        return node.data

    def __str__(self) -> str:
        """A short XML-like rendering for logs; long byte contents are cut."""
        attrs = "".join(f' {k}="{self.text(k)}"' for k, v in self.attrs.items() if v is not None)
        if self.content is None:
            return f"<{self.tag}{attrs}/>"
        if isinstance(self.content, list):
            shown = "".join(map(str, self.content[:8])) + ("…" if len(self.content) > 8 else "")
        else:
            shown = self.content[:16].hex() + (f"…({len(self.content)} bytes)" if len(self.content) > 16 else "")
        return f"<{self.tag}{attrs}>{shown}</{self.tag}>"


def result(iq: Node, content: NodeContent = None) -> Node:
    """The answer `<iq type=result>` to the request `iq`."""
    return Node("iq", {"from": iq.jid("to") or SERVER, "type": "result", "id": iq.need_id()}, content)


def refusal(iq: Node, code: int, text: str, **further: str) -> Node:
    """The answer `<iq type=error>` with an error code, e.g. 404 item-not-found, and further attributes of `<error>`."""
    attrs: dict[str, Attribute | None] = {
        "from": iq.jid("to") or SERVER,
        "type": "error",
        "id": iq.need_id(),
    }
    return Node("iq", attrs, [Node("error", {"code": str(code), "text": text, **further})])

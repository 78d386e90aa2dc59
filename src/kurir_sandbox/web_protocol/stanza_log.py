"""The stanza log: what linked devices sent lately, for those who judge a client by its stanzas."""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import Any

from . import stanza_json
from .linked_devices import Device
from .stanza import Node

_KEPT = 2000
_LONGEST_CONTENT = 4096


class StanzaLog:
    """The latest 2,000 stanzas of all devices; contents above 4 KB are left out. A restart forgets them."""

    def __init__(self) -> None:
        self._rows: deque[tuple[int, float, str, Node]] = deque(maxlen=_KEPT)
        self._ids = itertools.count(1)

    def add(self, device: Device, node: Node) -> None:
        """Notes a stanza that `device` sent."""
        self._rows.append((next(self._ids), time.time(), str(device.jid), _shortened(node)))

    def of(self, jid: str, after: int, tag: str = "") -> list[dict[str, Any]]:
        """The stanzas of the device `jid` above the id `after`, oldest first: `id`, `at` (unix seconds), `stanza`."""
        return [
            {"id": number, "at": at, "stanza": stanza_json.shown(node)}
            for number, at, sender, node in self._rows
            if sender == jid and number > after and tag in ("", node.tag)
        ]


def _shortened(node: Node) -> Node:
    if isinstance(node.content, list):
        return Node(node.tag, node.attrs, [_shortened(child) for child in node.content])
    return node if len(node.data) <= _LONGEST_CONTENT else Node(node.tag, node.attrs)

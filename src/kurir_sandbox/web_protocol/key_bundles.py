"""Key bundles as stanza parts, in both directions."""

from __future__ import annotations

from .signal_sessions import Bundle
from .stanza import Node


def bundle_nodes(bundle: Bundle) -> list[Node]:
    """A key bundle as stanza parts; the registration id is the first."""
    nodes = [
        Node("registration", {}, bundle.registration.to_bytes(4, "big")),
        Node("type", {}, b"\x05"),
        Node("identity", {}, bundle.identity),
        Node(
            "skey",
            {},
            [
                Node("id", {}, bundle.signed_key_id.to_bytes(3, "big")),
                Node("value", {}, bundle.signed_key),
                Node("signature", {}, bundle.signature),
            ],
        ),
    ]
    if bundle.one_time_id is not None and bundle.one_time_key is not None:
        number = Node("id", {}, bundle.one_time_id.to_bytes(3, "big"))
        nodes.append(Node("key", {}, [number, Node("value", {}, bundle.one_time_key)]))
    return nodes


def bundle_of(receipt: Node, keys: Node) -> Bundle:
    """The key bundle inside a retry receipt. Raises StanzaError for parts that are absent or of a wrong size."""
    one_time = keys.child("key")
    return Bundle(
        registration=int.from_bytes(receipt.need_data("registration", size=4), "big"),
        identity=keys.need_data("identity", size=32),
        signed_key_id=int.from_bytes(keys.need_data("skey", "id", size=3), "big"),
        signed_key=keys.need_data("skey", "value", size=32),
        signature=keys.need_data("skey", "signature", size=64),
        one_time_id=int.from_bytes(one_time.need_data("id", size=3), "big") if one_time else None,
        one_time_key=one_time.need_data("value", size=32) if one_time else None,
    )

"""What can go wrong on the two wires: every effect of a fault, with its kinds and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from kurir_sandbox.traffic import ChannelName

REQUESTS = ("send", "read", "upload", "download", "object", "template", "account")
"""Kinds of requests to the Graph API: `read` is "mark as read", `object` is `/{id}`, `account` everything else."""
CONNECTIONS = ("connect", "upload", "download")
"""Kinds of HTTP requests on the linked-device wire: the WebSocket, and media."""
STANZAS = ("message", "receipt", "ack", "iq", "presence", "chatstate")
"""Kinds of stanzas that a linked device sends."""
CONTENTS = ("text", "image", "document", "location", "contact", "poll", "reaction", "template", "unsupported")
"""Kinds of messages, as the ledger names them."""
RECEIPTS = ("delivered", "read")
"""Kinds of receipts of a phone on both wires."""
PHONE_RECEIPTS = (*RECEIPTS, "retry")
"""Kinds of receipts of a phone to linked devices; with `retry` it asks for a message that it could not read."""
CALLBACKS = ("sent", *RECEIPTS, "failed", "message", "template")
"""Kinds of callbacks: the status they report, an inbound message, or a template's review."""
QUERIES = "any namespace of an `<iq>`, or namespace/tag of its first child"
"""Kinds of queries, which cannot be listed: w:g2, w:g2/participating, usync, encrypt/key, encrypt/count, w:m, …"""

_BOTH: tuple[ChannelName, ...] = get_args(ChannelName)
_CLOUD: tuple[ChannelName, ...] = ("cloud_api",)
_WEB: tuple[ChannelName, ...] = ("linked_device",)
_HTTP = tuple(dict.fromkeys((*REQUESTS, *CONNECTIONS)))


@dataclass(frozen=True, slots=True)
class Effect:
    """What can go wrong.

    does: the sentence shown to people. channels: the wires that have it. kinds: what `kind` may be; empty when it has
    none. needs, takes: mandatory and optional parameters. to_phone: whether the recipient is known by then.
    """

    does: str
    channels: tuple[ChannelName, ...]
    kinds: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    to_phone: bool = True
    free_kind: str = ""


EFFECTS: dict[str, Effect] = {
    # an HTTP request, before anything is done with it
    "reset": Effect("the connection is reset before the body is read", _BOTH, _HTTP, to_phone=False),
    "reset_after_body": Effect("the connection is reset once the whole body was read; nothing is done", _BOTH, _HTTP),
    "delay": Effect("the request is handled `seconds` later", _BOTH, _HTTP, ("seconds",)),
    "hang": Effect("no answer for `seconds`, then the connection is reset", _BOTH, _HTTP, ("seconds",)),
    "http": Effect("a bare `status` with an HTML body", _BOTH, _HTTP, ("status",), ("retry_after",)),
    "error": Effect("a Graph error `code` in JSON", _CLOUD, REQUESTS, ("code",), ("status", "retry_after")),
    # its answer, after all was done (of a send: after it was accepted)
    "drop_answer": Effect("done, but the connection is reset without an answer", _BOTH, _HTTP),
    "truncate_answer": Effect("done, but the answer breaks off in the middle", _BOTH, _HTTP),
    "late_answer": Effect("done, but answered `seconds` later", _BOTH, _HTTP, ("seconds",)),
    "trickle_answer": Effect("done, but the answer's body takes `seconds`", _BOTH, _HTTP, ("seconds",)),
    "short_answer": Effect("done, but the answer is complete with half of its body", _BOTH, _HTTP),
    "corrupt_answer": Effect("done, but a byte in the middle of the answer is wrong", _BOTH, _HTTP),
    "callbacks_first": Effect(
        "the webhook hears `delivered` or `failed` before the send is answered", _CLOUD, takes=("seconds",)
    ),
    # an accepted message on its way to the phone
    "lose": Effect("accepted, but it never reaches the phone and nobody hears of it", _BOTH, CONTENTS),
    "fail": Effect("accepted, then a `failed` status with `code`", _CLOUD, CONTENTS, ("code",)),
    # callbacks
    "withhold_callback": Effect("the callback is never sent", _CLOUD, CALLBACKS),
    "late_callback": Effect(
        "the callback goes out `seconds` later; others overtake it", _CLOUD, CALLBACKS, ("seconds",)
    ),
    "duplicate_callback": Effect("the callback goes out twice", _CLOUD, CALLBACKS),
    "swap_callback": Effect(
        "the callback goes out after the next one for the person (`seconds` later at most)",
        _CLOUD,
        CALLBACKS,
        takes=("seconds",),
    ),
    # a linked device's login and line
    "refuse_login": Effect(
        "the login gets a failure with `reason`", _WEB, needs=("reason",), takes=("attributes",), to_phone=False
    ),
    "end_login": Effect(
        "the connection ends right after the login (or `seconds` later), with stream error `code` if one is given",
        _WEB,
        takes=("seconds", "code"),
        to_phone=False,
    ),
    "withhold_restart": Effect(
        "the device was linked, but does not get stream error 515, upon which it logs in", _WEB, to_phone=False
    ),
    "cut": Effect("the connection breaks off at a stanza of the device, which is not handled", _WEB, STANZAS),
    "silence": Effect("the connection stays open, but from the next stanza on it is dead", _WEB, to_phone=False),
    "logout": Effect("the device is unlinked at a stanza of it, which is not handled", _WEB, STANZAS),
    "replace": Effect(
        "the device is notified that it was replaced at a stanza of it, which is not handled", _WEB, STANZAS
    ),
    # a linked device's messages
    "refuse_message": Effect(
        "the message is refused with error `code`", _WEB, needs=("code",), takes=("attributes", "first_contact")
    ),
    "swallow_message": Effect("the message reaches nobody, and no ack comes", _WEB, takes=("first_contact",)),
    "withhold_ack": Effect("the message reaches the phone, but no ack comes", _WEB, takes=("first_contact",)),
    "cut_before_ack": Effect("the message reaches the phone, then the connection breaks off before the ack", _WEB),
    "slow_ack": Effect("the message reaches the phone, and the ack comes `seconds` later", _WEB, needs=("seconds",)),
    "ask_again": Effect(
        "the phone cannot read the message and asks for it again `seconds` later", _WEB, takes=("seconds",)
    ),
    "withhold_receipt": Effect("the phone's receipt is never sent", _WEB, PHONE_RECEIPTS),
    "late_receipt": Effect("the phone's receipt is sent `seconds` later", _WEB, PHONE_RECEIPTS, ("seconds",)),
    "duplicate_receipt": Effect("the phone's receipt is sent twice", _WEB, PHONE_RECEIPTS),
    # what a linked device asks for
    "refuse_query": Effect(
        "the query is answered with error `code`", _WEB, (), ("code",), ("text", "attributes"), free_kind=QUERIES
    ),
    "ignore_query": Effect("the query is never answered", _WEB, free_kind=QUERIES),
    "slow_query": Effect("the query is handled `seconds` later", _WEB, needs=("seconds",), free_kind=QUERIES),
    "no_keys": Effect(
        "asked for the keys of the person's devices (or one `device`), the server answers error `code` (404)",
        _WEB,
        takes=("device", "code", "text"),
    ),
    "omit_keys": Effect(
        "asked for the keys of the person's devices (or one `device`), the server leaves them out of its answer",
        _WEB,
        takes=("device",),
    ),
    "hide_lid": Effect("asked about the person, the server says that there is one, but not the LID", _WEB),
}

"""Stanzas as JSON: both ways, and what is wrong names its field."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kurir_sandbox.web_protocol import codec, stanza_json
from kurir_sandbox.web_protocol.stanza import JID, Node


def test_a_stanza_in_both_forms() -> None:
    described = {
        "tag": "notification",
        "attributes": {
            "from": "123-4@g.us",
            "to": "62:3@lid",
            "type": "w:gp2",
            "gone": None,
            "server": "s.whatsapp.net",
            "notify": "me@lid",
            "subject": {"jid": "1@lid"},
            "mail": "me@example.com",
            "words": "mail me @ 5",
            "forced": {"text": "1@lid"},
            "raw": {"base64": "//4="},
        },
        "children": [{"tag": "x", "content": "AAE="}, {"tag": "y", "text": "halo"}, {"tag": "z"}],
    }
    stanza = stanza_json.node(described, "stanza")
    assert stanza == Node(
        "notification",
        {
            "from": JID("123-4", "g.us"),
            "to": JID("62", "lid", 3),
            "type": "w:gp2",
            "gone": None,
            "server": JID("", "s.whatsapp.net"),
            "notify": "me@lid",
            "subject": JID("1", "lid"),
            "mail": "me@example.com",
            "words": "mail me @ 5",
            "forced": "1@lid",
            "raw": b"\xff\xfe",
        },
        [Node("x", {}, b"\0\1"), Node("y", {}, b"halo"), Node("z")],
    )
    assert stanza_json.node(stanza_json.shown(stanza), "again") == stanza
    del stanza.attrs["gone"]  # pyright: ignore[reportIndexIssue]
    assert codec.decode(codec.encode(stanza)) == stanza


DEEP: dict[str, Any] = {"tag": "x"}
for _ in range(40):
    DEEP = {"tag": "x", "children": [DEEP]}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (None, "s"),
        ([], "s"),
        ({}, "s.tag"),
        ({"tag": ""}, "s.tag"),
        ({"tag": 5}, "s.tag"),
        ({"tag": "a", "attrs": {}}, "s.attrs"),
        ({"tag": "a", "attributes": []}, "s.attributes"),
        ({"tag": "a", "attributes": {"b": 5}}, "s.attributes.b"),
        ({"tag": "a", "attributes": {"b": True}}, "s.attributes.b"),
        ({"tag": "a", "attributes": {"b": "1:999@lid"}}, "s.attributes.b"),
        ({"tag": "a", "attributes": {"b": {"jid": "1", "text": "1"}}}, "s.attributes.b"),
        ({"tag": "a", "attributes": {"b": {"base64": "?"}}}, "s.attributes.b"),
        ({"tag": "a", "children": {}}, "s.children"),
        ({"tag": "a", "children": [{"tag": "b"}, {"tag": None}]}, "s.children.1.tag"),
        ({"tag": "a", "content": "a"}, "s.content"),
        ({"tag": "a", "content": 1}, "s.content"),
        ({"tag": "a", "text": 1}, "s.text"),
        ({"tag": "a", "text": "", "content": ""}, "s.text"),
        ({"tag": "a", "attributes": {"b": "1:5@g.us"}}, "s.attributes.b"),
        (DEEP, ".children" * 21),
    ],
)
def test_what_is_no_stanza_names_its_field(wrong: Any, field: str) -> None:
    with pytest.raises(stanza_json.FormError) as refused:
        stanza_json.node(wrong, "s")
    assert refused.value.field.replace(".0", "").endswith(field)


def test_bytes_may_be_empty() -> None:
    assert stanza_json.octets("", "raw") == b""
    assert stanza_json.octets(base64.b64encode(b"\xff\0").decode(), "raw") == b"\xff\0"


def test_what_no_frame_can_hold_is_refused() -> None:
    with pytest.raises(stanza_json.FormError, match="at most"):
        stanza_json.check_size(Node("x", {}, bytes(stanza_json.MAX_STANZA)), "s")
    with pytest.raises(stanza_json.FormError, match="fit"):
        stanza_json.check_size(Node("x", {}, [Node("y")] * 70_000), "s")
    stanza_json.check_size(Node("x", {}, bytes(1000)), "s")


KEYS = st.sampled_from(["tag", "attributes", "children", "content", "text", "jid", "base64", "id", "from"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["1@lid", "1:300@lid", "g.us", "AA=="]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(JSON | st.fixed_dictionaries({"tag": st.text(min_size=1)}, optional={"attributes": JSON, "children": JSON}))
def test_any_json_is_a_stanza_that_can_be_sent_or_is_refused(value: Any) -> None:
    try:
        stanza = stanza_json.node(value, "stanza")
    except stanza_json.FormError as refused:
        assert refused.field.startswith("stanza")
        return
    assert codec.decode(codec.encode(stanza)).tag == stanza.tag
    assert stanza_json.node(stanza_json.shown(stanza), "again") == stanza

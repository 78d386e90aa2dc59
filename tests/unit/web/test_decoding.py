"""Bodies as clients send them, and bodies nobody should send: fields, or a 400 that says why. Nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.contract.samples import samples
from tests.harness.properties import examples

from kurir.web.compat_v1 import decoding
from kurir.web.compat_v1.decoding import decode
from kurir.web.compat_v1.envelopes import WireError

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PARTS = "multipart/form-data; boundary=line"


def parts(*fields: tuple[str, str], end: str = "--line--\r\n") -> bytes:
    rows = [f'--line\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    return ("".join(rows) + end).encode()


@pytest.mark.parametrize(
    ("raw", "content_type", "fields"),
    [
        (b'{"a":"1"}', JSON, {"a": "1"}),
        (b'{"a":"1"}', "", {"a": "1"}),
        (b'{"a":"1"}', "text/plain", {"a": "1"}),
        (b'{"a":"1"}', FORM, {"a": "1"}),
        (b'{"a":"1"}', PARTS, {"a": "1"}),
        (b'{"a":"1"}', "application/json; charset=ISO-8859-1", {"a": "1"}),
        (b' \r\n\t{"a":"1"}\n', JSON, {"a": "1"}),
        (b'\xef\xbb\xbf{"a":"1"}', JSON, {"a": "1"}),
        (b"{}", JSON, {}),
        (b'{"a":null}', JSON, {"a": None}),
        (b'{"a":1,"a":2}', JSON, {"a": 2}),
        (b'{"a":"1", //one\r\n"b":"2"}', JSON, {"a": "1", "b": "2"}),
        (b'{"a":"1" //one or two\n}', JSON, {"a": "1"}),
        (b'{"a":"1"} // the end', JSON, {"a": "1"}),
        (b'// the beginning\n{"a":"1"}', JSON, {"a": "1"}),
        (b'{"a":"https://example.com/x.png"}', JSON, {"a": "https://example.com/x.png"}),
        (b'{"a":"https://x/y", //see https://z\n"b":"//kept"}', JSON, {"a": "https://x/y", "b": "//kept"}),
        (b'{"a":"a \\" // b" //c\n}', JSON, {"a": 'a " // b'}),
        (b'{"a":"\\\\" //c\n}', JSON, {"a": "\\"}),
        ('{"a":"Selamat ☀️"}'.encode(), JSON, {"a": "Selamat ☀️"}),
        (b'{"a":"\\ud83d\\ude00"}', JSON, {"a": "😀"}),
        (b'{"a":18446744073709551616}', JSON, {"a": 18446744073709551616}),
        (b"a=1&b=2", FORM, {"a": "1", "b": "2"}),
        (b"a=1&b=2", "", {"a": "1", "b": "2"}),
        (b"a=1&b=2", "text/plain", {"a": "1", "b": "2"}),
        (b"a=&b=2", FORM, {"a": "", "b": "2"}),
        (b"a=1&a=2", FORM, {"a": "2"}),
        (b"message=Halo+kak%21+%F0%9F%98%80", FORM, {"message": "Halo kak! 😀"}),
        (b"v[]=x&v[]=y", FORM, {"v": ["x", "y"]}),
        (b"v%5B0%5D=x&v%5B1%5D=y", FORM, {"v": ["x", "y"]}),
        (b"search[value]=jo", FORM, {"search": {"value": "jo"}}),
        (
            b"order[0][column]=1&order[0][dir]=asc&columns[0][data]=name",
            FORM,
            {"order": [{"column": "1", "dir": "asc"}], "columns": [{"data": "name"}]},
        ),
        (b"a[=1", FORM, {"a[": "1"}),
        (parts(("a", "1"), ("b", "two words")), PARTS, {"a": "1", "b": "two words"}),
        (parts(("v[]", "x"), ("v[]", "y")), PARTS, {"v": ["x", "y"]}),
        (parts(("message", "é 😀")), PARTS, {"message": "é 😀"}),
        (parts(("a", "")), PARTS, {"a": ""}),
    ],
)
def test_bodies_that_clients_send(raw: bytes, content_type: str, fields: dict[str, Any]) -> None:
    assert decode(raw, content_type) == fields


@pytest.mark.parametrize(
    ("raw", "content_type", "words"),
    [
        (b"", JSON, "empty"),
        (b"  \n", "", "empty"),
        (b"\xef\xbb\xbf", JSON, "empty"),
        (b"", FORM, "empty"),
        (b"[]", JSON, "must be a JSON object"),
        (b'[{"a":1}]', JSON, "must be a JSON object"),
        (b'"text"', JSON, "must be a JSON object"),
        (b"null", JSON, "must be a JSON object"),
        (b"12", JSON, "must be a JSON object"),
        (b"true", JSON, "must be a JSON object"),
        (b"hello", JSON, "not JSON"),
        (b"hello", "", "not JSON"),
        (b'{"a":1', JSON, "not JSON"),
        (b'{"a":1}}', JSON, "not JSON"),
        (b'{"a":1,}', JSON, "not JSON"),
        (b"{'a':1}", JSON, "not JSON"),
        (b"{a:1}", JSON, "not JSON"),
        (b'{"a":NaN}', JSON, "not JSON"),
        (b'{"a":Infinity}', JSON, "not JSON"),
        (b'{"a":1e400}', JSON, "not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", JSON, "not JSON"),
        (b'{"a":"\x01"}', JSON, "not JSON"),
        (b'{"a":"\\ud800"}', JSON, "not JSON"),
        (b'{"a":"\\udc00\\ud800"}', JSON, "not JSON"),
        (b'{"a":"\\x41"}', JSON, "not JSON"),
        (b'{"a":/* no */1}', JSON, "not JSON"),
        (b'{"a":"unclosed // "', JSON, "not JSON"),
        (b'{"a":"\xff"}', JSON, "UTF-8"),
        ('{"a":"é"}'.encode("latin-1"), JSON, "UTF-8"),
        ('{"a":"1"}'.encode("utf-16"), JSON, "UTF-16"),
        ('{"a":"1"}'.encode("utf-16-le"), JSON, "UTF-16"),
        ('{"a":"1"}'.encode("utf-16-be"), JSON, "UTF-16"),
        ('{"a":"1"}'.encode("utf-32"), JSON, "UTF-16"),
        (b'{"a":' * 100_000, JSON, "nested too deeply"),
        (b'{"a":' + b"[" * 100_000, JSON, "nested too deeply"),
        (b'{"a":' * 41 + b"1" + b"}" * 41, JSON, "nested too deeply"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"//", JSON, "nested too deeply"),
        (b"a=%ff", FORM, "UTF-8"),
        (b"a=\xff", FORM, "UTF-8"),
        (b"&".join(b"a%d=1" % n for n in range(501)), FORM, "500"),
        (b"a=1&a[b]=2", FORM, "both"),
        (b"a[b]=2&a=1", FORM, "both"),
        (b"a" + b"[b]" * 20 + b"=1", FORM, "deeply"),
        (b"no parts here", PARTS, "multipart"),
        (b"no parts here", "multipart/form-data; boundary=" + "x" * 300, "multipart"),
        (parts(("a", "1"), end=""), PARTS, "closing boundary"),
        (parts(("a", "1")), "multipart/form-data", "boundary"),
        (parts(("a", "1")), "multipart/form-data; boundary=other", "multipart"),
        (b"--line\r\nContent-Disposition: form-data\r\n\r\n1\r\n--line--\r\n", PARTS, "multipart"),
        (b'--line\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--line--\r\n', PARTS, "UTF-8"),
        (
            b'--line\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nPNG\r\n--line--\r\n',
            PARTS,
            "Field `image` is an uploaded file",
        ),
    ],
)
def test_bodies_that_cannot_be_read_say_why(raw: bytes, content_type: str, words: str) -> None:
    with pytest.raises(WireError) as refusal:
        decode(raw, content_type)
    assert (refusal.value.code, refusal.value.type) == ("400", "invalid_request")
    for language in ("id", "en"):
        assert refusal.value.body(language)["message"]
    assert words in refusal.value.body("en")["message"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip", "GZIP"])
def test_compressed_bodies_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(WireError, match="Content-Encoding"):
        decode(b"{}", JSON, encoding)


def test_identity_encoding_is_no_encoding() -> None:
    assert decode(b"{}", JSON, "identity") == {}


@pytest.mark.parametrize(
    "raw",
    [b'{"a' + b'\\"' * 120_000 + b"//", b"{" + b'"' * 250_000 + b"//", b"{" + b"/" * 250_000, b'{"' + b"\\" * 250_001],
)
@pytest.mark.timeout(5)
def test_comment_removal_takes_linear_time(raw: bytes) -> None:
    with pytest.raises(WireError):
        decode(raw, JSON)


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)
fields_of_json = st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), values, max_size=6)


@given(fields_of_json, st.sampled_from([JSON, "", FORM, "text/html", PARTS]))
def test_any_json_object_comes_through_whatever_the_content_type(fields: dict[str, Any], content_type: str) -> None:
    assert decode(json.dumps(fields).encode(), content_type) == fields


@given(fields_of_json, st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n")))
def test_a_comment_after_any_line_changes_nothing(fields: dict[str, Any], comment: str) -> None:
    lines = json.dumps(fields, indent=1).splitlines()
    raw = "".join(f"{line} //{comment}\r\n" for line in lines)
    assert decode(raw.encode(), JSON) == fields


names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="[]"), min_size=1, max_size=8)


@given(st.dictionaries(names, st.text(st.characters(exclude_categories=("Cs",))), min_size=1))
def test_any_form_comes_through(fields: dict[str, str]) -> None:
    raw = urlencode(fields).encode()
    assert decode(raw, FORM) == fields


@given(
    st.binary(max_size=400),
    st.sampled_from([JSON, "", FORM, PARTS, "multipart/form-data", "multipart/form-data; boundary=", ";", "\x00"]),
    st.sampled_from(["", "identity", "gzip", "\xff"]),
)
@example(b"--line\r\n\r\n\r\n--line--", PARTS, "")
@example(b"--line\r\nContent-Transfer-Encoding: base64\r\n", PARTS, "")
def test_no_bytes_raise_anything_but_a_refusal(raw: bytes, content_type: str, encoding: str) -> None:
    try:
        fields = decode(raw, content_type, encoding)
    except WireError as refusal:
        assert refusal.code == "400"
    else:
        assert isinstance(fields, dict)


pieces = st.sampled_from(
    [
        b"--line",
        b"--line--",
        b"\r\n",
        b"\n",
        b'Content-Disposition: form-data; name="a"',
        b'Content-Disposition: form-data; name="a"; filename="b"',
        b"Content-Disposition: form-data; name*=utf-8''%ff",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Type: text/plain",
        b": ",
        b"value",
        b"=3",
        b"\xff",
        b"\x00",
    ]
)


@given(st.lists(pieces, max_size=30))
def test_no_multipart_raises_anything_but_a_refusal(rows: list[bytes]) -> None:
    try:
        decode(b"".join(rows), PARTS)
    except WireError as refusal:
        assert refusal.code == "400"


def outcome(decoded: Callable[..., dict[str, Any]], *body: Any) -> object:
    """The fields in their order, or the refusal."""
    try:
        return list(decoded(*body).items())
    except WireError as error:
        return error.code, error.body("en"), error.body("id")


SAMPLES = [saved.raw.encode() for sample in samples() for saved in (sample.request, sample.answered)]


@pytest.mark.parametrize("raw", SAMPLES)
def test_every_saved_request_is_decoded_as_in_general(raw: bytes) -> None:
    assert outcome(decode, raw, JSON, "", "api_key") == outcome(decoding._decode_any, raw, JSON, "", "api_key")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A saved request, comments taken out or left in, with a few bytes changed, added or left out."""
    raw = draw(st.sampled_from(SAMPLES))
    if draw(st.booleans()):
        raw = decoding._STRING_OR_COMMENT.sub(rb"\1", raw)
    raw = bytearray(raw)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        put = draw(
            st.sampled_from([b"", b"1", b"null", b'"', b"{", b"[", b"\\", b"\x00", b"\xff", b"//", b"\x0b", b",", b" "])
        )
        raw[at : at + draw(st.integers(0, 2))] = put
    return bytes(raw)


@given(
    mutated()
    | st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers()).map(lambda f: json.dumps(f).encode()),
    st.sampled_from([JSON, "", FORM, PARTS]),
    st.sampled_from(["", "identity", "gzip"]),
)
@settings(max_examples=examples(500))
def test_changed_requests_are_decoded_as_in_general(raw: bytes, content_type: str, encoding: str) -> None:
    body = (raw, content_type, encoding, "secret_key")
    assert outcome(decode, *body) == outcome(decoding._decode_any, *body)


def test_an_object_of_texts_is_decoded_without_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(decoding, "_decode_any")
    assert decode(b'{"a": "1", "b": "two"}', JSON) == {"a": "1", "b": "two"}
    with pytest.raises(NameError):
        decode(b'{"a": 1}', JSON)

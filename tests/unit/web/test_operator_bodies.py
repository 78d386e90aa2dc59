"""Bodies of the operator API: whatever is wrong with one is said in both languages, with the field and what to do."""

from __future__ import annotations

import importlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, Literal

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route
from tests.harness.gateway import Harness, open_harness

from kurir.reasons import sentence
from kurir.web import operator
from kurir.web.operator.bodies import decoded
from kurir.web.operator.errors import ApiError

SAMPLE = '{"name": "Kasir"}'
ENGLISH = re.compile(r"\b(Expected|Invalid|Object|missing|unknown|required|got|expected|malformed|matching|with|of)\b")
MSGSPEC = re.compile(r"`(str|int|float|bool|null|array|object|date)`|Object |Invalid |\$")


class Inner(msgspec.Struct):
    size: int


class Sample(msgspec.Struct):
    name: str = ""
    count: int = 0
    share: float = 0.0
    fine: bool = False
    day: date | None = None
    at: datetime | None = None
    words: list[str] = []
    sizes: dict[str, int] = {}
    inner: Inner | None = None
    either: int | str = 0
    size: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    part: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    short: Annotated[str, msgspec.Meta(min_length=2, max_length=3)] = "ab"
    plain: Annotated[str, msgspec.Meta(pattern="^[a-z ]+$")] = "a"
    few: Annotated[list[int], msgspec.Meta(max_length=1)] = []
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Needed:
    email: str
    name: str = ""


class Nothing(msgspec.Struct):
    pass


def refused(raw: bytes, type_: type[Any] = Sample) -> tuple[str, str, str]:
    """(field, Indonesian, English) of the refusal."""
    with pytest.raises(ApiError) as caught:
        decoded(raw, type_, SAMPLE)
    error = caught.value
    assert (error.status, error.code) == (400, "invalid")
    return error.field, sentence(error.reason, "id"), sentence(error.reason, "en")


WRONG: list[tuple[str, str, str, str]] = [
    ('{"name": 7}', "name", "seharusnya teks, diterima bilangan bulat", "expected text, got a whole number"),
    ('{"name": null}', "name", "diterima `null` (kosong)", "got `null` (nothing)"),
    ('{"name": {}}', "name", "diterima sebuah objek", "got an object"),
    ('{"name": []}', "name", "diterima sebuah daftar (array)", "got a list"),
    ('{"name": true}', "name", "diterima `true` atau `false`", "got `true` or `false`"),
    ('{"count": "1"}', "count", "seharusnya bilangan bulat, diterima teks", "expected a whole number, got text"),
    ('{"count": 1.5}', "count", "diterima bilangan", "got a number"),
    ('{"share": "x"}', "share", "seharusnya bilangan", "expected a number"),
    ('{"share": 1e999}', "share", "bilangan yang tidak sebesar itu", "a number that is not as large"),
    ('{"fine": 1}', "fine", "seharusnya `true` atau `false`", "expected `true` or `false`"),
    ('{"day": "soon"}', "day", "seharusnya tanggal, mis. 2027-12-31", "expected a day such as 2027-12-31"),
    ('{"day": 7}', "day", "seharusnya tanggal", "expected a day"),
    ('{"at": "soon"}', "at", "seharusnya waktu, mis. 2027", "expected a time such as 2027"),
    ('{"words": "x"}', "words", "seharusnya sebuah daftar", "expected a list"),
    ('{"words": ["x", 7]}', "words[1]", "seharusnya teks", "expected text"),
    ('{"sizes": {"x": "y"}}', "sizes[...]", "seharusnya bilangan bulat", "expected a whole number"),
    ('{"inner": {"size": "x"}}', "inner.size", "seharusnya bilangan bulat", "expected a whole number"),
    ('{"inner": {}}', "inner.size", "wajib diisi", "is required"),
    ('{"either": []}', "either", "salah satu dari", "one of"),
    ('{"size": 9}', "size", "bilangan bulat, paling besar 5", "a whole number of at most 5"),
    ('{"size": 0}', "size", "bilangan bulat, paling kecil 1", "a whole number of at least 1"),
    ('{"part": 0.0}', "part", "bilangan di atas 0", "a number above 0"),
    ('{"part": 1.0}', "part", "bilangan di bawah 1", "a number below 1"),
    ('{"short": "x"}', "short", "teks, panjang minimal 2", "text of length 2 or more"),
    ('{"short": "xxxx"}', "short", "teks, panjang maksimal 3", "text of length 3 or less"),
    ('{"few": [1, 2]}', "few", "sebuah daftar (array), panjang maksimal 1", "a list of length 1 or less"),
    ('{"plain": "7"}', "plain", "menurut pola `^[a-z ]+$`", "text that matches `^[a-z ]+$`"),
    ('{"kind": "c - at `$.name`"}', "kind", f"nilai seperti dalam {SAMPLE}", f"a value as in {SAMPLE}"),
    ('{"naem": "x"}', "naem", "`naem` tidak dikenal di sini: hapus, atau gunakan `name`,", "or use `name`, `count`,"),
    ('{"$.name - at `$.x`": 1}', "$.name - at `$.x`", "tidak dikenal", "not known here"),
]


@pytest.mark.parametrize(("raw", "field", "indonesian", "english"), WRONG, ids=[one[0] for one in WRONG])
def test_each_kind_of_wrong_value_names_its_field(raw: str, field: str, indonesian: str, english: str) -> None:
    found = refused(raw.encode())
    assert found[0] == field
    assert (indonesian in found[1], english in found[2]) == (True, True), found
    assert f"`{field}`" in found[1]
    assert f"`{field}`" in found[2]
    assert not ENGLISH.search(found[1].replace(field, "")), found


def test_each_text_of_msgspec_is_known() -> None:
    """No kind falls back to the sample but a choice, whose words msgspec does not name."""
    vague = {field for raw, *_ in WRONG for field, id_, _en in [refused(raw.encode())] if "nilai seperti" in id_}
    assert vague == {"kind"}


def test_a_required_field_that_is_missing_is_named_with_a_sample() -> None:
    field, indonesian, english = refused(b"{}", Needed)
    assert (field, SAMPLE in indonesian, SAMPLE in english) == ("email", True, True)
    assert refused(b" ", Needed)[0] == "email"
    assert refused(b'{"email": "x", "nmae": 1}', Needed)[0] == "nmae"


def test_a_request_without_fields_says_so() -> None:
    field, indonesian, english = refused(b'{"reason": "x"}', Nothing)
    assert field == "reason"
    assert "tidak memerlukan kolom apa pun" in indonesian
    assert "takes no fields" in english
    assert decoded(b"", Nothing, SAMPLE) == decoded(b"{}", Nothing, SAMPLE) == Nothing()


@pytest.mark.parametrize(
    ("raw", "indonesian", "english"),
    [
        (b"[]", "seharusnya objek JSON, mis.", "expected a JSON object such as"),
        (b"7", "seharusnya objek JSON", "expected a JSON object"),
        (b"null", "seharusnya objek JSON", "expected a JSON object"),
        (b'{"name": "x"', "bukan JSON yang sah (terpotong)", "not JSON (it ends too early)"),
        (b'{"name": "x",}', "ada koma sebelum penutup, pada byte 13", "a comma before the end"),
        (b"{name: 1}", "nama kolom harus berupa teks", "names must be strings"),
        (b"name=x", "ada karakter yang salah, pada byte", "a wrong character, at byte"),
        (b"{} {}", "ada sesuatu setelah akhirnya", "something follows its end"),
        (b'{"name": "\xff"}', "bukan teks UTF-8", "not UTF-8"),
        (b'{"words": ' + b"[" * 100_000, "bertingkat terlalu dalam", "nested too deeply"),
    ],
)
def test_a_body_that_is_no_object_says_why(raw: bytes, indonesian: str, english: str) -> None:
    found = refused(raw)
    assert (found[0], indonesian in found[1], english in found[2]) == ("", True, True), found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(Sample.__struct_fields__), JSON, max_size=3))
def test_no_body_is_answered_with_a_text_of_the_library(body: dict[str, Any]) -> None:
    try:
        decoded(msgspec.json.encode(body), Sample, SAMPLE)
    except ApiError as error:
        for language in ("id", "en"):
            assert not MSGSPEC.search(re.sub(r"`null` \(\w+\)|`\^.*?\$`", "", sentence(error.reason, language)))
        assert error.field.split("[")[0].split(".")[0] in body


# -- every endpoint ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as opened:
        yield opened


async def ask(harness: Harness, method: str, path: str, **options: Any) -> httpx.Response:
    token = (harness.gateway.settings.data_dir / "operator.token").read_text().strip()
    return await harness.client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **options)


def sections() -> list[Any]:
    """The modules of the operator API that have routes."""
    modules = [importlib.import_module(f"{operator.__name__}.{one.name}") for one in iter_modules(operator.__path__)]
    return [module for module in modules if hasattr(module, "routes")]


def endpoints(harness: Harness) -> list[tuple[str, str]]:
    """(method, path) of the whole operator API, with ids that exist where there are some."""
    key = {"accounts": str(harness.ours.account.id), "numbers": harness.ours.device.key}
    found = []
    for section in sections():
        for route in section.routes(harness.gateway):
            assert isinstance(route, Route)
            owner = route.path.split("/")[3]
            path = re.sub(r"\{(\w+)\}", lambda _, owner=owner: key.get(owner, "1"), route.path, count=1)
            path = re.sub(r"\{\w+\}", "abcd", path)
            found += [(method, path) for method in sorted((route.methods or set()) - {"HEAD"})]
    assert len(found) > 25
    return found


async def test_no_endpoint_ignores_a_field_or_a_parameter(harness: Harness) -> None:
    for method, path in endpoints(harness):
        answer = await ask(harness, method, path, params={"colour": "x"})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "colour"), (method, path, answer.text)
        if method == "GET":
            continue
        answer = await ask(harness, method, path, json={"colour": "x"})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "colour"), (method, path, answer.text)
        assert "`colour`" in answer.json()["error"]["message"]

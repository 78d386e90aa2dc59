"""Reasons: one table of sentences in both languages, and no sentence of them anywhere else."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kurir
from kurir import reasons
from kurir.reasons import NOTHING, Code, Reason, ReasonedError, as_written, read, sentence, stored
from kurir.reasons.imports import MANY_ROWS
from kurir.reasons.messages import EXHAUSTED, HALTED, NOT_ON_WHATSAPP, TOKEN_ADVICE
from kurir.reasons.numbers import ALREADY_PAIRED, RESTRICTED_UNTIL
from kurir.reasons.reason import placeholders
from kurir.reasons.states import state
from kurir.reasons.table import AREAS, TABLE

SOURCE = Path(kurir.__file__).parent
ENTRIES = [entry for area in AREAS for entry in vars(area).values() if isinstance(entry, Code)]
SAME_IN_BOTH = {
    "media_field", "row_wrong_phone", "waits_because",  # nothing but placeholders
    "template_name_taken", "template_not_found", "template_rule_variable_at_end", "template_rule_variable_at_start",
}  # fmt: skip
"""Codes whose text clients of the compatible wire compare: it is the reference's own."""
NOT_INDONESIAN = re.compile(
    r"\b(the|is|was|not|and|or|queued|sending|sent|delivered|read|failed|expired|cancell?ed|unconfirmed|connected|"
    r"connecting|disconnected|pairing|paired|logged|replaced|banned|outdated|degraded|paused|restricted|waiting|"
    r"answered|refused|cannot|with|from)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)
def test_each_code_has_both_languages_with_the_same_placeholders(entry: Code) -> None:
    assert entry.id.strip()
    assert entry.en.strip()
    assert placeholders(entry.id) == placeholders(entry.en)
    assert entry.id != entry.en or entry.code in SAME_IN_BOTH


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)
def test_no_indonesian_sentence_has_an_english_half(entry: Code) -> None:
    words = re.sub(r"`[^`]*`|\{[^}]*\}", "", entry.id)  # commands, fields and values
    assert entry.code in SAME_IN_BOTH or not NOT_INDONESIAN.search(words)


def test_every_module_with_codes_is_in_the_table() -> None:
    modules = [importlib.import_module(f"kurir.reasons.{one.name}") for one in pkgutil.iter_modules(reasons.__path__)]
    assert [one for one in modules if any(isinstance(value, Code) for value in vars(one).values())] == list(AREAS)


def test_a_code_stands_in_the_table_once() -> None:
    assert [code for code, count in Counter(entry.code for entry in ENTRIES).items() if count > 1] == []
    assert "as_written" not in TABLE


def codes_used(tree: ast.Module, module: str) -> set[tuple[str, str]]:
    """(area, name) of each code that a module loads: by its name, or as an attribute of an area.

    An area's own entries count where it uses them itself, as in a table of theirs.
    """
    areas: dict[str, str] = {}
    names: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kurir.reasons"):
            for alias in node.names:
                known = alias.asname or alias.name
                areas[known] = f"{node.module}.{alias.name}"
                names[known] = (str(node.module), alias.name)
    used: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=area), attr=name) if area in areas:
                used.add((areas[area], name))
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(names.get(name, (module, name)))
    return used


def test_every_code_is_used() -> None:
    """By its area and its name: two areas may have codes of one name."""
    used: set[tuple[str, str]] = set()
    for file in SOURCE.rglob("*.py"):
        module = ".".join(("kurir", *file.relative_to(SOURCE).with_suffix("").parts))
        used |= codes_used(ast.parse(file.read_text(encoding="utf-8")), module)
    unused = [
        f"{area.__name__}.{name}"
        for area in AREAS
        for name, entry in vars(area).items()
        if isinstance(entry, Code) and (area.__name__, name) not in used and not entry.code.startswith("state_")
    ]
    assert not unused, unused


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("from kurir.reasons import media as reasons\nreasons.EMPTY()", True),
        ("from kurir.reasons.media import EMPTY\nEMPTY()", True),
        ("from kurir.reasons.media import EMPTY as NONE\nNONE()", True),
        ("from kurir.reasons import requests as reasons\nreasons.EMPTY()", False),
        ("from kurir.reasons.requests import EMPTY\nEMPTY()", False),
        ("from kurir.reasons.media import EMPTY", False),
        ("EMPTY = 1\nEMPTY", False),
    ],
)
def test_a_code_of_another_area_with_the_same_name_is_another_one(code: str, used: bool) -> None:
    assert (("kurir.reasons.media", "EMPTY") in codes_used(ast.parse(code), "kurir.somewhere")) is used


# -- no sentence outside the table -------------------------------------------------------------------------------------

REASON_AT = {
    "Refused": 1, "TryLater": 1, "Restricted": 1, "Halted": 1, "NotConnected": 0, "InDoubt": 0, "ConnectionChanged": 3,
    "Failed": 0, "DeviceState": 2, "PairingFailed": 1, "DeviceUnavailable": 0, "UnavailableError": 0, "Unreachable": 0,
    "HostLostError": 0, "FetchFailed": 0, "UrlRefused": 0, "NotUsable": 1, "_NotUsable": 1, "NotSent": 0, "NoAnswer": 0,
    "Unanswered": 0, "Settled": 2, "FillError": 1, "FormError": 0, "WireError": 2, "missing": 1, "wrong": 1,
    "_become": 2, "fail": 0, "NotPossible": 0, "NotFound": 1, "Invalid": 1, "ApiError": 2, "AddressError": 0,
    "CountryCodeError": 0, "AccountError": 1, "EndpointError": 1, "NotPaused": 0, "ImportRefused": 0, "RowError": 0,
    "Problem": 1, "Row": 2, "HTTPException": 1, "HttpRefusal": 1, "_error": 2, "refusal_body": 1, "_refuse": 1,
    "_refusal": 2, "ServiceError": 1, "SyncRefused": 0, "sentence": 0, "stored": 0,
}  # fmt: skip
"""Where each of these takes its reason (as many arguments later as methods of others are called with)."""


def is_a_sentence(node: ast.expr) -> bool:
    """Text that is formed here: a literal, an f-string, or either within a choice or a call of `str`."""
    match node:
        case ast.Constant(value=str(text)):
            return bool(text)
        case ast.JoinedStr() | ast.BinOp():
            return True
        case ast.IfExp(body=body, orelse=orelse):
            return is_a_sentence(body) or is_a_sentence(orelse)
        case ast.BoolOp(values=values):
            return any(map(is_a_sentence, values))
        case ast.Call(func=ast.Name(id="str" | "as_written"), args=[argument]):
            return is_a_sentence(argument) or node.func.id == "str"  # type: ignore[attr-defined]
    return False


def sentences_formed(tree: ast.AST) -> list[int]:
    """The lines where something that takes a reason is handed a text."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in REASON_AT:
            continue
        given = node.args[REASON_AT[name] :][:1]
        given += [keyword.value for keyword in node.keywords if keyword.arg in ("reason", "expected", "detail")]
        if any(map(is_a_sentence, given)):
            found.append(node.lineno)
    return found


def test_what_takes_a_reason_is_never_handed_a_sentence() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{line}"
        for file in sorted(SOURCE.rglob("*.py"))
        for line in sentences_formed(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found, found


@pytest.mark.parametrize(
    "code",
    [
        'Refused("x", "the file is gone")',
        'TryLater("x", f"gone {n}", after=1)',
        'say.Failed(str(error))',
        'InDoubt(known or "nobody knows")',
        'NotConnected("a" if b else c)',
        'raise wrong("phone_no", "a phone number")',
        'Refused("x", as_written("our own words"))',
        'InDoubt(reason="cut off")',
        'raise HTTPException(403, "not for you")',
        'raise HTTPException(408, str(error)) from error',
        'HTTPException(403, detail=f"not for {you}")',
        '_error(request.scope, 503, "try again", {})',
        'self._refuse(503, "the gateway is stopping")',
    ],
)  # fmt: skip
def test_the_rule_finds_each_kind(code: str) -> None:
    assert sentences_formed(ast.parse(code))


@pytest.mark.parametrize("code", ['Refused("x", GONE())', "InDoubt(error.reason)", "Refused(code, as_written(theirs))"])
def test_the_rule_lets_the_rest_pass(code: str) -> None:
    assert not sentences_formed(ast.parse(code))


# -- no sentence in what answers ---------------------------------------------------------------------------------------

WORDS_OF_THEIR_OWN = {
    # the compatible wire's own, the same in both languages; in a test event, whose bytes are documented
    "The message is in the delivery process", "Kurir can reach this address.",
    # of errors that nobody is answered with
    "the body must not be larger than x bytes", "the body did not arrive within x seconds", "it was removed",
    "message x is x", "the number waits: x",
    # counted in the log
    "an answer was not read", "a connection without a request",
    # of msgspec, to tell its errors apart
    "trailing comma in object", "trailing comma in array", "object keys must be strings", "Input data was truncated",
    "JSON is malformed: ", "Object missing required field `([^`]+)`", "(?:Number|Integer value) out of range",
    # a sample
    '{"reason": "the shop is closed"}',
}  # fmt: skip
"""Texts of services and web that are no sentences to people."""
DOCUMENTATION = ("web/compat_v1/endpoints/", "web/compat_v1/openapi.py", "web/page_words.py")
"""Descriptions and samples of the reference, and the pages' words in both languages."""
SENTENCE = re.compile(r"[A-Za-z]+ [a-z]+ [a-z]+")


def sentences_in(tree: ast.AST) -> list[tuple[int, str]]:
    """Texts of three words or more, with their lines; not docstrings, assertions, the log, SQL, and descriptions."""
    passed: set[ast.AST] = set()
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Assert():
                passed.update(ast.walk(node))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"))) | ast.Call(func=ast.Attribute(attr="text")):
                passed.update(ast.walk(node))
            case ast.Call(func=ast.Name(id="Field")):  # a field's description in the reference
                passed.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in passed:
            continue
        match node:
            case ast.Constant(value=str(text)):
                pass
            case ast.JoinedStr(values=values):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in values)
                passed.update(values)
            case _:
                continue
        if SENTENCE.search(text) and text not in WORDS_OF_THEIR_OWN:
            found.append((node.lineno, text))
    return found


def test_services_and_web_form_no_sentences() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{line}: {text}"
        for part in ("services", "web")
        for file in sorted((SOURCE / part).rglob("*.py"))
        if not file.relative_to(SOURCE).as_posix().startswith(DOCUMENTATION)
        for line, text in sentences_in(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found, found


@pytest.mark.parametrize(
    "code",
    [
        'def not_ready() -> list[str]:\n    return ["the disk is full"]',
        'reasons.append(f"the database {what} within {n} s")',
        'return JSONResponse({"message": "there is nothing here"})',
        'WHY = "a value is too long"',
    ],
)
def test_the_rule_finds_a_sentence(code: str) -> None:
    assert sentences_in(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    ['"""The disk is full."""', 'log.warning("x", reason="the disk is full")', 'assert known, "it is known by now"'],
)
def test_the_rule_lets_what_nobody_is_answered_pass(code: str) -> None:
    assert not sentences_in(ast.parse(code))


# -- reasons as values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        NOTHING,
        NOT_ON_WHATSAPP(),
        EXHAUSTED(tries=3, last=NOT_ON_WHATSAPP()),
        HALTED(reason=as_written('Meta\'s "own" {words}'), code=190, advice=TOKEN_ADVICE),
        RESTRICTED_UNTIL(until=1_800_003_600.5),
        as_written("Message undeliverable: {not} JSON"),
    ],
)
def test_what_is_stored_is_read_again(reason: Reason) -> None:
    assert read(stored(reason)) == reason


@pytest.mark.parametrize("text", ["the phone removed this device", '{"code": 7}', '{"code":', "[1]", "id {0} {x!r} {}"])
@pytest.mark.parametrize("language", ["id", "en"])
def test_rows_of_earlier_releases_are_shown_as_they_are(text: str, language: str) -> None:
    assert sentence(read(text), language) == text
    assert sentence(EXHAUSTED(tries=8, last=read(text)), "en") == f"given up after 8 tries; the last one: {text}"


def test_rows_of_later_releases_are_shown_as_far_as_that_goes() -> None:
    assert sentence(read('{"code":"of_tomorrow","parameters":{"what":"x"}}'), "id") == "of_tomorrow x"
    assert sentence(Reason("exhausted", {"tries": 3}), "en") == "given up after 3 tries; the last one: "


def test_a_reason_within_a_reason_is_in_the_same_language() -> None:
    assert sentence(ALREADY_PAIRED(state=state("degraded")), "id") == (
        "nomor ini sudah tertaut dan tidak menjawab; keluarkan dulu"
    )
    assert sentence(HALTED(reason=as_written("Error"), code=190, advice=TOKEN_ADVICE), "id").startswith(
        "Error (kode 190); token akses tidak diterima"
    )


def test_a_moment_is_written_as_people_do() -> None:
    at = RESTRICTED_UNTIL(until=1_800_003_600.0)
    assert sentence(at, "en").endswith("until 2027-01-15 09:00 UTC")
    assert sentence(at, "id").endswith("sampai 15 Jan 2027 09.00 UTC")


def test_a_large_number_is_written_as_people_do() -> None:
    assert sentence(MANY_ROWS(most=100_000), "en") == "the file has more than 100,000 rows; split it"
    assert sentence(MANY_ROWS(most=100_000), "id") == "berkas lebih dari 100.000 baris; bagi menjadi beberapa"


def test_an_error_with_a_reason_is_english_in_the_log() -> None:
    error = ReasonedError(NOT_ON_WHATSAPP())
    assert (error.reason, str(error)) == (NOT_ON_WHATSAPP(), "the recipient's phone number is not on WhatsApp")


def test_a_reason_takes_exactly_its_parameters() -> None:
    with pytest.raises(TypeError, match="tries"):
        EXHAUSTED(last="x")
    assert len(str(EXHAUSTED(tries=1, last="x" * 10_000).parameters["last"])) == 300


FORGED = '{"code":"restricted_until","parameters":{"until":1e300}}'


@given(
    st.one_of(
        st.text(),
        st.sampled_from([FORGED, FORGED[:20], '{"code":' + '{"code":' * 5_000]),
        st.text().map('{"code":'.__add__),
    )
)
def test_other_peoples_words_come_back_as_they_were(text: str) -> None:
    assert read(stored(as_written(text))) == as_written(text)
    assert sentence(read(stored(as_written(text))), "id") == text


@given(st.sampled_from(sorted(TABLE)), st.one_of(st.floats(), st.integers(), st.text()))
def test_no_parameter_breaks_a_sentence(code: str, value: float | str) -> None:
    """Rows of another release may hold anything."""
    for language in ("id", "en"):
        assert sentence(Reason(code, dict.fromkeys(TABLE[code].placeholders, value)), language)

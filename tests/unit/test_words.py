"""One word for one thing: no identifier of the source or the tests contains a word that CONTRIBUTING.md has retired.

Of these words, those that plain English does not need (`IN_PROSE`) are in no comment and no text of the source either:
docstrings, log events, help texts of metrics, descriptions of fields. Nor are they in the documents, except as names in
backticks (what something was called before) and in the list itself.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("src", "tests")

RETIRED = {
    "told": "published, notified, reported", "tell": "publish, notify, report", "tells": "publishes, reports",
    "telling": "publishing, reporting", "said": "reported, answered", "wakes": "notifies", "woken": "notified",
    "bell": "pg_notify", "ring": "notification", "rings": "notifications", "errand": "peer_call",
    "errands": "peer_calls", "letter": "message, webhook_call", "letters": "messages, webhook_calls",
    "postman": "device", "intake": "receiver", "pulse": "liveness, heartbeat", "carry": "hold, send, work",
    "carries": "holds, sends", "carried": "held, sent", "carrying": "holding, sending", "carrier": "holder, worker",
    "carriers": "holders, workers", "parcel": "delivery", "parcels": "deliveries", "desk": "harness",
    "door": "endpoint, handler", "doors": "endpoints, handlers", "chapter": "section", "chapters": "sections",
    "wish": "retry_after, option", "wishes": "options", "dice": "jitter, random", "patience": "timeout",
    "house": "maintenance", "housekeeping": "maintenance", "chore": "job", "chores": "jobs", "complain": "report",
    "complains": "reports", "complained": "reported", "complaint": "problem", "complaints": "problems",
    "verdict": "outcome, result", "verdicts": "outcomes, results", "aside": "quarantined",
}  # fmt: skip
"""Each retired word with what to write instead."""
RETIRED_PHRASES = {"by_hand": "operator_actions", "map_gate": "client_map_lock"}
IN_PROSE = RETIRED_PHRASES | {
    word: standard
    for word, standard in RETIRED.items()
    if word not in {
        "tell", "tells", "said", "ring", "letter", "letters", "house",
        "carry", "carries", "carried", "carrying", "aside",
    }
} | {"set aside": "quarantine, quarantined"}  # fmt: skip
"""Those that are not ordinary English: "13 letters and digits" and "carries out a command" are."""
PROSE = re.compile(rf"(?<![^\W_])({'|'.join(IN_PROSE)})(?![^\W_])(?!-grade)", re.IGNORECASE)
"""A retired word of prose; underscores separate words, as in log events. Carrier-grade NAT is called so."""

DOCUMENTS = ("docs/**/*.md", "README.md", "CONTRIBUTING.md")
IN_DOCUMENTS = IN_PROSE | {"by hand": "operator action", "house rules": "rules"}
DOCUMENT = re.compile(rf"(?<![^\W_])({'|'.join(IN_DOCUMENTS)})(?![^\W_])(?!-grade)", re.IGNORECASE)

PROSE_TOKENS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}

ALLOWED = {
    "ascii_letters",  # of the module `string`
    "ring_buffer",
}
"""Whole identifiers in which the field itself uses the word."""
ALLOWED_AT = {("src/kurir/media/inspection.py", "tell")}
"""Files that call somebody else's interface of that name: `io.BytesIO.tell`."""


def test_no_identifier_contains_a_retired_word():
    found = {
        f"{file.relative_to(REPOSITORY)}:{line}: {name}: write {instead}"
        for folder in FOLDERS
        for file in sorted((REPOSITORY / folder).rglob("*.py"))
        if any(map(retired_in, words_of(file)))  # to parse a file takes a hundred times longer
        for line, name in identifiers(file)
        if (str(file.relative_to(REPOSITORY)), name) not in ALLOWED_AT and (instead := retired_in(name))
    }
    assert not found, "\n" + "\n".join(sorted(found))


def test_no_comment_or_text_of_the_source_contains_a_retired_word():
    found = {
        f"{file.relative_to(REPOSITORY)}:{line}: {word}: write {IN_PROSE[word]}"
        for file in sorted((REPOSITORY / "src").rglob("*.py"))
        for line, word in retired_in_prose(file.read_text(encoding="utf-8"))
    }
    assert not found, "\n" + "\n".join(sorted(found))


def test_no_document_contains_a_retired_word():
    files = [file for pattern in DOCUMENTS for file in sorted(REPOSITORY.glob(pattern))]
    assert len(files) > 20
    found = [
        f"{file.relative_to(REPOSITORY)}:{line}: {word}: write {IN_DOCUMENTS[word]}"
        for file in files
        for line, word in retired_in_document(file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("# A\n\nNo doors.", [3]),
        ("It is told\nwhat was done by hand.", [1, 2]),
        ("```\nits verdict\n```", [2]),
        ("The log has `chore_failed`.", []),
        ("# A\n## Words\n| told |\n## More\nDice.", [5]),
        ("Carrier-grade NAT, in other words.", []),
    ],
)
def test_the_rule_for_documents_knows_what_to_leave_out(text: str, lines: list[int]):
    assert [line for line, _ in retired_in_document(text)] == lines


@pytest.mark.parametrize(
    "source",
    [
        '"""Waits for a verdict."""\n',
        "x = 1  # the Doors\n",
        'log.info("patience_over")\n',
        'x = f"{y} was told"\n',
        "# it is set aside\n",
        '"""A lane.\n\nIts carrier stops."""\n',
    ],
)
def test_the_rule_for_prose_finds_each_form(source: str):
    assert [line for line, _ in retired_in_prose(source)] == [source.rstrip().count("\n") + 1]


@pytest.mark.parametrize("source", ["# carrier-grade NAT, indoors\n", '"""Carries out what 13 letters tell."""\n'])
def test_the_rule_for_prose_lets_the_rest_pass(source: str):
    assert not list(retired_in_prose(source))


def test_every_retired_word_is_in_the_list_for_contributors():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\w+", text.partition("## Words")[2]))
    assert {word for word in RETIRED.keys() | RETIRED_PHRASES.keys() if word not in listed} == set()


@pytest.mark.parametrize(
    "name",
    [
        "told",
        "tell_all",
        "_on_told",
        "WakesAll",
        "Postman",
        "HTTPDoor",
        "by_hand",
        "sent_by_hand",
        "DOORS",
        "ringBell",
        "SetAside",
    ],
)
def test_the_rule_finds_each_form(name: str):
    assert retired_in(name)


@pytest.mark.parametrize(
    "name", ["storing", "BellaVista", "ascii_letters", "indoor", "household", "handler", "intakes2"]
)
def test_the_rule_lets_the_rest_pass(name: str):
    assert not retired_in(name)


# -- the rule ----------------------------------------------------------------------------------------------------------


@functools.cache
def retired_in(name: str) -> str:
    """What to write instead of the first retired word in an identifier; "" when there is none."""
    if name in ALLOWED:
        return ""
    words = parts(name)
    joined = f"_{'_'.join(words)}_"
    instead = [RETIRED[word] for word in words if word in RETIRED]
    instead += [standard for phrase, standard in RETIRED_PHRASES.items() if f"_{phrase}_" in joined]
    return instead[0] if instead else ""


def retired_in_prose(source: str) -> Iterator[tuple[int, str]]:
    """Every (line, word) of a retired word in the comments and string literals of a source text."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in PROSE_TOKENS:
            for match in PROSE.finditer(token.string):
                yield token.start[0] + token.string.count("\n", 0, match.start()), match[1].lower()


def retired_in_document(text: str) -> Iterator[tuple[int, str]]:
    """Every (line, word) of a retired word in a document, outside of its list of words."""
    in_list = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("## "):
            in_list = line == "## Words"
        if not in_list:
            for match in DOCUMENT.finditer(re.sub(r"`[^`]+`", "``", line)):
                yield number, match[1].lower()


def parts(name: str) -> list[str]:
    """The words of a snake_case or CamelCase identifier, in small letters."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def words_of(file: Path) -> set[str]:
    """Whatever may be an identifier in a file, and its name."""
    return {file.stem, *re.findall(r"\w+", file.read_text(encoding="utf-8"))}


def identifiers(file: Path) -> Iterator[tuple[int, str]]:
    """Every (line, name) that a file gives or uses: its own, and those of its classes, functions and variables."""
    yield 1, file.stem
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 1)
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield line, name
            case ast.arg(arg=name) | ast.Name(id=name) | ast.Attribute(attr=name):
                yield line, name
            case ast.keyword(arg=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield line, name
            case ast.alias(name=name, asname=other):
                yield from ((line, part) for part in [*name.split("."), other or ""])
            case _:
                pass

"""What the command line refuses: every error of its library becomes a sentence of Kurir's in both languages."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from cyclopts import App, CycloptsError, Parameter, exceptions

from kurir import cli
from kurir.cli import commands
from kurir.cli.refusals import refusal_of
from kurir.reasons import sentence

ENGLISH = re.compile(
    r"\b(Unknown|Invalid|Unable|Parameter|Command|Unused|specified|requires|convert|Did|Choose|Available|not|the)\b"
)


def error_of(app: App, line: str | list[str]) -> CycloptsError:
    with pytest.raises(CycloptsError) as caught:
        app.parse_args(shlex.split(line) if isinstance(line, str) else line, print_error=False, exit_on_error=False)
    return caught.value


def refused(line: str) -> tuple[type[CycloptsError], str, str]:
    """(class of the library's error, Indonesian, English) for a line of `kurir`."""
    error = error_of(commands.app, line)
    reason = refusal_of(error)
    return type(error), sentence(reason, "id"), sentence(reason, "en")


LINES: list[tuple[str, type[CycloptsError], str, str]] = [
    ("nonsense", exceptions.UnknownCommandError, "`nonsense` bukan perintah `kurir`: gunakan `account`,",
     "`nonsense` is no command of `kurir`: use `account`,"),
    ("accout list", exceptions.UnknownCommandError, "mungkin maksudnya `account`", "did you mean `account`?"),
    ("account lst", exceptions.UnknownCommandError, "bukan perintah `kurir account`: mungkin maksudnya `list`",
     "no command of `kurir account`: did you mean `list`? There are `create`,"),
    ("--verbos", exceptions.UnknownCommandError, "`--verbos` bukan opsi `kurir`", "`--verbos` is no option of `kurir`"),
    ("number rename BO-1 --naem x", exceptions.UnknownOptionError, "mungkin maksudnya `--name`; lihat `kurir number",
     "did you mean `--name`? See `kurir number rename --help`"),
    ("webhook add a b --foo 1", exceptions.UnknownOptionError, "`--foo` bukan opsi `kurir webhook add`",
     "`--foo` is no option of `kurir webhook add`: see `kurir webhook add --help`"),
    ("account create --emial x", exceptions.MissingArgumentError, "`--emial` bukan opsi", "did you mean `--email`?"),
    ("account create", exceptions.MissingArgumentError, "`kurir account create` memerlukan `--email`",
     "`kurir account create` needs `--email`: see `kurir account create --help`"),
    ("account set", exceptions.MissingArgumentError, "`kurir account set` memerlukan EMAIL", "needs EMAIL: see"),
    ("account set a --name", exceptions.MissingArgumentError, "`--name` memerlukan nilai: tulis `--name <nilai>`",
     "`--name` needs a value: write `--name <value>`"),
    ("account create --email --name x", exceptions.MissingArgumentError, "`--email` memerlukan nilai",
     "`--email` needs a value"),
    ("message list a --limit x", exceptions.CoercionError,
     "`--limit`: seharusnya bilangan bulat, mis. 20, diterima `x`",
     "`--limit`: expected a whole number such as 20, got `x`"),
    ("message list a --limit=", exceptions.CoercionError, "`--limit`: seharusnya bilangan bulat", "`--limit`: exp"),
    ("account set a --repeat-guard x", exceptions.CoercionError, "seharusnya bilangan, mis. 2.5", "number such as 2.5"),
    ("message list a --state nope", exceptions.CoercionError, "salah satu dari `queued`, `sending`,",
     "`--state`: expected one of `queued`, `sending`,"),
    ("restore --resume-queue=maybe", exceptions.CoercionError, "seharusnya opsi itu saja, tanpa nilai",
     "expected the option alone, without a value, got `maybe`"),
    ("serve x", exceptions.UnusedCliTokensError, "`x` berlebih bagi `kurir serve`",
     "`x` is one value too many for `kurir serve`: leave it out, or put quotes"),
    ("number rename a b c", exceptions.UnusedCliTokensError, "`c` berlebih", "`c` is one value too many"),
    ("webhook add a --url b --url c", exceptions.RepeatArgumentError, "`--url` diberikan lebih dari sekali",
     "`--url` is given more than once: give it once"),
    ("number rename --key a b", exceptions.ArgumentOrderError, "tulis `--name b`", "write `--name b`"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "kind", "indonesian", "english"), LINES, ids=[one[0] for one in LINES])
def test_what_is_mistyped_is_named_with_what_to_do(
    line: str, kind: type[CycloptsError], indonesian: str, english: str
) -> None:
    found = refused(line)
    assert found[0] is kind
    assert (indonesian in found[1], english in found[2]) == (True, True), found
    assert not ENGLISH.search(re.sub(r"`[^`]*`", "", found[1])), found


# -- each error that the library can raise -----------------------------------------------------------------------------


class Colour(Enum):
    RED = 1
    BLUE = 2


def refuse(_type: Any, _value: Any) -> None:
    raise ValueError("the validator says no")


def refuse_group(_arguments: Any) -> None:
    raise ValueError("the group says no")


def needs_equals(*, name: Annotated[str, Parameter(requires_equals=True)] = "") -> None: ...
def several(*, word: Annotated[list[str], Parameter(consume_multiple=(2, 3))]) -> None: ...
def pair(*, place: tuple[int, int]) -> None: ...
def validated(*, name: Annotated[str, Parameter(validator=refuse)] = "") -> None: ...
def colours(*, colour: Colour = Colour.RED, kind: Literal["a", "b"] = "a") -> None: ...
def positional(count: int, /) -> None: ...
def counted(*, level: Annotated[int, Parameter(count=True)] = 0) -> None: ...
def parts(*, size: dict[str, int]) -> None: ...


EACH: list[tuple[type[CycloptsError], Callable[..., None], str, str, str]] = [
    (exceptions.RequiresEqualsError, needs_equals, "--name x", "tulis `--name=<nilai>`", "write `--name=<value>`"),
    (exceptions.ConsumeMultipleError, several, "--word a", "`--word` memerlukan paling sedikit 2 nilai, diterima 1",
     "`--word` needs 2 values or more, got 1"),
    (exceptions.ConsumeMultipleError, several, "--word a b c d", "menerima paling banyak 3 nilai, diterima 4",
     "`--word` takes 3 values at most, got 4"),
    (exceptions.MissingArgumentError, pair, "--place 1", "`--place` memerlukan 2 nilai", "`--place` needs 2 values"),
    (exceptions.ValidationError, validated, "--name x", "`--name`: nilainya tidak diperbolehkan",
     "`--name`: this value is not allowed"),
    (exceptions.CoercionError, colours, "--colour green", "salah satu dari `RED`, `BLUE`", "one of `RED`, `BLUE`"),
    (exceptions.CoercionError, colours, "--kind c", "salah satu dari `a`, `b`", "one of `a`, `b`"),
    (exceptions.CoercionError, counted, "--level=-1", "`--level`: seharusnya nilai lain", "`--level`: expected"),
    (exceptions.CoercionError, positional, "x", "COUNT: seharusnya bilangan bulat", "COUNT: expected a whole number"),
    (exceptions.MixedArgumentError, parts, "--size.a 1 --size 2", "diberikan utuh dan juga bagian demi bagian",
     "is given both whole and by its parts"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "command", "line", "indonesian", "english"), EACH, ids=[one[2] for one in EACH])
def test_errors_that_no_command_of_today_raises(
    kind: type[CycloptsError], command: Callable[..., None], line: str, indonesian: str, english: str
) -> None:
    app = App(name="kurir")
    app.command(command, name="try")
    error = error_of(app, f"try {line}")
    assert type(error) is kind
    reason = refusal_of(error)
    assert indonesian in sentence(reason, "id")
    assert english in sentence(reason, "en")


def test_a_group_of_values_and_an_open_quotation_mark() -> None:
    app = App(name="kurir", default_parameter=None)

    @app.command(name="try", validator=refuse_group)
    def _try(*, name: str = "") -> None: ...

    error = error_of(app, "try --name x")
    assert type(error) is exceptions.ValidationError
    assert sentence(refusal_of(error), "en") == "these values cannot be combined: see `kurir try --help`"
    with pytest.raises(exceptions.TokenizationError) as caught:
        app.parse_args("try 'x", print_error=False, exit_on_error=False)
    assert sentence(refusal_of(caught.value), "id").startswith("tanda kutipnya tidak berpasangan")


def an_error(kind: type[CycloptsError]) -> CycloptsError:
    """An error of exactly this class: as the library raises it, where a line can make it do so."""
    lines = [line for line, known, *_ in LINES if known is kind]
    if lines:
        return error_of(commands.app, lines[0])
    for known, command, line, *_ in EACH:
        if known is kind:
            app = App(name="kurir")
            app.command(command, name="try")
            return error_of(app, f"try {line}")
    return kind()  # needs no line, as a quotation mark does, or is raised by other versions only


KINDS = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(kind, CycloptsError) and kind is not CycloptsError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_class_of_the_library_has_a_reason_of_its_own(kind: type[CycloptsError]) -> None:
    error = an_error(kind)
    assert type(error) is kind
    assert refusal_of(error).code != "command_not_understood"


def test_an_error_of_a_later_version_is_no_english_text() -> None:
    error = CycloptsError(msg="Some text of the library.", command_chain=("account", "set"))
    assert sentence(refusal_of(error), "id") == "perintah ini tidak dapat dipahami: lihat `kurir account set --help`"


@pytest.mark.parametrize(("locale", "words"), [("id_ID.UTF-8", "bukan opsi"), ("C.UTF-8", "is no option of")])
def test_the_command_line_speaks_the_terminals_language(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], locale: str, words: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setattr(sys, "argv", ["kurir", "number", "list", "--nmae", "x"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err

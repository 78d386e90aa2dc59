"""Reasons for what the library of the command line refuses, made from what its errors hold; its texts go nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from cyclopts import App, CycloptsError, exceptions
from cyclopts.argument import Argument

from kurir.reasons import Reason
from kurir.reasons import commands as reasons

_LEAST_LIKENESS = 0.6
"""How alike two words are (0 to 1) of which one may be a slip of the other."""

_EXPECTED = ((int, reasons.WHOLE_NUMBER), (float, reasons.NUMBER), (bool, reasons.FLAG))


def refusal_of(error: CycloptsError) -> Reason:  # noqa: PLR0911, PLR0912 - one branch for each class
    """Why the command line was refused, naming the word, option or value and what to do."""
    command = " ".join(("kurir", *(error.command_chain or ())))
    match error:
        case exceptions.UnknownCommandError(unused_tokens=[str(word), *_]):
            return _unknown_command(word, command, error.app)
        case exceptions.UnknownOptionError():
            option = error.token.keyword or error.token.value
            names = [name for argument in error.argument_collection if argument.parse for name in argument.names]
            return _unknown_option(option, command, names)
        case exceptions.ConsumeMultipleError(argument=Argument() as argument):
            name, found = _name(argument, error.keyword), error.actual_count
            if found < error.min_required:
                return reasons.TOO_FEW(name=name, least=error.min_required, found=found, command=command)
            return reasons.TOO_MANY(name=name, most=error.max_allowed or 0, found=found)
        case exceptions.MissingArgumentError(argument=Argument() as argument):
            return _missing(error, argument, command)
        case exceptions.CoercionError():
            value = error.token.value if error.token is not None else ""
            name = _name(error.argument, error.token.keyword if error.token is not None else None)
            return reasons.WRONG_VALUE(name=name, expected=_expected(error.target_type), value=value)
        case exceptions.ValidationError(argument=Argument() as argument):
            return reasons.NOT_ALLOWED(name=_name(argument, _keyword(argument)), command=command)
        case exceptions.ValidationError():
            return reasons.NOT_ALLOWED_TOGETHER(command=command)
        case exceptions.UnusedCliTokensError(unused_tokens=[str(value), *_]):
            return reasons.TOO_MUCH(value=value, command=command)
        case exceptions.RepeatArgumentError():
            return reasons.REPEATED(option=error.token.keyword or _name(error.argument))
        case exceptions.ArgumentOrderError(argument=Argument() as argument):
            return reasons.OUT_OF_ORDER(value=error.token, option=argument.name)
        case exceptions.MixedArgumentError(argument=Argument() as argument):
            return reasons.MIXED(name=_name(argument, _keyword(argument)))
        case exceptions.RequiresEqualsError(argument=Argument() as argument):
            return reasons.EQUALS(option=error.keyword or argument.name)
        case exceptions.CombinedShortOptionError():
            return reasons.COMBINED(command=command)
        case exceptions.TokenizationError():
            return reasons.QUOTES()
        case _:
            return reasons.NOT_UNDERSTOOD(command=command)


def _unknown_command(word: str, command: str, app: App | None) -> Reason:
    if word.startswith("-"):
        return _unknown_option(word, command, ())
    known = [name for name in app or () if not name.startswith("-")]
    listed = ", ".join(f"`{name}`" for name in known)
    if close := get_close_matches(word, known, 1, _LEAST_LIKENESS):
        return reasons.NO_COMMAND_CLOSE(word=word, command=command, close=close[0], known=listed)
    return reasons.NO_COMMAND(word=word, command=command, known=listed)


def _unknown_option(option: str, command: str, names: Iterable[str]) -> Reason:
    if close := get_close_matches(option, list(names), 1, _LEAST_LIKENESS):
        return reasons.NO_OPTION_CLOSE(option=option, command=command, close=close[0])
    return reasons.NO_OPTION(option=option, command=command)


def _missing(error: exceptions.MissingArgumentError, argument: Argument, command: str) -> Reason:
    unused = error.unused_tokens or []
    options = [token for token in unused if token.startswith("--")]
    if (close := get_close_matches(argument.name, options, 1, _LEAST_LIKENESS)) and close[0] not in argument.names:
        return reasons.NO_OPTION_CLOSE(option=close[0], command=command, close=argument.name)
    count, _ = argument.token_count()
    if count > 1:
        return reasons.VALUES_MISSING(name=_name(argument, error.keyword), count=count, command=command)
    given = error.keyword or next((name for name in argument.names if name in unused), None)
    if given is not None:
        return reasons.NO_VALUE(option=given, command=command)
    return reasons.MISSING(name=_name(argument), command=command)


def _name(argument: Argument | None, keyword: str | None = None) -> str:
    """How the person wrote or would write it: `--limit`, or EMAIL for what stands without a name."""
    if keyword is not None:
        return f"`{keyword}`"
    if argument is None:
        return "?"
    if argument.field_info.is_keyword_only:
        return f"`{argument.name}`"
    return argument.name.lstrip("-").upper().replace("-", "_")


def _keyword(argument: Argument) -> str | None:
    return next((token.keyword for token in argument.tokens if token.keyword), None)


def _expected(kind: Any) -> Reason:
    if get_origin(kind) is Literal:
        return reasons.ONE_OF(words=", ".join(f"`{word}`" for word in get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return reasons.ONE_OF(words=", ".join(f"`{word}`" for word in kind.__members__))
    return next((entry for known, entry in _EXPECTED if kind is known), reasons.OTHER_VALUE)()

"""Log lines without secrets: structlog's configuration and the redaction of every line.

Every line of the process, also those of libraries that use `logging`, passes through `redact` just before it is
written: secrets and message bodies are masked whole, phone numbers keep their first five and last two digits.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog

from kurir.kit.plain_text import visible
from kurir.settings import Settings

MASK = "••••"
_SECRET_KEY = re.compile(
    r"(?i)(^|[_.-])(key|keys|token|tokens|secret|secrets|password|passwd|authorization|cookie|credentials|otp|pin|qr"
    r"|message|caption|text|body|content|payload|components|signature)$|otp[_-]?code|pair(ing)?[_-]?code|^code$|^apikey$"
)
"""Keys whose value is masked whole; `error_code` and `message_id` do not match."""
_PHONE_KEY = re.compile(r"(?i)(^|_)(phone|phone_no|recipient|sender|person|chat|jid|wa_id|msisdn|destination)$")
_SECRET_IN_TEXT = re.compile(
    r"""(?ix)
    (?P<name> [\w.\[\]-]*
      (?: (?:api|secret|access|private|master|licen[cs]es?)[_-]?key | token | secret | passw(?:or)?d | authorization
        | otp | otp_code | (?P<body>caption | message) )
      ["']? \s* (?: = \s* | (?P<colon>: \s*) ) )
    (?: (?:Bearer|OAuth|Basic)\s+\S+ | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | (?P<word>[^\s&,;"'}\])]+) )
    (?P<more> \ [a-z(] )?
    """
)
_PROSE = re.compile(r"[^\W\d_]+(?:[-'\u2019.][^\W\d_]+)*[.:]?")
"""A word of a sentence. A value after `message: ` that matches is not masked; one after `password: ` only when it is in
lower case and more words follow."""
_URL_PASSWORD = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:@?#]*:)[^\s/?#]+(?=@)")
_KEY_SHAPES = re.compile(r"\b(?:kr_\w{8,}|EAA\w{16,}|whsec_[\w+/=-]{8,})|(?i:\bBearer\s+)[\w.~+/=-]+")
_PARAMETERS = re.compile(r"\[parameters: .*?\](?=\n|$)", re.DOTALL)
"""The bound values that SQLAlchemy prints with a failed statement."""
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+\d[\d ().-]{7,17}\d|(?:0|62[ -]?)\d{2,4}(?:[ -]\d{3,5}){2,3}|\d{10,15})(?![\w.]|-\d)"
)
_TRACES, _LINES = ("exception", "stack"), "\n\t"
_ASCII_CONTROLS = "".join(map(chr, [*range(32), 127]))


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Sends the logs of structlog and `logging` (servers, migrations, drivers) to `stream`, stderr by default.

    One JSON object a line, or text for people; `log_format` and `log_level` decide. Call it once per process.
    """
    output: TextIO = stream or sys.stderr
    for_people = settings.log_format == "console" or (settings.log_format == "auto" and output.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # tracebacks become plain text before redaction, without local variables: those hold whatever was being handled
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if for_people
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                _as_data(json=not for_people),
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the same event with secrets, bodies and phone numbers masked, at any depth."""
    return {key: redact_text(str(value)) if key == "event" else _masked(key, value) for key, value in event.items()}


def redact_text(text: str) -> str:
    """A sentence with `name=secret` pairs, known key shapes, SQL parameters and phone numbers masked."""
    text = _PARAMETERS.sub(f"[parameters: {MASK}]", text)
    text = _KEY_SHAPES.sub(MASK, text)
    text = _URL_PASSWORD.sub(rf"\1{MASK}", text)
    text = _SECRET_IN_TEXT.sub(_without_secret, text)
    return _PHONE.sub(lambda found: mask_phone(found[0]), text)


def _without_secret(found: re.Match[str]) -> str:
    word, more = found["word"], found["more"] or ""
    if word and found["colon"] and _PROSE.fullmatch(word) and (found["body"] or (word.islower() and more)):
        return found[0]
    return f"{found['name']}{MASK}{more}"


def _as_data(*, json: bool) -> structlog.typing.Processor:
    """A processor that escapes control characters in every value; JSON escapes ASCII's controls itself."""

    def processor(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: shown(value, _LINES if key in _TRACES else "") for key, value in event.items()}

    def shown(value: Any, keep: str) -> Any:
        if isinstance(value, str):
            return visible(value, _ASCII_CONTROLS if json else keep)
        if json and isinstance(value, Mapping):
            items = cast("Mapping[object, object]", value).items()
            return {visible(str(key), _ASCII_CONTROLS): shown(item, keep) for key, item in items}
        if json and isinstance(value, (list, tuple)):
            return [shown(item, keep) for item in cast("Collection[object]", value)]
        return value  # for people it is written with repr, which shows what acts

    return processor


def mask_phone(phone: str) -> str:
    """`6281234567890` as `62812••••90`; anything too short to keep seven digits of is masked whole."""
    digits = re.sub(r"\D", "", phone)
    return f"{digits[:5]}{MASK}{digits[-2:]}" if len(digits) >= 9 else MASK


def _masked(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_KEY.search(key):
        return MASK
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(inner): _masked(str(inner), item) for inner, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(key, item) for item in cast("Collection[object]", value)]
    if _PHONE_KEY.search(key):
        user, at, server = str(value).partition("@")
        return mask_phone(user) + at + server
    return value if isinstance(value, (int, float)) else redact_text(str(value))

"""What an operator sees: log lines without secrets, and metrics without names.

Every line of the process, also those of libraries that use `logging`, passes through `redact` just before it is
written: secrets and message bodies are masked whole, phone numbers keep their first five and last two digits.
Metrics carry no account, number or phone: each label has a short, fixed list of values.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from kurir.kit.plain_text import visible
from kurir.settings import Settings

MASK = "••••"
_SECRET_KEY = re.compile(
    r"(?i)(^|[_.-])(key|keys|token|tokens|secret|secrets|password|passwd|authorization|cookie|credentials|otp|pin|qr"
    r"|message|caption|text|body|content|payload|components|signature)$|otp[_-]?code|pair(ing)?[_-]?code|^code$|^apikey$"
)
"""Keys whose value is masked whole; `error_code` or `message_id` are none of them."""
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
"""A word of a sentence: after `message: ` it is one, after `password: ` only in small letters and not the last one."""
_URL_PASSWORD = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:@?#]*:)[^\s/?#]+(?=@)")
_KEY_SHAPES = re.compile(r"\b(?:kr_\w{8,}|EAA\w{16,}|whsec_[\w+/=-]{8,})|(?i:\bBearer\s+)[\w.~+/=-]+")
_PARAMETERS = re.compile(r"\[parameters: .*?\](?=\n|$)", re.DOTALL)
"""The bound values that SQLAlchemy prints with a failed statement."""
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+\d[\d ().-]{7,17}\d|(?:0|62[ -]?)\d{2,4}(?:[ -]\d{3,5}){2,3}|\d{10,15})(?![\w.]|-\d)"
)
_TRACES, _LINES = ("exception", "stack"), "\n\t"
_ASCII_CONTROLS = "".join(map(chr, [*range(32), 127]))
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Sends structlog and `logging` (servers, migrations, drivers) to `stream`, stderr unless told otherwise.

    One JSON object a line, or text for people; `log_format` and `log_level` decide. Call it once per process.
    """
    output: TextIO = stream or sys.stderr  # type: ignore[assignment]  # None only in windowed programs
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
    """A processor that leaves nothing in an event that acts on a terminal; JSON writes ASCII's controls itself."""

    def processor(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: shown(value, _LINES if key in _TRACES else "") for key, value in event.items()}

    def shown(value: Any, keep: str) -> Any:
        if isinstance(value, str):
            return visible(value, _ASCII_CONTROLS if json else keep)
        if json and isinstance(value, Mapping):
            return {visible(str(key), _ASCII_CONTROLS): shown(item, keep) for key, item in value.items()}
        if json and isinstance(value, (list, tuple)):
            return [shown(item, keep) for item in value]
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
        return {str(inner): _masked(str(inner), item) for inner, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(key, item) for item in value]
    if _PHONE_KEY.search(key):
        user, at, server = str(value).partition("@")
        return mask_phone(user) + at + server
    return value if isinstance(value, (int, float)) else redact_text(str(value))


OtpOutcome = Literal["issued", "limited", "right", "wrong", "unknown", "refused"]
"""issued: a code is on its way · limited: none was sent, for too many went to that phone number or are open · right: a
check named an open code · wrong: it missed those that it could mean · unknown: there was none that it could mean
(expired, used, dead, never sent, of another length) · refused: not compared with all, for somebody is guessing."""


class DeviceStats(msgspec.Struct, frozen=True):
    """All linked devices at a glance: how many are in each state (every state is there), and the worst figures among
    the connected ones, in seconds; `hosts` engine processes run; `journal_entries` of received messages and receipts
    wait to be stored, the oldest for `oldest_entry` seconds; `troubles` of each kind were met since the start."""

    states: Mapping[str, int]
    longest_silence: float
    slowest_round_trip: float
    hosts: int
    journal_entries: int = 0
    oldest_entry: float = 0.0
    troubles: Mapping[str, int] = {}


class _Troubles(Collector):
    """Counts what went wrong in the engine, by kind."""

    def __init__(self, device_stats: Callable[[], DeviceStats]) -> None:
        self._device_stats = device_stats

    def collect(self) -> Iterable[Metric]:
        counter = CounterMetricFamily("kurir_engine_troubles", "What went wrong in the engine", labels=["kind"])
        for kind, count in self._device_stats().troubles.items():
            counter.add_metric([kind], count)
        return [counter]


class Metrics:
    """The process's metrics, in a registry of their own. One method per thing that happens, in the field's words."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._accepted = Counter(
            "kurir_messages_accepted", "Messages stored for sending", ["kind", "origin"], registry=registry
        )
        self._refused = Counter(
            "kurir_accept_refusals", "Sends refused before they were stored", ["reason"], registry=registry
        )
        self._outcomes = Counter(
            "kurir_send_outcomes", "Answers of the channels to a send", ["channel", "outcome"], registry=registry
        )
        self._send_seconds = Histogram(
            "kurir_send_seconds",
            "Time of one send, its media included",
            ["channel"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 75, 120),
            registry=registry,
        )
        self._otp = Counter(
            "kurir_otp",
            "One-time passwords: what became of codes asked for and of checks",
            ["outcome"],
            registry=registry,
        )
        self._states = Counter("kurir_message_states", "Messages that reached a state", ["state"], registry=registry)
        self._waiting = Gauge("kurir_queue_depth", "Messages that are queued or in flight", registry=registry)
        self._restricted = Gauge(
            "kurir_restricted_numbers", "Numbers that may not write to first contacts", registry=registry
        )
        self._callbacks = Counter("kurir_callbacks", "Callbacks of the Cloud API", ["result"], registry=registry)
        self._deliveries = Counter(
            "kurir_webhook_deliveries", "Tries to tell a customer's server something", ["result"], registry=registry
        )
        self._delivery_seconds = Histogram(
            "kurir_webhook_seconds",
            "Time of one try to tell a customer's server something",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20),
            registry=registry,
        )
        self._set_aside = Counter(
            "kurir_quarantined", "Items that could not be processed and were set aside", ["queue"], registry=registry
        )
        self._task_failures = Counter(
            "kurir_task_failures", "Failures of background tasks and threads", ["task"], registry=registry
        )
        self._failing_tasks = Gauge(
            "kurir_tasks_failing", "Background tasks that are down or keep failing", registry=registry
        )
        self._room = Gauge(
            "kurir_room_for_files_bytes", "Bytes that files may still take; 0: files wait", registry=registry
        )
        self._hosts = Gauge("kurir_engine_hosts", "Running engine processes", registry=registry)
        self._devices = Gauge("kurir_linked_devices", "Linked devices by their state", ["state"], registry=registry)
        self._silence = Gauge(
            "kurir_device_silence_seconds",
            "Longest time since something was heard on a connected device",
            registry=registry,
        )
        self._round_trip = Gauge(
            "kurir_device_round_trip_seconds",
            "Slowest answer of WhatsApp to the last check of a connected device",
            registry=registry,
        )
        self._journal_entries = Gauge(
            "kurir_journal_entries", "Received messages and receipts that wait to be stored", registry=registry
        )
        self._journal_oldest = Gauge(
            "kurir_journal_oldest_seconds",
            "How long the oldest received message or receipt has waited to be stored, of the worst device",
            registry=registry,
        )
        self._unread = Counter(
            "kurir_incoming_unread", "What linked devices received and Kurir does not read", ["kind"], registry=registry
        )
        self._unread_kinds: set[str] = set()
        self._requests = Counter(
            "kurir_http_requests", "Requests answered", ["method", "path", "code"], registry=registry
        )
        self._surprises = Counter(
            "kurir_unexpected_errors", "Requests that met a mistake of ours", ["path"], registry=registry
        )
        self._request_seconds = Histogram(
            "kurir_http_seconds",
            "Time to answer a request",
            ["path"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30),
            registry=registry,
        )

    def accepted(self, kind: str, origin: str, count: int = 1) -> None:
        """Messages were stored; `kind` as in `messages.content`, `origin` is api, otp, broadcast, …"""
        self._accepted.labels(kind, origin).inc(count)

    def refused(self, reason: str) -> None:
        """A send was not stored; `reason` is a fixed word (queue_full, window_closed, …), never a caller's text."""
        self._refused.labels(reason).inc()

    def sent(self, channel: str, outcome: msgspec.Struct, seconds: float) -> None:
        """A channel answered a send with an `Outcome` after `seconds`."""
        self._outcomes.labels(channel, str(outcome.__struct_config__.tag)).inc()
        self._send_seconds.labels(channel).observe(seconds)

    def otp(self, outcome: OtpOutcome) -> None:
        """A code was asked for or checked; see `OtpOutcome`."""
        self._otp.labels(outcome).inc()

    def reached(self, state: str) -> None:
        """A message reached a state of `messages.lifecycle`."""
        self._states.labels(state).inc()

    def waiting(self, count: int) -> None:
        """So many messages are queued or in flight, over all accounts."""
        self._waiting.set(count)

    def restricted(self, count: int) -> None:
        """WhatsApp lets so many numbers, over all accounts, write only to people they have been in contact with."""
        self._restricted.set(count)

    def called_back(self, result: str) -> None:
        """Meta called; `result` is stored, duplicate, bad_signature, limited, unknown_number, not_read, set_aside or
        malformed."""
        self._callbacks.labels(result).inc()

    def webhook_attempted(self, result: str, seconds: float) -> None:
        """A customer's server was posted to; `result` is delivered, again, exhausted or gone."""
        self._deliveries.labels(result).inc()
        self._delivery_seconds.observe(seconds)

    def set_aside(self, queue: str) -> None:
        """Something could not be processed; `queue` is one of `kurir.quarantine.quarantine.QUEUES`."""
        self._set_aside.labels(queue).inc()

    def task_failed(self, name: str) -> None:
        """A background task or thread failed; `name` is its fixed name."""
        self._task_failures.labels(name).inc()

    def watch_tasks(self, failing: Callable[[], int]) -> None:
        """From now on a look at the metrics shows how many tasks `failing` counts then."""
        self._failing_tasks.set_function(failing)

    def watch_room(self, room: Callable[[], int]) -> None:
        """From now on a look at the metrics shows how many bytes `room` says that files may still take."""
        self._room.set_function(room)

    def watch_devices(self, device_stats: Callable[[], DeviceStats]) -> None:
        """From now on a look at the metrics shows what `survey` says then."""
        for state in device_stats().states:
            self._devices.labels(state).set_function(lambda state=state: device_stats().states[state])
        self._silence.set_function(lambda: device_stats().longest_silence)
        self._round_trip.set_function(lambda: device_stats().slowest_round_trip)
        self._hosts.set_function(lambda: device_stats().hosts)
        self._journal_entries.set_function(lambda: device_stats().journal_entries)
        self._journal_oldest.set_function(lambda: device_stats().oldest_entry)
        self.registry.register(_Troubles(device_stats))

    def unread(self, kind: str) -> None:
        """A linked device received something of a kind that is not read; `kind` of the engine's fixed list of names.

        The first of each kind is logged.
        """
        if kind not in self._unread_kinds:
            self._unread_kinds.add(kind)
            structlog.get_logger(__name__).warning("incoming_kind_not_read", kind=kind)
        self._unread.labels(kind).inc()

    def answered(self, method: str, path: str, code: int, seconds: float) -> None:
        """Counts one HTTP answer. `path` is the route's template, "other" when no route matched; never a raw path."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, path, str(code)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def surprised(self, path: str) -> None:
        """A request met an error that nobody foresaw; `path` as in `answered`."""
        self._surprises.labels(path).inc()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format (version 0.0.4)."""
        return generate_latest(self.registry)

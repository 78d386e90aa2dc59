"""The process's Prometheus metrics. No label names an account, number or phone: each has a fixed list of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

OtpOutcome = Literal["issued", "limited", "right", "wrong", "unknown", "refused"]
"""Outcomes of requests and checks of one-time passwords.

issued: a code was queued · limited: too many codes for this phone number, or too many open · right: the code matched ·
wrong: open codes exist, none matched · unknown: no open code (expired, used, dead, never sent, of another length) ·
refused: guessing is suspected, so not all codes were compared.
"""


class DeviceStats(msgspec.Struct, frozen=True):
    """Figures over all linked devices.

    states: number of devices in each state (every state has a key). longest_silence, slowest_round_trip: the worst of
    the connected devices, in seconds. hosts: running engine processes. journal_entries, oldest_entry: received messages
    and receipts not yet stored, and the age of the oldest in seconds. troubles: problems since the start, by kind.
    """

    states: Mapping[str, int]
    longest_silence: float
    slowest_round_trip: float
    hosts: int
    journal_entries: int = 0
    oldest_entry: float = 0.0
    troubles: Mapping[str, int] = {}


class _Troubles(Collector):
    """Counts problems in the engine, by kind."""

    def __init__(self, device_stats: Callable[[], DeviceStats]) -> None:
        self._device_stats = device_stats

    def collect(self) -> Iterable[Metric]:
        counter = CounterMetricFamily("kurir_engine_troubles", "Problems in the engine, by kind", labels=["kind"])
        for kind, count in self._device_stats().troubles.items():
            counter.add_metric([kind], count)
        return [counter]


class Metrics:
    """All metrics of the process in one registry, with one method for each thing that is counted."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._accepted = Counter(
            "kurir_messages_accepted", "Messages stored for sending", ["kind", "origin"], registry=registry
        )
        self._refused = Counter(
            "kurir_accept_refusals", "Sends refused before they were stored, by reason", ["reason"], registry=registry
        )
        self._outcomes = Counter(
            "kurir_send_outcomes", "Outcomes of send attempts, by channel", ["channel", "outcome"], registry=registry
        )
        self._send_seconds = Histogram(
            "kurir_send_seconds",
            "Duration of one send attempt, media included",
            ["channel"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 75, 120),
            registry=registry,
        )
        self._otp = Counter(
            "kurir_otp",
            "One-time password requests and checks, by outcome",
            ["outcome"],
            registry=registry,
        )
        self._states = Counter(
            "kurir_message_states", "State changes of messages, by new state", ["state"], registry=registry
        )
        self._waiting = Gauge("kurir_queue_depth", "Messages queued or in flight", registry=registry)
        self._restricted = Gauge(
            "kurir_restricted_numbers",
            "Numbers that WhatsApp does not allow to write to new contacts",
            registry=registry,
        )
        self._callbacks = Counter(
            "kurir_callbacks", "Cloud API callbacks received, by result", ["result"], registry=registry
        )
        self._deliveries = Counter(
            "kurir_webhook_deliveries", "Webhook delivery attempts, by result", ["result"], registry=registry
        )
        self._delivery_seconds = Histogram(
            "kurir_webhook_seconds",
            "Duration of one webhook delivery attempt",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20),
            registry=registry,
        )
        self._quarantined = Counter(
            "kurir_quarantined", "Items that could not be processed and were quarantined", ["queue"], registry=registry
        )
        self._task_failures = Counter(
            "kurir_task_failures", "Failures of background tasks and threads", ["task"], registry=registry
        )
        self._failing_tasks = Gauge(
            "kurir_tasks_failing", "Background tasks that are down or keep failing", registry=registry
        )
        self._room = Gauge(
            "kurir_room_for_files_bytes",
            "Bytes still available for files above the disk reserve; at 0 files wait",
            registry=registry,
        )
        self._hosts = Gauge("kurir_engine_hosts", "Running engine processes", registry=registry)
        self._devices = Gauge("kurir_linked_devices", "Linked devices by their state", ["state"], registry=registry)
        self._silence = Gauge(
            "kurir_device_silence_seconds",
            "Longest time since a connected device last received anything",
            registry=registry,
        )
        self._round_trip = Gauge(
            "kurir_device_round_trip_seconds",
            "Slowest round trip of the last liveness check among connected devices",
            registry=registry,
        )
        self._journal_entries = Gauge(
            "kurir_journal_entries",
            "Received messages and receipts in device journals, not yet stored",
            registry=registry,
        )
        self._journal_oldest = Gauge(
            "kurir_journal_oldest_seconds",
            "Age of the oldest journal entry of any device",
            registry=registry,
        )
        self._unread = Counter(
            "kurir_incoming_unread",
            "Received content that Kurir does not support, by kind",
            ["kind"],
            registry=registry,
        )
        self._unread_kinds: set[str] = set()
        self._requests = Counter(
            "kurir_http_requests",
            "HTTP requests answered, by route and status code",
            ["method", "path", "code"],
            registry=registry,
        )
        self._surprises = Counter(
            "kurir_unexpected_errors", "HTTP requests that ended in an unexpected error", ["path"], registry=registry
        )
        self._request_seconds = Histogram(
            "kurir_http_seconds",
            "Duration of HTTP requests",
            ["path"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30),
            registry=registry,
        )
        # the children of the busiest ones: finding them by their labels costs more than counting
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._accepted_by: dict[tuple[str, str], Counter] = {}

    def accepted(self, kind: str, origin: str, count: int = 1) -> None:
        """Messages were stored; `kind` as in `messages.content`, `origin` is api, otp, broadcast, …"""
        counter = self._accepted_by.get((kind, origin))
        if counter is None:
            counter = self._accepted_by[kind, origin] = self._accepted.labels(kind, origin)
        counter.inc(count)

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
        """Sets the number of messages queued or in flight, over all accounts."""
        self._waiting.set(count)

    def restricted(self, count: int) -> None:
        """Sets how many numbers, over all accounts, are restricted by WhatsApp to people they have been in contact
        with."""
        self._restricted.set(count)

    def called_back(self, result: str) -> None:
        """A callback of the Cloud API was answered; `result` is stored, duplicate, bad_signature, limited,
        unknown_number, not_read, set_aside or malformed."""
        self._callbacks.labels(result).inc()

    def webhook_attempted(self, result: str, seconds: float) -> None:
        """A customer's server was posted to; `result` is delivered, again, exhausted or gone."""
        self._deliveries.labels(result).inc()
        self._delivery_seconds.observe(seconds)

    def quarantined(self, queue: str) -> None:
        """An item was quarantined; `queue` is one of `kurir.quarantine.quarantine.QUEUES`."""
        self._quarantined.labels(queue).inc()

    def task_failed(self, name: str) -> None:
        """A background task or thread failed; `name` is its fixed name."""
        self._task_failures.labels(name).inc()

    def watch_tasks(self, failing: Callable[[], int]) -> None:
        """Reads the number of failing tasks from `failing` at each scrape."""
        self._failing_tasks.set_function(failing)

    def watch_room(self, room: Callable[[], int]) -> None:
        """Reads the bytes still available for files from `room` at each scrape."""
        self._room.set_function(room)

    def watch_devices(self, device_stats: Callable[[], DeviceStats]) -> None:
        """Reads the figures of linked devices from `device_stats` at each scrape."""
        for state in device_stats().states:
            self._devices.labels(state).set_function(lambda state=state: device_stats().states[state])
        self._silence.set_function(lambda: device_stats().longest_silence)
        self._round_trip.set_function(lambda: device_stats().slowest_round_trip)
        self._hosts.set_function(lambda: device_stats().hosts)
        self._journal_entries.set_function(lambda: device_stats().journal_entries)
        self._journal_oldest.set_function(lambda: device_stats().oldest_entry)
        self.registry.register(_Troubles(device_stats))

    def unread(self, kind: str) -> None:
        """A linked device received content of an unsupported `kind`, a name of the engine's fixed list.

        The first of each kind is logged.
        """
        if kind not in self._unread_kinds:
            self._unread_kinds.add(kind)
            structlog.get_logger(__name__).warning("incoming_kind_unsupported", kind=kind)
        self._unread.labels(kind).inc()

    def answered(self, method: str, path: str, code: int, seconds: float) -> None:
        """Counts one HTTP answer; `path` is the route's template, or "other" when no route matched, never a raw
        path."""
        kept = self._answers.get((method, path, code))
        if kept is None:
            known = method if method in _METHODS else "other"
            kept = self._requests.labels(known, path, str(code)), self._request_seconds.labels(path)
            if known == method:  # others are without end
                self._answers[method, path, code] = kept
        kept[0].inc()
        kept[1].observe(seconds)

    def surprised(self, path: str) -> None:
        """A request ended in an unexpected error; `path` as in `answered`."""
        self._surprises.labels(path).inc()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format (version 0.0.4)."""
        return generate_latest(self.registry)

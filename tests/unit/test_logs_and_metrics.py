"""Nothing secret in a log line, nothing personal in a metric."""

from __future__ import annotations

import io
import json
import logging

import pytest
import sqlalchemy as sa
import structlog

from kurir.kit.logs import MASK, configure_logging, mask_phone, redact_text
from kurir.kit.metrics import Metrics
from kurir.messages.channel_reports import TryLater
from kurir.reasons import as_written
from kurir.settings import Settings

CANARIES = [f"canary{n:02d}Zq7Xv" for n in range(40)]
PHONE = "6281234567890"


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest):
    """The text a fully configured process writes, in both formats; the test run's own logging is put back after."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(Settings(log_format=request.param, log_level="debug"), stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


SECRET_KEYS = [
    "key", "api_key", "apikey", "access_token", "token", "verify_token", "app_secret", "secret", "password", "otp",
    "otp_code", "code", "pair_code", "message", "caption", "authorization", "Authorization", "cookie", "text", "body",
    "content", "X-Hub-Signature",
]  # fmt: skip


def test_every_way_a_secret_can_get_into_a_line(lines: io.StringIO) -> None:
    log = structlog.get_logger("kurir.test")
    canaries = iter(CANARIES)
    for key in SECRET_KEYS:
        log.info("as a field", **{key: next(canaries)})
    log.info("nested", request={"headers": {"authorization": next(canaries)}, "list": [{"token": next(canaries)}]})
    log.info(f"GET /public/v1/x?api_key={next(canaries)}&number_id=BO-1 200")
    log.info("GET %s", f"/webhook?hub.verify_token={next(canaries)}&hub.challenge=7")
    log.info(f'body was {{"message": "Kode {next(canaries)} anda", "n": 1}}')
    log.info(f"Authorization: Bearer {next(canaries)}")
    log.info(f"header was Bearer {next(canaries)}")
    log.info(f"new key kr_{next(canaries)}")
    log.info(f"graph token EAA{next(canaries)}abcdefgh")
    logging.getLogger("uvicorn.access").info('%s - "%s %s" %d', "1.2.3.4:5", "GET", f"/a?token={next(canaries)}", 200)
    logging.getLogger("some.library").warning("password=%s", next(canaries))
    try:
        int(f"token={next(canaries)}")
    except ValueError:
        log.exception("it broke", otp=next(canaries))
    try:
        with sa.create_engine("sqlite://").connect() as connection:
            connection.execute(sa.text("SELECT nope FROM nowhere WHERE a = :a"), {"a": next(canaries)})
    except sa.exc.OperationalError:
        log.exception("the statement failed")
    written = lines.getvalue()
    assert written.count("\n") > len(SECRET_KEYS)
    assert "SELECT nope" in written
    assert [canary for canary in CANARIES if canary in written] == []


def test_what_helps_the_operator_stays(lines: io.StringIO) -> None:
    structlog.get_logger("kurir.test").info(
        "sent", message_id=311093489237901312, error_code=131056, status=200, account=7, seconds=0.25, sandbox=True
    )
    written = lines.getvalue()
    for kept in ("sent", "311093489237901312", "131056", "200", "0.25", "kurir.test", "info"):
        assert kept in written


def test_phones_are_shortened_wherever_they_stand(lines: io.StringIO) -> None:
    log = structlog.get_logger("kurir.test")
    log.info("field", phone=PHONE, recipient=f"{PHONE}@s.whatsapp.net", number="BO-abc", sender=int(PHONE))
    log.info(f"to {PHONE}, +62 812-3456-7890 and {PHONE}@s.whatsapp.net", remote=f"chat {PHONE}")
    written = lines.getvalue()
    assert "62812••••90" in written
    assert "BO-abc" in written
    assert "34567" not in written


def test_each_json_line_is_one_object() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        configure_logging(Settings(log_format="auto"), stream)
        structlog.get_logger("a").info("two\nlines", odd=object(), raw=b"\xff", nested={"x": {1, 2}})
        structlog.get_logger("a").debug("below the level")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    (line,) = stream.getvalue().splitlines()
    parsed = json.loads(line)
    assert parsed["event"] == "two\nlines"
    assert parsed["level"] == "info"
    assert parsed["logger"] == "a"
    assert parsed["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("phone", "shown"),
    [(PHONE, "62812••••90"), ("+6281234567890", "62812••••90"), ("12345678", MASK), ("", MASK), ("62-812 345", MASK)],
)
def test_mask_phone(phone: str, shown: str) -> None:
    assert mask_phone(phone) == shown


@pytest.mark.parametrize(
    "text",
    ["took 0.1234567890 s", "message msg_0123456789abc queued", "id 311093489237901312", "2026-07-31 12:00:00 started"],
)
def test_numbers_that_are_no_phones_stay(text: str) -> None:
    assert redact_text(text) == text


def test_metrics_render_and_keep_cardinality_low() -> None:
    metrics = Metrics()
    metrics.accepted("text", "api")
    metrics.sent("cloud_api", TryLater("130429", as_written("too fast")), 0.2)
    metrics.waiting(3)
    for number in range(50):
        metrics.answered(f"VERB{number}", "/public/v1/send_personal_message", 200, 0.01)
    text = metrics.render().decode()
    assert 'kurir_messages_accepted_total{kind="text",origin="api"} 1.0' in text
    assert "kurir_queue_depth 3.0" in text
    assert 'kurir_send_outcomes_total{channel="cloud_api",outcome="try_later"} 1.0' in text
    assert 'kurir_send_seconds_bucket{channel="cloud_api",le="0.25"} 1.0' in text
    requests = [line for line in text.splitlines() if line.startswith("kurir_http_requests_total{")]
    assert requests == [
        'kurir_http_requests_total{code="200",method="other",path="/public/v1/send_personal_message"} 50.0'
    ]
    assert "process_resident_memory_bytes" in text


def test_metrics_have_no_personal_labels() -> None:
    families = [value for value in vars(Metrics()).values() if hasattr(value, "_labelnames")]
    labels = {label for family in families for label in family._labelnames}
    assert labels == {
        "kind",
        "origin",
        "reason",
        "channel",
        "outcome",
        "state",
        "result",
        "method",
        "path",
        "code",
        "task",
        "queue",
    }

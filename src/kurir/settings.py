"""All settings of Kurir with their names, defaults and reasons.

Read from the environment (`KURIR_…`) and from an optional file of the same names (`KURIR_CONFIG=/path/kurir.env`, one
`NAME=value` a line); the environment takes precedence. `Settings.load()` names the setting in every error.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from kurir.settings_rules import ROLES, SettingsError, check, check_text, shown


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings with their defaults. The environment name of `port` is `KURIR_PORT`, and so on."""

    # -- where things are ------------------------------------------------------------------------------------------
    data_dir: Path = Path("var/kurir")
    """Folder for the database, device sessions, media and keys; made with mode 0700."""
    database_url: str = ""
    """`postgresql://user:password@host:5432/database`, for several gateways that share the work; empty means SQLite in
    `data_dir`/kurir.db, which needs no other service."""
    host: str = "127.0.0.1"
    """Address to listen on; loopback by default, so that a trial is never on the internet by accident."""
    port: int = 8080
    """HTTP port of the gateway; 0 picks a free one."""
    roles: tuple[str, ...] = ROLES
    """What this process does: `api` (answers callers and Meta), `dispatch` (holds numbers, runs maintenance),
    `webhooks` (delivers to customers' servers). Several processes on one PostgreSQL may each do a part; together they
    need all."""
    gateway_url: str = ""
    """The address at which other gateways on the same PostgreSQL reach this one, on a private network; empty means
    http://host:port, which is right when all run on one machine."""
    public_url: str = ""
    """The address at which Meta reaches this gateway (callbacks); empty means http://host:port."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Reverse proxies whose X-Forwarded-For is trusted (addresses or networks): limits count client addresses."""
    max_connections: int = 4_096
    """Maximum open HTTP connections; further ones are answered with 503. Less where the system allows fewer open files:
    the gateway raises its own limit to the hard one at the start and logs how many connections that allows."""
    max_connections_per_address: int = 512
    """Maximum of those from one client address (IPv6: from one /64). Trusted proxies are exempt: they represent many
    clients."""
    max_head_bytes: int = 65_536
    """Maximum bytes of request line and header fields together; longer ones are answered with 431."""
    head_timeout: float = 10.0
    """Seconds for the head of a request to arrive, also for the first byte of a new connection."""
    keep_alive_timeout: float = 75.0
    """Seconds that a connection may be idle between two requests; more than the 60 s after which nginx closes its side,
    so that no request is sent on a connection that is being closed."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: str = "auto"
    """json, console, or auto: console on a terminal, json elsewhere."""

    # -- the compatible API ----------------------------------------------------------------------------------------
    http_status: str = "code"
    """`code`: the HTTP status equals the body's code. `always_200`: the failure is in the body alone."""
    max_body_bytes: int = 262_144
    """Maximum bytes of a request body; media are sent by URL, so a quarter of a megabyte is plenty."""
    rate_limit: str = "50/second;1000/minute"
    """Requests per account (notation of the `limits` package). Fails open: the store is this process's memory."""
    failed_key_limit: str = "30/minute"
    """Wrong API keys per client address; further attempts are refused unchecked. Fails closed."""
    callback_limit: str = "60/minute"
    """Unsigned or wrongly signed callbacks per client address (IPv6: per /64); further ones are refused unread. An
    address that has sent a correctly signed one (Meta's) has 50 times that limit for a day."""
    sync_timeout: float = 30.0
    """Seconds that `method_send:"sync"` waits for the channel's outcome before it answers 408."""
    meta_answer_timeout: float = 2.5
    """Seconds that send_meta_personal_message waits for Graph's answer before it returns `queued`."""
    queue_limit: int = 100_000
    """Maximum queued messages per account; beyond it a send is refused."""
    status_page: str = "members"
    """Who may see the numbers' state on the start page: `members` (sign-in) or `open` (the demo, loopback)."""

    # -- sending ---------------------------------------------------------------------------------------------------
    message_lifetime: float = 86_400.0
    """Seconds after which a message that could not be sent expires."""
    max_attempts: int = 8
    """Attempts before a message fails as exhausted."""
    device_receipt_wait: float = 20.0
    """Seconds after a device has connected in which a receipt may still settle a message in doubt."""
    cloud_receipt_wait: float = 120.0
    """Seconds in which a callback of Meta may still settle a message in doubt."""
    device_window: int = 4
    """Messages in flight per linked device (always to different recipients)."""
    device_gap: float = 0.0
    """Minimum seconds between two sends of one linked device, which then sends one message at a time, at a human
    pace."""
    cloud_window: int = 32
    """Messages in flight per official number (always to different recipients)."""
    device_restriction: float = 3_600.0
    """Seconds for which a linked device writes to no first contacts after WhatsApp has refused one because there were
    too many (error 463); then one is tried, and the time doubles (a day at most) while that is refused as well."""
    typing_per_character: float = 0.03
    """Seconds of simulated typing per character when `enable_typing` is on."""
    typing_max: float = 4.0
    """Maximum seconds of simulated typing."""
    devices_per_host: int = 10
    """Linked devices that share one engine process (about 60 MiB for the first, 1.5 MiB for each further one)."""
    device_check_after: float = 30.0
    """Seconds without anything received after which a connected device is checked by a small query; 0: only the
    engine's own keep-alive detects dead connections (within 40 s)."""
    device_check_timeout: float = 15.0
    """Seconds for that query's answer; without one the device is `degraded` and reconnected."""
    engine_timeout: float = 90.0
    """Seconds for one engine call; the engine itself gives up waiting for the server after 75."""

    # -- media -----------------------------------------------------------------------------------------------------
    media_image_bytes: int = 5_000_000
    """Largest picture (the Cloud API's limit, kept for both channels)."""
    media_document_bytes: int = 100_000_000
    """Largest file (the Cloud API's limit, kept for both channels)."""
    media_timeout: float = 30.0
    """Seconds to fetch one picture or file."""
    incoming_media_timeout: float = 120.0
    """Seconds for one attempt to fetch the file of a message that a linked device received. Messages do not wait for
    their files; a late file is retried, with pauses, for a day."""
    media_inspectors: int = 2
    """Processes that inspect fetched files, one file at a time each (40 MB, up to 400 MB for the largest pictures); one
    account never occupies the last of them, so at least 2."""
    allowed_networks: tuple[str, ...] = ()
    """Private networks (CIDR) or `host:port` pairs that fetches and webhooks may reach in spite of the deny list."""
    disk_reserve: int = 0
    """Bytes of the data folder's disk that files never use, sent or received: they are for the database and the
    journals. 0: 1 GiB or 5 % of the file system, whichever is less."""

    # -- what is kept, in days; 0 keeps for ever -------------------------------------------------------------------
    message_days: int = 90
    """Days for sent, failed, expired and canceled messages with their attempts, and broadcasts: long enough for a
    quarter's questions, no longer, because they are personal data. Messages that are queued, in flight or in doubt stay
    until they are settled. At least 2: a repeated request finds its message for a day."""
    received_days: int = 90
    """Days for received messages with their files, and when somebody wrote last: both sides of a conversation are kept
    equally long. At least 2: the customer service window is open for a day."""
    media_days: int = 30
    """Days for pictures and files of sent messages, never longer than the messages: they take the most space, and are
    needed only until a message has left; most questions about one come within a month."""
    quarantine_days: int = 90
    """Days for items that could not be processed (`kurir quarantine`): long enough to notice, repair and replay
    them."""
    callback_days: int = 8
    """Days for Meta's raw callbacks. At least 8: Meta repeats one for 7 days, which must still be recognized."""
    otp_days: int = 1
    """Days for used or expired codes (hashed, with their phone number) and wrong checks: the limits use at most the
    last hour."""
    webhook_days: int = 30
    """Days for webhook deliveries that ended, with every try; those that have not ended stay."""
    event_days: int = 7
    """Days for the event log, for readers that reconnect: a page that was closed over a weekend finds what it missed. A
    message leaves about four events of half a kilobyte. Those with deliveries stay as long as these."""

    # -- OTP -------------------------------------------------------------------------------------------------------
    otp_digits: int = 6
    """Minimum digits of a code. Codes get longer while many are open or guessing is suspected, up to
    `otp_digits_most`."""
    otp_digits_most: int = 10
    """Maximum digits of a code. Set it to what your form accepts: with 6, pass `req_id` to validate_otp, or people may
    have to request another code while guessing is suspected."""
    otp_sends_per_phone: int = 5
    """Codes to one phone number within 10 minutes. Fails closed."""
    otp_min_interval: float = 0.0
    """Minimum seconds between two codes to one phone number; 30 is a good value against abuse."""

    # -- the official channel --------------------------------------------------------------------------------------
    graph_url: str = "https://graph.facebook.com/v25.0"
    """Base of the Graph API; the sandbox's address in the demo."""
    graph_timeout: float = 20.0
    """Seconds for one Graph call."""

    # -- the sandbox switch (never in production) ------------------------------------------------------------------
    sandbox: bool = False
    """Connects linked devices to a sandbox network. The settings below are read only when this is on."""
    sandbox_proxy: str = ""
    """CONNECT proxy of the sandbox."""
    sandbox_ca: str = ""
    """CA file of the sandbox."""
    sandbox_noise_root: str = ""
    """Noise root key of the sandbox, 64 hex digits."""
    crash_at: str = ""
    """Kills the process at a named point, for tests of recovery (see `kit/crash_points.py`)."""

    @property
    def sqlite_path(self) -> Path:
        """The path of the embedded database."""
        return self.data_dir / "kurir.db"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from the environment and the file it names; `overrides` (by field name) take precedence.

        Raises SettingsError.
        """
        environ = os.environ if environ is None else environ
        values = given(environ)
        hints = get_type_hints(cls)
        found: dict[str, Any] = {}
        for name in cls.__struct_fields__:
            text = values.get("KURIR_" + name.upper())
            if text is not None and text != "":
                check_text(name, text)
                found[name] = _value(name, hints[name], text)
        found.update(overrides)
        settings = cls(**found)
        check(settings)
        return settings


def given(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The values of settings in the environment and the file it names, as text. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    values = dict(_from_file(environ.get("KURIR_CONFIG", "")))
    values.update({k: v for k, v in environ.items() if k.startswith("KURIR_")})
    return values


_READ_ELSEWHERE = (
    "KURIR_CONFIG",
    "KURIR_MASTER_KEY",
    "KURIR_META_TOKEN",
    "KURIR_META_APP_SECRET",
    "KURIR_SANDBOX_PORT",  # of `kurir demo`
)


def unknown_settings(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each name in the environment, and in the file it names, that looks like a setting but is not one.

    Values are not shown: a mistyped name may hold a secret. Raises SettingsError for a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    path = environ.get("KURIR_CONFIG", "")
    known = ["KURIR_" + name.upper() for name in Settings.__struct_fields__] + [*_READ_ELSEWHERE]
    found = {name: "the environment" for name in environ if name.upper().startswith("KURIR_")}
    found |= {name: path for name, _ in _from_file(path)}
    sentences: list[str] = []
    for name, where in sorted(found.items()):
        if name not in known:
            close = difflib.get_close_matches(name.upper(), known, 1)
            advice = f"; did you mean {close[0]}?" if close else ""
            sentences.append(f"{name} in {where} is no setting of Kurir and changes nothing{advice}")
    return sentences


def _from_file(path: str) -> list[tuple[str, str]]:
    if not path:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"KURIR_CONFIG: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"KURIR_CONFIG: {path} is not a text file in UTF-8") from error
    pairs = [line.partition("=") for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [(name.strip(), value.strip().strip('"')) for name, _, value in pairs]


def _value(name: str, hint: Any, text: str) -> Any:
    if hint is Path:
        return Path(text)
    if hint is bool:
        if text.lower() in {"1", "true", "yes", "on"}:
            return True
        if text.lower() in {"0", "false", "no", "off"}:
            return False
        raise SettingsError(f"KURIR_{name.upper()}: expected on or off, got {text!r}")
    if hint == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return hint(text)
    except ValueError as error:
        what = {int: "a whole number", float: "a number"}[hint]
        raise SettingsError(f"KURIR_{name.upper()}: expected {what}, got {shown(text)}") from error

"""Rules for the values of settings, and the error that names an invalid one."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROLES = ("api", "dispatch", "webhooks")
"""The roles of a gateway; see the setting `roles`."""


_COUNT, _BYTES, _SECONDS, _DAYS = 1_000_000, 1 << 40, 365 * 86_400, 36_500
RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "max_connections": (1, _COUNT),
    "max_connections_per_address": (1, _COUNT),
    "max_head_bytes": (4_096, 1 << 24),
    "head_timeout": (1, _SECONDS),
    "keep_alive_timeout": (1, _SECONDS),
    "max_body_bytes": (1, 1 << 30),
    "sync_timeout": (0, _SECONDS),
    "meta_answer_timeout": (0, _SECONDS),
    "queue_limit": (0, 1_000_000_000),
    "message_lifetime": (0, _SECONDS),
    "max_attempts": (1, _COUNT),
    "device_receipt_wait": (0, _SECONDS),
    "cloud_receipt_wait": (0, _SECONDS),
    "device_window": (1, _COUNT),
    "device_gap": (0, 86_400),
    "cloud_window": (1, _COUNT),
    "device_restriction": (0, _SECONDS),
    "typing_per_character": (0, 60),
    "typing_max": (0, 3_600),
    "devices_per_host": (1, _COUNT),
    "device_check_after": (0, _SECONDS),
    "device_check_timeout": (0, _SECONDS),
    "engine_timeout": (0, _SECONDS),
    "media_image_bytes": (0, _BYTES),
    "media_document_bytes": (0, _BYTES),
    "media_timeout": (0, _SECONDS),
    "incoming_media_timeout": (0, _SECONDS),
    "media_inspectors": (1, 1_000),
    "disk_reserve": (0, 1 << 50),
    "message_days": (0, _DAYS),
    "received_days": (0, _DAYS),
    "media_days": (0, _DAYS),
    "quarantine_days": (0, _DAYS),
    "callback_days": (0, _DAYS),
    "otp_days": (0, _DAYS),
    "webhook_days": (0, _DAYS),
    "event_days": (0, _DAYS),
    "otp_digits": (4, 10),
    "otp_digits_most": (4, 10),
    "otp_sends_per_phone": (0, _COUNT),
    "otp_min_interval": (0, 86_400),
    "graph_timeout": (0, _SECONDS),
}
"""Minimum and maximum of every numeric setting."""
_SHOWN = 80
"""Maximum characters of an invalid value in an error."""
_HOST = re.compile(r"[\w.:%-]{1,253}")
"""The characters of an address or a host name; listening shows whether it is one of this machine."""


class SettingsError(ValueError):
    """A setting has an invalid value; the message names it and says what was expected."""


_LEAST_DAYS = {"message_days": 2, "received_days": 2, "callback_days": 8}


def check(settings: Any) -> None:
    """Raises SettingsError for the first invalid setting."""
    choices = {
        "log_level": ("debug", "info", "warning", "error"),
        "log_format": ("auto", "json", "console"),
        "http_status": ("code", "always_200"),
        "status_page": ("members", "open"),
    }
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            raise SettingsError(f"KURIR_{name.upper()}: expected one of {', '.join(allowed)}")
    _check_roles(settings)
    _check_numbers(settings)
    _check_digits(settings)
    _check_days(settings)
    _check_addresses(settings)
    check_data_dir(settings.data_dir)
    if settings.crash_at and not settings.sandbox:
        raise SettingsError("KURIR_CRASH_AT ends the gateway on purpose: it is allowed only with KURIR_SANDBOX=on")
    if settings.sandbox and not (settings.sandbox_proxy and settings.sandbox_ca and settings.sandbox_noise_root):
        raise SettingsError(
            "KURIR_SANDBOX is on: KURIR_SANDBOX_PROXY, KURIR_SANDBOX_CA and KURIR_SANDBOX_NOISE_ROOT are needed too"
        )


def _check_digits(settings: Any) -> None:
    if not 4 <= settings.otp_digits <= 10:
        raise SettingsError("KURIR_OTP_DIGITS: expected 4 to 10")
    if not settings.otp_digits <= settings.otp_digits_most <= 10:
        raise SettingsError("KURIR_OTP_DIGITS_MOST: expected KURIR_OTP_DIGITS to 10")


def check_text(name: str, text: str) -> None:
    """Raises SettingsError for text that no setting can have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"KURIR_{name.upper()}: expected valid UTF-8") from None
    if "\0" in text:
        raise SettingsError(f"KURIR_{name.upper()}: expected text without the character NUL")


def _check_days(settings: Any) -> None:
    for name, least in _LEAST_DAYS.items():
        if 0 < getattr(settings, name) < least:
            raise SettingsError(f"KURIR_{name.upper()}: expected 0 (keep for ever) or at least {least}")


def _check_roles(settings: Any) -> None:
    unknown = ", ".join(sorted(set(settings.roles) - set(ROLES)))
    if unknown or not settings.roles:
        raise SettingsError(f"KURIR_ROLES: expected some of {', '.join(ROLES)}, got {unknown or 'none'}")
    if not settings.database_url and set(settings.roles) != set(ROLES):
        raise SettingsError(
            "KURIR_ROLES: with SQLite one process does everything; leave it empty, or set KURIR_DATABASE_URL"
        )


def _check_numbers(settings: Any) -> None:
    for name, (least, most) in RANGES.items():
        if not least <= getattr(settings, name) <= most:  # nan is in no range
            raise SettingsError(f"KURIR_{name.upper()}: expected {least:,} to {most:,}".replace(",", ""))


def _check_addresses(settings: Any) -> None:
    for name in ("gateway_url", "public_url", "graph_url"):
        url = getattr(settings, name)
        if not (_is_url(url) or (not url and name != "graph_url")):
            sample = "https://graph.facebook.com/v25.0" if name == "graph_url" else "http://10.0.0.7:8080"
            raise SettingsError(f"KURIR_{name.upper()}: expected an address such as {sample}, got {shown(url)}")
    for one in settings.trusted_proxies:
        if one != "*" and not _is_network(one):
            raise SettingsError(f"KURIR_TRUSTED_PROXIES: expected addresses such as 10.0.0.0/8, got {shown(one)}")
    if not _HOST.fullmatch(settings.host):
        raise SettingsError(
            f"KURIR_HOST: expected an address of this machine such as 127.0.0.1, got {shown(settings.host)}"
        )


def check_data_dir(folder: Path) -> None:
    """Raises SettingsError when a data folder cannot be created, because something else has its path."""
    try:
        for one in (folder, *folder.parents):
            if one.exists() and not one.is_dir():
                raise SettingsError(f"KURIR_DATA_DIR: expected a folder, but {one} is a file")
    except OSError as error:  # an overlong name, or a folder without permission
        raise SettingsError(f"KURIR_DATA_DIR: {shown(str(folder))} cannot be used: {error.strerror}") from error


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when out of range
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", url)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def shown(text: str) -> str:
    """An invalid value, truncated for a sentence."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")

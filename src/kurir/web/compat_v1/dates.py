"""Dates as the compatible API writes them in words."""

from __future__ import annotations

from datetime import datetime
from typing import Literal


def written_date(at: datetime, language: Literal["id", "en"]) -> str:
    """`21 Des 2025 07:00 WIB`, or with English months `21 Dec 2025 07:00 WIB`.

    The reference fixes the language by section, whatever the account's: Indonesian for templates, English for contacts.
    The zone's abbreviation is that of the time zone database: WIB, WITA, WIT in Indonesia.
    """
    from babel.dates import format_datetime  # noqa: PLC0415 - it reads locale data, which most gateways never need

    return f"{format_datetime(at, 'd MMM y HH:mm', locale=language)} {at:%Z}"

"""WhatsApp's rules for official numbers: the 24 h customer service window, review and prices. Pure.

Times are unix seconds and always passed in, so that a caller may keep a virtual clock. Numbers that Meta changes
now and then (prices, tiers, rates) belong here as data, beside the rule that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CUSTOMER_SERVICE_WINDOW = 24 * 3600.0
"""Seconds a window stays open after the person's last message (Meta, "Customer service windows")."""

WindowRule = Literal["failed_status", "refuse", "off"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is enforced, and how.

    window: what happens to a free-form message outside the window: accepted, then a `failed` status 131047 (as
        Meta mostly does); refused at once; or nothing.
    review_seconds: how long a new template stays PENDING.
    """

    window: WindowRule = "failed_status"
    review_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Price:
    """How a delivered message is charged; per message ("PMP") since 2025-07-01."""

    billable: bool
    category: str
    type: Literal["regular", "free_customer_service"]
    pricing_model: str = "PMP"


def window_open(last_inbound: float | None, now: float) -> bool:
    """Whether a free-form message may go to a person whose last message came at `last_inbound` (None: never)."""
    return last_inbound is not None and now - last_inbound < CUSTOMER_SERVICE_WINDOW


def price(category: str | None, open_window: bool) -> Price:
    """The price of one message: `category` is the template's in lower case, None for a free-form message."""
    if category is None:
        return Price(billable=False, category="service", type="free_customer_service")
    if category == "utility" and open_window:
        return Price(billable=False, category=category, type="free_customer_service")
    return Price(billable=True, category=category, type="regular")

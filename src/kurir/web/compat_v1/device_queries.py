"""Queries to a linked device, with a timeout: a late answer or an unavailable device is a 408."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from kurir.channels.linked_device.channel import DeviceUnavailable
from kurir.numbers.numbers import Number
from kurir.reasons.sending import DEVICE_UNAVAILABLE, NO_ANSWER
from kurir.web.compat_v1.envelopes import WireError
from kurir.web.gateway import Gateway

T = TypeVar("T")


async def asked(gateway: Gateway, number: Number, question: Awaitable[T]) -> T:
    """The device's answer to `question`, within `settings.sync_timeout`. Raises WireError 408 with the reason."""
    timeout = gateway.settings.sync_timeout
    try:
        # not wait_for: on Python 3.11 it swallows a cancellation that meets the answer
        async with asyncio.timeout(timeout):
            return await question
    except DeviceUnavailable as error:
        raise WireError("408", "timeout", DEVICE_UNAVAILABLE, number=number.key, reason=error.reason) from error
    except TimeoutError as error:
        raise WireError("408", "timeout", NO_ANSWER, seconds=f"{timeout:g}") from error

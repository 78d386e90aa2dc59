"""What gateways beside a sandbox have in common: an official number of one of the sandbox's businesses."""

from __future__ import annotations

from typing import Any

import aiohttp
from sqlalchemy import Connection

from kurir.kit.sealing import Sealing
from kurir.numbers import numbers
from kurir.numbers.numbers import Number


def add_official(
    connection: Connection, sealing: Sealing, account_id: int, business: dict[str, Any], *, verify_token: str = ""
) -> Number:
    """The business's number for an account, with `verify_token` or else the business's own."""
    return numbers.add_official(
        connection,
        sealing,
        account_id,
        phone=business["phone"],
        phone_number_id=business["phone_number_id"],
        waba_id=business["waba_id"],
        app_id=business["app_id"],
        access_token=business["access_token"],
        app_secret=business["app_secret"],
        verify_token=verify_token or business["verify_token"],
    )


async def subscribe(graph_url: str, business: dict[str, Any], gateway_url: str, *, verify_token: str = "") -> None:
    """Has the business's callbacks sent to a gateway, as its owner would."""
    body = {
        "override_callback_uri": f"{gateway_url}/meta/callbacks",
        "verify_token": verify_token or business["verify_token"],
    }
    headers = {"Authorization": f"Bearer {business['access_token']}"}
    address = f"{graph_url}/{business['waba_id']}/subscribed_apps"
    async with aiohttp.ClientSession(headers=headers) as session, session.post(address, json=body) as answer:
        assert answer.status == 200, await answer.text()

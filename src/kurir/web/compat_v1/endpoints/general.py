"""Section "General": the account at a glance, and whether a phone number is on WhatsApp."""

from __future__ import annotations

from typing import Any

from kurir.accounts.accounts import Account
from kurir.numbers.numbers import Number
from kurir.reasons.sending import NOT_KNOWN
from kurir.web.compat_v1.device_queries import asked
from kurir.web.compat_v1.endpoint import Call, Endpoint
from kurir.web.compat_v1.envelopes import Answer, WireError
from kurir.web.compat_v1.sending import PHONE_FIELDS, phone_of
from kurir.web.gateway import Gateway

SECTION = "General"


async def info(gateway: Gateway, call: Call) -> Answer:
    """The account's package, owner, time zone and linked devices."""
    account = call.account
    owned = await gateway.services.numbers.list(account.id)
    return Answer(
        {
            "code": "200",
            "message": "Successfully.",
            "info": {
                "package": {
                    "name": account.package_name,
                    "active_from": f"{account.local(account.package_from):%Y-%m-%d}",
                    # the end is exclusive: a package until midnight was last active on the day before
                    "active_until": f"{account.local(account.package_until - 1):%Y-%m-%d}",
                },
                "user": {"email": account.email, "registered_at": _moment(account, account.created_at)},
                "timezone": account.timezone,
                "devices": [_device(account, number) for number in owned if number.channel == "linked_device"],
            },
        }
    )


async def validate_number(gateway: Gateway, call: Call) -> Answer:
    """Asks the linked device whether the number is on WhatsApp; no answer never reads as yes."""
    phone = phone_of(call)
    known = await asked(gateway, call.number, gateway.services.devices.on_whatsapp(call.number, [phone]))
    if phone not in known:
        raise WireError("408", "timeout", NOT_KNOWN, phone=phone)
    if known[phone]:
        return Answer({"code": "200", "message": "Valid WhatsApp Number", "type": "successfully"})
    return Answer({"code": "200", "message": "Invalid WhatsApp Number", "type": "failed"})


def _device(account: Account, number: Number) -> dict[str, Any]:
    connected_at = number.last_connected_at
    return {
        "number_id": number.key,
        "number_whatsapp": number.phone,
        "state_connection": "paused" if number.paused and number.state == "connected" else number.state,
        "last_connected_at": _moment(account, connected_at) if connected_at is not None else "",
    }


def _moment(account: Account, at: float) -> str:
    return f"{account.local(at):%Y-%m-%d %H:%M:%S}"


ENDPOINTS = (
    Endpoint(
        path="info",
        section=SECTION,
        summary="Package, owner and linked devices of the account",
        handler=info,
        credential="api_key",
        number_field=None,
        fields=(),
        answer_sample={
            "code": "200",
            "message": "Successfully.",
            "info": {
                "package": {"name": "Enterprise", "active_from": "2026-01-01", "active_until": "2026-12-31"},
                "user": {"email": "owner@example.com", "registered_at": "2026-01-01 09:00:00"},
                "timezone": "Asia/Jakarta",
                "devices": [
                    {
                        "number_id": "BO-0123456789abcdef",
                        "number_whatsapp": "6281234567890",
                        "state_connection": "connected",
                        "last_connected_at": "2026-01-01 09:05:00",
                    }
                ],
            },
        },
    ),
    Endpoint(
        path="validate_number",
        section=SECTION,
        summary="Ask whether a phone number is on WhatsApp",
        handler=validate_number,
        credential="api_key",
        number_field="number_id",
        fields=PHONE_FIELDS,
        request_sample={"phone_no": "81234567890", "country_code": "62"},
        answer_sample={"code": "200", "message": "Valid WhatsApp Number", "type": "successfully"},
        other_answers=({"code": "200", "message": "Invalid WhatsApp Number", "type": "failed"},),
    ),
)

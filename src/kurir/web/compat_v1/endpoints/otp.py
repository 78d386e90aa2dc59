"""Section OTP: `send_otp` and `validate_otp`."""

from __future__ import annotations

from sqlalchemy import Connection

from kurir.kit.ids import public_message_id
from kurir.kit.metrics import OtpOutcome
from kurir.numbers import numbers
from kurir.otp.check import Attempt, CheckResult, check
from kurir.otp.issue import CODE, REQUEST_ID, SendLimited, issue
from kurir.otp.rules import LIFETIME_DEFAULT, LIFETIME_LEAST, LIFETIME_MOST, OtpRequest, clamp_lifetime
from kurir.outbox.idempotency import Remembered
from kurir.outbox.restrictions import is_first_contact
from kurir.outbox.waiting import lasts, number_waits, restricted
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, Phrase, WireError
from kurir.web.compat_v1.sending import IN_DELIVERY, PHONE_FIELDS, phone_of
from kurir.web.compat_v1.waits import phrase
from kurir.web.gateway import Gateway

SECTION = "OTP"
_NAME_LIMIT = 100

TOO_MANY_SENDS = Phrase(
    id="Terlalu banyak kode OTP untuk nomor ini. Coba lagi dalam {seconds} detik.",
    en="Too many OTP codes for this phone number. Try again in {seconds} seconds.",
)
TOO_MANY_CHECKS = Phrase(
    id="Terlalu banyak percobaan OTP. Coba lagi dalam {seconds} detik.",
    en="Too many OTP attempts. Try again in {seconds} seconds.",
)


NO_WAY = Phrase(
    id="Kode OTP tidak dikirim, karena tidak akan sampai selama masih berlaku: {why}",
    en="The OTP code was not sent, because it could not arrive while it is valid: {why}",
)
NUMBER_REMOVED = Phrase(id="Nomor ini sudah dihapus.", en="This number was removed.")
CODE_EXPECTED = Phrase(id="angka kode OTP", en="the digits of the code")


async def send_otp(gateway: Gateway, call: Call) -> Answer:
    """Accepts a code for delivery; the answer carries it. 400 over the limit of codes per phone number."""
    body = call.body
    request = OtpRequest(
        account=call.account,
        number_id=call.number.id,
        phone=phone_of(call),
        lifetime=clamp_lifetime(body.integer("lifetime", default=LIFETIME_DEFAULT, least=0)),
        customer_name=body.text("customer_name", limit=_NAME_LIMIT),
        service_name=body.text("service_name", limit=_NAME_LIMIT),
        company_name=body.text("company_name", limit=_NAME_LIMIT),
    )
    await _require_a_way(gateway, call, request.phone, request.lifetime)
    try:
        # the repeat guard knows a repetition by its content, and no two codes are the same
        once = call.once if call.once and call.once.key_hash else None
        issued = await issue(gateway.outbox, gateway.sealing, gateway.settings, request, call.now, once=once)
    except SendLimited as limited:
        gateway.metrics.otp("limited")
        raise WireError(
            "400",
            "rate_limited",
            TOO_MANY_SENDS,
            headers={"Retry-After": str(limited.retry_after)},
            seconds=limited.retry_after,
        ) from limited
    gateway.metrics.otp("issued")
    facts = {CODE: issued.code, REQUEST_ID: issued.request_id}
    return await otp_sent(gateway, call, Remembered([issued.message_id], facts))


async def _require_a_way(gateway: Gateway, call: Call, phone: str, lifetime: int) -> None:
    """Raises WireError 408 when the device surely cannot send within the code's `lifetime` (seconds), 404 when it was
    removed; a device that is connecting again may."""
    number, stranger = await gateway.database.read(lambda c: _sender(c, call, phone), of=call.account.id)
    if number is None:
        raise WireError("404", "invalid_number_id", NUMBER_REMOVED)
    waiting = number_waits(number, number.state, number.state_reason, call.now)
    if waiting is None and stranger and number.restricted_until is not None:
        reason = numbers.restricted_reason(number.restricted_until)
        waiting = restricted(number, reason, number.restricted_until, call.now)
    if waiting is not None and lasts(waiting, lifetime):
        gateway.metrics.refused("device_cannot_send")
        raise WireError("408", "timeout", NO_WAY, why=phrase(waiting))


def _sender(connection: Connection, call: Call, phone: str) -> tuple[numbers.Number | None, bool]:
    """The sender as it is now, and whether the phone number is a first contact of a restricted one."""
    number = numbers.by_id(connection, call.account.id, call.number.id)
    if number is None or number.restricted_until is None:
        return number, False
    return number, is_first_contact(connection, number.id, phone)


async def otp_sent(_gateway: Gateway, _call: Call, remembered: Remembered) -> Answer:
    """The answer to a request whose code is stored."""
    body = {"code": "200", "message": IN_DELIVERY, "type": "successfully"}
    return Answer(body | remembered.facts, {"X-Message-Id": public_message_id(remembered.ids[0])})


async def validate_otp(gateway: Gateway, call: Call) -> Answer:
    """Whether a code is right. Wrong, expired, used and unknown codes get the same answer; none carries a `type`."""
    settings = gateway.settings
    attempt = Attempt(
        account_id=call.account.id,
        code=call.body.text("otp_code", "otp", expected=CODE_EXPECTED, required=True).strip(),
        # a JSON number has lost its leading zeros on the way
        unpadded=isinstance(call.body.value("otp_code", "otp"), int | float),
        request_id=call.body.text("req_id", "request_id").strip(),
        phone=phone_of(call) if call.body.value("phone_no") is not None else "",
    )
    result = await check(
        gateway.database,
        gateway.sealing,
        attempt,
        call.now,
        settings.otp_digits,
        digits_most=settings.otp_digits_most,
    )
    gateway.metrics.otp(_outcome(result))
    if result.valid:
        return Answer({"code": "200", "message": "OTP Code is Valid"})
    if result.retry_after is None:
        return Answer({"code": "400", "message": "OTP Code is Invalid"})
    return Answer(
        {"code": "400", "message": TOO_MANY_CHECKS.say(call.account.language, seconds=result.retry_after)},
        {"Retry-After": str(result.retry_after)},
    )


def _outcome(result: CheckResult) -> OtpOutcome:
    if result.valid:
        return "right"
    if result.retry_after is not None:
        return "refused"
    return "wrong" if result.any_open else "unknown"


ENDPOINTS = (
    Endpoint(
        path="send_otp",
        section=SECTION,
        summary="Send a one-time password to a phone number",
        handler=send_otp,
        credential="api_key",
        number_field="number_id",
        fields=(
            *PHONE_FIELDS,
            Field("customer_name", "string", "Who is greeted in the message.", example="Jono"),
            Field("service_name", "string", "What the code is for.", example="Login"),
            Field("company_name", "string", "Who signs the message.", example="PT Contoh"),
            Field(
                "lifetime",
                "integer",
                f"Seconds the code is valid, {LIFETIME_LEAST} to {LIFETIME_MOST}; values outside are moved to the "
                f"nearer end. Default {LIFETIME_DEFAULT}.",
                example="60",
            ),
        ),
        request_sample={
            "phone_no": "81234567890",
            "country_code": "62",
            "customer_name": "Jono",
            "service_name": "Login",
            "company_name": "PT Contoh",
            "lifetime": "60",
        },
        answer_sample={
            "code": "200",
            "message": IN_DELIVERY,
            "type": "successfully",
            "otp_code": "041432",
            "req_id": "pV7mJb0dQ4rX1cYt9sZk2uNfW8hLaE3gRoI6yTqBx5M",
        },
        replay=otp_sent,
    ),
    Endpoint(
        path="validate_otp",
        section=SECTION,
        summary="Check a one-time password, once",
        handler=validate_otp,
        credential="api_key",
        number_field=None,
        fields=(
            Field(
                "otp_code",
                "string",
                "The code as the person typed it: 6 digits, up to 10 while many are open or somebody guesses.",
                required=True,
                example="041432",
            ),
            Field(
                "req_id",
                "string",
                "The `req_id` of send_otp, recommended: only its code is then right, and nobody else's wrong codes "
                "count against it.",
            ),
            Field(
                "phone_no",
                "string",
                "Only codes that were sent to this phone number are then right. Use `req_id` where you can.",
            ),
            Field("country_code", "string", "Country code of `phone_no`; without it the account's.", example="62"),
        ),
        request_sample={"otp_code": "041432"},
        answer_sample={"code": "200", "message": "OTP Code is Valid"},
        # whoever makes a login form try codes all the time must not use up what its shop sends with
        limit_group="validate_otp",
    ),
)

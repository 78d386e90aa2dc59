"""Section OTP: `send_otp` and `validate_otp`."""

from __future__ import annotations

from kurir.kit.ids import public_message_id
from kurir.otp.check import Attempt
from kurir.otp.issue import CODE, REQUEST_ID, SendLimited
from kurir.otp.rules import LIFETIME_DEFAULT, LIFETIME_LEAST, LIFETIME_MOST, OtpRequest, clamp_lifetime
from kurir.outbox.idempotency import Remembered
from kurir.outbox.wait_reasons import reason_of
from kurir.reasons import sentence
from kurir.reasons.otp import CODE_EXPECTED, NO_WAY, NUMBER_REMOVED, TOO_MANY_CHECKS, TOO_MANY_SENDS
from kurir.services.errors import NotFound
from kurir.services.otps import CannotArrive
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, WireError
from kurir.web.compat_v1.sending import IN_DELIVERY, PHONE_FIELDS, phone_of
from kurir.web.gateway import Gateway

SECTION = "OTP"
_NAME_LIMIT = 100


async def send_otp(gateway: Gateway, call: Call) -> Answer:
    """Accepts a code for delivery; the answer contains it. 400 over the limit of codes per phone number."""
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
    # the repeat guard recognizes content, and no two codes are the same
    once = call.once if call.once and call.once.key_hash else None
    try:
        issued = await gateway.services.otps.send(request, once=once)
    except CannotArrive as error:
        raise WireError("408", "timeout", NO_WAY, why=reason_of(error.waiting)) from error
    except NotFound as error:
        raise WireError("404", "invalid_number_id", NUMBER_REMOVED) from error
    except SendLimited as limited:
        headers = {"Retry-After": str(limited.retry_after)}
        raise WireError(
            "400", "rate_limited", TOO_MANY_SENDS, headers=headers, seconds=limited.retry_after
        ) from limited
    facts = {CODE: issued.code, REQUEST_ID: issued.request_id}
    return await otp_sent(gateway, call, Remembered([issued.message_id], facts))


async def otp_sent(_gateway: Gateway, _call: Call, remembered: Remembered) -> Answer:
    """The answer to a request whose code is stored."""
    body = {"code": "200", "message": IN_DELIVERY, "type": "successfully"}
    return Answer(body | remembered.facts, {"X-Message-Id": public_message_id(remembered.ids[0])})


async def validate_otp(gateway: Gateway, call: Call) -> Answer:
    """Whether a code is right. Wrong, expired, used and unknown codes get the same answer; none has a `type`."""
    attempt = Attempt(
        account_id=call.account.id,
        code=call.body.text("otp_code", "otp", expected=CODE_EXPECTED, required=True).strip(),
        # a JSON number has lost its leading zeros on the way
        unpadded=isinstance(call.body.value("otp_code", "otp"), int | float),
        request_id=call.body.text("req_id", "request_id").strip(),
        phone=phone_of(call) if call.body.value("phone_no") is not None else "",
    )
    result = await gateway.services.otps.check(attempt)
    if result.valid:
        return Answer({"code": "200", "message": "OTP Code is Valid"})
    if result.retry_after is None:
        return Answer({"code": "400", "message": "OTP Code is Invalid"})
    return Answer(
        {"code": "400", "message": sentence(TOO_MANY_CHECKS(seconds=result.retry_after), call.account.language)},
        {"Retry-After": str(result.retry_after)},
    )


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
        # guesses in a login form must not use up the account's limit for sending
        limit_group="validate_otp",
    ),
)

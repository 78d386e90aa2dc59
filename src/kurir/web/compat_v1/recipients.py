"""Recipients of the official endpoints: `reciptient` (the wire's own spelling), `recipient` or `recipients`; one
number, a comma-separated string, or a list."""

from __future__ import annotations

from kurir.broadcasts.broadcasts import MOST_RECIPIENTS, RecipientsError, recipients_of
from kurir.kit.json_values import JsonValue
from kurir.messages.addresses import CountryCodeError
from kurir.reasons.sending import COUNTRY_EXPECTED, NO_PHONE_NUMBERS, RECIPIENTS_EXPECTED, TOO_MANY_RECIPIENTS
from kurir.web.compat_v1.body import Body, text_of
from kurir.web.compat_v1.endpoint import Call, Field
from kurir.web.compat_v1.envelopes import missing, wrong

PLATFORMS = ("whatsapp_bisnis_api", "whatsapp_business_api", "whatsapp")
"""What clients write into `platform`; it has no effect."""
NAMES = ("recipients", "reciptient", "recipient")


def recipients_in(call: Call, name: str) -> list[str]:
    """The phone numbers in E.164 digits, each once; `name` is the endpoint's spelling, for errors.

    Raises WireError 405 naming every field or number that cannot be used; nothing has been stored then.
    """
    written = _written(call.body, name)
    if not written:
        raise missing(name, RECIPIENTS_EXPECTED)
    if len(written) > MOST_RECIPIENTS:
        raise wrong(
            name,
            TOO_MANY_RECIPIENTS(most=MOST_RECIPIENTS, given=len(written)),
        )
    try:
        return recipients_of(written, call.body.text("country_code"), call.account.country_code)
    except CountryCodeError as error:
        raise wrong("country_code", COUNTRY_EXPECTED) from error
    except RecipientsError as error:
        named = ", ".join(error.wrong)
        raise wrong(
            name,
            NO_PHONE_NUMBERS(count=error.count, named=named),
        ) from error


def _written(body: Body, name: str) -> list[str]:
    """The numbers as written, one text each; numbers and texts are interchangeable, empty places are skipped."""
    found: JsonValue = body.value(name, *NAMES)
    items = found if isinstance(found, list) else [found]
    present = [item for item in items if item is not None and item != ""]
    texts = [text_of(item, name, RECIPIENTS_EXPECTED) for item in present]
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


RECIPIENT_FIELDS = (
    Field(
        "country_code",
        "string",
        "Country code of numbers written without one; without it the account's.",
        example="62",
    ),
)

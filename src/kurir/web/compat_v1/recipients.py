"""Recipients of the official endpoints: `reciptient` (the wire's own spelling), `recipient` or `recipients`; one
number, a comma-separated string, or a list."""

from __future__ import annotations

from typing import Any

from kurir.broadcasts.broadcasts import MOST_RECIPIENTS, RecipientsError, recipients_of
from kurir.messages.addresses import CountryCodeError
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import Call, Field
from kurir.web.compat_v1.envelopes import Phrase, missing, wrong

PLATFORMS = ("whatsapp_bisnis_api", "whatsapp_business_api", "whatsapp")
"""What clients write into `platform`; it decides nothing."""
NAMES = ("recipients", "reciptient", "recipient")

RECIPIENTS_EXPECTED = Phrase(
    id="satu atau beberapa nomor telepon, mis. 6281234567890", en="one or more phone numbers such as 6281234567890"
)
COUNTRY_EXPECTED = Phrase(id="kode negara, mis. 62", en="a country code such as 62")


def recipients_in(call: Call, name: str) -> list[str]:
    """The phone numbers in E.164 digits, each once; `name` is the endpoint's spelling, for complaints.

    Raises WireError 405 naming every field or number that cannot be used; nothing has been stored then.
    """
    written = _written(call.body, name)
    if not written:
        raise missing(name, RECIPIENTS_EXPECTED)
    if len(written) > MOST_RECIPIENTS:
        raise wrong(
            name,
            Phrase(
                id=f"maksimal {MOST_RECIPIENTS} nomor per permintaan, diterima {len(written)}",
                en=f"at most {MOST_RECIPIENTS} numbers per request, {len(written)} were given",
            ),
        )
    try:
        return recipients_of(written, call.body.text("country_code"), call.account.country_code)
    except CountryCodeError as error:
        raise wrong("country_code", COUNTRY_EXPECTED) from error
    except RecipientsError as error:
        named = ", ".join(error.wrong)
        raise wrong(
            name,
            Phrase(
                id=f"{error.count} nomor bukan nomor telepon ({_escaped(named)})",
                en=f"{error.count} cannot be phone numbers ({_escaped(named)})",
            ),
        ) from error


def _written(body: Body, name: str) -> list[str]:
    """What was written, one text per number; numbers and texts are interchangeable, empty places are skipped."""
    found = body.value(name, *NAMES)
    items: list[Any] = found if isinstance(found, list) else [found]
    texts = [Body({name: item}).text(name, expected=RECIPIENTS_EXPECTED) for item in items]
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _escaped(text: str) -> str:
    """Callers' text inside a phrase must not be taken for placeholders."""
    return text.replace("{", "(").replace("}", ")")


RECIPIENT_FIELDS = (
    Field(
        "country_code",
        "string",
        "Country code of numbers written without one; without it the account's.",
        example="62",
    ),
)

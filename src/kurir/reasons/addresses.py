"""Why a text is no phone number or group id."""

from __future__ import annotations

from kurir.reasons.reason import Code

PHONE_DIGITS = Code(
    "address_phone_digits",
    id="seharusnya nomor telepon: angka, boleh diawali + atau 0",
    en="expected a phone number: digits, with an optional leading + or 0",
)
COUNTRY_CODE = Code(
    "address_country_code", id="seharusnya kode negara, mis. 62", en="expected a country code such as 62"
)
GROUP_ID = Code(
    "address_group_id",
    id="seharusnya ID grup, mis. 120363322806000000 atau 120363322806000000@g.us",
    en="expected a group id such as 120363322806000000 or 120363322806000000@g.us",
)
PHONE_COUNTRY = Code(
    "address_phone_country",
    id="seharusnya nomor telepon dengan kode negaranya, mis. 6281234567890",
    en="expected a phone number with its country code, such as 6281234567890",
)
PHONE_LENGTH = Code(
    "address_phone_length",
    id="ini bukan nomor telepon: terlalu pendek atau terlalu panjang untuk negaranya",
    en="this cannot be a phone number: too short or too long for its country",
)

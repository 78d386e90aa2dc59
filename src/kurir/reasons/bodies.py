"""What a JSON body of the operator API should have held. See also `requests.GOT`."""

from __future__ import annotations

from kurir.reasons.reason import Code

NO_OBJECT = Code(
    "body_no_object",
    id="seharusnya objek JSON, mis. {sample}",
    en="expected a JSON object such as {sample}",
)
NOT_JSON = Code(
    "body_not_json",
    id="isi permintaan (body) bukan JSON yang sah ({fault}): seharusnya objek, mis. {sample}",
    en="the body is not JSON ({fault}): expected an object such as {sample}",
)
MISSING = Code(
    "body_field_missing",
    id="Kolom `{field}` wajib diisi: kirim objek JSON, mis. {sample}.",
    en="Field `{field}` is required: send a JSON object such as {sample}.",
)
UNKNOWN = Code(
    "body_field_unknown",
    id="Kolom `{field}` tidak dikenal di sini: hapus, atau gunakan {known}.",
    en="Field `{field}` is not known here: leave it out, or use {known}.",
)
NO_FIELDS = Code(
    "body_takes_no_field",
    id="Kolom `{field}` tidak dikenal di sini: permintaan ini tidak memerlukan kolom apa pun.",
    en="Field `{field}` is not known here: this request takes no fields.",
)

WRONG = Code(
    "body_field_wrong",
    id="Kolom `{field}` tidak valid: seharusnya {expected}.",
    en="Field `{field}` is not valid: expected {expected}.",
)

# -- what is expected, what was found ----------------------------------------------------------------------------------

WHOLE_NUMBER = Code("body_whole_number", id="bilangan bulat", en="a whole number")
NUMBER = Code("body_number", id="bilangan", en="a number")
BOOLEAN = Code("body_boolean", id="`true` atau `false`", en="`true` or `false`")
NULL = Code("body_null", id="`null` (kosong)", en="`null` (nothing)")
DAY = Code("body_day", id="tanggal, mis. 2027-12-31", en="a day such as 2027-12-31")
MOMENT = Code("body_moment", id="waktu, mis. 2027-12-31T08:00:00Z", en="a time such as 2027-12-31T08:00:00Z")
AT_LEAST = Code("body_at_least", id="{kind}, paling kecil {bound}", en="{kind} of at least {bound}")
AT_MOST = Code("body_at_most", id="{kind}, paling besar {bound}", en="{kind} of at most {bound}")
ABOVE = Code("body_above", id="{kind} di atas {bound}", en="{kind} above {bound}")
BELOW = Code("body_below", id="{kind} di bawah {bound}", en="{kind} below {bound}")
LENGTH_AT_LEAST = Code(
    "body_length_at_least", id="{kind}, panjang minimal {bound}", en="{kind} of length {bound} or more"
)
LENGTH_AT_MOST = Code(
    "body_length_at_most", id="{kind}, panjang maksimal {bound}", en="{kind} of length {bound} or less"
)
PATTERN = Code("body_pattern", id="teks menurut pola `{pattern}`", en="text that matches `{pattern}`")
IN_RANGE = Code("body_in_range", id="bilangan yang tidak sebesar itu", en="a number that is not as large")
AS_IN = Code("body_as_in", id="nilai seperti dalam {sample}", en="a value as in {sample}")

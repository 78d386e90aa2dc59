"""Why a request is refused: before and after the caller is known, with what each field is expected to be."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- the request itself ------------------------------------------------------------------------------------------------

BODY_TOO_LARGE = Code(
    "request_body_too_large",
    id="Isi permintaan (body) terlalu besar: maksimal {limit} byte.",
    en="The request body is too large: at most {limit} bytes are allowed.",
)
BODY_TOO_SLOW = Code(
    "request_body_too_slow",
    id="Isi permintaan (body) tidak selesai diterima dalam {seconds} detik.",
    en="The request body did not arrive within {seconds} seconds.",
)
RATE_LIMITED = Code(
    "request_rate_limited",
    id="Terlalu banyak permintaan: coba lagi dalam {seconds} detik.",
    en="Too many requests: try again in {seconds} seconds.",
)
QUEUE_FULL = Code(
    "request_queue_full",
    id="Antrean pesan akun ini penuh: coba lagi nanti.",
    en="This account's message queue is full: try again later.",
)
BAD_VALUE = Code(
    "request_bad_value",
    id="Ada nilai yang terlalu panjang atau terlalu besar; tidak ada yang tersimpan.",
    en="A value in the request is too long or too large; nothing was stored.",
)
UNAVAILABLE = Code(
    "request_unavailable",
    id="Layanan sedang tidak dapat menyimpan data; tidak ada yang tersimpan. Coba lagi.",
    en="The service cannot store anything now; nothing was stored. Try again.",
)
UNKNOWN_OUTCOME = Code(
    "request_unknown_outcome",
    id="Layanan tidak dapat memastikan apakah permintaan ini tersimpan. Ulangi dengan `Idempotency-Key` "
    "yang sama, atau periksa dulu apakah pesan sampai.",
    en="The service cannot tell whether this request was stored. Repeat it with the same `Idempotency-Key`, "
    "or look first whether the message arrives.",
)
UNEXPECTED = Code(
    "request_unexpected",
    id="Terjadi kesalahan pada layanan (kode: {id}). Coba lagi.",
    en="The service made a mistake (id: {id}). Try again.",
)
UNKNOWN_ENDPOINT = Code(
    "request_unknown_endpoint",
    id="Endpoint `{path}` tidak ada; lihat /reference.",
    en="There is no endpoint `{path}`; see /reference.",
)
POST_ONLY = Code(
    "request_post_only",
    id="Metode `{method}` tidak didukung: gunakan POST.",
    en="Method `{method}` is not supported: use POST.",
)

# -- fields ------------------------------------------------------------------------------------------------------------

GOT = Code(
    "request_got",
    id="Kolom `{field}` tidak valid: seharusnya {expected}, diterima {found}.",
    en="Field `{field}` is not valid: expected {expected}, got {found}.",
)
A_TEXT = Code("request_a_text", id="teks", en="text")
A_FLAG = Code("request_a_flag", id='"1" atau "0"', en='"1" or "0"')
A_LIST = Code("request_a_list", id="sebuah daftar (array)", en="a list")
AN_OBJECT = Code("request_an_object", id="sebuah objek", en="an object")
HALF_CHARACTER = Code(
    "request_half_character",
    id="harus teks Unicode yang sah (ada separuh dari pasangan surrogate)",
    en="valid Unicode text is expected (it contains half of a surrogate pair)",
)
A_WHOLE_NUMBER = Code(
    "request_a_whole_number", id="bilangan bulat dari {least} sampai {most}", en="a whole number from {least} to {most}"
)
A_NUMBER = Code("request_a_number", id="bilangan dari {least} sampai {most}", en="a number from {least} to {most}")
A_HUGE_NUMBER = Code("request_a_huge_number", id="bilangan yang terlalu besar", en="a number that is too large")
ONE_OF = Code("request_one_of", id="salah satu dari {words}", en="one of {words}")

# -- the body ----------------------------------------------------------------------------------------------------------

EMPTY = Code(
    "request_empty",
    id="Isi permintaan (body) kosong: kirim objek JSON dengan `{credential}`.",
    en="The request body is empty: send a JSON object with `{credential}`.",
)
NOT_UTF8 = Code(
    "request_not_utf8",
    id="Isi permintaan (body) bukan teks UTF-8: kirim dalam UTF-8 (ditemukan: {found}).",
    en="The request body is not UTF-8 text: send it as UTF-8 (found: {found}).",
)
COMPRESSED = Code(
    "request_compressed",
    id="Content-Encoding `{encoding}` tidak didukung: kirim body tanpa kompresi.",
    en="Content-Encoding `{encoding}` is not supported: send the body uncompressed.",
)
NOT_JSON = Code(
    "request_not_json",
    id="Isi permintaan (body) bukan JSON yang sah: {reason}.",
    en="The request body is not JSON: {reason}.",
)
NOT_AN_OBJECT = Code(
    "request_not_an_object",
    id='Isi permintaan (body) harus berupa objek JSON: {{"nama": "nilai"}}.',
    en='The request body must be a JSON object: {{"name": "value"}}.',
)
TOO_DEEP = Code(
    "request_too_deep",
    id="Isi permintaan (body) bertingkat terlalu dalam.",
    en="The request body is nested too deeply.",
)
JSON_AT = Code("request_json_at", id="{fault}, pada byte {byte}", en="{fault}, at byte {byte}")
JSON_BROKEN = Code("request_json_broken", id="susunannya salah", en="it is malformed")
JSON_TRUNCATED = Code("request_json_truncated", id="terpotong", en="it ends too early")
JSON_COMMA = Code(
    "request_json_comma", id="ada koma sebelum penutup", en="there is a comma before the end of a list or object"
)
JSON_CHARACTER = Code("request_json_character", id="ada karakter yang salah", en="it holds a wrong character")
JSON_TRAILING = Code("request_json_trailing", id="ada sesuatu setelah akhirnya", en="something follows its end")
JSON_NAMES = Code("request_json_names", id="nama kolom harus berupa teks", en="names must be strings")

# -- forms -------------------------------------------------------------------------------------------------------------

MALFORMED = Code(
    "request_malformed",
    id="Isi formulir tidak dapat dibaca: {reason}.",
    en="The form in the request body cannot be read: {reason}.",
)
FILE_SENT = Code(
    "request_file_sent",
    id="Kolom `{field}` berisi berkas: kirim berkas lewat URL (`image_url`, `file_url`), bukan diunggah.",
    en="Field `{field}` is an uploaded file: files are sent by URL (`image_url`, `file_url`), not uploaded.",
)
FORM_NOT_UTF8 = Code("request_form_not_utf8", id="bukan UTF-8", en="it is not UTF-8")
FORM_FIELDS = Code("request_form_fields", id="paling banyak {most} kolom", en="at most {most} fields are allowed")
FORM_NO_BOUNDARY = Code(
    "request_form_no_boundary", id="Content-Type tidak memuat `boundary`", en="Content-Type has no `boundary`"
)
FORM_BROKEN = Code("request_form_broken", id="susunan multipart salah", en="broken multipart")
FORM_UNCLOSED = Code(
    "request_form_unclosed",
    id="susunan multipart salah (boundary penutup tidak ada)",
    en="broken multipart (the closing boundary is missing)",
)
FORM_DEEP = Code("request_form_deep", id="`{name}` bertingkat terlalu dalam", en="`{name}` is nested too deeply")
FORM_BOTH = Code(
    "request_form_both",
    id="`{name}` sekaligus nilai dan daftar",
    en="`{name}` is both a value and a list",
)

# -- who calls ---------------------------------------------------------------------------------------------------------

INVALID_KEY = Code(
    "request_invalid_key",
    id="API Key pada kolom `{field}` tidak valid.",
    en="The API key in field `{field}` is not valid.",
)
TOO_MANY_WRONG_KEYS = Code(
    "request_too_many_wrong_keys",
    id="Terlalu banyak API Key yang salah dari alamat ini: coba lagi dalam {seconds} detik.",
    en="Too many wrong API keys from this address: try again in {seconds} seconds.",
)
PACKAGE_ENDED = Code(
    "request_package_ended",
    id="Paket `{package}` telah berakhir sejak {date}.",
    en="The package `{package}` ended on {date}.",
)
PACKAGE_NOT_BEGUN = Code(
    "request_package_not_begun",
    id="Paket `{package}` baru aktif mulai {date}.",
    en="The package `{package}` only begins on {date}.",
)
INVALID_NUMBER = Code(
    "request_invalid_number",
    id="`{field}` tidak ditemukan pada akun ini: {expected}.",
    en="`{field}` is not a number of this account: {expected}.",
)
KEY_EXPECTED = Code("request_key_expected", id="API Key akun Anda", en="the API key of your account")
NUMBER_ID_EXPECTED = Code(
    "request_number_id_expected",
    id="Number ID perangkat, diawali BO-",
    en="the Number ID of a linked device, which starts with BO-",
)
LICENSES_KEY_EXPECTED = Code(
    "request_licenses_key_expected",
    id="kunci lisensi nomor resmi, diawali WB-",
    en="the licence key of an official number, which starts with WB-",
)

# -- fields in general -------------------------------------------------------------------------------------------------

REQUIRED = Code(
    "request_required", id="Kolom `{field}` wajib diisi: {expected}.", en="Field `{field}` is required: {expected}."
)
WRONG = Code(
    "request_wrong", id="Kolom `{field}` tidak valid: {expected}.", en="Field `{field}` is not valid: {expected}."
)
TOO_LONG = Code(
    "request_too_long",
    id="Kolom `{field}` terlalu panjang: {length} karakter, maksimal {limit}.",
    en="Field `{field}` is too long: {length} characters, at most {limit} are allowed.",
)

# -- idempotency -------------------------------------------------------------------------------------------------------

ONE_KEY = Code(
    "request_one_key", id="sama dengan header `Idempotency-Key`", en="the same as the header `Idempotency-Key`"
)
KEY_REUSED = Code(
    "request_key_reused",
    id="Kolom `idempotency_key` (atau header `Idempotency-Key`) sudah dipakai untuk permintaan lain dalam "
    "24 jam terakhir: gunakan kunci baru.",
    en="Field `idempotency_key` (or header `Idempotency-Key`) was used for a different request within the "
    "last 24 hours: use a new key.",
)
ONCE_KEY_EXPECTED = Code(
    "request_once_key_expected", id="1 sampai 255 karakter yang dapat dicetak", en="1 to 255 printable characters"
)

"""Why a send, a list or a question to a device is refused or still waits, and what its fields are expected to be."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- recipients --------------------------------------------------------------------------------------------------------

RECIPIENTS_EXPECTED = Code(
    "request_recipients_expected",
    id="satu atau beberapa nomor telepon, mis. 6281234567890",
    en="one or more phone numbers such as 6281234567890",
)
COUNTRY_EXPECTED = Code("request_country_expected", id="kode negara, mis. 62", en="a country code such as 62")
TOO_MANY_RECIPIENTS = Code(
    "request_too_many_recipients",
    id="maksimal {most} nomor per permintaan, diterima {given}",
    en="at most {most} numbers per request, {given} were given",
)
NO_PHONE_NUMBERS = Code(
    "request_no_phone_numbers",
    id="{count} nomor bukan nomor telepon ({named})",
    en="{count} cannot be phone numbers ({named})",
)

# -- a device is asked -------------------------------------------------------------------------------------------------

DEVICE_UNAVAILABLE = Code(
    "request_device_unavailable",
    id="Perangkat `{number}` tidak dapat menjawab saat ini: {reason}",
    en="The device `{number}` cannot answer now: {reason}",
)
NO_ANSWER = Code(
    "request_no_answer",
    id="WhatsApp tidak menjawab dalam {seconds} detik: coba lagi.",
    en="WhatsApp did not answer within {seconds} seconds: try again.",
)

# -- sending -----------------------------------------------------------------------------------------------------------

TEXT_OR_PICTURE = Code(
    "request_text_or_picture",
    id="teks pesan, atau URL gambar pada `image_url`",
    en="the text, or a picture's URL in `image_url`",
)
FILE_EXPECTED = Code(
    "request_file_expected",
    id="URL berkas, mis. https://example.com/a.pdf",
    en="the file's URL, such as https://example.com/a.pdf",
)
URL_EXPECTED = Code(
    "request_url_expected",
    id="sebuah URL, mis. https://example.com/a.png",
    en="a URL such as https://example.com/a.png",
)
PHONE_EXPECTED = Code(
    "request_phone_expected",
    id="nomor telepon, mis. 81234567890 dengan `country_code` 62, atau +6281234567890",
    en="a phone number such as 81234567890 with `country_code` 62, or +6281234567890",
)
CAPTION_TOO_LONG = Code(
    "request_caption_too_long",
    id="Kolom `message` terlalu panjang untuk keterangan media: {length} karakter, maksimal {limit}. Kirim "
    'dengan `send_as_caption` "0" agar menjadi pesan tersendiri.',
    en="Field `message` is too long for a caption: {length} characters, at most {limit} are allowed. With "
    '`send_as_caption` "0" it goes as a message of its own.',
)
NOT_SENT = Code("request_not_sent", id="Pesan {id} gagal dikirim: {reason}", en="Message {id} was not sent: {reason}")
STILL_WAITING = Code(
    "request_still_waiting",
    id="Pesan {id} sudah tersimpan tetapi belum terkirim dalam {seconds} detik (status: {state}). Menunggu: "
    "{why}. Pesan disimpan dan akan dikirim begitu bisa, sampai kedaluwarsa; jangan kirim ulang.",
    en="Message {id} is stored but was not sent within {seconds} seconds (state: {state}). It waits for: "
    "{why}. It is kept and will still go out when it can, until it expires; do not send it again.",
)
STILL_STOPPING = Code(
    "request_still_stopping",
    id="Pesan {id} sudah tersimpan tetapi belum terkirim (status: {state}). Menunggu: {why}. Jangan kirim ulang.",
    en="Message {id} is stored but was not sent yet (state: {state}). It waits for: {why}. Do not send it again.",
)
UNCONFIRMED = Code(
    "request_unconfirmed",
    id="Pesan {id} mungkin sudah terkirim, tetapi WhatsApp belum memastikannya. Pesan ditahan sampai ada "
    "kepastian; jangan kirim ulang.",
    en="Message {id} may have been sent, but WhatsApp has not confirmed it. It is held until that is known; "
    "do not send it again.",
)

# -- contacts ----------------------------------------------------------------------------------------------------------

CONTACT_EXPECTED = Code(
    "request_contact_expected",
    id="`contacts_id` dari get-list-contacts",
    en="the `contacts_id` of one of your lists (get-list-contacts)",
)

# -- conversations -----------------------------------------------------------------------------------------------------

ONE_EXPECTED = Code("request_one_expected", id="satu nomor telepon saja", en="one phone number only")
WINDOW_CLOSED = Code(
    "request_window_closed",
    id="Re-engagement message: {to} terakhir menulis ke nomor ini lebih dari 24 jam yang lalu, atau belum "
    "pernah. Gunakan template yang sudah disetujui.",
    en="Re-engagement message: {to} last wrote to this number more than 24 hours ago, or never did. Use an "
    "approved template.",
)
META_UNCONFIRMED = Code(
    "request_meta_unconfirmed",
    id="Pesan mungkin sudah terkirim, tetapi Meta belum memastikannya; jangan kirim ulang.",
    en="The message may have been sent, but Meta has not confirmed it; do not send it again.",
)
META_STILL_WAITING = Code(
    "request_meta_still_waiting",
    id="Pesan sudah tersimpan dan akan dikirim begitu bisa; jangan kirim ulang. Menunggu: {why}.",
    en="The message is stored and will still go out when it can; do not send it again. It waits for: {why}.",
)
META_PAUSED = Code(
    "request_meta_paused",
    id="Pesan tersimpan, tetapi nomor ini dijeda sampai pengelola bertindak: {reason} (setelah beres: "
    "`kurir number resume {number}`)",
    en="The message is stored, but this number is paused until its operator acts: {reason} (once that is "
    "settled: `kurir number resume {number}`)",
)

# -- lists of a device -------------------------------------------------------------------------------------------------

KIND_EXPECTED = Code("request_kind_expected", id="`contacts` atau `group`", en="`contacts` or `group`")

# -- numbers -----------------------------------------------------------------------------------------------------------

NOT_KNOWN = Code(
    "request_not_known",
    id="WhatsApp tidak memberi jawaban untuk nomor {phone}: coba lagi.",
    en="WhatsApp gave no answer for the number {phone}: try again.",
)

# -- groups ------------------------------------------------------------------------------------------------------------

GROUP_EXPECTED = Code(
    "request_group_expected",
    id="ID grup, mis. 120363322806000000 (lihat `grab`)",
    en="a group's id such as 120363322806000000 (see `grab`)",
)
ORDER_EXPECTED = Code(
    "request_order_expected",
    id='daftar {{"column": nomor kolom, "dir": "asc" atau "desc"}}, paling banyak {most}',
    en='a list of {{"column": index of a column, "dir": "asc" or "desc"}}, at most {most}',
)

"""Why what an operator asks for is refused: accounts, numbers, messages, webhooks, the quarantine, and the request."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- values ------------------------------------------------------------------------------------------------------------

ONE_OF = Code("value_one_of", id="seharusnya salah satu dari {words}", en="expected one of {words}")
RANGE = Code("value_range", id="seharusnya {least} sampai {most}", en="expected {least} to {most}")
WHOLE_NUMBER = Code(
    "value_whole_number",
    id="seharusnya bilangan bulat, 0 atau lebih, paling banyak 18 angka",
    en="expected a whole number, 0 or larger, of 18 digits at most",
)
CURSOR_AHEAD = Code(
    "cursor_ahead",
    id="di atas peristiwa terakhir: gunakan `cursor` dari jawaban sebelumnya, atau mulai dari 0",
    en="it is beyond the last event: use the `cursor` of an earlier answer, or begin at 0",
)
SECONDS = Code("value_seconds", id="seharusnya detik dari 0 sampai {most}", en="expected seconds from 0 to {most}")
SOME_TEXT = Code("value_some_text", id="seharusnya teks, tidak kosong", en="expected some text")
A_DAY = Code("value_day", id="seharusnya tanggal, mis. 2027-12-31", en="expected a day such as 2027-12-31")

# -- accounts ----------------------------------------------------------------------------------------------------------

NO_ACCOUNT_OF_EMAIL = Code(
    "no_account_of_email",
    id="tidak ada akun untuk {email} (akun: {known}); lihat `kurir account create --help`",
    en="there is no account for {email} (accounts: {known}); see `kurir account create --help`",
)
NONE_YET = Code("none_yet", id="belum ada", en="none yet")
NO_ACCOUNT = Code(
    "no_account",
    id="tidak ada akun dengan nomor ini: `kurir account list` menampilkannya",
    en="there is no account with this number: `kurir account list` shows them",
)
ACCOUNT_ID = Code("account_id_expected", id="seharusnya nomor sebuah akun", en="expected the number of an account")
ACCOUNT_EMAIL = Code(
    "account_email",
    id="seharusnya alamat, mis. owner@example.com",
    en="expected an address such as owner@example.com",
)
ACCOUNT_EXISTS = Code("account_exists", id="akun untuk {email} sudah ada", en="an account for {email} exists already")
MEMBER_EXISTS = Code(
    "member_exists",
    id="anggota dengan alamat {email} sudah ada",
    en="a member with the address {email} exists already",
)
ACCOUNT_TIMEZONE = Code(
    "account_timezone", id="seharusnya nama, mis. Asia/Jakarta", en="expected a name such as Asia/Jakarta"
)
ACCOUNT_COUNTRY = Code("account_country", id="seharusnya angka, mis. 62", en="expected digits such as 62")
ACCOUNT_REPEAT_GUARD = Code(
    "account_repeat_guard",
    id="seharusnya 0 (nonaktif) sampai {most} detik",
    en="expected 0 (off) to {most} seconds",
)
NO_KEY = Code(
    "no_api_key",
    id="tidak ada kunci aktif milik akun ini yang berakhiran {last4}",
    en="no live key of this account ends in {last4}",
)

# -- numbers -----------------------------------------------------------------------------------------------------------

NO_NUMBER = Code(
    "no_number",
    id="tidak ada nomor dengan kunci ini: `kurir number list` menampilkannya",
    en="there is no number with this key: `kurir number list` shows them",
)
NO_LINKED_DEVICE = Code(
    "no_linked_device",
    id="tidak ada perangkat tertaut dengan kunci ini: `kurir number list` menampilkannya",
    en="there is no linked device with this key: `kurir number list` shows them",
)
NO_OFFICIAL_NUMBER = Code(
    "no_official_number",
    id="tidak ada nomor resmi dengan kunci ini: `kurir number list` menampilkannya",
    en="there is no official number with this key: `kurir number list` shows them",
)
META_VALUE_EMPTY = Code(
    "meta_value_empty",
    id="kosong: isi dengan yang ditampilkan Meta untuk aplikasinya",
    en="it is empty: enter what Meta shows for the app",
)
PAUSED_ALREADY = Code("number_paused_already", id="{key} sudah dijeda", en="{key} is paused already")
NOT_PAUSED = Code(
    "number_not_paused",
    id="{key} {state}: hanya nomor yang dijeda dapat dilanjutkan",
    en="{key} is {state}: only a paused number can be resumed",
)
STILL_PAIRED = Code(
    "number_still_paired",
    id="{key} masih tertaut: keluarkan dulu, agar ponselnya juga melupakannya",
    en="{key} is paired: log it out first, so that its phone forgets it too",
)
HELD_AND_OFFLINE = Code(
    "number_held_and_offline",
    id="gateway lain memegang {key}, dan nomor itu belum tersambung: coba lagi nanti",
    en="another gateway holds {key}, and it is not connected: try later",
)

# -- messages ----------------------------------------------------------------------------------------------------------

NO_MESSAGE_ID = Code(
    "no_message_id",
    id="{written} bukan ID pesan: seharusnya msg_ dan 13 huruf dan angka",
    en="{written} is no message id: expected msg_ and 13 letters and digits",
)
NO_MESSAGE = Code("no_message", id="tidak ada pesan dengan ID ini", en="there is no message with this id")
NOT_REPLAYABLE = Code(
    "message_not_replayable",
    id="{message} {state}: hanya pesan yang {states} dapat dikirim ulang",
    en="{message} is {state}: only a message that is {states} can be replayed",
)
NOT_CANCELABLE = Code(
    "message_not_cancelable",
    id="{message} {state}: hanya pesan yang {states} dapat dibatalkan",
    en="{message} is {state}: only a message that is {states} can be canceled",
)
PASSWORD_ERASED = Code(
    "message_password_erased",
    id="{message} memuat kata sandi sekali pakai, yang sudah dihapus: kirim yang baru",
    en="{message} held a one-time password, which is erased: send a new one",
)
MOVED_ON = Code(
    "message_moved_on",
    id="status {message} baru saja berubah: lihat sekali lagi",
    en="{message} has just moved on: look at it again",
)

# -- webhooks ----------------------------------------------------------------------------------------------------------

NO_NUMBER_OF_ACCOUNT = Code(
    "no_number_of_account", id="akun ini tidak memiliki nomor {key}", en="the account has no number {key}"
)
NO_ENDPOINT = Code(
    "no_endpoint",
    id="akun ini tidak memiliki endpoint {key} (endpoint: {known})",
    en="the account has no endpoint {key} (endpoints: {known})",
)
UNKNOWN_EVENT = Code(
    "unknown_event",
    id="seharusnya salah satu dari {words}, diterima {found}",
    en="expected one of {words}, got {found}",
)
NO_EVENT = Code("no_event", id="seharusnya paling sedikit satu", en="expected at least one")
ENDPOINT_SILENT = Code("endpoint_silent", id="{url} tidak menjawab: {reason}", en="{url} did not answer: {reason}")
NOTHING_TO_DELIVER = Code(
    "nothing_to_deliver",
    id="tidak ada yang dapat dikirim ulang (perlu endpoint aktif, lihat `kurir webhook list`)",
    en="nothing to deliver again (an active endpoint is needed, see `kurir webhook list`)",
)

# -- contacts ----------------------------------------------------------------------------------------------------------

NO_CONTACT_LIST = Code(
    "no_contact_list", id="akun ini tidak memiliki daftar kontak itu", en="the account has no such contact list"
)
NO_GROUP = Code(
    "no_group",
    id="nomor ini bukan anggota grup dengan group_id itu",
    en="the number is in no group with this group_id",
)

# -- the request -------------------------------------------------------------------------------------------------------

TOKEN_EXPECTED = Code(
    "token_expected",
    id="seharusnya ada header Authorization: Bearer <token pengelola>",
    en="expected the header Authorization: Bearer <operator token>",
)
NO_SUCH_ADDRESS = Code("no_such_address", id="tidak ada apa-apa di alamat ini", en="there is nothing at this address")
NO_SUCH_METHOD = Code("no_such_method", id="bukan dengan metode ini", en="not by this method")
UNKNOWN_PARAMETER = Code(
    "parameter_unknown",
    id="parameter `{name}` tidak dikenal di sini: hapus, atau gunakan {known}",
    en="the parameter `{name}` is not known here: leave it out, or use {known}",
)
NO_PARAMETERS = Code(
    "parameter_not_taken",
    id="parameter `{name}` tidak dikenal di sini: alamat ini tidak memerlukan parameter apa pun",
    en="the parameter `{name}` is not known here: this address takes none",
)
PARAMETER_TWICE = Code(
    "parameter_twice",
    id="parameter `{name}` diberikan dua kali: cukup sekali",
    en="the parameter `{name}` is given twice: give it once",
)
NOTHING_STORED = Code(
    "gateway_cannot_store",
    id="gateway tidak dapat membaca atau menyimpan apa pun sekarang: coba lagi",
    en="the gateway cannot read or store anything now: try again",
)

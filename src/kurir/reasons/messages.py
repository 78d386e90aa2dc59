"""Why a message was not sent, is tried again, or is in doubt."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- the recipient and the number --------------------------------------------------------------------------------------

NOT_ON_WHATSAPP = Code(
    "not_on_whatsapp",
    id="nomor telepon penerima tidak ada di WhatsApp",
    en="the recipient's phone number is not on WhatsApp",
)
NOT_A_GROUP_MEMBER = Code(
    "not_a_group_member",
    id="nomor pengirim harus menjadi anggota grup",
    en="the sender number must be a member of the group",
)
NO_TEMPLATES = Code(
    "no_templates", id="perangkat tertaut tidak dapat mengirim template", en="a linked device cannot send templates"
)
NO_GROUPS = Code(
    "no_groups", id="nomor resmi tidak dapat menulis ke grup", en="an official number cannot write to groups"
)
FIRST_CONTACT_WAITS = Code(
    "first_contact_waits",
    id="WhatsApp hanya mengizinkan nomor ini menulis ke orang yang pernah berhubungan dengannya; pesan ini menunggu",
    en="WhatsApp lets this number write only to people it has been in contact with; this message waits",
)

# -- what WhatsApp's server refused (`linked_device/server_codes`) -----------------------------------------------------

REFUSED_BY_WHATSAPP = Code("refused_by_whatsapp", id="WhatsApp menolak pesan", en="WhatsApp refused the message")
REFUSED_WITH_CODE = Code(
    "refused_with_code", id="WhatsApp menolak pesan (kode {code})", en="WhatsApp refused the message (error {code})"
)
REFUSED_BECAUSE = Code(
    "refused_because",
    id="WhatsApp menolak pesan: {meaning} (kode {code})",
    en="WhatsApp refused the message: {meaning} (error {code})",
)
SERVER_400 = Code("server_400", id="bentuk pesan salah", en="the message was malformed")
SERVER_401 = Code(
    "server_401",
    id="nomor ini tidak boleh menulis ke penerima",
    en="the recipient cannot be written to by this number",
)
SERVER_403 = Code(
    "server_403", id="nomor ini tidak boleh menulis di percakapan ini", en="the number may not write in this chat"
)
SERVER_404 = Code("server_404", id="percakapannya sudah tidak ada", en="the chat does not exist any more")
SERVER_405 = Code(
    "server_405", id="jenis pesan ini tidak diizinkan di sini", en="this kind of message is not allowed here"
)
SERVER_406 = Code("server_406", id="WhatsApp tidak menerima pesan ini", en="WhatsApp does not accept this message")
SERVER_420 = Code("server_420", id="nomor ini bukan anggota grup", en="the number is not a member of the group")
SERVER_429 = Code("server_429", id="nomor ini mengirim terlalu cepat", en="the number sends too fast")
SERVER_463 = Code(
    "server_463",
    id="untuk sementara nomor ini tidak boleh menulis ke kontak baru",
    en="the number may not write to new contacts for a time",
)
SERVER_475 = Code("server_475", id="pengalamatan grup telah berubah", en="the group's addressing has changed")
SERVER_479 = Code(
    "server_479",
    id="pesan tidak sesuai dengan yang sekarang diharapkan server",
    en="the message did not fit what the server expects now",
)
SERVER_487 = Code("server_487", id="pesan tidak dapat diurai", en="the message could not be parsed")
SERVER_488 = Code("server_488", id="pesan tidak dikenali", en="the message was not recognized")
SERVER_489 = Code("server_489", id="kelas pesan tidak dikenali", en="the message's class was not recognized")
SERVER_490 = Code("server_490", id="jenis pesan tidak dikenali", en="the message's type was not recognized")
SERVER_491 = Code("server_491", id="isi pesan tidak dikenali", en="the message's content was not recognized")
SERVER_493 = Code(
    "server_493",
    id="perangkat penerima yang dihosting tidak menerimanya",
    en="the recipient's hosted device does not take it",
)
SERVER_495 = Code("server_495", id="rahasia pesan tidak ada", en="the message's secret is missing")
SERVER_496 = Code("server_496", id="sesi enkripsi harus diperbarui", en="the encryption session has to be renewed")
SERVER_499 = Code("server_499", id="pesan sudah dihapus", en="the message was deleted meanwhile")
SERVER_500 = Code("server_500", id="terjadi kesalahan di WhatsApp", en="WhatsApp had an error")
SERVER_503 = Code("server_503", id="WhatsApp sedang tidak tersedia", en="WhatsApp is not available")
SERVER_551 = Code("server_551", id="pengalamatan grup tidak didukung", en="the group's addressing is not supported")
SERVER_552 = Code(
    "server_552",
    id="terjadi kesalahan pada basis data WhatsApp",
    en="WhatsApp had an error with its database",
)

# -- the engine --------------------------------------------------------------------------------------------------------

NO_ADDRESS = Code(
    "no_address",
    id="WhatsApp tidak memberi alamat nomor ini, meskipun nomornya ada",
    en="WhatsApp does not give this number's address, though the number is there",
)
LOOKUP_UNANSWERED = Code(
    "lookup_unanswered",
    id="WhatsApp tidak menjawab apakah penerima ada",
    en="WhatsApp did not answer whether the recipient is there",
)
DEVICES_NOT_LOOKED_UP = Code(
    "devices_not_looked_up",
    id="perangkat penerima tidak dapat dicari",
    en="the recipient's devices could not be looked up",
)
DEVICE_OFFLINE = Code(
    "device_offline",
    id="perangkat belum tersambung ke WhatsApp",
    en="the device is not connected to WhatsApp",
)
SESSION_UNUSABLE = Code(
    "session_unusable",
    id="sesi perangkat tidak dapat dibaca atau ditulis",
    en="the device's session could not be read or written",
)
ENGINE_FAILED_BEFORE = Code(
    "engine_failed_before",
    id="mesin gagal sebelum mengirim apa pun",
    en="the engine failed before it sent anything",
)
FILE_NOT_UPLOADED = Code("file_not_uploaded", id="berkas tidak dapat diunggah", en="the file could not be uploaded")

# -- doubt -------------------------------------------------------------------------------------------------------------

ENGINE_UNSURE = Code(
    "engine_unsure",
    id="mesin tidak dapat memastikan apakah pesan sudah keluar",
    en="the engine could not tell whether the message left",
)
ENGINE_FAILED_WHILE = Code(
    "engine_failed_while", id="mesin gagal saat sedang mengirim", en="the engine failed while it was sending"
)
LEFT_OUT = Code(
    "phone_left_out",
    id="ponsel penerima mungkin terlewat: mesin tidak memiliki kuncinya",
    en="the recipient's phone may have been left out: the engine has no keys for it",
)
CHANNEL_BROKE = Code(
    "channel_broke",
    id="kanal gagal saat mengirim; pesan mungkin sudah keluar",
    en="the channel broke while sending; the message may have left",
)
CUT_OFF = Code(
    "cut_off",
    id="gateway dihentikan saat pesan ini sedang dikirim; pesan mungkin sudah keluar",
    en="the gateway was stopped while this message was being sent; it may have left",
)
RESTORED = Code(
    "restored",
    id="dipulihkan dari cadangan: pesan mungkin sudah dikirim setelah cadangan dibuat",
    en="restored from a backup: it may have been sent after the backup was taken",
)

# -- Meta --------------------------------------------------------------------------------------------------------------

META_GAVE_NO_REASON = Code(
    "meta_gave_no_reason", id="Graph API tidak memberi alasan", en="the Graph API gave no reason"
)
HALTED = Code("meta_halted", id="{reason} (kode {code}); {advice}", en="{reason} (code {code}); {advice}")
TOKEN_ADVICE = Code(
    "advice_token",
    id="token akses tidak diterima: masukkan yang baru dengan `kurir number token`",
    en="the access token is not accepted: put in a new one with `kurir number token`",
)
QUALITY_ADVICE = Code(
    "advice_quality",
    id="periksa kualitas nomor di WhatsApp Manager, lalu `kurir number resume`",
    en="look at the number's quality in WhatsApp Manager, then `kurir number resume`",
)
ACCOUNT_QUALITY_ADVICE = Code(
    "advice_account_quality",
    id="periksa kualitas akun di WhatsApp Manager, lalu `kurir number resume`",
    en="look at the account's quality in WhatsApp Manager, then `kurir number resume`",
)
POLICY_ADVICE = Code(
    "advice_policy",
    id="periksa pemberitahuan kebijakan akun di Meta, lalu `kurir number resume`",
    en="look at the account's policy notices at Meta, then `kurir number resume`",
)
ACCOUNT_ADVICE = Code(
    "advice_account",
    id="periksa keadaan akun di Meta, lalu `kurir number resume`",
    en="look at the account's status at Meta, then `kurir number resume`",
)
META_TIMED_OUT = Code(
    "meta_timed_out", id="Graph API tidak menjawab pada waktunya", en="the Graph API did not answer in time"
)
META_UNREACHABLE = Code(
    "meta_unreachable",
    id="Graph API tidak dapat dihubungi: {error}",
    en="the Graph API could not be reached: {error}",
)
META_UNEXPLAINED = Code(
    "meta_unexplained",
    id="Graph API menjawab HTTP {status} tanpa ID pesan dan tanpa kesalahan",
    en="the Graph API answered HTTP {status} without a message id or an error",
)
META_UPLOAD_UNEXPLAINED = Code(
    "meta_upload_unexplained",
    id="Graph API menjawab unggahan dengan HTTP {status} tanpa ID yang dapat dipakai",
    en="the Graph API answered the upload with HTTP {status} and no usable id",
)
CHANNEL_NOT_STARTED = Code("channel_not_started", id="kanal belum dimulai", en="the channel is not started")
TOKEN_NOT_READ = Code("token_not_read", id="token akses tidak dapat dibaca", en="the access token could not be read")
NO_TOKEN = Code(
    "no_token",
    id="nomor resmi ini tidak memiliki token akses yang dapat dipakai",
    en="the official number has no usable access token",
)

# -- the outbox --------------------------------------------------------------------------------------------------------

EXHAUSTED = Code(
    "exhausted",
    id="dihentikan setelah {tries} kali percobaan; yang terakhir: {last}",
    en="given up after {tries} tries; the last one: {last}",
)
PERSON_DECIDED = Code(
    "person_decided", id="diputuskan oleh pengelola; tadinya {state}", en="a person decided; it was {state}"
)
NO_RECEIPT = Code(
    "no_receipt",
    id="tidak ada tanda terima pada waktunya; pengaturan akun: kirim lagi",
    en="no receipt came in time; the account's setting is to send again",
)
CONTENT_UNREADABLE = Code(
    "content_unreadable", id="isinya tidak dapat dibaca ({error})", en="its content cannot be read ({error})"
)
NOT_RECORDED = Code(
    "not_recorded", id="hasilnya tidak dapat dicatat ({error})", en="its outcome could not be recorded ({error})"
)

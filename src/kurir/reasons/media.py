"""Why a file cannot be fetched, sent or kept."""

from __future__ import annotations

from kurir.reasons.reason import Code

FIELD = Code("media_field", id="{field}: {reason}", en="{field}: {reason}")

# -- addresses (`kit/url_rules`) ---------------------------------------------------------------------------------------

URL_EMPTY = Code("url_empty", id="URL kosong", en="the URL is empty")
URL_TOO_LONG = Code(
    "url_too_long", id="URL lebih panjang dari {most} karakter", en="the URL is longer than {most} characters"
)
URL_CHARACTER = Code(
    "url_character",
    id="URL memuat karakter yang tidak boleh ada dalam URL",
    en="the URL holds a character that no URL may hold",
)
URL_SCHEME = Code(
    "url_scheme",
    id="URL harus diawali http:// atau https://",
    en="the URL must start with http:// or https://",
)
URL_CREDENTIALS = Code(
    "url_credentials",
    id="URL tidak boleh memuat nama pengguna atau kata sandi",
    en="the URL must not hold a user name or password",
)
URL_HOST = Code("url_host", id="host pada URL tidak valid", en="the URL's host is not valid")
URL_INVALID = Code("url_invalid", id="URL tidak valid", en="the URL is not valid")
URL_PORT = Code("url_port", id="port pada URL harus 80 atau 443", en="the URL's port must be 80 or 443")
URL_NOT_PUBLIC = Code(
    "url_not_public",
    id="host pada URL tidak berada di internet publik",
    en="the URL's host is not on the public internet",
)
URL_REDIRECTED = Code("url_redirected", id="dialihkan: {reason}", en="redirected: {reason}")

# -- fetching and posting (`kit/safe_fetch`) ---------------------------------------------------------------------------

TOO_LARGE = Code("file_too_large", id="berkas lebih besar dari {most} byte", en="the file is larger than {most} bytes")
TIMED_OUT = Code("fetch_timed_out", id="server terlalu lama menjawab", en="the server took too long")
HOST_NOT_LOOKED_UP = Code(
    "host_not_looked_up", id="host pada URL tidak dapat dicari", en="the URL's host could not be looked up"
)
HOST_NOT_KNOWN = Code("host_not_known", id="host pada URL tidak dikenal", en="the URL's host is not known")
CERTIFICATE = Code(
    "certificate_invalid",
    id="sertifikat server tidak berlaku untuk host pada URL",
    en="the server's certificate is not valid for the URL's host",
)
UNREACHABLE = Code("server_unreachable", id="server tidak dapat dihubungi", en="the server could not be reached")
CUT_SHORT = Code(
    "file_cut_short",
    id="server berhenti sebelum seluruh berkas diterima",
    en="the server stopped before the whole file had arrived",
)
NOT_HTTP = Code(
    "not_http", id="server tidak menjawab dengan HTTP yang benar", en="the server did not answer in proper HTTP"
)
REDIRECTS = Code("redirects_too_often", id="server terlalu sering mengalihkan", en="the server redirects too often")
STATUS = Code(
    "server_status", id="server menjawab dengan status {status}", en="the server answered with status {status}"
)
COMPRESSED = Code(
    "answer_compressed",
    id="server mengirim jawaban terkompresi yang tidak diminta",
    en="the server sent a compressed answer that was not asked for",
)
EMPTY = Code("answer_empty", id="jawaban server kosong", en="the server's answer is empty")
TOO_SLOW = Code("server_too_slow", id="server mengirim terlalu lambat", en="the server sends too slowly")
REDIRECT_NOWHERE = Code("redirect_nowhere", id="server mengalihkan tanpa tujuan", en="the server redirects to nowhere")
REDIRECT_NO_URL = Code(
    "redirect_no_url",
    id="server mengalihkan ke sesuatu yang bukan URL",
    en="the server redirects to something that is not a URL",
)

# -- what a file is (`media/inspection`) -------------------------------------------------------------------------------

PICTURE_DAMAGED = Code(
    "picture_damaged", id="gambar rusak atau tidak lengkap", en="the picture is damaged or incomplete"
)
PICTURE_EXPECTED = Code(
    "picture_expected",
    id="seharusnya gambar JPEG atau PNG, tetapi alamat itu menjawab dengan {what}",
    en="expected a JPEG or PNG picture, the address answers with {what}",
)
A_WEB_PAGE = Code("a_web_page", id="halaman web", en="a web page")
A_FILE_OF_TYPE = Code("a_file_of_type", id="berkas berjenis {kind}", en="a file of type {kind}")
PICTURE_PIXELS = Code(
    "picture_pixels", id="gambar lebih dari {most} piksel", en="the picture has more than {most} pixels"
)
PICTURE_CONVERTED = Code(
    "picture_converted",
    id="gambar {format} harus dikonversi dan paling banyak boleh {most} piksel; kirim sebagai JPEG atau PNG",
    en="a {format} picture has to be converted and may have {most} pixels at most; send it as JPEG or PNG",
)
PICTURE_PROGRESSIVE = Code(
    "picture_progressive",
    id="gambar terlalu besar untuk JPEG progresif",
    en="the picture is too large for a progressive JPEG",
)
PICTURE_BOMB = Code(
    "picture_bomb",
    id="gambar dibuat agar sangat lama dibaca",
    en="the picture is built to take very long to decode",
)
PICTURE_AS_JPEG = Code(
    "picture_as_jpeg",
    id="gambar, sebagai JPEG, lebih besar dari {most} byte",
    en="the picture, as JPEG, is larger than {most} bytes",
)
WEB_PAGE = Code(
    "document_web_page",
    id="alamat itu menjawab dengan halaman web, bukan berkas",
    en="the address answers with a web page, not with a file",
)
TOO_COSTLY = Code(
    "file_too_costly",
    id="berkas tidak dapat dibuka: butuh terlalu banyak memori atau waktu",
    en="the file cannot be opened: that takes too much memory or time",
)

# -- this gateway ------------------------------------------------------------------------------------------------------

NOT_INSPECTED = Code(
    "file_not_inspected",
    id="berkas tidak dapat diperiksa: mesin ini sibuk atau kekurangan memori",
    en="the file could not be inspected: the machine is busy or short of memory",
)
NOT_STORED_DISK = Code(
    "file_not_stored_disk",
    id="berkas tidak dapat disimpan: disk hampir penuh",
    en="the file could not be stored: the disk is nearly full",
)
NOT_STORED = Code(
    "file_not_stored", id="berkas tidak dapat disimpan ({error})", en="the file could not be stored ({error})"
)
NOT_LOOKED_UP = Code(
    "file_not_looked_up",
    id="berkas tidak dapat dicari sekarang: basis data tidak menjawab",
    en="the file cannot be looked up now: the database does not answer",
)
NOT_READ = Code(
    "file_not_read",
    id="berkas tidak dapat dibaca (lihat log gateway)",
    en="the file could not be read (see the gateway's log)",
)
NOT_PREPARED = Code(
    "file_not_prepared",
    id="berkas tidak dapat disiapkan (lihat log gateway)",
    en="the file could not be prepared (see the gateway's log)",
)
LOST = Code(
    "file_lost",
    id="berkas sudah tidak ada di sini; diambil sekali lagi",
    en="the file is no longer there; it is fetched again",
)
NOT_FETCHED = Code("file_not_fetched", id="berkas belum diambil", en="the file was not fetched")
STORED_NOT_READ = Code(
    "stored_file_not_read",
    id="berkas yang tersimpan tidak dapat dibaca: {error}",
    en="the stored file cannot be read: {error}",
)

# -- files of messages that came in ------------------------------------------------------------------------------------

GONE_DISK = Code("gone_disk", id="disk gateway ini hampir penuh", en="the disk of this gateway was nearly full")
GONE_TOO_LARGE = Code(
    "gone_too_large",
    id="berkas lebih besar dari yang diterima gateway ini",
    en="the file is larger than this gateway takes",
)
GONE_QUARANTINED = Code(
    "gone_aside",
    id="tidak dapat diproses: lihat `kurir quarantine list`",
    en="it could not be processed: see `kurir quarantine list`",
)
GONE_NOT_STORED = Code(
    "gone_not_stored",
    id="hasilnya tidak dapat disimpan: lihat `kurir quarantine list`",
    en="what became of it could not be stored: see `kurir quarantine list`",
)
GONE_OTHER_PHONE = Code(
    "gone_other_phone",
    id="masuk lewat penautan sebelumnya dari nomor ini, dengan ponsel lain",
    en="it came to an earlier pairing of this number, with another phone",
)
GONE_LATE = Code("gone_late", id="tidak berhasil diambil dalam sehari", en="it could not be had within a day")
GONE_NO_FILE = Code("gone_no_file", id="pesannya tidak menyebut berkas", en="the message names no file")
GONE_AT_WHATSAPP = Code("gone_at_whatsapp", id="WhatsApp tidak menyimpannya lagi", en="WhatsApp has it no more")
GONE_EMPTY = Code("gone_empty", id="berkas kosong", en="the file is empty")

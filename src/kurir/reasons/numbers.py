"""Why a number is in its state, why a pairing ended, and why a device cannot be asked."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- the way to a connection -------------------------------------------------------------------------------------------

CONNECTING = Code("connecting", id="sedang menyambung ke WhatsApp", en="connecting to WhatsApp")
CONNECTED = Code("connected", id="tersambung", en="connected")
PAIRED = Code("paired", id="tertaut; sedang menyambung ke WhatsApp", en="paired; connecting to WhatsApp")
MOVING = Code("moving_host", id="pindah ke proses mesin bersama", en="moving to a shared engine host")
AFTER_PAIRING = Code(
    "connecting_after_pairing", id="menyambung ulang setelah penautan", en="connecting anew after the pairing"
)
READING_AGAIN = Code(
    "reading_again",
    id="membaca lagi pesan yang tadi tidak dapat dibuka",
    en="reading again what could not be opened",
)
HOST_LOST = Code("host_lost", id="{reason}; proses baru sedang dimulai", en="{reason}; starting another")
LOST = Code("connection_lost", id="sambungan ke WhatsApp terputus", en="the connection to WhatsApp was lost")
UNREACHABLE = Code("whatsapp_unreachable", id="WhatsApp tidak dapat dihubungi", en="WhatsApp could not be reached")
NO_SESSION = Code(
    "session_not_opened", id="sesi perangkat tidak dapat dibuka", en="the device's session could not be opened"
)
LET_GO = Code("engine_let_go", id="mesin melepas sambungan", en="the engine let the connection go")
UNREADABLE = Code(
    "event_unreadable",
    id="mesin tidak dapat membaca suatu kejadian dari WhatsApp; menyambung ulang",
    en="the engine could not read an event of WhatsApp's; connecting anew",
)
UNSTEADY = Code(
    "unsteady",
    id="WhatsApp memutus sambungan tepat setelah setiap kali masuk; dicoba lagi dengan jeda yang makin panjang",
    en="WhatsApp ends the connection right after each login; it is tried again with growing pauses",
)
SILENT = Code(
    "whatsapp_silent",
    id="tersambung, tetapi WhatsApp tidak menjawab",
    en="connected, but WhatsApp does not answer",
)
NO_KEEP_ALIVES = Code(
    "no_keep_alives",
    id="WhatsApp tidak menjawab pemeriksaan sambungan",
    en="WhatsApp does not answer keep-alives",
)

# -- ends --------------------------------------------------------------------------------------------------------------

SESSION_MISSING = Code(
    "session_missing",
    id="sesinya tidak ada; tautkan lagi nomor ini",
    en="the session is missing; pair the number again",
)
SESSION_VOID = Code(
    "session_void",
    id="sesinya tidak berlaku lagi; tautkan lagi nomor ini",
    en="the session is no longer valid; pair the number again",
)
LOGGED_OUT = Code("logged_out", id="sudah dikeluarkan; tautkan lagi nomor ini", en="logged out; pair the number again")
REMOVED_BY_PHONE = Code(
    "removed_by_phone",
    id="ponsel menghapus perangkat ini; tautkan lagi",
    en="the phone removed this device; pair it again",
)
UNKNOWN_TO_WHATSAPP = Code(
    "unknown_to_whatsapp",
    id="WhatsApp tidak mengenal perangkat ini lagi; tautkan lagi",
    en="WhatsApp no longer knows this device; pair it again",
)
OPENED_ELSEWHERE = Code(
    "opened_elsewhere",
    id="sesinya dibuka di tempat lain; tautkan lagi nomor ini untuk mengambilnya kembali",
    en="the session was opened elsewhere; pair the number again to take it back",
)
ENGINE_OUTDATED = Code(
    "engine_outdated",
    id="WhatsApp menolak versi mesin ini",
    en="WhatsApp refuses this version of the engine",
)
REFUSED = Code(
    "connection_refused",
    id="WhatsApp menolak sambungan (kode {reason})",
    en="WhatsApp refused the connection (reason {reason})",
)
BANNED = Code(
    "banned",
    id="WhatsApp memblokir nomor ini selama {seconds} detik: {why}",
    en="WhatsApp banned this number for {seconds} seconds: {why}",
)
BAN_PEOPLE = Code("ban_people", id="mengirim ke terlalu banyak orang", en="sent to too many people")
BAN_BLOCKED = Code("ban_blocked", id="diblokir terlalu banyak pengguna", en="blocked by too many users")
BAN_GROUPS = Code("ban_groups", id="membuat terlalu banyak grup", en="created too many groups")
BAN_SAME = Code("ban_same", id="terlalu sering mengirim pesan yang sama", en="sent the same message too often")
BAN_LISTS = Code(
    "ban_lists",
    id="mengirim ke terlalu banyak orang lewat daftar siaran",
    en="sent to too many people by broadcast list",
)
BAN_CODE = Code("ban_code", id="kode {code}", en="code {code}")
BAN_UNKNOWN = Code("ban_unknown", id="tanpa alasan yang diketahui", en="for an unknown reason")
PAUSED_BY_OPERATOR = Code("paused_by_operator", id="dijeda oleh pengelola", en="the operator paused it")
RESTRICTED_UNTIL = Code(
    "restricted_until",
    id="WhatsApp hanya mengizinkan nomor ini menulis ke orang yang pernah berhubungan dengannya; kontak baru menunggu "
    "sampai {until:moment}",
    en="WhatsApp lets this number write only to people it has been in contact with; first contacts wait until "
    "{until:moment}",
)

# -- pairing -----------------------------------------------------------------------------------------------------------

WAITING_FOR_PHONE = Code("waiting_for_phone", id="menunggu ponsel", en="waiting for the phone")
NOT_BEGUN = Code(
    "pairing_not_begun",
    id="penautan tidak dapat dimulai; coba lagi",
    en="the pairing could not be begun; try again",
)
UNSTEADY_PAIRING = Code(
    "pairing_unsteady",
    id="WhatsApp berulang kali memutus sambungan; coba lagi nanti",
    en="WhatsApp ended the connection again and again; try again later",
)
PAIRING_CANCELED = Code("pairing_canceled", id="penautan dibatalkan", en="the pairing was canceled")
PAIRING_TIMED_OUT = Code(
    "pairing_timed_out",
    id="tidak ada yang memindai kode pada waktunya",
    en="nobody scanned the code in time",
)
NO_PAIRING_CODE = Code(
    "no_pairing_code",
    id="WhatsApp tidak memberi kode penautan: {reason}",
    en="WhatsApp gave no pairing code: {reason}",
)
PHONE_REFUSED = Code("phone_refused", id="ponsel menolak", en="the phone refused")
HELD_ELSEWHERE_NOW = Code(
    "held_elsewhere_now",
    id="gateway lain sekarang memegang nomor ini",
    en="another gateway holds this number now",
)
ALREADY_PAIRED = Code(
    "already_paired",
    id="nomor ini sudah tertaut dan {state}; keluarkan dulu",
    en="the number is paired and {state}; log it out first",
)

# -- a device cannot be asked ------------------------------------------------------------------------------------------

HELD_ELSEWHERE = Code(
    "held_elsewhere", id="gateway lain memegang perangkat ini", en="another gateway holds this device"
)
NOT_CONNECTED = Code("not_connected", id="perangkat belum tersambung", en="the device is not connected")
NOT_CONNECTED_BECAUSE = Code(
    "not_connected_because", id="perangkat belum tersambung: {reason}", en="the device is not connected: {reason}"
)
NOT_OPEN = Code("device_not_open", id="perangkat belum dibuka", en="the device is not open")
NO_ANSWER = Code("whatsapp_no_answer", id="WhatsApp tidak menjawab", en="WhatsApp did not answer")
ENGINE_FAILED = Code("engine_failed", id="mesin gagal", en="the engine failed")
ENGINE_ANSWERED = Code("engine_answered", id="mesin menjawab {what}", en="the engine answered {what}")
NOT_ENCODED = Code(
    "answer_not_encoded",
    id="jawabannya tidak dapat dikodekan: {error}",
    en="the answer could not be encoded: {error}",
)
JOURNAL_NOT_OPENED = Code(
    "journal_not_opened",
    id="{file} tidak dapat dibuka ({error}): sediakan ruang di disk, atau pindahkan berkas yang rusak",
    en="{file} cannot be opened ({error}): make room on the disk, or move a damaged file away",
)
NOT_STARTED = Code(
    "device_not_started",
    id="perangkat tidak dapat dijalankan: {error}",
    en="the device cannot be started: {error}",
)
HOLDER_UNKNOWN = Code(
    "holder_unknown",
    id="gateway pemegang perangkat ini tidak dapat dicari sekarang: coba lagi",
    en="which gateway holds the device cannot be looked up now: try again",
)
HELD_BY_NONE = Code(
    "held_by_none",
    id="saat ini tidak ada gateway yang memegang perangkat ini: coba lagi dalam setengah menit; salah satu gateway "
    "pada basis data ini harus memiliki peran `dispatch`",
    en="no gateway holds this device just now: try again in half a minute; some gateway on the database must have "
    "the role `dispatch`",
)
HOLDER_SILENT = Code(
    "holder_silent",
    id="gateway pemegang perangkat ini tidak menjawab ({error}): bila ia berjalan, atur KURIR_GATEWAY_URL di "
    "sana ke alamat yang terjangkau dari gateway ini",
    en="the gateway that holds this device does not answer ({error}): if it runs, set KURIR_GATEWAY_URL "
    "there to an address that this gateway reaches",
)
GATEWAY_STOPPING = Code(
    "gateway_stopping",
    id="gateway sedang berhenti: tanyakan lagi setelah ia berjalan kembali",
    en="the gateway is stopping: ask again when it runs again",
)
MOVING_GATEWAY = Code(
    "moving_gateway",
    id="perangkat sedang berpindah dari satu gateway ke gateway lain: coba lagi sebentar lagi",
    en="the device is just moving from one gateway to another: try again in a moment",
)

# -- the engine's process ----------------------------------------------------------------------------------------------

HOST_ENDED = Code("host_ended", id="proses mesin berakhir", en="the engine host ended")
HOST_STOPPED = Code("host_stopped", id="proses mesin dihentikan", en="the engine host was stopped")
HOST_SILENT = Code(
    "host_silent",
    id="proses mesin tidak menjawab dalam {seconds} detik dan dihentikan",
    en="the engine host did not answer within {seconds} s and was ended",
)
HOST_BROKE = Code(
    "host_broke",
    id="gateway gagal membaca dari proses mesin, yang lalu dihentikan",
    en="the gateway failed at reading from the engine host, which was ended",
)
HOST_NO_FRAMES = Code(
    "host_no_frames",
    id="proses mesin mengirim sesuatu yang bukan pesan dan dihentikan",
    en="the engine host sent something else than frames and was ended",
)
HOST_NOT_RUNNING = Code("host_not_running", id="proses mesin tidak berjalan", en="the engine host is not running")
HOST_NOT_STARTED = Code(
    "host_not_started", id="proses mesin tidak dapat dijalankan: {error}", en="the engine host does not start: {error}"
)

"""What a message waits for, as half a sentence. `because` is `BECAUSE` or nothing, `when` is `WHEN` or nothing."""

from __future__ import annotations

from kurir.reasons.reason import Code

BECAUSE = Code("waits_because", id=" ({reason})", en=" ({reason})")
WHEN = Code("waits_when", id=" dalam {seconds} detik", en=" in {seconds} s")

REMOVED = Code("waits_removed", id="nomor pengirimnya sudah dihapus", en="its sender number was removed")
PAUSED = Code(
    "waits_paused",
    id="nomor {number} dijeda{because}; setelah beres: `kurir number resume {number}`",
    en="number {number} is paused{because}; once that is settled: `kurir number resume {number}`",
)
UNPAIRED = Code(
    "waits_unpaired",
    id="perangkat {number} belum ditautkan ke ponsel: `kurir number pair {number}`",
    en="device {number} is not paired with a phone: `kurir number pair {number}`",
)
PAIRING = Code(
    "waits_pairing",
    id="perangkat {number} sedang ditautkan{because}: selesaikan di ponsel",
    en="device {number} is being paired{because}: confirm it on the phone",
)
LOGGED_OUT = Code(
    "waits_logged_out",
    id="perangkat {number} sudah keluar{because}: tautkan lagi dengan `kurir number pair {number}`",
    en="device {number} is logged out{because}: pair it again with `kurir number pair {number}`",
)
REPLACED = Code(
    "waits_replaced",
    id="perangkat {number} digantikan koneksi lain dari sesinya{because}: hentikan koneksi itu, lalu "
    "`kurir number pair {number}`",
    en="device {number} was replaced by another connection of its session{because}: stop that one, then "
    "`kurir number pair {number}`",
)
OUTDATED = Code(
    "waits_outdated",
    id="WhatsApp menolak versi mesin ini{because}: perbarui Kurir",
    en="WhatsApp refuses this version of the engine{because}: upgrade Kurir",
)
BANNED = Code(
    "waits_banned",
    id="WhatsApp memblokir {number} untuk sementara{because}; nomor ini boleh mengirim lagi{when}",
    en="WhatsApp has banned {number} for a time{because}; it may send again{when}",
)
RESTRICTED = Code(
    "waits_restricted",
    id="WhatsApp melarang {number} menyapa orang baru{because}; nomor ini boleh lagi{when}",
    en="WhatsApp lets {number} write to nobody new{because}; it may do so again{when}",
)
DEGRADED = Code(
    "waits_degraded",
    id="perangkat {number} tidak menjawab{because} dan sedang dihubungkan ulang",
    en="device {number} does not answer{because} and is being connected anew",
)
CONNECTING = Code(
    "waits_connecting",
    id="perangkat {number} belum tersambung{because}; akan tersambung sendiri",
    en="device {number} is not connected{because}; it connects by itself",
)
AHEAD = Code(
    "waits_ahead",
    id="pesan sebelumnya ke penerima yang sama harus terkirim lebih dulu",
    en="an earlier message to the same recipient has to go out first",
)
DOUBT_AHEAD = Code(
    "waits_doubt_ahead",
    id="pesan sebelumnya ke penerima yang sama belum pasti dan mungkin dikirim sekali lagi",
    en="an earlier message to the same recipient is unconfirmed and may have to go out once more",
)
RETRY = Code("waits_retry", id="akan dicoba lagi{when}{because}", en="it is tried again{when}{because}")
FILE = Code(
    "waits_file",
    id="berkasnya, yang sedang diambil dari alamatnya",
    en="its file, which is being fetched from its address",
)
TURN = Code("waits_turn", id="giliran di antara pesan nomor ini", en="its turn among the number's messages")
SENDING = Code("waits_sending", id="jawaban WhatsApp: sedang dikirim", en="WhatsApp's answer: it is being sent")
RECEIPT = Code(
    "waits_receipt",
    id="tanda terima: mungkin sudah terkirim, dan dikirim sekali lagi bila tidak ada",
    en="a receipt: it may have been sent, and goes out once more when none comes",
)
DECISION = Code(
    "waits_decision",
    id="tanda terima atau keputusan: mungkin sudah terkirim (`kurir message replay` atau `kurir message cancel`)",
    en="a receipt or a decision: it may have been sent (`kurir message replay` or `kurir message cancel`)",
)
STOPPING = Code(
    "waits_stopping",
    id="layanan, yang sedang berhenti; pesan disimpan dan dilanjutkan setelah layanan berjalan lagi",
    en="the service, which is stopping; the message is kept and goes on when the service runs again",
)
DATABASE = Code(
    "waits_database",
    id="tidak diketahui: basis data sedang tidak menjawab",
    en="not known: the database does not answer now",
)
ENDED = Code(
    "expired_waiting",
    id="waktunya habis saat menunggu: {cause}",
    en="its time ended while it waited for: {cause}",
)

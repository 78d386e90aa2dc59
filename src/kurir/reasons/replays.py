"""Why an entry of the quarantine cannot be replayed, and that one was cut."""

from __future__ import annotations

from kurir.reasons.reason import Code

NO_ENTRY = Code(
    "no_entry",
    id="tidak ada entri dengan nomor ini di karantina",
    en="there is no entry with this number in the quarantine",
)
ENTRY_ID = Code("entry_id_expected", id="seharusnya nomor sebuah entri", en="expected the number of an entry")
CUT = Code(
    "entry_cut",
    id="terlalu besar untuk disimpan seluruhnya: ekspor untuk dilihat, atau buang",
    en="it was too large to be kept whole: export it for a look, or discard it",
)
ENTRY_CUT = Code(
    "entry_was_cut",
    id="dipotong: hanya {kept} byte pertama dari {size} byte yang disimpan; {reason}",
    en="cut: only the first {kept} of {size} bytes are kept; {reason}",
)
QUEUE_NOT_REPLAYABLE = Code(
    "queue_not_replayable",
    id="yang berasal dari {queue} tidak dapat diproses ulang: buang setelah dilihat",
    en="what comes from {queue} cannot be replayed: discard it once you have seen it",
)
MESSAGE_GONE = Code(
    "entry_message_gone", id="pesannya sudah tidak ada: buang", en="the message is no longer there: discard it"
)
EVENT_UNREADABLE = Code(
    "entry_event_unreadable",
    id="versi ini tidak dapat membaca kejadiannya: perbarui dulu, atau buang",
    en="this version cannot read the event: upgrade first, or discard it",
)
OTHER_ACCOUNT = Code(
    "entry_other_account",
    id="kejadiannya milik akun lain: buang",
    en="the event is of another account: discard it",
)
FAILS_AGAIN = Code(
    "entry_fails_again",
    id="gagal lagi ({error}, lihat log gateway)",
    en="it fails again ({error}, see the gateway's log)",
)
BODY_NO_OBJECT = Code(
    "entry_body_no_object",
    id="isinya tetap bukan objek JSON: ekspor untuk dilihat, atau buang",
    en="the body is still not a JSON object: export it for a look, or discard it",
)
CHANGE_UNREADABLE = Code(
    "entry_change_unreadable",
    id="versi ini tidak dapat membaca perubahannya: perbarui dulu, atau buang",
    en="this version cannot read the change: upgrade first, or discard it",
)
NO_OWNER = Code(
    "entry_no_owner",
    id="akun ini tidak memiliki nomor dengan ID {wanted} di Meta: tambahkan dulu, atau buang",
    en="no number of the account has the id {wanted} at Meta: add it first, or discard it",
)
STILL_UNREADABLE = Code(
    "entry_still_unreadable",
    id="tetap tidak dapat dibaca ({reason}): perbarui dulu, atau buang",
    en="it still cannot be read ({reason}): upgrade first, or discard it",
)
NOT_UNDERSTOOD = Code(
    "entry_not_understood",
    id="versi ini tidak memahami apa pun di dalamnya: perbarui dulu, atau buang",
    en="this version understands nothing in it: upgrade first, or discard it",
)
TEMPLATES_NOT_HAD = Code(
    "entry_templates_not_had",
    id="daftar template Meta tidak dapat diambil sekarang: coba lagi nanti",
    en="Meta's list of templates cannot be had now: try again later",
)
NUMBER_REMOVED = Code(
    "entry_number_removed", id="nomornya sudah dihapus: buang", en="the number was removed: discard it"
)
DEVICE_CANNOT_READ = Code(
    "entry_device_cannot_read",
    id="perangkatnya tidak dapat membacanya sekarang: {reason}",
    en="the device cannot read it now: {reason}",
)
NO_DELIVERY = Code(
    "entry_no_delivery",
    id="kejadiannya tidak dapat ditulis saat terjadi, jadi tidak ada yang dapat dikirim dan tidak dapat diproses "
    "ulang: entri ini menyebut tentang apa; buang setelah dilihat",
    en="the event could not be written when it happened, so there is nothing to deliver and it cannot be replayed: "
    "the entry says what it was about; discard it once you have seen it",
)
DELIVERY_GONE = Code(
    "entry_delivery_gone",
    id="pengirimannya sudah tidak ada atau endpoint-nya dihapus: buang",
    en="the delivery is gone or its endpoint was removed: discard it",
)

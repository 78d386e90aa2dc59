"""What went wrong with a connection or a file: words in place of a library's text."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- connections -------------------------------------------------------------------------------------------------------

TIMED_OUT = Code("network_timed_out", id="waktu tunggu habis", en="it took too long")
REFUSED = Code("network_refused", id="sambungan ditolak", en="the connection was refused")
NETWORK = Code("network_no_route", id="jaringannya tidak terjangkau", en="its network is out of reach")
NAME = Code("network_name_unknown", id="nama hostnya tidak ditemukan", en="its host name was not found")
TLS = Code("network_tls_failed", id="sambungan aman (TLS) gagal", en="the secure connection (TLS) failed")
CLOSED = Code("network_closed", id="sambungan ditutup terlalu awal", en="the connection was closed too early")
UNREADABLE = Code("network_unreadable", id="jawabannya tidak dapat dibaca", en="its answer could not be read")
STATUS = Code("network_status", id="status jawabannya {status}", en="it answered with status {status}")
NO_CONNECTION = Code("network_failed", id="sambungan gagal", en="the connection failed")

# -- files -------------------------------------------------------------------------------------------------------------

NO_FILE = Code("file_missing", id="berkas tidak ada", en="there is no such file")
IN_THE_WAY = Code("file_in_the_way", id="ada berkas lain di tempatnya", en="another file is in its place")
NO_PERMISSION = Code("file_no_permission", id="tidak ada izin", en="permission is denied")
DISK_FULL = Code("file_disk_full", id="disk penuh", en="the disk is full")
DISK_FAULTY = Code("file_disk_faulty", id="disk bermasalah", en="the disk has an error")
READ_ONLY = Code("file_read_only", id="disk hanya dapat dibaca", en="the disk is read-only")
TOO_MANY_OPEN = Code("file_too_many_open", id="terlalu banyak berkas terbuka", en="too many files are open")
NO_MEMORY = Code("file_no_memory", id="memori tidak cukup", en="there is not enough memory")
DAMAGED = Code("file_damaged", id="berkas rusak", en="the file is damaged")
DATABASE_BUSY = Code("file_database_busy", id="basis data tidak menjawab", en="the database gives no answer")
NO_THREAD = Code("no_thread", id="thread tidak dapat dimulai", en="no thread could be started")
OTHER = Code("file_failed", id="kesalahan sistem", en="a system error")

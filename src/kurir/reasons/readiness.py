"""Why the gateway cannot take messages now (`/readyz`)."""

from __future__ import annotations

from kurir.reasons.reason import Code

NO_READS = Code("database_no_reads", id="basis data tidak menjawab pembacaan", en="the database does not answer reads")
NO_WRITES = Code(
    "database_no_writes", id="basis data tidak menjawab penulisan", en="the database does not answer writes"
)
SLOW_READS = Code(
    "database_slow_reads",
    id="basis data tidak menjawab pembacaan dalam {seconds} detik",
    en="the database does not answer reads within {seconds} s",
)
SLOW_WRITES = Code(
    "database_slow_writes",
    id="basis data tidak menjawab penulisan dalam {seconds} detik",
    en="the database does not answer writes within {seconds} s",
)
NOTHING_STORED = Code(
    "database_refuses", id="basis data menolak menyimpan data", en="the database refuses to store things"
)
FOLDER_NOT_READ = Code(
    "data_folder_not_read",
    id="folder data tidak dapat dibaca: {error}",
    en="the data folder cannot be read: {error}",
)
DISK_ALMOST_FULL = Code(
    "disk_almost_full", id="disk folder data hampir penuh", en="the disk of the data folder is almost full"
)
TASK_FAILS = Code(
    "task_keeps_failing",
    id="tugas {task} terus gagal ({error})",
    en="the task {task} keeps failing ({error})",
)

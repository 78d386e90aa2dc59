"""Why a file of people, or a row of one, is not imported."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- the file ----------------------------------------------------------------------------------------------------------

OLD_EXCEL = Code(
    "import_old_excel",
    id="ini berkas Excel lama (.xls) atau berkas berkata sandi; simpan sebagai .xlsx tanpa kata sandi",
    en="this is an old Excel file (.xls) or one with a password; save it as .xlsx without one",
)
NO_FILE = Code(
    "import_no_file",
    id="berkas tidak dapat dibaca: itu bukan berkas",
    en="the file cannot be read: it is no file",
)
NOT_READ = Code("import_not_read", id="berkas tidak dapat dibaca: {error}", en="the file cannot be read: {error}")
MANY_BYTES = Code(
    "import_many_bytes",
    id="berkas lebih dari {most:count} byte; bagi menjadi beberapa",
    en="the file has more than {most:count} bytes; split it",
)
MANY_ROWS = Code(
    "import_many_rows",
    id="berkas lebih dari {most:count} baris; bagi menjadi beberapa",
    en="the file has more than {most:count} rows; split it",
)
MANY_LINES = Code(
    "import_many_lines",
    id="berkas lebih dari {most:count} baris; hapus yang kosong atau bagi menjadi beberapa",
    en="the file has more than {most:count} lines; delete blank ones or split it",
)
MANY_SHEET_LINES = Code(
    "import_many_sheet_lines",
    id="lembar kerja lebih dari {most:count} baris; hapus yang kosong atau bagi menjadi beberapa",
    en="the sheet has more than {most:count} lines; delete blank ones or split it",
)
MANY_CELLS = Code(
    "import_many_cells",
    id="baris {line}: berkas lebih dari {most:count} sel; bagi menjadi beberapa",
    en="line {line}: the file has more than {most:count} cells; split it",
)
MANY_CHARACTERS = Code(
    "import_many_characters",
    id="baris {line}: berkas lebih dari {most:count} karakter; bagi menjadi beberapa",
    en="line {line}: the file has more than {most:count} characters; split it",
)
UTF16_DAMAGED = Code(
    "import_utf16_damaged",
    id="berkas tampaknya teks UTF-16 tetapi rusak",
    en="the file looks like UTF-16 text but is damaged",
)
EXCEL_DAMAGED = Code(
    "import_excel_damaged", id="berkas Excel rusak ({error})", en="the Excel file is damaged ({error})"
)
EXCEL_CUT = Code(
    "import_excel_cut",
    id="berkas Excel rusak (arsip tidak utuh)",
    en="the Excel file is damaged (not a whole archive)",
)
EXCEL_UNPACKED = Code(
    "import_excel_unpacked",
    id="isi berkas Excel setelah dibuka lebih dari {most:count} byte",
    en="the Excel file unpacks to more than {most:count} bytes",
)
EXCEL_MARKS = Code(
    "import_excel_marks",
    id="sel, teks atau gaya di berkas Excel terlalu banyak; bagi menjadi beberapa",
    en="the Excel file has too many cells, texts or styles; split it",
)
NO_SHEET = Code("import_no_sheet", id="berkas Excel tidak memiliki lembar kerja", en="the Excel file has no sheet")
EMPTY = Code("import_empty", id="berkas kosong", en="the file is empty")
TOO_COSTLY = Code(
    "import_too_costly",
    id="berkas tidak dapat dibaca: butuh terlalu banyak memori atau waktu; bagi menjadi beberapa",
    en="the file cannot be read: that takes too much memory or time; split it",
)
TOO_SLOW = Code(
    "import_too_slow",
    id="berkas tidak selesai dibaca pada waktunya; coba lagi saat mesin tidak terlalu sibuk",
    en="the file could not be read in time; try again when the machine is less busy",
)
NO_PHONES = Code(
    "import_no_phones",
    id="tidak ada kolom berisi nomor telepon; beri nama di baris pertama, mis. `phone`, `nomor` atau `whatsapp`",
    en="no column with phone numbers was found; name it in the first row, such as `phone`, `nomor` or `whatsapp`",
)

# -- a row -------------------------------------------------------------------------------------------------------------

LONG_CELL = Code(
    "row_long_cell",
    id="kolom {column} lebih panjang dari {most:count} karakter",
    en="column {column} is longer than {most:count} characters",
)
LONG_LINE = Code(
    "row_long_line",
    id="barisnya lebih panjang dari {most:count} karakter",
    en="the line is longer than {most:count} characters",
)
NO_CSV = Code("row_no_csv", id="tidak terbaca sebagai CSV", en="not readable as CSV")
MANY_COLUMNS = Code("row_many_columns", id="lebih dari {most} kolom", en="more than {most} columns")
NO_PHONE = Code("row_no_phone", id="tidak ada nomor telepon", en="no phone number")
LONG_NAME = Code(
    "row_long_name",
    id="namanya lebih panjang dari {most} karakter",
    en="the name is longer than {most} characters",
)
LONG_FIELD = Code(
    "row_long_field",
    id="`{field}` lebih panjang dari {most} karakter",
    en="`{field}` is longer than {most} characters",
)
WRONG_PHONE = Code("row_wrong_phone", id="`{text}`: {reason}", en="`{text}`: {reason}")
SHORTENED_PHONE = Code(
    "row_shortened_phone",
    id="`{text}`: lembar kerja memendekkan nomornya; format kolomnya sebagai teks lalu simpan lagi",
    en="`{text}`: the spreadsheet shortened the number; format the column as text and save it again",
)

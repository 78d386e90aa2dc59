"""Why the command line does not understand what was typed: unknown words, missing or wrong values."""

from __future__ import annotations

from kurir.reasons.reason import Code

NO_COMMAND = Code(
    "command_unknown",
    id="`{word}` bukan perintah `{command}`: gunakan {known}",
    en="`{word}` is no command of `{command}`: use {known}",
)
NO_COMMAND_CLOSE = Code(
    "command_unknown_close",
    id="`{word}` bukan perintah `{command}`: mungkin maksudnya `{close}`; yang ada: {known}",
    en="`{word}` is no command of `{command}`: did you mean `{close}`? There are {known}",
)
NO_OPTION = Code(
    "option_unknown",
    id="`{option}` bukan opsi `{command}`: lihat `{command} --help`",
    en="`{option}` is no option of `{command}`: see `{command} --help`",
)
NO_OPTION_CLOSE = Code(
    "option_unknown_close",
    id="`{option}` bukan opsi `{command}`: mungkin maksudnya `{close}`; lihat `{command} --help`",
    en="`{option}` is no option of `{command}`: did you mean `{close}`? See `{command} --help`",
)
MISSING = Code(
    "argument_missing",
    id="`{command}` memerlukan {name}: lihat `{command} --help`",
    en="`{command}` needs {name}: see `{command} --help`",
)
NO_VALUE = Code(
    "option_value_missing",
    id="`{option}` memerlukan nilai: tulis `{option} <nilai>`, lihat `{command} --help`",
    en="`{option}` needs a value: write `{option} <value>`, see `{command} --help`",
)
VALUES_MISSING = Code(
    "option_values_missing",
    id="{name} memerlukan {count} nilai: lihat `{command} --help`",
    en="{name} needs {count} values: see `{command} --help`",
)
TOO_FEW = Code(
    "option_too_few_values",
    id="{name} memerlukan paling sedikit {least} nilai, diterima {found}: lihat `{command} --help`",
    en="{name} needs {least} values or more, got {found}: see `{command} --help`",
)
TOO_MANY = Code(
    "option_too_many_values",
    id="{name} menerima paling banyak {most} nilai, diterima {found}: hapus yang berlebih",
    en="{name} takes {most} values at most, got {found}: leave out what is too much",
)
WRONG_VALUE = Code(
    "argument_wrong",
    id="{name}: seharusnya {expected}, diterima `{value}`",
    en="{name}: expected {expected}, got `{value}`",
)
NOT_ALLOWED = Code(
    "argument_not_allowed",
    id="{name}: nilainya tidak diperbolehkan, lihat `{command} --help`",
    en="{name}: this value is not allowed, see `{command} --help`",
)
NOT_ALLOWED_TOGETHER = Code(
    "arguments_not_allowed",
    id="nilai-nilai ini tidak dapat digabungkan: lihat `{command} --help`",
    en="these values cannot be combined: see `{command} --help`",
)
TOO_MUCH = Code(
    "argument_too_much",
    id="`{value}` berlebih bagi `{command}`: hapus, atau beri tanda kutip pada nilai yang berisi spasi",
    en="`{value}` is one value too many for `{command}`: leave it out, or put quotes around a value with spaces",
)
REPEATED = Code(
    "option_repeated",
    id="`{option}` diberikan lebih dari sekali: cukup sekali",
    en="`{option}` is given more than once: give it once",
)
OUT_OF_ORDER = Code(
    "argument_out_of_order",
    id="`{value}` harus diberi nama, karena yang sebelumnya juga: tulis `{option} {value}`",
    en="`{value}` must be given by name, as what comes before it is: write `{option} {value}`",
)
MIXED = Code(
    "argument_mixed",
    id="{name} diberikan utuh dan juga bagian demi bagian: pilih satu cara",
    en="{name} is given both whole and by its parts: choose one way",
)
EQUALS = Code(
    "option_needs_equals",
    id="`{option}` memerlukan nilai dengan tanda sama dengan: tulis `{option}=<nilai>`",
    en="`{option}` needs its value after an equals sign: write `{option}=<value>`",
)
COMBINED = Code(
    "options_combined",
    id="opsi satu huruf yang memerlukan nilai tidak dapat digabungkan: tulis satu per satu, lihat `{command} --help`",
    en="one-letter options that need a value cannot be combined: write them one by one, see `{command} --help`",
)
QUOTES = Code(
    "command_line_quotes",
    id="tanda kutipnya tidak berpasangan: periksa perintahnya",
    en="a quotation mark is not closed: look at the command again",
)
NOT_UNDERSTOOD = Code(
    "command_not_understood",
    id="perintah ini tidak dapat dipahami: lihat `{command} --help`",
    en="this command cannot be understood: see `{command} --help`",
)

# -- what is expected --------------------------------------------------------------------------------------------------

WHOLE_NUMBER = Code("argument_whole_number", id="bilangan bulat, mis. 20", en="a whole number such as 20")
NUMBER = Code("argument_number", id="bilangan, mis. 2.5", en="a number such as 2.5")
FLAG = Code("argument_flag", id="opsi itu saja, tanpa nilai", en="the option alone, without a value")
ONE_OF = Code("argument_one_of", id="salah satu dari {words}", en="one of {words}")
OTHER_VALUE = Code("argument_other_value", id="nilai lain", en="another value")

"""Why a template cannot be made, listed or sent."""

from __future__ import annotations

from kurir.reasons.reason import Code

NO_BODY = Code(
    "meta_no_body",
    id="Graph API menjawab HTTP {status} tanpa isi yang dapat dipakai",
    en="the Graph API answered HTTP {status} without a usable body",
)
NO_TEMPLATE_ID = Code(
    "meta_no_template_id",
    id="Graph API menjawab tanpa ID template",
    en="the Graph API answered without a template id",
)
NO_LIST = Code(
    "meta_no_template_list",
    id="Graph API menjawab tanpa daftar template",
    en="the Graph API answered without a list of templates",
)
NO_NEXT_PAGE = Code(
    "meta_no_next_page",
    id="Graph API menyebut halaman template berikutnya, tetapi tidak cara memintanya",
    en="the Graph API named a next page of templates, and not how to ask for it",
)
NO_END = Code(
    "meta_no_end",
    id="daftar template Graph API tidak berakhir setelah {pages} halaman",
    en="the Graph API's list of templates has no end after {pages} pages",
)
NO_UPLOAD_SESSION = Code(
    "meta_no_upload_session",
    id="Graph API tidak membuka sesi unggahan",
    en="the Graph API opened no upload session",
)
NO_HANDLE = Code("meta_no_handle", id="unggahan tidak memberi handle", en="the upload gave no handle")
SAMPLE_NOT_READ = Code(
    "sample_not_read",
    id="contoh yang tersimpan tidak dapat dibaca: {error}",
    en="the stored sample cannot be read: {error}",
)

# -- sending -----------------------------------------------------------------------------------------------------------

TEMPLATE_EXPECTED = Code(
    "template_template_expected",
    id="`templateId` dari get-template-list, atau objek {{name, language, components}}",
    en="a `templateId` of get-template-list, or an object {{name, language, components}}",
)
NOT_FOUND = Code("template_not_found", id="Template not found: {template}", en="Template not found: {template}")
NOT_APPROVED = Code(
    "template_not_approved",
    id="Template `{template}` belum dapat dikirim: statusnya {status}, bukan APPROVED.",
    en="The template `{template}` cannot be sent: its status is {status}, not APPROVED.",
)
VARIABLE_COUNT = Code(
    "template_variable_count",
    id="Kolom `variables` tidak valid: template membutuhkan {wanted} variabel, diterima {given}.",
    en="Field `variables` is not valid: the template needs {wanted} variables, {given} were given.",
)
SEND_FAILED = Code(
    "template_send_failed", id="Template gagal dikirim: {reason}", en="The template was not sent: {reason}"
)
SEND_WAITS = Code(
    "template_send_waits",
    id="Template sudah tersimpan tetapi belum terkirim (status: {state}); jangan kirim ulang. Menunggu: {why}.",
    en="The template message is stored but not sent yet (state: {state}); do not send it again. It waits for: {why}.",
)
COMPONENT_EXPECTED = Code(
    "template_component_expected", id="objek {{type, parameters}}", en="an object {{type, parameters}}"
)

# -- the form ----------------------------------------------------------------------------------------------------------

BUTTON_EXPECTED = Code("template_button_expected", id="objek {{type, data}}", en="an object {{type, data}}")
VARIABLE_EXPECTED = Code(
    "template_variable_expected",
    id="objek {{placeholder, label, example}}",
    en="an object {{placeholder, label, example}}",
)

# -- rules for a new template ------------------------------------------------------------------------------------------

VARIABLE_AT_END = Code(
    "template_rule_variable_at_end",
    id="Variables can't be at the end of the template body.",
    en="Variables can't be at the end of the template body.",
)
VARIABLE_AT_START = Code(
    "template_rule_variable_at_start",
    id="Variables can't be at the start of the template body.",
    en="Variables can't be at the start of the template body.",
)
NAME = Code(
    "template_rule_name",
    id="Nama hanya boleh memuat huruf kecil, angka dan _, sebanyak 1 sampai 512.",
    en="The name may hold lower-case letters, digits and _ only, 1 to 512 of them.",
)
LANGUAGE = Code(
    "template_rule_language",
    id="Bahasa harus salah satu bahasa template Meta, mis. id, en, en_US atau ms.",
    en="The language must be one of Meta's template languages, such as id, en, en_US or ms.",
)
CATEGORY = Code(
    "template_rule_category", id="Kategori harus salah satu dari {words}.", en="The category must be one of {words}."
)
BODY = Code("template_rule_body", id="Isi (body) wajib diisi.", en="The body is required.")
BODY_LONG = Code(
    "template_rule_body_long",
    id="Isi (body) memuat {length} karakter, maksimal {most}.",
    en="The body has {length} characters, at most {most} are allowed.",
)
VARIABLES_IN_ORDER = Code(
    "template_rule_variables_in_order",
    id="Variabel harus {{{{1}}}}, {{{{2}}}}, … berurutan dan tanpa celah.",
    en="Variables must be {{{{1}}}}, {{{{2}}}}, … in order and without gaps.",
)
AUTHENTICATION_BODY = Code(
    "template_rule_authentication_body",
    id="Isi template AUTHENTICATION memuat tepat satu variabel, yaitu kodenya.",
    en="The body of an AUTHENTICATION template has exactly one variable, the code.",
)
VARIABLES_ADJACENT = Code(
    "template_rule_variables_adjacent",
    id="Dua variabel tidak boleh berdampingan.",
    en="Two variables can't stand side by side.",
)
FEW_WORDS = Code(
    "template_rule_few_words",
    id="Isi (body) terlalu sedikit katanya ({words}) untuk {count} variabel.",
    en="The body has too few words ({words}) for {count} variables.",
)
AUTHENTICATION_HEADER = Code(
    "template_rule_authentication_header",
    id="Template AUTHENTICATION tidak memiliki header.",
    en="An AUTHENTICATION template has no header.",
)
HEADER_URL = Code(
    "template_rule_header_url",
    id="Header berjenis {type} memerlukan `url`, alamat http atau https sebuah contoh.",
    en="A header of type {type} needs `url`, an http or https address of a sample.",
)
HEADER_TYPE = Code(
    "template_rule_header_type",
    id="Jenis header harus salah satu dari TEXT, IMAGE, VIDEO, DOCUMENT, LOCATION.",
    en="The header's type must be one of TEXT, IMAGE, VIDEO, DOCUMENT, LOCATION.",
)
HEADER_CONTENT = Code(
    "template_rule_header_content",
    id="Header berjenis TEXT memerlukan `content`.",
    en="A header of type TEXT needs `content`.",
)
HEADER_LONG = Code(
    "template_rule_header_long",
    id="Header memuat {length} karakter, maksimal {most}.",
    en="The header has {length} characters, at most {most} are allowed.",
)
HEADER_FORMATTING = Code(
    "template_rule_header_formatting",
    id="Header tidak boleh memuat baris baru atau pemformatan.",
    en="The header can't have line breaks or formatting.",
)
HEADER_VARIABLES = Code(
    "template_rule_header_variables",
    id="Header boleh memuat paling banyak satu variabel, {{{{1}}}}.",
    en="The header can have one variable at most, {{{{1}}}}.",
)
HEADER_LATITUDE = Code(
    "template_rule_header_latitude",
    id="Header berjenis LOCATION memerlukan `latitude`, -90 sampai 90.",
    en="A header of type LOCATION needs `latitude`, -90 to 90.",
)
HEADER_LONGITUDE = Code(
    "template_rule_header_longitude",
    id="Header berjenis LOCATION memerlukan `longitude`, -180 sampai 180.",
    en="A header of type LOCATION needs `longitude`, -180 to 180.",
)
AUTHENTICATION_FOOTER = Code(
    "template_rule_authentication_footer",
    id="Template AUTHENTICATION tidak memiliki footer sendiri.",
    en="An AUTHENTICATION template has no footer of its own.",
)
FOOTER_LONG = Code(
    "template_rule_footer_long",
    id="Footer memuat {length} karakter, maksimal {most}.",
    en="The footer has {length} characters, at most {most} are allowed.",
)
FOOTER_VARIABLES = Code(
    "template_rule_footer_variables", id="Footer tidak boleh memuat variabel.", en="The footer can't have variables."
)
AUTHENTICATION_BUTTONS = Code(
    "template_rule_authentication_buttons",
    id="Template AUTHENTICATION memiliki paling banyak satu tombol, COPY_CODE.",
    en="An AUTHENTICATION template has one button at most, COPY_CODE.",
)
MANY_BUTTONS = Code(
    "template_rule_many_buttons",
    id="Ada {count} tombol, maksimal {most}.",
    en="There are {count} buttons, at most {most} are allowed.",
)
MANY_OF_A_KIND = Code(
    "template_rule_many_of_a_kind",
    id="Ada {count} tombol berjenis {kind}, maksimal {most}.",
    en="There are {count} buttons of type {kind}, at most {most} are allowed.",
)
QUICK_REPLIES = Code(
    "template_rule_quick_replies",
    id="Tombol QUICK_REPLY harus berkumpul, semuanya di awal atau semuanya di akhir.",
    en="QUICK_REPLY buttons must stand together, all first or all last.",
)
BUTTON_TYPE = Code(
    "template_rule_button_type",
    id="Jenis tombol harus salah satu dari {words}.",
    en="The button's type must be one of {words}.",
)
LABEL = Code(
    "template_rule_label",
    id="Label harus memuat 1 sampai {most} karakter.",
    en="The label must have 1 to {most} characters.",
)
LABEL_VARIABLES = Code(
    "template_rule_label_variables", id="Label tidak boleh memuat variabel.", en="The label can't have variables."
)
BUTTON_PHONE = Code(
    "template_rule_button_phone",
    id="`phone_number` harus nomor telepon, paling banyak 20 angka.",
    en="`phone_number` must be a phone number of at most 20 digits.",
)
BUTTON_CODE = Code(
    "template_rule_button_code",
    id="`example` harus kode sepanjang 1 sampai {most} karakter.",
    en="`example` must be a code of 1 to {most} characters.",
)
BUTTON_URL = Code(
    "template_rule_button_url",
    id="`url` harus alamat http atau https, paling banyak {most} karakter.",
    en="`url` must be an http or https address of at most {most} characters.",
)
BUTTON_URL_VARIABLE = Code(
    "template_rule_button_url_variable",
    id="`url` boleh memuat satu variabel, {{{{1}}}}, dan hanya di akhirnya.",
    en="`url` can have one variable, {{{{1}}}}, and only at its end.",
)
BUTTON_EXAMPLE = Code(
    "template_rule_button_example",
    id="`example` wajib diisi untuk `url` yang memuat variabel.",
    en="`example` is required for a `url` with a variable.",
)
EXAMPLE = Code(
    "template_rule_example",
    id="Variabel {{{{{name}}}}} memerlukan contoh.",
    en="Variable {{{{{name}}}}} needs an example.",
)
HEADER_EXAMPLE = Code(
    "template_rule_header_example",
    id="Variabel pada header memerlukan contoh.",
    en="The variable of the header needs an example.",
)

# -- filling a template in --------------------------------------------------------------------------------------------

VALUE_EMPTY = Code("template_value_empty", id="nilai ke-{position} kosong", en="value {position} is empty")
VALUE_UNSENDABLE = Code(
    "template_value_unsendable",
    id="nilai ke-{position} memuat baris baru, tab, atau lebih dari empat spasi berturut-turut",
    en="value {position} has a line break, a tab or more than four spaces in a row",
)
PLACE_NEEDED = Code(
    "template_place_needed",
    id="header template ini sebuah lokasi: latitude dan longitude diperlukan",
    en="the template's header is a location: latitude and longitude are needed",
)
FILE_NEEDED = Code(
    "template_file_needed",
    id="header template ini {type}: alamat sebuah berkas diperlukan",
    en="the template's header is {type}: the address of a file is needed",
)

# -- answers of create-template ---------------------------------------------------------------------------------------

NAME_TAKEN = Code("template_name_taken", id="Template Name Already Exists", en="Template Name Already Exists")
REFUSED_BY_META = Code("template_refused_by_meta", id="Ditolak oleh Facebook", en="Refused by Facebook")
META_SILENT = Code(
    "template_meta_silent", id="Facebook tidak menjawab: {reason}", en="Facebook gave no answer: {reason}"
)

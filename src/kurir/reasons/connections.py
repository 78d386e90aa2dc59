"""Why a request is refused before it reaches an endpoint, and why a callback or a peer call is."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- connections (`web/http/connection_limits`) ------------------------------------------------------------------------

NO_HTTP = Code("http_invalid", id="permintaan ini bukan HTTP yang sah", en="the request is no valid HTTP")
HEAD_TOO_LARGE = Code(
    "http_head_too_large",
    id="kepala (header) permintaan lebih besar dari {limit} byte",
    en="the head of the request is larger than {limit} bytes",
)
HEAD_TOO_SLOW = Code(
    "http_head_too_slow",
    id="kepala (header) permintaan tidak selesai diterima dalam {seconds} detik",
    en="the head of the request did not arrive within {seconds} seconds",
)
MANY_FIELDS = Code(
    "http_many_fields",
    id="permintaan memuat lebih dari {most} header",
    en="the request has more than {most} header fields",
)
MANY_AHEAD = Code(
    "http_many_ahead",
    id="lebih dari {most} permintaan dikirim tanpa menunggu jawaban",
    en="more than {most} requests were sent ahead",
)
ONE_HOST = Code(
    "http_one_host",
    id="permintaan harus memuat tepat satu header Host",
    en="the request must have one Host header field",
)
CROWDED = Code("http_crowded", id="terlalu banyak sambungan terbuka", en="too many connections are open")
CROWDED_ADDRESS = Code(
    "http_crowded_address",
    id="terlalu banyak sambungan terbuka dari alamat ini",
    en="too many connections are open from this address",
)
STOPPING = Code("http_stopping", id="gateway sedang berhenti", en="the gateway is stopping")
FOREIGN_HOST = Code(
    "http_foreign_host",
    id="selama KURIR_STATUS_PAGE adalah `open`, gateway ini hanya menjawab di alamatnya sendiri dan KURIR_PUBLIC_URL",
    en="while KURIR_STATUS_PAGE is `open` this gateway answers to its own address and to KURIR_PUBLIC_URL only",
)

# -- callbacks of Meta -------------------------------------------------------------------------------------------------

HUB_EXPECTED = Code(
    "callback_hub_expected",
    id="harus ada hub.mode, hub.verify_token dan hub.challenge",
    en="hub.mode, hub.verify_token and hub.challenge are needed",
)
HUB_TOKEN_UNKNOWN = Code(
    "callback_hub_token_unknown",
    id="hub.verify_token: tidak ada nomor resmi dengan token ini",
    en="hub.verify_token: no official number has this token",
)
SIGNATURE_MISSING = Code(
    "callback_signature_missing", id="X-Hub-Signature-256 tidak ada", en="X-Hub-Signature-256 is missing"
)
SIGNATURE_WRONG = Code(
    "callback_signature_wrong",
    id="X-Hub-Signature-256 tidak cocok dengan isi (body)",
    en="X-Hub-Signature-256 does not fit the body",
)
MANY_UNSIGNED = Code(
    "callback_many_unsigned",
    id="terlalu banyak callback tanpa tanda tangan yang sah dari alamat ini",
    en="too many callbacks from this address were not signed",
)
MANY_LARGE = Code(
    "callback_many_large",
    id="terlalu banyak callback besar sekaligus: coba lagi",
    en="too many large callbacks at once: try again",
)

# -- peer calls --------------------------------------------------------------------------------------------------------

FOR_GATEWAYS = Code(
    "peer_gateways_only",
    id="ini untuk gateway yang berbagi basis data",
    en="this is for gateways that share the database",
)
NO_PEER_CALL = Code(
    "peer_call_unreadable",
    id="ini bukan panggilan antar-gateway; apakah semua gateway memakai versi yang sama?",
    en="this is no peer call; do all gateways have the same version?",
)

"""Why an endpoint is disabled."""

from __future__ import annotations

from kurir.reasons.reason import Code

RECEIVER_GONE = Code("receiver_gone", id="penerima menjawab 410 (Gone)", en="the receiver answered 410 (Gone)")
RECEIVER_DEAD = Code(
    "receiver_dead", id="hanya kegagalan selama {days} hari", en="nothing but failures for {days} days"
)
RECEIVER_UNREACHABLE = Code(
    "receiver_unreachable",
    id="penerima tidak dapat dihubungi ({error})",
    en="the receiver could not be reached ({error})",
)

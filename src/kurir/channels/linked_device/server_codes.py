"""Error codes in the server's `<ack>` of a message: what each concerns, as one table. Pure.

WhatsApp documents none of them. Sources: WhatsApp Web's own names (`NackErrorCode` in its published scripts, as quoted
in WhiskeySockets/Baileys#2441 and in whatsmeow's `receipt.go`), and reports of other clients. An `<ack>` with an error
means that the server did not accept the message.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, assert_never

from kurir.messages.channel_reports import Refused, Restricted, TryLater
from kurir.reasons import Code
from kurir.reasons import messages as reasons

About = Literal["message", "person", "sender", "passing"]
"""message: no retry of the same message can help · person: this recipient cannot be written to · sender: the device,
whatever the message · passing: the same message may succeed later."""


class ServerCode(NamedTuple):
    """The meaning of one code; `source` is where it is known from."""

    about: About
    meaning: Code
    source: str


REACH_OUT = 463

CODES: dict[int, ServerCode] = {
    400: ServerCode("message", reasons.SERVER_400, "WhatsApp Web: bad request"),
    401: ServerCode("person", reasons.SERVER_401, "XMPP not-authorized, as in whatsmeow"),
    403: ServerCode("person", reasons.SERVER_403, "XMPP forbidden: announcement groups, blocks"),
    404: ServerCode("person", reasons.SERVER_404, "XMPP item-not-found: a group that was left or ended"),
    405: ServerCode("message", reasons.SERVER_405, "XMPP not-allowed"),
    406: ServerCode("message", reasons.SERVER_406, "XMPP not-acceptable"),
    420: ServerCode("person", reasons.SERVER_420, "whatsmeow: group send after removal"),
    429: ServerCode("sender", reasons.SERVER_429, "rate-overlimit"),
    463: ServerCode("sender", reasons.SERVER_463, "NackCallerReachoutTimelocked"),
    475: ServerCode("passing", reasons.SERVER_475, "Baileys: stale group addressing mode"),
    479: ServerCode("passing", reasons.SERVER_479, "Baileys: smax-invalid, stale devices"),
    487: ServerCode("message", reasons.SERVER_487, "NackParsingError"),
    488: ServerCode("message", reasons.SERVER_488, "NackUnrecognizedStanza"),
    489: ServerCode("message", reasons.SERVER_489, "NackUnrecognizedStanzaClass"),
    490: ServerCode("message", reasons.SERVER_490, "NackUnrecognizedStanzaType"),
    491: ServerCode("message", reasons.SERVER_491, "NackInvalidProtobuf"),
    493: ServerCode("message", reasons.SERVER_493, "NackInvalidHostedCompanionStanza"),
    495: ServerCode("message", reasons.SERVER_495, "NackMissingMessageSecret"),
    496: ServerCode("passing", reasons.SERVER_496, "NackSignalErrorOldCounter"),
    499: ServerCode("message", reasons.SERVER_499, "NackMessageDeletedOnPeer"),
    500: ServerCode("passing", reasons.SERVER_500, "NackUnhandledError"),
    503: ServerCode("passing", reasons.SERVER_503, "XMPP service-unavailable"),
    551: ServerCode("passing", reasons.SERVER_551, "NackUnsupportedLIDGroup"),
    552: ServerCode("passing", reasons.SERVER_552, "NackDBOperationFailed"),
}

FEW_TRIES = 3
"""Attempts after which an unlisted code counts as permanent."""
_SLOW_DOWN = 30.0
"""Seconds for which a device that sends too fast pauses; the lane doubles it while the code repeats."""


def outcome_of(code: int) -> Refused | TryLater | Restricted:
    """The outcome of a message refused with this code; an unlisted code counts as temporary at first."""
    known = CODES.get(code)
    if known is None:
        reason = reasons.REFUSED_WITH_CODE(code=code) if code else reasons.REFUSED_BY_WHATSAPP()
        return TryLater("refused_by_whatsapp", reason, most=FEW_TRIES)
    reason = reasons.REFUSED_BECAUSE(meaning=known.meaning, code=code)
    match known.about:
        case "message" | "person":
            return Refused("refused_by_whatsapp", reason)
        case "passing":
            return TryLater("refused_by_whatsapp", reason)
        case "sender":
            if code == REACH_OUT:
                return Restricted("restricted", reason)
            return TryLater("slow_down", reason, _SLOW_DOWN, counted=False, whole_number=True)
        case _:
            assert_never(known.about)

"""Error codes in the server's `<ack>` of a message: what each concerns, as one table. Pure.

WhatsApp documents none of them. Sources: WhatsApp Web's own names (`NackErrorCode` in its published scripts, as quoted
in WhiskeySockets/Baileys#2441 and in whatsmeow's `receipt.go`), and reports of other clients. An `<ack>` with an error
means that the server did not accept the message.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, assert_never

from kurir.messages.reports import Refused, Restricted, TryLater

About = Literal["message", "person", "sender", "passing"]
"""message: no retry of the same message can help · person: this recipient cannot be written to · sender: the device,
whatever the message · passing: the same message may succeed later."""


class Code(NamedTuple):
    """The meaning of one code; `source` is where it is known from."""

    about: About
    meaning: str
    source: str


REACH_OUT = 463

CODES: dict[int, Code] = {
    400: Code("message", "the message was malformed", "WhatsApp Web: bad request"),
    401: Code("person", "the recipient cannot be written to by this number", "XMPP not-authorized, as in whatsmeow"),
    403: Code("person", "the number may not write in this chat", "XMPP forbidden: announcement groups, blocks"),
    404: Code("person", "the chat does not exist any more", "XMPP item-not-found: a group that was left or ended"),
    405: Code("message", "this kind of message is not allowed here", "XMPP not-allowed"),
    406: Code("message", "WhatsApp does not accept this message", "XMPP not-acceptable"),
    420: Code("person", "the number is not a member of the group", "whatsmeow: group send after removal"),
    429: Code("sender", "the number sends too fast", "rate-overlimit"),
    463: Code("sender", "the number may not write to new contacts for a time", "NackCallerReachoutTimelocked"),
    475: Code("passing", "the group's addressing has changed", "Baileys: stale group addressing mode"),
    479: Code("passing", "the message did not fit what the server expects now", "Baileys: smax-invalid, stale devices"),
    487: Code("message", "the message could not be parsed", "NackParsingError"),
    488: Code("message", "the message was not recognized", "NackUnrecognizedStanza"),
    489: Code("message", "the message's class was not recognized", "NackUnrecognizedStanzaClass"),
    490: Code("message", "the message's type was not recognized", "NackUnrecognizedStanzaType"),
    491: Code("message", "the message's content was not recognized", "NackInvalidProtobuf"),
    493: Code("message", "the recipient's hosted device does not take it", "NackInvalidHostedCompanionStanza"),
    495: Code("message", "the message's secret is missing", "NackMissingMessageSecret"),
    496: Code("passing", "the encryption session has to be renewed", "NackSignalErrorOldCounter"),
    499: Code("message", "the message was deleted meanwhile", "NackMessageDeletedOnPeer"),
    500: Code("passing", "WhatsApp had an error", "NackUnhandledError"),
    503: Code("passing", "WhatsApp is not available", "XMPP service-unavailable"),
    551: Code("passing", "the group's addressing is not supported", "NackUnsupportedLIDGroup"),
    552: Code("passing", "WhatsApp had an error with its database", "NackDBOperationFailed"),
}

FEW_TRIES = 3
"""Attempts after which an unlisted code counts as permanent."""
_SLOW_DOWN = 30.0
"""Seconds for which a device that sends too fast pauses; the lane doubles it while the code repeats."""


def outcome_of(code: int) -> Refused | TryLater | Restricted:
    """The outcome of a message refused with this code; an unlisted code counts as temporary at first."""
    known = CODES.get(code)
    if known is None:
        reason = f"WhatsApp refused the message (error {code})" if code else "WhatsApp refused the message"
        return TryLater("refused_by_whatsapp", reason, most=FEW_TRIES)
    reason = f"WhatsApp refused the message: {known.meaning} (error {code})"
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

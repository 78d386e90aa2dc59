"""Refusals of requests whose caller is not known: an HTTP status with a reason, and the body that says why."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException

from kurir.reasons import Reason, as_written, sentence
from kurir.reasons.administration import NO_SUCH_ADDRESS, NO_SUCH_METHOD

_OF_THE_FRAMEWORK = {404: NO_SUCH_ADDRESS, 405: NO_SUCH_METHOD}
_KINDS = {404: "not_found", 408: "timeout", 503: "unavailable"}


class HttpRefusal(HTTPException):
    """A refusal with a reason; its `detail`, for logs, is the reason's English sentence."""

    def __init__(self, status: int, reason: Reason, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, sentence(reason, "en"), headers)
        self.reason = reason


def reason_of(error: HTTPException) -> Reason:
    """The reason of a refusal, also of the web framework's own."""
    if isinstance(error, HttpRefusal):
        return error.reason
    entry = _OF_THE_FRAMEWORK.get(error.status_code)
    return entry() if entry is not None else as_written(error.detail)


def refusal_body(status: int, reason: Reason, language: str) -> dict[str, str]:
    """The body of a refusal, in the form of the compatible API's errors."""
    kind = _KINDS.get(status, "invalid_request")
    return {"code": str(status), "message": sentence(reason, language), "type": kind}

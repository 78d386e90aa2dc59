"""Errors of the Graph API: the answer to a refused request, and the error inside a `failed` status.

Codes, titles and HTTP statuses follow Meta's page "Error codes" for the Cloud API.
"""

from __future__ import annotations

import secrets
import string
from typing import Any

_HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"
_TRACE_CHARACTERS = string.ascii_letters + string.digits

_TITLES = {
    1: "API Unknown",
    2: "API Service",
    4: "Application request limit reached",
    10: "Permission Denied",
    100: "Invalid parameter",
    130429: "Rate limit hit",
    131000: "Something went wrong",
    131005: "Access denied",
    131008: "Required parameter is missing",
    131009: "Parameter value is not valid",
    131016: "Service unavailable",
    131021: "Recipient cannot be sender",
    131026: "Message undeliverable",
    131031: "Account has been locked",
    131047: "Re-engagement message",
    131048: "Spam rate limit hit",
    131049: "This message was not delivered to maintain healthy ecosystem engagement.",
    131050: "User has stopped receiving marketing messages",
    131051: "Unsupported message type",
    131052: "Media download error",
    131053: "Media upload error",
    131056: "(Business Account, Consumer Account) pair rate limit hit",
    131057: "Account in maintenance mode",
    132000: "Number of parameters does not match the expected number of params",
    132001: "Template name does not exist in the translation",
    132005: "Translated text too long",
    132007: "Template format character policy violated",
    132012: "Parameter format does not match format in the created template",
    132015: "Template is paused",
    132016: "Template is disabled",
}
_STATUSES = {
    2: 503,
    10: 403,
    190: 401,
    131000: 500,
    131005: 403,
    131016: 500,
    131031: 403,
    131057: 500,
    132001: 404,
}


class GraphError(Exception):
    """A request the Graph API refuses; `status` is the HTTP status and `body` the JSON answer."""

    def __init__(self, code: int, details: str = "", *, message: str | None = None, **extra: Any) -> None:
        """Describe the refusal.

        code: Meta's error code. details: what is wrong, naming the parameter (goes to `error_data.details`).
        message: instead of the code's title. extra: further keys of `error` (`error_subcode`, `type`, …).
        """
        self.code = code
        self.status = _STATUSES.get(code, 403 if 200 <= code <= 299 else 400)
        self.message = message if message is not None else f"(#{code}) {_TITLES.get(code, 'Error')}"
        self.details = details
        self.extra = extra
        super().__init__(f"{self.message}: {details}" if details else self.message)

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON; every call draws a fresh `fbtrace_id`."""
        error: dict[str, Any] = {"message": self.message, "type": "OAuthException", "code": self.code}
        if self.details:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        trace = "A" + "".join(secrets.choice(_TRACE_CHARACTERS) for _ in range(22))
        return {"error": {**error, **self.extra, "fbtrace_id": trace}}


def status_error(code: int, details: str) -> dict[str, Any]:
    """The error object inside a `failed` status or an inbound message that cannot be shown."""
    title = _TITLES.get(code, "Error")
    return {
        "code": code,
        "title": title,
        "message": title,
        "error_data": {"details": details},
        "href": _HREF,
    }


def unknown_object(object_id: str, method: str) -> GraphError:
    """There is nothing with this id, or this token may not see it."""
    return GraphError(
        100,
        message=f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, cannot be "
        "loaded due to missing permissions, or does not support this operation. Please read the Graph API "
        "documentation at https://developers.facebook.com/docs/graph-api",
        type="GraphMethodException",
        error_subcode=33,
    )


def invalid_token(reason: str) -> GraphError:
    """The access token is missing, malformed or not ours."""
    return GraphError(190, message=f"Invalid OAuth access token - {reason}")


def missing(parameter: str) -> GraphError:
    """A mandatory parameter is not there."""
    return GraphError(131008, f"Parameter '{parameter}' is mandatory")


def invalid(parameter: str, rule: str) -> GraphError:
    """A parameter has a value that breaks `rule`."""
    return GraphError(131009, f"Parameter '{parameter}' {rule}")


def template_refused(subcode: int, title: str, explanation: str) -> GraphError:
    """A template that may not be created: code 100 with Meta's subcode for the rule it breaks."""
    return GraphError(
        100,
        message="Invalid parameter",
        error_subcode=subcode,
        is_transient=False,
        error_user_title=title,
        error_user_msg=explanation,
    )

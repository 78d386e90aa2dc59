"""One endpoint of the compatible API, as data: its path, fields, samples and handler.

The table of endpoints (each section's module exports `ENDPOINTS`) gives routing, identification, the OpenAPI document
and the rendered reference. The server identifies the caller and finds the number before the handler runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from kurir.accounts.accounts import Account
from kurir.numbers.numbers import Number
from kurir.outbox.idempotency import Once, Remembered
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.envelopes import Answer
from kurir.web.gateway import Gateway

FieldKind = Literal["string", "integer", "number", "flag", "array", "object", "any"]
NumberField = Literal["number_id", "licenses_key"]

API_KEY_NAMES = ("api_key", "secret_key", "secretKey", "access_token")
NUMBER_ID_NAMES = ("number_id", "numberId")
LICENSES_KEY_NAMES = ("licenses_key", "licensesKey")
KEY_HEADER = "Idempotency-Key"
KEY_FIELD = "idempotency_key"
KEY_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a request body as the reference shows it; `aliases` are other spellings that are accepted."""

    name: str
    kind: FieldKind
    description: str
    required: bool = False
    example: Any = None
    aliases: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """One identified request. `number` is there exactly when the endpoint names a number field.

    `once` identifies repetitions of the request; pass it to `outbox.accept`.
    """

    account: Account
    body: Body
    now: float
    _number: Number | None = None
    once: Once | None = None

    @property
    def number(self) -> Number:
        """The sender number, which belongs to the account."""
        assert self._number is not None, "the endpoint declares no number field"
        return self._number


Handler = Callable[[Gateway, Call], Awaitable[Answer]]
Replay = Callable[[Gateway, Call, Remembered], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`POST /public/v1/<path>`. `fields` excludes the credentials, which every endpoint has.

    `credential` is the spelling the reference uses; `number_field` names the sender number's field, if any.
    `request_sample` and `answer_sample` are ours, in the shape of the reference collection;
    `other_answers` are further shapes of a 200. An endpoint that sends has a `replay`, which answers a repeated request
    from what was remembered of it. Endpoints of another `limit_group` are counted apart in the account's request limit.
    """

    path: str
    section: str
    summary: str
    handler: Handler
    credential: Literal["api_key", "secret_key"]
    number_field: NumberField | None
    fields: tuple[Field, ...]
    request_sample: dict[str, Any] = field(default_factory=dict)
    answer_sample: dict[str, Any] = field(default_factory=dict)
    other_answers: tuple[dict[str, Any], ...] = ()
    replay: Replay | None = None
    limit_group: str = ""

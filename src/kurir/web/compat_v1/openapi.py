"""The OpenAPI 3.1 document of the compatible API, generated from the endpoint table.

Request schemas are as lenient as the wire: numbers and strings are interchangeable, null counts as absent, unknown
fields are allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from kurir import __version__
from kurir.kit.json_values import JsonValue
from kurir.web.compat_v1.endpoint import KEY_FIELD, KEY_HEADER, KEY_LIMIT, Endpoint, Field, FieldKind
from kurir.web.compat_v1.envelopes import ErrorCode, ErrorType

Schema = dict[str, Any]

_SCALAR = ["string", "integer", "number", "boolean", "null"]
_TYPES: dict[FieldKind, list[str]] = {
    "string": _SCALAR,
    "integer": ["integer", "string", "null"],
    "number": ["number", "string", "null"],
    "flag": ["string", "integer", "boolean", "null"],
    "array": ["array", "null"],
    "object": ["object", "null"],
    "any": [*_SCALAR, "array", "object"],
}
_CODES: dict[str, str] = {
    "200": "Accepted, or done.",
    "400": "Bad request, or a rate limit was reached (then with `Retry-After`).",
    "403": "The API key is not valid, or the account's package is not active.",
    "404": "The sender number is not one of this account.",
    "405": "A parameter is missing or wrong; `message` names it.",
    "408": "Not in time; `message` says what happens next.",
    "503": "Nothing can be stored now: try again after `Retry-After` seconds.",
}
CREDENTIAL_EXAMPLES = {"api_key": "YOUR-API-KEY", "secret_key": "YOUR-API-KEY"}
NUMBER_EXAMPLES = {"number_id": "BO-0123456789abcdef", "licenses_key": "WB-0123456789abcdef"}
_NUMBER_DESCRIPTIONS = {
    "number_id": "The linked device that sends or answers.",
    "licenses_key": "The official number that sends.",
}

_KEY = Field(
    KEY_FIELD,
    "string",
    f"A name of your own for this request, at most {KEY_LIMIT} characters: sent again with the same name within 24 "
    f"hours it sends nothing and gets the first answer. Also as header `{KEY_HEADER}`.",
    example="order-1001-confirmation",
)
_KEY_PARAMETER: Schema = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "description": f"The same as the field `{KEY_FIELD}`.",
    "schema": {"type": "string", "pattern": r"^[!-~]{1,255}$"},
}


def document(endpoints: Sequence[Endpoint], base_url: str) -> dict[str, Any]:
    """The document as plain data; `base_url` is this server's address without a trailing slash."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kurir, compatible API",
            "version": __version__,
            "description": "Every request is a POST with the credentials in its body.",
        },
        "servers": [{"url": base_url}],
        "tags": [{"name": section} for section in dict.fromkeys(endpoint.section for endpoint in endpoints)],
        "paths": {f"/public/v1/{endpoint.path}": {"post": _operation(endpoint)} for endpoint in endpoints},
        "components": {"schemas": {"Error": _error_schema()}},
    }


def all_fields(endpoint: Endpoint) -> tuple[Field, ...]:
    """The endpoint's fields with the credentials first."""
    credential = Field(
        endpoint.credential,
        "string",
        "The account's API key.",
        required=True,
        example=CREDENTIAL_EXAMPLES[endpoint.credential],
    )
    repeat = (_KEY,) if endpoint.replay is not None else ()
    if endpoint.number_field is None:
        return (credential, *endpoint.fields, *repeat)
    number = Field(
        endpoint.number_field,
        "string",
        _NUMBER_DESCRIPTIONS[endpoint.number_field],
        required=True,
        example=NUMBER_EXAMPLES[endpoint.number_field],
    )
    return (credential, number, *endpoint.fields, *repeat)


def request_example(endpoint: Endpoint) -> dict[str, Any]:
    """A whole request body: the credentials and the endpoint's sample."""
    credentials: dict[str, Any] = {endpoint.credential: CREDENTIAL_EXAMPLES[endpoint.credential]}
    if endpoint.number_field is not None:
        credentials[endpoint.number_field] = NUMBER_EXAMPLES[endpoint.number_field]
    return credentials | endpoint.request_sample


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in all_fields(endpoint)},
        "required": [field.name for field in all_fields(endpoint) if field.required],
        "additionalProperties": True,
    }
    example = request_example(endpoint)
    return {
        "operationId": endpoint.path,
        "tags": [endpoint.section],
        "summary": endpoint.summary,
        "parameters": [_KEY_PARAMETER] if endpoint.replay is not None else [],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema, "example": example},
                "application/x-www-form-urlencoded": {"schema": schema},
            },
        },
        "responses": {code: _response(code, description, endpoint) for code, description in _CODES.items()},
    }


def _refusal_of(endpoint: Endpoint) -> Schema:
    """The error schema; an endpoint whose answers have no `code` refuses with `success: false` as well."""
    error: Schema = {"$ref": "#/components/schemas/Error"}
    if "code" in endpoint.answer_sample:
        return error
    refusal = {
        "type": "object",
        "properties": {"success": {"const": False}, "message": {"type": "string"}},
        "required": ["success", "message"],
    }
    return {"anyOf": [error, refusal]}


def _field_schema(field: Field) -> Schema:
    description = field.description
    if field.aliases:
        description += f" Also accepted as {', '.join(f'`{alias}`' for alias in field.aliases)}."
    schema: Schema = {"type": _TYPES[field.kind], "description": description}
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _response(code: str, description: str, endpoint: Endpoint) -> dict[str, Any]:
    if code == "200":
        samples = (endpoint.answer_sample, *endpoint.other_answers)
        shapes = [_shape_of(sample) for sample in samples]
        schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
        content = {"schema": schema, "example": endpoint.answer_sample}
    else:
        content = {"schema": _refusal_of(endpoint)}
    return {"description": description, "content": {"application/json": content}}


def _shape_of(sample: JsonValue, kinds: str | list[str] = "object") -> Schema:
    """A schema for values of the sample's shape: objects are open, and may be null within others; lists take the
    shape of their first item."""
    match sample:
        case dict():
            inner = {name: _shape_of(value, ["object", "null"]) for name, value in sample.items()}
            return {"type": kinds, "properties": inner}
        case list():
            return {"type": "array", "items": _shape_of(sample[0])} if sample else {"type": "array"}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case _:
            return {}


def _error_schema() -> Schema:
    return {
        "type": "object",
        "properties": {
            "code": {"type": "string", "enum": list(get_args(ErrorCode))},
            "message": {"type": ["string", "object"], "description": "What is wrong; it names the field."},
            "type": {"type": "string", "enum": list(get_args(ErrorType))},
        },
        "required": ["code", "message"],
    }

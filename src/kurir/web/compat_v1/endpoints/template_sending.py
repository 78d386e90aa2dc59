"""Section "Template", its last endpoint: an approved template to one or many people."""

from __future__ import annotations

from kurir.broadcasts.start import KEY, TEMPLATE
from kurir.kit.ids import public_message_id
from kurir.kit.json_values import JsonValue
from kurir.messages import bounds
from kurir.messages.content import TemplateUse
from kurir.numbers.numbers import Number
from kurir.outbox.idempotency import Remembered
from kurir.outbox.wait_reasons import Waiting, reason_of
from kurir.reasons.states import state as state_of
from kurir.reasons.templates import (
    COMPONENT_EXPECTED,
    NOT_APPROVED,
    NOT_FOUND,
    SEND_FAILED,
    SEND_WAITS,
    TEMPLATE_EXPECTED,
    VARIABLE_COUNT,
)
from kurir.services.sending import NotSettled
from kurir.templates.templates import APPROVED, FillError, Header, Template, VariableCountError, filled, variables_of
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, WireError, missing, wrong
from kurir.web.compat_v1.recipients import PLATFORMS, RECIPIENT_FIELDS, recipients_in
from kurir.web.compat_v1.sending import METHODS
from kurir.web.gateway import Gateway

SECTION = "Template"
_CODE_LIMIT = 32
"""Characters of a language code."""
_VARIABLE_LIMIT = 32_768
"""Characters of one value: Meta's limit for a message whose template has nothing but a body."""
_MEDIA_NAMES = ("header_url", "image_url", "file_url", "media_url", "url")


async def send_message_template(gateway: Gateway, call: Call) -> Answer:
    """An approved template to one or many people: a broadcast either way, and `bc_id` is its id."""
    call.body.choice("platform", choices=PLATFORMS, default=PLATFORMS[0])
    call.body.choice("method_send", choices=METHODS, default=METHODS[0])
    recipients = recipients_in(call, "recipients")
    content = await _content(gateway, call)
    broadcast, ids = await gateway.services.broadcasts.start(call.number, recipients, content, once=call.once)
    facts = {KEY: broadcast.key, TEMPLATE: content.name}
    return await template_sent(gateway, call, Remembered(ids, facts))


async def template_sent(gateway: Gateway, call: Call, remembered: Remembered) -> Answer:
    """The answer to a request whose broadcast is stored. Raises WireError on `sync`."""
    ids = remembered.ids
    headers = {"X-Message-Id": public_message_id(ids[0])} if len(ids) == 1 else {}
    message = "queued"
    if call.body.choice("method_send", choices=METHODS, default=METHODS[0]) == "sync":
        await _all_sent(gateway, call, ids, headers)
        message = "sent"
    return Answer(
        {
            "code": "200",
            "message": message,
            "type": "successfully",
            "template": remembered.facts[TEMPLATE],
            "bc_id": remembered.facts[KEY],
        },
        headers,
    )


async def _content(gateway: Gateway, call: Call) -> TemplateUse:
    asked: JsonValue = call.body.value("template")
    if asked is None:
        raise missing("template", TEMPLATE_EXPECTED)
    if isinstance(asked, dict):
        return await _ready_made(gateway, call.number, Body(asked))
    template_id = call.body.text("template", expected=TEMPLATE_EXPECTED, limit=bounds.ID).strip()
    template = _sendable(await gateway.services.templates.find(call.number, meta_id=template_id), template_id)
    try:
        components = filled(template.form, _values(call.body), _replacement(gateway, call.body, template.form.header))
    except VariableCountError as error:
        raise WireError("405", "invalid_request", VARIABLE_COUNT, wanted=error.wanted, given=error.given) from error
    except FillError as error:
        raise wrong(error.field, error.reason) from error
    return TemplateUse(template.form.name, template.form.language, components)


async def _ready_made(gateway: Gateway, number: Number, asked: Body) -> TemplateUse:
    """The second request shape: name, language and Meta's own components, checked against the stored template."""
    name = asked.text("name", required=True, expected=TEMPLATE_EXPECTED, limit=bounds.NAME).strip()
    language: JsonValue = asked.value("language")
    if isinstance(language, dict):
        code = Body({"language.code": language.get("code")}).text("language.code", limit=_CODE_LIMIT)
    else:
        code = asked.text("language", default="id", limit=_CODE_LIMIT)
    components = asked.items("components") or []
    for position, component in enumerate(components):
        if not isinstance(component, dict):
            raise wrong(f"template.components.{position}", COMPONENT_EXPECTED)
    template = _sendable(
        await gateway.services.templates.find(number, name=name, language=code.strip()), f"{name} ({code.strip()})"
    )
    body: dict[str, JsonValue] = next(
        (part for part in components if str(part.get("type", "")).lower() == "body"), dict[str, JsonValue]()
    )
    parameters = body.get("parameters")
    given = len(parameters) if isinstance(parameters, list) else 0
    wanted = len(variables_of(template.form.body))
    if given != wanted:
        raise WireError("405", "invalid_request", VARIABLE_COUNT, wanted=wanted, given=given)
    return TemplateUse(name, template.form.language, components)


def _sendable(template: Template | None, written: str) -> Template:
    if template is None:
        raise WireError("405", "not_found", NOT_FOUND, template=written)
    if template.status != APPROVED:
        raise WireError("405", "failed", NOT_APPROVED, template=template.form.name, status=template.status)
    return template


def _values(body: Body) -> list[str]:
    found: JsonValue = body.value("variables", "parameters")
    items = found if isinstance(found, list) else [] if found is None else [found]
    return [Body({"variables": item}).text("variables", limit=_VARIABLE_LIMIT) for item in items]


def _replacement(gateway: Gateway, body: Body, stored: Header | None) -> Header | None:
    """The request's value for the header: a file's address or a place; None leaves the stored one."""
    if stored is None or stored.type == "TEXT":
        return None
    if stored.type == "LOCATION":
        if body.value("latitude") is None and body.value("longitude") is None:
            return None
        return Header(
            "LOCATION",
            name=body.text("nameLocation", "name_location", limit=1000),
            address=body.text("address", limit=1000),
            latitude=body.number("latitude", least=-90, most=90),
            longitude=body.number("longitude", least=-180, most=180),
        )
    url = body.text(*_MEDIA_NAMES).strip()
    return Header(stored.type, url=url) if url else None


async def _all_sent(gateway: Gateway, call: Call, ids: list[int], headers: dict[str, str]) -> None:
    """Waits, bounded, for every message; raises WireError for the first that failed or is not sent yet."""
    try:
        async for message in gateway.services.sending.settled(call.account.id, ids, gateway.settings.sync_timeout):
            state = message.state
            if state in {"failed", "expired", "canceled"}:
                reason = message.error_reason or state_of(state)
                raise WireError("400", "failed", SEND_FAILED, headers=headers, reason=reason)
            if state == "unconfirmed":
                raise _still_waiting(
                    state, await gateway.services.message_actions.waits_for(call.account.id, message.id), headers
                )
    except NotSettled as late:
        raise _still_waiting(late.state, late.waiting, headers) from None


def _still_waiting(state: str, waiting: Waiting, headers: dict[str, str]) -> WireError:
    return WireError("408", "timeout", SEND_WAITS, headers=headers, state=state_of(state), why=reason_of(waiting))


ENDPOINT = Endpoint(
    path="send_message_template",
    section=SECTION,
    summary="Send an approved template to one or many people",
    handler=send_message_template,
    credential="secret_key",
    number_field="licenses_key",
    fields=(
        Field(
            "recipients",
            "any",
            "One phone number, several with commas between, or a list.",
            required=True,
            example="6281234567890",
            aliases=("reciptient", "recipient"),
        ),
        *RECIPIENT_FIELDS,
        Field(
            "template",
            "any",
            "A `templateId`, or {name, language, components} with Meta's own components.",
            required=True,
            example="1234567890",
        ),
        Field(
            "variables",
            "array",
            "The values in order: header, body, buttons. Not used with `components`.",
            example=["Sari"],
            aliases=("parameters",),
        ),
        Field("header_url", "string", "Another file for a media header.", aliases=_MEDIA_NAMES[1:]),
        Field("platform", "string", f"One of {', '.join(PLATFORMS)}.", example=PLATFORMS[0]),
        Field("method_send", "string", "async, or sync to wait for Meta's answer.", example="async"),
    ),
    request_sample={
        "recipients": "6281234567890",
        "platform": PLATFORMS[0],
        "method_send": "async",
        "template": "1234567890",
        "variables": ["Sari"],
    },
    answer_sample={
        "code": "200",
        "message": "queued",
        "type": "successfully",
        "template": "order_ready",
        "bc_id": "a1B2c3D4e5F6g7H8",
    },
    replay=template_sent,
)

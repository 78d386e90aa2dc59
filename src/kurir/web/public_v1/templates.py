"""Chapter "Template": create, list and send message templates of an official number."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from babel import Locale, UnknownLocaleError

from kurir import broadcasts
from kurir.accounts.accounts import Account
from kurir.foundation.ids import public_message_id
from kurir.messages.content import TemplateUse
from kurir.messages.lifecycle import MessageState
from kurir.numbers import Number
from kurir.templates import (
    APPROVED,
    DRAFT,
    ORDERS,
    Button,
    Faulty,
    FillError,
    GraphRefusal,
    Header,
    Template,
    TemplateForm,
    Templates,
    Unreachable,
    Variable,
    VariableCountError,
    filled,
    page,
    variables_of,
)
from kurir.web.envelopes import Answer, Phrase, WireError, missing, wrong
from kurir.web.gateway import Gateway
from kurir.web.public_v1.body import Body
from kurir.web.public_v1.endpoint import Call, Endpoint, Field
from kurir.web.public_v1.recipients import RECIPIENT_FIELDS, recipients_in

CHAPTER = "Template"
PLATFORMS = ("whatsapp_bisnis_api", "whatsapp_business_api", "whatsapp")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "Mei", "Jun", "Jul", "Agu", "Sep", "Okt", "Nov", "Des")
_MEDIA_NAMES = ("header_url", "image_url", "file_url", "media_url", "url")
_GRAPH_ERROR_KEYS = ("message", "error_user_title", "error_user_msg", "code", "error_subcode")
_LONGEST_PAGE = 500

TEMPLATE_EXPECTED = Phrase(
    id="`templateId` dari get-template-list, atau objek {{name, language, components}}",
    en="a `templateId` of get-template-list, or an object {{name, language, components}}",
)
NOT_FOUND = Phrase(id="Template not found: {template}", en="Template not found: {template}")
NOT_APPROVED = Phrase(
    id="Template `{template}` belum dapat dikirim: statusnya {status}, bukan APPROVED.",
    en="The template `{template}` cannot be sent: its status is {status}, not APPROVED.",
)
VARIABLE_COUNT = Phrase(
    id="Kolom `variables` tidak valid: template membutuhkan {wanted} variabel, diterima {given}.",
    en="Field `variables` is not valid: the template needs {wanted} variables, {given} were given.",
)
SEND_FAILED = Phrase(id="Template gagal dikirim: {reason}", en="The template was not sent: {reason}")
SEND_WAITS = Phrase(
    id="Template sudah tersimpan tetapi belum terkirim (status: {state}); jangan kirim ulang.",
    en="The template message is stored but not sent yet (state: {state}); do not send it again.",
)
BUTTON_EXPECTED = Phrase(id="objek {{type, data}}", en="an object {{type, data}}")
VARIABLE_EXPECTED = Phrase(id="objek {{placeholder, label, example}}", en="an object {{placeholder, label, example}}")
COMPONENT_EXPECTED = Phrase(id="objek {{type, parameters}}", en="an object {{type, parameters}}")


# -- create ------------------------------------------------------------------------------------------------------------


async def create_template(gateway: Gateway, call: Call) -> Answer:
    """Stores a draft or submits to Meta. The answer has neither `code` nor `type`, as in the reference."""
    form = _form(call.body)
    submit = call.body.flag("submitToFacebook", "submit_to_facebook")
    result = await _templates(gateway).create(call.number, form, submit=submit)
    match result:
        case Faulty(errors):
            first = next(iter(errors.values()))[0]
            return Answer({"success": False, "message": first, "errors": errors}, status=405)
        case GraphRefusal(error):
            return Answer(
                {
                    "success": False,
                    "message": str(error.get("error_user_msg") or error.get("message") or "Refused by Facebook"),
                    "fb_response": {"error": {key: error.get(key) for key in _GRAPH_ERROR_KEYS}},
                },
                status=400,
            )
        case Unreachable(reason):
            return Answer(
                {"success": False, "message": f"Facebook gave no answer: {reason}", "fb_response": None}, status=408
            )
        case Template(status=status, meta_id=meta_id):
            return _created(status, meta_id)


def _created(status: str, meta_id: str) -> Answer:
    if status == DRAFT:
        return Answer({"success": True, "message": "Template saved as draft", "fb_response": None})
    return Answer(
        {
            "success": True,
            "message": "Template submitted to Facebook for review",
            "fb_response": {"id": meta_id, "status": status},
            "review_notice_title": "Template Under Review",
            "review_notice_message": "Meta may take 10 minutes to max 3 days (in rare case / first time create "
            "template) for template review",
        }
    )


def _form(body: Body) -> TemplateForm:
    header = body.mapping("header")
    return TemplateForm(
        name=body.text("name", "template_name").strip(),
        language=body.text("language", "language_code", default="id").strip(),
        category=body.text("category").strip().upper(),
        body=body.text("body"),
        header=_header(Body(header)) if header else None,
        footer=body.text("footer"),
        buttons=[_button(item, position) for position, item in enumerate(body.items("buttons") or [])],
        variables=[_variable(item, position) for position, item in enumerate(body.items("variables") or [])],
    )


def _header(header: Body) -> Header:
    kind = header.text("type").strip().upper()
    place = kind == "LOCATION"
    return Header(
        type=kind,
        content=header.text("content", "text"),
        url=header.text("url").strip(),
        name=header.text("name", limit=1000),
        address=header.text("address", limit=1000),
        latitude=header.number("latitude", least=-90, most=90) if place else None,
        longitude=header.number("longitude", least=-180, most=180) if place else None,
        example=header.text("example"),
    )


def _button(item: Any, position: int) -> Button:
    if not isinstance(item, dict):
        raise wrong(f"buttons.{position}", BUTTON_EXPECTED)
    button = Body(item)
    data = Body(button.mapping("data") or item)
    return Button(
        type=button.text("type").strip().upper(),
        label=data.text("label", "text"),
        url=data.text("url").strip(),
        example=data.text("example"),
        phone_number=data.text("phone_number").strip(),
    )


def _variable(item: Any, position: int) -> Variable:
    if not isinstance(item, dict):
        raise wrong(f"variables.{position}", VARIABLE_EXPECTED)
    variable = Body(item)
    return Variable(
        placeholder=variable.text("placeholder", default=f"{{{{{position + 1}}}}}").strip(),
        label=variable.text("label"),
        example=variable.text("example").strip(),
    )


# -- list --------------------------------------------------------------------------------------------------------------


async def get_template_list(gateway: Gateway, call: Call) -> Answer:
    """One page of the number's templates, with what Meta says of them."""
    body = call.body
    search = _search(body)
    order_by = body.choice("order_by", choices=ORDERS, default=ORDERS[0])
    descending = body.choice("order_dir", choices=("asc", "desc"), default="desc") == "desc"
    start = body.integer("start", default=0)
    length = body.integer("length", default=20, least=1, most=_LONGEST_PAGE)
    await _templates(gateway).refresh(call.number)
    found, total = await gateway.database.read(
        lambda c: page(
            c,
            call.account.id,
            call.number.id,
            search=search,
            order_by=order_by,
            descending=descending,
            start=start,
            length=length,
        )
    )
    return Answer(
        {
            "code": "200",
            "message": "Successfully",
            "type": "successfully",
            "data": [_row(call.account, call.number, template) for template in found],
            "TotalRecords": total,
        }
    )


def _search(body: Body) -> str:
    """A string, or DataTables' `{"value": ""}`."""
    found = body.value("search")
    return Body(found).text("value") if isinstance(found, dict) else body.text("search")


def _row(account: Account, number: Number, template: Template) -> dict[str, Any]:
    form = template.form
    row = {
        "template_name": form.name,
        "template_category": form.category,
        "template_content": form.body,
        "template_footer": form.footer,
        "template_header": form.header.shown() if form.header else None,
        "template_buttons": [button.shown() for button in form.buttons],
        "templateId": template.meta_id,
        "template_status": template.status,
        "template_language_code": form.language,
        "template_license_key": number.key,
        "template_waba": f"+{number.phone}",
        "template_language_name": _language_name(form.language),
        "template_created_at": written_date(account.local(template.created_at)),
        "template_updated_at": written_date(account.local(template.updated_at)),
        "template_id": template.key,
    }
    if template.status != APPROVED:
        del row["templateId"]
    return row


def written_date(at: datetime) -> str:
    """`21 Des 2025 07:00 WIB`: Indonesian months whatever the account's language, as the reference has it."""
    return f"{at.day} {_MONTHS[at.month - 1]} {at:%Y %H:%M %Z}"


def _language_name(code: str) -> str:
    try:
        return Locale.parse(code).get_display_name("en") or code
    except (UnknownLocaleError, ValueError):
        return code


# -- send --------------------------------------------------------------------------------------------------------------


async def send_message_template(gateway: Gateway, call: Call) -> Answer:
    """An approved template to one or many people: a broadcast either way, and `bc_id` is its id."""
    call.body.choice("platform", choices=PLATFORMS, default=PLATFORMS[0])
    method = call.body.choice("method_send", choices=("async", "sync"), default="async")
    recipients = recipients_in(call, "recipients")
    content = await _content(gateway, call)
    broadcast, ids = await broadcasts.start(gateway.outbox, call.number, recipients, content, call.now)
    headers = {"X-Message-Id": public_message_id(ids[0])} if len(ids) == 1 else {}
    message = "queued"
    if method == "sync":
        message = await _verdict(gateway, call, ids, headers)
    return Answer(
        {
            "code": "200",
            "message": message,
            "type": "successfully",
            "template": content.name,
            "bc_id": broadcast.key,
        },
        headers,
    )


async def _content(gateway: Gateway, call: Call) -> TemplateUse:
    asked = call.body.value("template")
    if asked is None:
        raise missing("template", TEMPLATE_EXPECTED)
    if isinstance(asked, dict):
        return await _ready_made(gateway, call.number, Body(asked))
    template_id = call.body.text("template", expected=TEMPLATE_EXPECTED).strip()
    template = _sendable(await _templates(gateway).find(call.number, meta_id=template_id), template_id)
    try:
        components = filled(template.form, _values(call.body), _replacement(gateway, call.body, template.form.header))
    except VariableCountError as error:
        raise WireError("405", "invalid_request", VARIABLE_COUNT, wanted=error.wanted, given=error.given) from error
    except FillError as error:
        raise wrong(error.field, str(error)) from error
    return TemplateUse(template.form.name, template.form.language, components)


async def _ready_made(gateway: Gateway, number: Number, asked: Body) -> TemplateUse:
    """The second request shape: name, language and Meta's own components, checked against the stored template."""
    name = asked.text("name", required=True, expected=TEMPLATE_EXPECTED).strip()
    language = asked.value("language")
    code = Body(language).text("code") if isinstance(language, dict) else asked.text("language", default="id")
    components = asked.items("components") or []
    for position, component in enumerate(components):
        if not isinstance(component, dict):
            raise wrong(f"template.components.{position}", COMPONENT_EXPECTED)
    template = _sendable(
        await _templates(gateway).find(number, name=name, language=code.strip()), f"{name} ({code.strip()})"
    )
    body = next((part for part in components if str(part.get("type", "")).lower() == "body"), {})
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
    found = body.value("variables", "parameters")
    items = found if isinstance(found, list) else [] if found is None else [found]
    return [Body({"variables": item}).text("variables") for item in items]


def _replacement(gateway: Gateway, body: Body, stored: Header | None) -> Header | None:
    """What the request brings for the header: a file's address or a place; None leaves the stored one."""
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


async def _verdict(gateway: Gateway, call: Call, ids: list[int], headers: dict[str, str]) -> Literal["sent", "queued"]:
    """Waits, bounded, for every message; raises WireError for the first that failed or is still on its way."""
    deadline = gateway.clock() + gateway.settings.sync_timeout
    for message_id in ids:
        left = max(0.0, deadline - gateway.clock())
        message = await gateway.outbox.verdict(call.account.id, message_id, left)
        state: MessageState = message.state
        if state in {"failed", "expired", "canceled"}:
            raise WireError("400", "failed", SEND_FAILED, headers=headers, reason=message.error_reason or state)
        if state not in {"sent", "delivered", "read"}:
            raise WireError("408", "timeout", SEND_WAITS, headers=headers, state=state)
    return "sent"


def _templates(gateway: Gateway) -> Templates:
    return Templates(gateway.database, gateway.cloud_api, gateway.media, gateway.clock)


ENDPOINTS = (
    Endpoint(
        path="create-template",
        chapter=CHAPTER,
        summary="Write a message template, as a draft or for Meta's review",
        handler=create_template,
        credential="secret_key",
        number_field="licenses_key",
        fields=(
            Field("name", "string", "Lower-case letters, digits and _.", required=True, example="store_location"),
            Field("language", "string", "One of Meta's language codes.", required=True, example="id"),
            Field("category", "string", "MARKETING, UTILITY or AUTHENTICATION.", required=True, example="UTILITY"),
            Field("body", "string", "At most 1024 characters; variables are {{1}}, {{2}}, …", required=True),
            Field("submitToFacebook", "flag", "True sends it to review; otherwise it is a draft.", example=True),
            Field(
                "header",
                "object",
                "TEXT {type, content} · IMAGE, VIDEO, DOCUMENT {type, url} · LOCATION {type, name, address, latitude, "
                "longitude}.",
            ),
            Field("footer", "string", "At most 60 characters."),
            Field("variables", "array", "One {placeholder, label, example} for each variable of the body."),
            Field("buttons", "array", "{type, data}: QUICK_REPLY, URL, PHONE_NUMBER or COPY_CODE."),
        ),
        request_sample={
            "name": "order_ready",
            "language": "id",
            "category": "UTILITY",
            "submitToFacebook": True,
            "body": "Halo {{1}}, pesanan Anda sudah siap diambil.",
            "variables": [{"placeholder": "{{1}}", "label": "Nama", "example": "Sari"}],
            "buttons": [{"type": "QUICK_REPLY", "data": {"label": "Terima kasih"}}],
        },
        answer_sample={
            "success": True,
            "message": "Template submitted to Facebook for review",
            "fb_response": {"id": "1234567890", "status": "IN_REVIEW"},
            "review_notice_title": "Template Under Review",
            "review_notice_message": "Meta may take 10 minutes to max 3 days (in rare case / first time create "
            "template) for template review",
        },
    ),
    Endpoint(
        path="get-template-list",
        chapter=CHAPTER,
        summary="List the templates of an official number",
        handler=get_template_list,
        credential="secret_key",
        number_field="licenses_key",
        fields=(
            Field("search", "string", "Part of the name or the content.", example=""),
            Field("order_by", "string", f"One of {', '.join(ORDERS)}.", example=ORDERS[0]),
            Field("order_dir", "string", "asc or desc.", example="desc"),
            Field("start", "integer", "How many rows to skip.", example=0),
            Field("length", "integer", f"How many rows, 1 to {_LONGEST_PAGE}.", example=20),
        ),
        request_sample={"search": "", "order_by": ORDERS[0], "order_dir": "desc", "start": 0, "length": 20},
        answer_sample={
            "code": "200",
            "message": "Successfully",
            "type": "successfully",
            "data": [
                {
                    "template_name": "order_ready",
                    "template_category": "UTILITY",
                    "template_content": "Halo {{1}}, pesanan Anda sudah siap diambil.",
                    "template_footer": "Toko Kurir",
                    "template_header": {"type": "TEXT", "content": "Pesanan siap"},
                    "template_buttons": [{"type": "QUICK_REPLY", "data": {"label": "Terima kasih"}}],
                    "templateId": "1234567890",
                    "template_status": "APPROVED",
                    "template_language_code": "id",
                    "template_license_key": "WB-0123456789abcdef",
                    "template_waba": "+6281234567890",
                    "template_language_name": "Indonesian",
                    "template_created_at": "21 Des 2025 07:00 WIB",
                    "template_updated_at": "21 Des 2025 07:00 WIB",
                    "template_id": "a1B2c3D4e5F6g7H8",
                }
            ],
            "TotalRecords": 1,
        },
    ),
    Endpoint(
        path="send_message_template",
        chapter=CHAPTER,
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
    ),
)

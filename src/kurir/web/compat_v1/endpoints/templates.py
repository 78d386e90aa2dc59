"""Section "Template": write and list the message templates of an official number. Sending is `template_sending`.

More than 300 lines: the endpoints of one section with their samples.
"""

from __future__ import annotations

from typing import Any

from kurir.accounts.accounts import Account
from kurir.channels.cloud_api.templates.rules import BODY_LIMIT
from kurir.kit.json_values import JsonValue
from kurir.messages import bounds
from kurir.numbers.numbers import Number
from kurir.reasons import sentence
from kurir.reasons.templates import BUTTON_EXPECTED, META_SILENT, REFUSED_BY_META, VARIABLE_EXPECTED
from kurir.templates.templates import (
    APPROVED,
    DRAFT,
    ORDERS,
    Button,
    Faulty,
    GraphRefusal,
    Header,
    Template,
    TemplateForm,
    Unreachable,
    Variable,
)
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.dates import written_date
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.endpoints import template_sending
from kurir.web.compat_v1.endpoints.template_sending import SECTION
from kurir.web.compat_v1.envelopes import Answer, wrong
from kurir.web.compat_v1.table_pages import descending, page_fields, page_of
from kurir.web.gateway import Gateway

_GRAPH_ERROR_KEYS = ("message", "error_user_title", "error_user_msg", "code", "error_subcode")
_LENGTH = 20
"""Rows of a page by default."""
_URL_LIMIT = 2_000
"""Characters of an address, in a header, a button or a button's example."""


# -- create ------------------------------------------------------------------------------------------------------------


async def create_template(gateway: Gateway, call: Call) -> Answer:
    """Stores a draft or submits to Meta. The answer has neither `code` nor `type`, as in the reference."""
    form = _form(call.body)
    submit = call.body.flag("submitToFacebook", "submit_to_facebook")
    result = await gateway.services.templates.create(call.number, form, submit=submit)
    language = call.account.language
    match result:
        case Faulty(errors):
            shown = {field: [sentence(one, language) for one in found] for field, found in errors.items()}
            first = next(iter(shown.values()))[0]
            return Answer({"success": False, "message": first, "errors": shown}, status=405)
        case GraphRefusal(error):
            return Answer(
                {
                    "success": False,
                    "message": str(
                        error.get("error_user_msg") or error.get("message") or sentence(REFUSED_BY_META(), language)
                    ),
                    "fb_response": {"error": {key: error.get(key) for key in _GRAPH_ERROR_KEYS}},
                },
                status=400,
            )
        case Unreachable(reason):
            return Answer(
                {"success": False, "message": sentence(META_SILENT(reason=reason), language), "fb_response": None},
                status=408,
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
        content=header.text("content", "text", limit=bounds.NAME),
        url=header.text("url", limit=_URL_LIMIT).strip(),
        name=header.text("name", limit=1000),
        address=header.text("address", limit=1000),
        latitude=header.number("latitude", least=-90, most=90) if place else None,
        longitude=header.number("longitude", least=-180, most=180) if place else None,
        example=header.text("example", limit=bounds.NAME),
    )


def _button(item: JsonValue, position: int) -> Button:
    if not isinstance(item, dict):
        raise wrong(f"buttons.{position}", BUTTON_EXPECTED)
    button = Body(item)
    data = Body(button.mapping("data") or item)
    return Button(
        type=button.text("type").strip().upper(),
        label=data.text("label", "text"),
        url=data.text("url", limit=_URL_LIMIT).strip(),
        example=data.text("example", limit=_URL_LIMIT),
        phone_number=data.text("phone_number").strip(),
    )


def _variable(item: JsonValue, position: int) -> Variable:
    if not isinstance(item, dict):
        raise wrong(f"variables.{position}", VARIABLE_EXPECTED)
    variable = Body(item)
    return Variable(
        placeholder=variable.text("placeholder", default=f"{{{{{position + 1}}}}}", limit=bounds.NAME).strip(),
        label=variable.text("label", limit=bounds.NAME),
        example=variable.text("example", limit=BODY_LIMIT).strip(),
    )


# -- list --------------------------------------------------------------------------------------------------------------


async def get_template_list(gateway: Gateway, call: Call) -> Answer:
    """One page of the number's templates, with their state at Meta."""
    body = call.body
    asked = page_of(body, length=_LENGTH)
    order_by = body.choice("order_by", choices=ORDERS, default=ORDERS[0])
    downwards = descending(body, "order_dir", default="desc")
    found, total = await gateway.services.templates.list(
        call.number,
        search=asked.search,
        order_by=order_by,
        descending=downwards,
        start=asked.start,
        length=asked.length,
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
        "template_created_at": written_date(account.local(template.created_at), "id"),
        "template_updated_at": written_date(account.local(template.updated_at), "id"),
        "template_id": template.key,
    }
    if template.status != APPROVED:
        del row["templateId"]
    return row


def _language_name(code: str) -> str:
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415 - only for lists of templates

    try:
        return Locale.parse(code).get_display_name("en") or code
    except (UnknownLocaleError, ValueError):
        return code


ENDPOINTS = (
    Endpoint(
        path="create-template",
        section=SECTION,
        summary="Write a message template, as a draft or for Meta's review",
        handler=create_template,
        credential="secret_key",
        number_field="licenses_key",
        fields=(
            Field("name", "string", "Lower-case letters, digits and _.", required=True, example="store_location"),
            Field("language", "string", "One of Meta's language codes.", example="id"),
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
        section=SECTION,
        summary="List the templates of an official number",
        handler=get_template_list,
        credential="secret_key",
        number_field="licenses_key",
        fields=(
            *page_fields(length=_LENGTH, search='Part of the name or the content: a string, or `{"value": "…"}`.'),
            Field("order_by", "string", f"One of {', '.join(ORDERS)}.", example=ORDERS[0]),
            Field("order_dir", "string", "asc or desc.", example="desc"),
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
    template_sending.ENDPOINT,
)

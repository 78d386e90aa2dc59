"""Section "Contacts": the account's lists (a *contact* is a list) and the people in one (its *audiences*).

Both endpoints take a page as DataTables asks for it, in either of the forms that the reference shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kurir.accounts.accounts import Account
from kurir.contacts.contacts import Audience, AudienceStatus, ContactList, ListType, Page, Query
from kurir.kit.json_values import JsonValue
from kurir.reasons.requests import ONE_OF
from kurir.reasons.sending import CONTACT_EXPECTED, ORDER_EXPECTED
from kurir.services.errors import NotFound
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.dates import written_date
from kurir.web.compat_v1.endpoint import Call, Endpoint, Field
from kurir.web.compat_v1.envelopes import Answer, wrong
from kurir.web.compat_v1.table_pages import descending, page_fields, page_of
from kurir.web.gateway import Gateway

SECTION = "Contacts"
_LENGTH = 10
"""Rows of a page by default."""
_ORDER_MOST = 5
_TYPES: Mapping[ListType, str] = {
    "manual": "Manual Input",
    "import": "Import",
    "sync_from_whatsapp": "Sync From WhatsApp",
    "group": "Group",
}
_STATUSES: Mapping[AudienceStatus, str] = {"not_checked": "Pending", "valid": "Valid", "invalid": "Invalid"}
_LIST_COLUMNS = {
    "contacts_name": "name",
    "contacts_type": "type",
    "contacts_type_defined": "type",
    "contacts_audience": "audience",
    "contacts_created_at": "created_at",
    "contacts_last_updated": "updated_at",
}
_AUDIENCE_COLUMNS = {
    "name": "name",
    "wa_number": "phone",
    "status": "status",
    "status_defined": "status",
    "date_insert": "created_at",
}


async def list_contacts(gateway: Gateway, call: Call) -> Answer:
    """A page of the account's lists, the newest first unless asked otherwise."""
    query = _query(call.body, _LIST_COLUMNS, (("created_at", True),))
    page = await gateway.services.contacts.lists(call.account.id, query)
    return _answer(call.body, page, [_contact(call.account, row) for row in page.rows])


async def list_audiences(gateway: Gateway, call: Call) -> Answer:
    """A page of the people in one list. 405 for a list that the account does not have."""
    key = call.body.text("contact_id", "contacts_id", required=True, expected=CONTACT_EXPECTED).strip()
    query = _query(call.body, _AUDIENCE_COLUMNS, ())
    try:
        page = await gateway.services.contacts.people(call.account.id, key, query)
    except NotFound as error:
        raise wrong("contact_id", CONTACT_EXPECTED) from error
    return _answer(call.body, page, [_audience(call.account, row) for row in page.rows])


def _query(body: Body, columns: Mapping[str, str], default: tuple[tuple[str, bool], ...]) -> Query:
    asked = page_of(body, length=_LENGTH)
    return Query(start=asked.start, length=asked.length, search=asked.search, order=_order(body, columns) or default)


def _order(body: Body, columns: Mapping[str, str]) -> tuple[tuple[str, bool], ...]:
    if body.value("order_by") is not None:
        column = _column("order_by", body.text("order_by").strip(), columns)
        return ((column, descending(body, "order_dir", default="asc")),)
    entries = body.items("order") or []
    if len(entries) > _ORDER_MOST:
        raise wrong("order", ORDER_EXPECTED(most=_ORDER_MOST))
    return tuple(_ordered(entry, _shown(body, columns), columns) for entry in entries)


def _shown(body: Body, columns: Mapping[str, str]) -> list[Any]:
    """The names of the caller's table columns, from which `order` picks by index."""
    given: list[JsonValue] | None = body.items("columns")
    return [(c.get("data") if isinstance(c, dict) else c) for c in given] if given else list(columns)


def _ordered(entry: JsonValue, shown: list[Any], columns: Mapping[str, str]) -> tuple[str, bool]:
    if not isinstance(entry, dict):
        raise wrong("order", ORDER_EXPECTED(most=_ORDER_MOST))
    fields = Body({"order": entry.get("column"), "order.dir": entry.get("dir")})
    index = fields.integer("order", default=0)
    if index >= len(shown):
        raise wrong("order", ORDER_EXPECTED(most=_ORDER_MOST))
    return _column("columns", shown[index], columns), descending(fields, "order.dir", default="asc")


def _column(field: str, name: Any, columns: Mapping[str, str]) -> str:
    if not isinstance(name, str) or name not in columns:
        names = ", ".join(columns)
        raise wrong(field, ONE_OF(words=names))
    return columns[name]


def _answer(body: Body, page: Page, data: list[dict[str, Any]]) -> Answer:
    return Answer(
        {
            "code": "200",
            "message": "Successfully",
            "type": "successfully",
            "data": data,
            "draw": body.integer("draw", default=0),
            "iTotalRecords": str(page.total),
            "iTotalDisplayRecords": str(page.matching),
        }
    )


def _contact(account: Account, row: ContactList) -> dict[str, Any]:
    return {
        "contacts_id": row.key,
        "contacts_name": row.name,
        "contacts_type": row.type,
        "contacts_type_defined": _TYPES[row.type],
        "contacts_audience": row.audience,
        "contacts_created_at": written_date(account.local(row.created_at), "en"),
        "contacts_last_updated": written_date(account.local(row.updated_at), "en"),
    }


def _audience(account: Account, row: Audience) -> dict[str, Any]:
    return {
        "audience_id": row.key,
        "name": row.name,
        "wa_number": row.phone,
        "status": row.status,
        "status_defined": _STATUSES[row.status],
        "date_insert": written_date(account.local(row.created_at), "en"),
        "custom_fields": [{"name": name, "value": value} for name, value in row.custom_fields.items()],
    }


_PAGE_FIELDS = (
    Field("draw", "integer", "Comes back as it was sent.", example=1),
    *page_fields(length=_LENGTH, search='What to look for: a string, or `{"value": "…"}`.'),
)
_ORDER_FIELDS = (
    Field("order_by", "string", "The column to order by.", example="contacts_created_at"),
    Field("order_dir", "string", "`asc` or `desc`.", example="desc"),
)
_TABLE_FIELDS = (
    Field("order", "array", 'What to order by: `[{"column": 0, "dir": "asc"}]`, an index into `columns`.'),
    Field("columns", "array", 'The caller\'s columns: `[{"data": "name"}, …]`.'),
)

ENDPOINTS = (
    Endpoint(
        path="get-list-contacts",
        section=SECTION,
        summary="The account's contact lists, a page at a time",
        handler=list_contacts,
        credential="api_key",
        number_field=None,
        fields=(*_PAGE_FIELDS, *_ORDER_FIELDS, *_TABLE_FIELDS),
        request_sample={
            "start": 0,
            "length": 10,
            "search": "",
            "order_by": "contacts_created_at",
            "order_dir": "desc",
        },
        answer_sample={
            "code": "200",
            "message": "Successfully",
            "type": "successfully",
            "data": [
                {
                    "contacts_id": "b7Qe2mXk9TzR4wVs",
                    "contacts_name": "Pelanggan",
                    "contacts_type": "import",
                    "contacts_type_defined": "Import",
                    "contacts_audience": 6,
                    "contacts_created_at": "10 Aug 2025 21:04 WIB",
                    "contacts_last_updated": "10 Aug 2025 21:04 WIB",
                }
            ],
            "draw": 0,
            "iTotalRecords": "1",
            "iTotalDisplayRecords": "1",
        },
    ),
    Endpoint(
        path="get-list-audiences",
        section=SECTION,
        summary="The people in one contact list, a page at a time",
        handler=list_audiences,
        credential="api_key",
        number_field=None,
        fields=(
            Field("contact_id", "string", "The list's `contacts_id`.", required=True, example="b7Qe2mXk9TzR4wVs"),
            *_PAGE_FIELDS,
            *_TABLE_FIELDS,
            *_ORDER_FIELDS,
        ),
        request_sample={
            "contact_id": "b7Qe2mXk9TzR4wVs",
            "draw": 1,
            "start": 0,
            "length": 10,
            "search": {"value": ""},
            "order": [{"column": 0, "dir": "asc"}],
            "columns": [{"data": "name"}, {"data": "wa_number"}, {"data": "status"}, {"data": "date_insert"}],
        },
        answer_sample={
            "code": "200",
            "message": "Successfully",
            "type": "successfully",
            "data": [
                {
                    "audience_id": "Zt5cYh1Ln8PqW3dA",
                    "name": "Jono",
                    "wa_number": "6281234567890",
                    "status": "not_checked",
                    "status_defined": "Pending",
                    "date_insert": "3 Jun 2025 15:38 WIB",
                    "custom_fields": [],
                }
            ],
            "draw": 1,
            "iTotalRecords": "1",
            "iTotalDisplayRecords": "1",
        },
    ),
)

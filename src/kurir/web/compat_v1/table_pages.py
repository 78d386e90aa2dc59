"""A page of a list as DataTables asks for it: which rows, what to look for, how to order."""

from __future__ import annotations

import msgspec

from kurir.kit.json_values import JsonValue
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import Field

LENGTH_MOST = 500
_SEARCH_LIMIT = 100
"""Maximum characters of a search."""


class Asked(msgspec.Struct, frozen=True):
    """Which rows the caller wants: `length` of them after leaving out `start`, of those that match `search`."""

    start: int
    length: int
    search: str


def page_of(body: Body, *, length: int) -> Asked:
    """The page that the request asks for; `length` is the default number of rows. Raises WireError 405."""
    search: JsonValue = body.value("search")
    text = Body({"search": search.get("value")}) if isinstance(search, dict) else body
    return Asked(
        start=body.integer("start", default=0),
        length=body.integer("length", default=length, least=1, most=LENGTH_MOST),
        search=text.text("search", limit=_SEARCH_LIMIT).strip(),
    )


def descending(body: Body, field: str, *, default: str) -> bool:
    """Whether the direction in `field` is descending. Raises WireError 405."""
    return body.choice(field, choices=("asc", "desc"), default=default) == "desc"


def page_fields(*, length: int, search: str) -> tuple[Field, ...]:
    """The request fields of `page_of`; `search` says what is looked through."""
    return (
        Field("start", "integer", "Rows to leave out at the beginning.", example=0),
        Field("length", "integer", f"Rows to return, 1 to {LENGTH_MOST}.", example=length),
        Field("search", "any", search, example=""),
    )

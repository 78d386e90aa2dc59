"""Message templates of official numbers: create, find, list."""

from __future__ import annotations

from kurir.numbers.numbers import Number
from kurir.store.database import Database
from kurir.templates import templates
from kurir.templates.templates import Faulty, GraphRefusal, Template, TemplateForm, Unreachable


class Templates:
    """The templates of all accounts. Raises DatabaseUnavailable throughout."""

    def __init__(self, database: Database, synced: templates.Templates) -> None:
        self._database = database
        self._synced = synced

    async def create(
        self, number: Number, form: TemplateForm, *, submit: bool
    ) -> Template | Faulty | GraphRefusal | Unreachable:
        """Stores a draft, or with `submit` hands the template to Meta for review."""
        return await self._synced.create(number, form, submit=submit)

    async def find(self, number: Number, *, meta_id: str = "", name: str = "", language: str = "") -> Template | None:
        """The number's template with that id of Meta's, or that name and language; asks Meta for what is not known."""
        return await self._synced.find(number, meta_id=meta_id, name=name, language=language)

    async def list(
        self,
        number: Number,
        *,
        search: str = "",
        order_by: str = templates.ORDERS[0],
        descending: bool = True,
        start: int = 0,
        length: int = 20,
    ) -> tuple[list[Template], int]:
        """A page of the number's templates, as Meta lists them now, and how many match in all."""
        await self._synced.refresh(number)
        return await self._database.read(
            lambda c: templates.page(
                c,
                number.account_id,
                number.id,
                search=search,
                order_by=order_by,
                descending=descending,
                start=start,
                length=length,
            ),
            of=number.account_id,
            pool="lists",
        )

"""Rows: a template to 5,000 people until it is answered, and to 100,000 until all are durably stored."""

from __future__ import annotations

import time

import msgspec

from kurir.bench import meta
from kurir.bench.deliver import checked
from kurir.bench.figures import Figure, Goal, values_of
from kurir.bench.load import Requests
from kurir.bench.run import Run
from kurir.bench.site import Site, serving
from kurir.data_folder import database_of
from kurir.messages.template_form import TemplateForm
from kurir.numbers import numbers
from kurir.services.stored_services import over_data_folder
from kurir.templates import templates

PATH = "/public/v1/send_message_template"
_PEOPLE, _ALL = 5_000, 100_000
_ONE = Goal("value", floor=1.0, aim=0.2, less=True)
_MANY = Goal("value", floor=5.0, aim=1.0, less=True)
_TEMPLATE = "1000000000000001"


async def broadcast(run: Run) -> list[Figure]:
    """The number is paused, so that what is stored is not sent at the same time."""
    rounds = min(3, run.options.rounds)
    one: list[float] = []
    many: list[float] = []
    async with run.stub() as stub, run.site(officials=1) as site:
        _add_template(site)
        async with over_data_folder(site.settings) as services:
            await services.numbers.pause(site.account_id, site.officials[0].key, "benchmark")
        async with serving(site, {"KURIR_GRAPH_URL": f"{stub.url}/v25.0"}) as gateway:
            for i in range(rounds + 1):
                outcome = await run.load.run(gateway.url, _to(site, i * _PEOPLE, 1), 1, 0.0)
                checked(outcome, "broadcast")
                one.append(outcome.seconds)
            for _ in range(rounds):
                outcome = await run.load.run(gateway.url, _to(site, 0, _ALL // _PEOPLE), 1, 0.0)
                checked(outcome, "broadcast")
                many.append(outcome.seconds)
    ours = values_of("kurir", one[1:])  # the first one imports and caches
    return [
        Figure(row="broadcast 5,000", what="a template to 5,000 people, to the answer", unit="s", ours=ours, goal=_ONE),
        Figure(
            row="broadcast 100,000",
            what="twenty of them one after the other, all durable",
            unit="s",
            ours=values_of("kurir", many),
            goal=_MANY,
        ),
    ]


def _to(site: Site, first: int, count: int) -> Requests:
    def body(start: int) -> str:
        people = [meta.person(0, start + i) for i in range(_PEOPLE)]
        credentials = {"secret_key": site.api_key, "licenses_key": site.officials[0].key}
        return msgspec.json.encode({**credentials, "template": _TEMPLATE, "recipients": people}).decode()

    return Requests(PATH, [body(first + i * _PEOPLE) for i in range(count)], once=True)


def _add_template(site: Site) -> None:
    """An approved template, as a review of Meta's would leave it."""
    form = TemplateForm("order_sent", "en", "UTILITY", "Your order has left our shop and will be with you tomorrow.")

    database, now = database_of(site.settings), time.time()
    try:
        with database.transaction() as connection:
            number = numbers.by_key(connection, site.account_id, site.officials[0].key)
            assert number is not None
            templates.put(connection, number, form, meta_id=_TEMPLATE, status=templates.APPROVED, now=now)
    finally:
        database.engine.dispose()

"""`kurir webhook …`: where an account's events go; try it, look at what was delivered, deliver it again."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter

from kurir.cli.language import language
from kurir.cli.terminal import CommandError, Table, over_data, say
from kurir.events.bodies import WEBHOOK_EVENTS
from kurir.reasons import read, sentence
from kurir.services.stored_services import StoredServices
from kurir.services.webhooks import EndpointLine
from kurir.webhooks.endpoints import DEFAULT_EVENTS

app = App(name="webhook", help="Webhooks to your servers: incoming messages, message states, device states.")

_KINDS = ", ".join(f"{kind} (when left out)" if kind in DEFAULT_EVENTS else kind for kind in WEBHOOK_EVENTS)
Events = Annotated[tuple[str, ...], Parameter(help=f"What to send; several with one --event each: {_KINDS}.")]
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


@app.command
def add(email: str, url: str, *, number: str = "", event: Events = ()) -> None:
    """Send an account's events to an address.

    Args:
        email: Address of the account.
        url: Where to POST to.
        number: Only events of this number_id or licenses_key.
    """

    async def work(services: StoredServices):
        account = await services.accounts.by_email(email)
        return await services.webhooks.add(account.id, url, number_key=number, events=event)

    made = over_data(work)
    say(f"endpoint  {made.endpoint.key}")
    say(f"secret    {made.secret}")
    say(f"The secret is shown only now. Next: `kurir webhook test {email} {made.endpoint.key}`.")


@app.command(name="list")
def list_(email: str) -> None:
    """List an account's endpoints and how they are doing.

    Args:
        email: Address of the account.
    """

    async def work(services: StoredServices) -> list[EndpointLine]:
        return await services.webhooks.list((await services.accounts.by_email(email)).id)

    table = Table("endpoint", "url", "number", "events", "state", "delivered", "open", "failed")
    for line in over_data(work):
        endpoint = line.endpoint
        table.add_row(
            endpoint.key,
            endpoint.url,
            "all" if line.number_key is None else line.number_key or "removed",
            ", ".join(endpoint.events),
            f"disabled: {sentence(read(endpoint.state_reason), language())}"
            if endpoint.state == "disabled"
            else endpoint.state,
            str(line.delivered),
            str(line.open),
            str(line.failed),
        )
    table.show()


@app.command
def log(email: str, *, last: int = 20) -> None:
    """Show what was delivered lately, newest first.

    Args:
        email: Address of the account.
        last: How many.
    """

    async def work(services: StoredServices):
        return await services.webhooks.deliveries((await services.accounts.by_email(email)).id, last)

    found = over_data(work)
    table = Table("event", "type", "endpoint", "at", "state", "tries", "last answer")
    for record in found:
        at = datetime.fromtimestamp(record.created_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        answer = str(record.status) if record.status else sentence(read(record.reason), language())
        table.add_row(
            record.event_key, record.event_type, record.endpoint_key, at, record.state, str(record.attempts), answer
        )
    table.show()


@app.command
def test(email: str, key: str) -> None:
    """Send a signed event of type `test` now and show the answer.

    Args:
        email: Address of the account.
        key: The endpoint (ep_…).
    """

    async def work(services: StoredServices):
        return await services.webhooks.test((await services.accounts.by_email(email)).id, key)

    answer = over_data(work)
    say(f"HTTP {answer.status}")
    for line in answer.answer[:500].splitlines():
        say("  ", line)
    if not 200 <= answer.status < 300:
        raise CommandError("expected any 2xx; real events would be tried again")


@app.command
def replay(email: str, *, event: str = "", since: str = "") -> None:
    """Deliver one event again, or everything that failed; a running gateway sends within seconds.

    Args:
        email: Address of the account.
        event: One event (evt_…), whatever became of it.
        since: All that failed since then: 30m, 12h, 5d, or a local time such as 2027-01-31 or 2027-01-31T08:00.
    """
    if bool(event) == bool(since):
        raise CommandError("give either --event or --since")
    moment = _moment(since, time.time()) if since else 0.0

    async def work(services: StoredServices) -> int:
        account = await services.accounts.by_email(email)
        if event:
            return await services.webhooks.replay_event(account.id, event)
        return await services.webhooks.replay_failed(account.id, moment)

    count = over_data(work)
    say(f"{count} to be delivered again.")


@app.command
def rotate(email: str, key: str) -> None:
    """Give an endpoint a new secret; the one before goes on signing for 24 hours.

    Args:
        email: Address of the account.
        key: The endpoint (ep_…).
    """

    async def work(services: StoredServices) -> str:
        return await services.webhooks.rotate((await services.accounts.by_email(email)).id, key)

    secret = over_data(work)
    say(f"secret    {secret}")


@app.command
def enable(email: str, key: str) -> None:
    """Send to a disabled endpoint again what happens from now on.

    `kurir webhook replay --since` brings what failed until it was disabled. What happened while it was disabled was not
    kept for it and is not sent.

    Args:
        email: Address of the account.
        key: The endpoint (ep_…).
    """

    async def work(services: StoredServices) -> None:
        await services.webhooks.enable((await services.accounts.by_email(email)).id, key)

    over_data(work)
    say(f"{key} is active.")


@app.command
def remove(email: str, key: str) -> None:
    """Send nothing more to an endpoint and forget its secret.

    Args:
        email: Address of the account.
        key: The endpoint (ep_…).
    """

    async def work(services: StoredServices) -> None:
        await services.webhooks.remove((await services.accounts.by_email(email)).id, key)

    over_data(work)
    say(f"{key} is removed.")


def _moment(text: str, now: float) -> float:
    if found := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return now - int(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise CommandError("--since: expected 30m, 12h, 5d, or a time such as 2027-01-31T08:00") from error

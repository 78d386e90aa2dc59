"""`kurir webhook …`: where an account's events go; try it, look at what was told, tell it again."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime

from cyclopts import App
from sqlalchemy import Connection

from kurir.cli.terminal import CommandError, Table, account_of, say, with_database, with_snapshot
from kurir.events.bodies import Test, encode
from kurir.kit.ids import opaque_id
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.url_rules import Allowed, UrlRefused
from kurir.numbers import numbers
from kurir.settings import Settings
from kurir.webhooks import deliveries, endpoints, history
from kurir.webhooks.deliver import post
from kurir.webhooks.endpoints import DEFAULT_EVENTS, Endpoint, EndpointError
from kurir.webhooks.schedule import Answered, ReceiverResponse
from kurir.webhooks.signing import headers

app = App(name="webhook", help="Webhooks to your servers: incoming messages, message states, device states.")

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


@app.command
def add(email: str, url: str, *, number: str = "", event: tuple[str, ...] = ()) -> None:
    """Send an account's events to an address.

    Args:
        email: Address of the account.
        url: Where to POST to.
        number: Only events of this number_id or licenses_key.
        event: What to send: incoming_chat (when left out), media_status, message_status, device_status,
            template_status.
    """
    allowed = Allowed.parse(Settings.load().allowed_networks)
    now = time.time()

    def work(connection, sealing):
        account = account_of(connection, email)
        sender = numbers.by_key(connection, account.id, number) if number else None
        if number and sender is None:
            raise CommandError(f"--number: {email} has no number {number}")
        try:
            return endpoints.add(
                connection,
                sealing,
                account.id,
                url,
                allowed=allowed,
                now=now,
                number_id=sender.id if sender else None,
                events=event or DEFAULT_EVENTS,
            )
        except UrlRefused as refusal:
            raise CommandError(f"url: {refusal.reason}") from refusal
        except EndpointError as error:
            raise CommandError(f"--{error}") from error

    endpoint, secret = with_database(work)
    say(f"endpoint  {endpoint.key}")
    say(f"secret    {secret}")
    say(f"The secret is shown only now. Next: `kurir webhook test {email} {endpoint.key}`.")


@app.command(name="list")
def list_(email: str) -> None:
    """List an account's endpoints and how they are doing.

    Args:
        email: Address of the account.
    """

    def work(connection, _sealing):
        account = account_of(connection, email)
        keys = {number.id: number.key for number in numbers.of_account(connection, account.id)}
        return endpoints.of_account(connection, account.id), history.counts(connection, account.id), keys

    found, counts, keys = with_snapshot(work)
    table = Table("endpoint", "url", "number", "events", "state", "delivered", "open", "failed")
    for endpoint in found:
        count = counts.get(endpoint.id, {})
        table.add_row(
            endpoint.key,
            endpoint.url,
            keys.get(endpoint.number_id, "removed") if endpoint.number_id else "all",
            ", ".join(endpoint.events),
            f"disabled: {endpoint.state_reason}" if endpoint.state == "disabled" else endpoint.state,
            str(count.get("delivered", 0)),
            str(sum(count.get(state, 0) for state in ("waiting", "pending", "sending"))),
            str(count.get("failed", 0)),
        )
    table.show()


@app.command
def log(email: str, *, last: int = 20) -> None:
    """Show what was told lately, newest first.

    Args:
        email: Address of the account.
        last: How many.
    """
    if not 1 <= last <= 10_000:
        raise CommandError("--last: expected 1 to 10000")
    found = with_snapshot(lambda connection, _: history.latest(connection, account_of(connection, email).id, last))
    table = Table("event", "type", "endpoint", "at", "state", "tries", "last answer")
    for record in found:
        at = datetime.fromtimestamp(record.created_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        answer = str(record.status) if record.status else record.reason
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
    now = time.time()

    def work(connection, sealing):
        endpoint = _endpoint(connection, email, key)
        mine = numbers.of_account(connection, endpoint.account_id)
        of = next((n.key for n in mine if endpoint.number_id in (None, n.id)), "")
        return endpoint, endpoints.secrets(connection, sealing, endpoint.account_id, endpoint.id, now), of

    endpoint, secrets, number_key = with_snapshot(work)
    body = encode(Test(message="Kurir can reach this address.", timestamp=int(now)))
    signed = headers(secrets, "evt_" + opaque_id(24), number_key, body, now)
    answer = asyncio.run(_post(endpoint.url, body, signed))
    if not isinstance(answer, Answered):
        raise CommandError(f"{endpoint.url} did not answer: {answer.reason}")
    say(f"HTTP {answer.status}")
    for line in answer.answer[:500].splitlines():
        say("  ", line)
    if not 200 <= answer.status < 300:
        raise CommandError("expected any 2xx; real events would be tried again")


async def _post(url: str, body: bytes, signed: dict[str, str]) -> ReceiverResponse:
    safe_fetch = SafeFetch(Settings.load())
    await safe_fetch.start()
    try:
        return await post(safe_fetch, url, body, signed)
    finally:
        await safe_fetch.close()


@app.command
def replay(email: str, *, event: str = "", since: str = "") -> None:
    """Tell one event again, or everything that failed; a running gateway sends within seconds.

    Args:
        email: Address of the account.
        event: One event (evt_…), whatever became of it.
        since: All that failed since then: 30m, 12h, 5d, or a local time such as 2027-01-31 or 2027-01-31T08:00.
    """
    if bool(event) == bool(since):
        raise CommandError("give either --event or --since")
    now = time.time()

    def work(connection, _sealing):
        account = account_of(connection, email)
        if event:
            return history.replay_event(connection, account.id, event, now)
        return history.replay_failed(connection, account.id, _moment(since, now), now)

    count = with_database(work)
    if not count:
        raise CommandError("nothing to tell again (an active endpoint is needed, see `kurir webhook list`)")
    say(f"{count} to be delivered again.")


@app.command
def rotate(email: str, key: str) -> None:
    """Give an endpoint a new secret; the one before goes on signing for 24 hours.

    Args:
        email: Address of the account.
        key: The endpoint (ep_…).
    """
    now = time.time()
    secret = with_database(
        lambda connection, sealing: endpoints.rotate(connection, sealing, _endpoint(connection, email, key), now)
    )
    say(f"secret    {secret}")


@app.command
def enable(email: str, key: str) -> None:
    """Send to a disabled endpoint again; `kurir webhook replay` brings what it missed.

    Args:
        email: Address of the account.
        key: The endpoint (ep_…).
    """

    now = time.time()

    def work(connection, _sealing):
        endpoint = _endpoint(connection, email, key)
        endpoints.enable(connection, endpoint.account_id, endpoint.id, now)

    with_database(work)
    say(f"{key} is active.")


@app.command
def remove(email: str, key: str) -> None:
    """Send nothing more to an endpoint and forget its secret.

    Args:
        email: Address of the account.
        key: The endpoint (ep_…).
    """
    now = time.time()

    def work(connection, _sealing):
        endpoint = _endpoint(connection, email, key)
        endpoints.remove(connection, endpoint.account_id, endpoint.id, now)
        deliveries.end_open(connection, endpoint.id, "canceled", now)

    with_database(work)
    say(f"{key} is removed.")


def _endpoint(connection: Connection, email: str, key: str) -> Endpoint:
    account = account_of(connection, email)
    found = endpoints.by_key(connection, account.id, key)
    if found is None:
        known = ", ".join(e.key for e in endpoints.of_account(connection, account.id)) or "none yet"
        raise CommandError(f"{email} has no endpoint {key} (endpoints: {known})")
    return found


def _moment(text: str, now: float) -> float:
    if found := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return now - int(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise CommandError("--since: expected 30m, 12h, 5d, or a time such as 2027-01-31T08:00") from error

"""Webhook endpoints of an account: add, list, test, rotate, enable, remove; what was delivered, and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection

from kurir.events.bodies import Test, encode
from kurir.kit.clock import Clock
from kurir.kit.ids import opaque_id
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed, UrlRefused
from kurir.numbers import numbers
from kurir.reasons import administration as refusals
from kurir.services.errors import Invalid, NotFound, NotPossible
from kurir.store.database import Database
from kurir.webhooks import deliveries, endpoints, history
from kurir.webhooks.deliver import post
from kurir.webhooks.endpoints import DEFAULT_EVENTS, Endpoint, EndpointError
from kurir.webhooks.history import DeliveryRecord
from kurir.webhooks.retry_schedule import Answered, ReceiverResponse
from kurir.webhooks.signing import headers

T = TypeVar("T")
MOST = 10_000
"""Maximum deliveries of one list."""
_OPEN = ("waiting", "pending", "sending")


@dataclass(frozen=True, slots=True)
class CreatedEndpoint:
    """A new endpoint and its secret, which is shown only now. Never log it."""

    endpoint: Endpoint
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndpointLine:
    """An endpoint in a list: its number's key (None: of all numbers, "": of a removed one) and its deliveries."""

    endpoint: Endpoint
    number_key: str | None
    delivered: int
    open: int
    failed: int


class Webhooks:
    """The webhook endpoints of all accounts; `poster` opens what posts a test event. Raises DatabaseUnavailable."""

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        clock: Clock,
        *,
        allowed: Allowed,
        poster: Callable[[], AbstractAsyncContextManager[SafeFetch]],
    ) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock
        self._allowed = allowed
        self._poster = poster

    async def add(
        self, account_id: int, url: str, *, number_key: str = "", events: Sequence[str] = ()
    ) -> CreatedEndpoint:
        """A new endpoint for the account's events, of one number if that is named. Raises Invalid."""
        now = self._clock()

        def work(connection: Connection) -> CreatedEndpoint:
            sender = numbers.by_key(connection, account_id, number_key) if number_key else None
            if number_key and sender is None:
                raise Invalid("number", refusals.NO_NUMBER_OF_ACCOUNT(key=number_key))
            made = endpoints.add(
                connection,
                self._sealing,
                account_id,
                url,
                allowed=self._allowed,
                now=now,
                number_id=sender.id if sender else None,
                events=events or DEFAULT_EVENTS,
            )
            return CreatedEndpoint(*made)

        try:
            return await self._database.write(work)
        except UrlRefused as refusal:
            raise Invalid("url", refusal.reason) from refusal
        except EndpointError as error:
            raise Invalid(error.field, error.reason) from error

    async def list(self, account_id: int) -> list[EndpointLine]:
        """The account's endpoints, oldest first, and how they are doing."""

        def work(connection: Connection) -> list[EndpointLine]:
            keys = {number.id: number.key for number in numbers.of_account(connection, account_id)}
            counts = history.counts(connection, account_id)
            return [
                _line(endpoint, keys, counts.get(endpoint.id, {}))
                for endpoint in endpoints.of_account(connection, account_id)
            ]

        return await self._database.read(work, of=account_id, pool="lists")

    async def deliveries(self, account_id: int, last: int = 20) -> list[DeliveryRecord]:
        """The account's newest deliveries, newest first, each with its last try. Raises Invalid."""
        if not 1 <= last <= MOST:
            raise Invalid("last", refusals.RANGE(least=1, most=MOST))
        return await self._database.read(lambda c: history.latest(c, account_id, last), of=account_id, pool="lists")

    async def test(self, account_id: int, key: str) -> Answered:
        """Posts a signed event of type `test` now; the receiver's answer, whatever its status.

        Raises NotFound, and NotPossible when nothing answers.
        """
        now = self._clock()

        def work(connection: Connection) -> tuple[Endpoint, list[str], str]:
            endpoint = _get(connection, account_id, key)
            mine = numbers.of_account(connection, account_id)
            of = next((one.key for one in mine if endpoint.number_id in (None, one.id)), "")
            return endpoint, endpoints.secrets(connection, self._sealing, account_id, endpoint.id, now), of

        endpoint, secrets, number_key = await self._database.read(work, of=account_id)
        body = encode(Test(message="Kurir can reach this address.", timestamp=int(now)))
        signed = headers(secrets, "evt_" + opaque_id(24), number_key, body, now)
        async with self._poster() as poster:
            answer: ReceiverResponse = await post(poster, endpoint.url, body, signed)
        if not isinstance(answer, Answered):
            raise NotPossible(refusals.ENDPOINT_SILENT(url=endpoint.url, reason=answer.reason))
        return answer

    async def replay_event(self, account_id: int, event_key: str) -> int:
        """Delivers one event again, whatever became of it; to how many endpoints. Raises NotPossible for none."""
        now = self._clock()
        return _some(await self._database.write(lambda c: history.replay_event(c, account_id, event_key, now)))

    async def replay_failed(self, account_id: int, since: float) -> int:
        """Delivers again what failed since that unix time; how many deliveries. Raises NotPossible for none."""
        now = self._clock()
        return _some(await self._database.write(lambda c: history.replay_failed(c, account_id, since, now)))

    async def rotate(self, account_id: int, key: str) -> str:
        """Gives an endpoint a new secret, shown only now; the one before signs for 24 hours more. Raises NotFound."""
        now = self._clock()
        return await self._database.write(lambda c: endpoints.rotate(c, self._sealing, _get(c, account_id, key), now))

    async def enable(self, account_id: int, key: str) -> None:
        """Sends to a disabled endpoint again, from now on. Raises NotFound."""
        now = self._clock()
        await self._database.write(lambda c: endpoints.enable(c, account_id, _get(c, account_id, key).id, now))

    async def remove(self, account_id: int, key: str) -> None:
        """Removes an endpoint with its secret. Raises NotFound."""
        now = self._clock()

        def work(connection: Connection) -> None:
            endpoint = _get(connection, account_id, key)
            endpoints.remove(connection, account_id, endpoint.id, now)
            deliveries.end_open(connection, endpoint.id, "canceled", now)

        await self._database.write(work)


def _get(connection: Connection, account_id: int, key: str) -> Endpoint:
    found = endpoints.by_key(connection, account_id, key)
    if found is None:
        known = ", ".join(endpoint.key for endpoint in endpoints.of_account(connection, account_id))
        raise NotFound("key", refusals.NO_ENDPOINT(key=key, known=known or refusals.NONE_YET))
    return found


def _line(endpoint: Endpoint, keys: dict[int, str], count: dict[str, int]) -> EndpointLine:
    return EndpointLine(
        endpoint,
        None if endpoint.number_id is None else keys.get(endpoint.number_id, ""),
        delivered=count.get("delivered", 0),
        open=sum(count.get(state, 0) for state in _OPEN),
        failed=count.get("failed", 0),
    )


def _some(count: int) -> int:
    if not count:
        raise NotPossible(refusals.NOTHING_TO_DELIVER())
    return count

"""Sends each request once, however often it is repeated: `Idempotency-Key`, and the account's repeat guard.

A client may name a request by the header `Idempotency-Key` or the field `idempotency_key`. The first request accepted
under a key is answered, and the same answer is given to every further one for 24 hours, with the header
`Idempotency-Replayed: true`. A 408 is not remembered: its repetition waits for the messages as the first one did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from weakref import WeakValueDictionary

import structlog

from kurir.accounts.accounts import Account
from kurir.outbox.idempotency import Earlier, KeptAnswer, Once, Repeated
from kurir.reasons.requests import KEY_REUSED, ONCE_KEY_EXPECTED, ONE_KEY
from kurir.services.idempotency import Idempotency
from kurir.store.database import DatabaseUnavailable
from kurir.web.compat_v1.body import Body
from kurir.web.compat_v1.endpoint import API_KEY_NAMES, KEY_FIELD, KEY_HEADER, KEY_LIMIT, Call, Endpoint
from kurir.web.compat_v1.envelopes import Answer, WireError, wrong
from kurir.web.gateway import Gateway

REPLAYED = {"Idempotency-Replayed": "true"}
_NO_PART_OF_THE_REQUEST = frozenset({KEY_FIELD, *API_KEY_NAMES})

log = structlog.get_logger(__name__)


def once_of(idempotency: Idempotency, endpoint: Endpoint, account: Account, body: Body, header: str) -> Once | None:
    """How a repetition of this request is recognized; None when it need not be. Raises WireError 405.

    `header` is the value of `Idempotency-Key`, "" when absent.
    """
    if endpoint.replay is None:
        return None
    if (header or body.value(KEY_FIELD) is not None) and (key := _key(body, header)):
        fields = {name: value for name, value in body.fields.items() if name not in _NO_PART_OF_THE_REQUEST}
        return idempotency.by_key(account.id, key, [endpoint.path, fields])
    if account.repeat_guard_seconds > 0:
        return Once(account.id, account.repeat_guard_seconds)
    return None


class Repeats:
    """Answers requests that may be repetitions."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    async def answer(self, endpoint: Endpoint, call: Call) -> Answer:
        """The endpoint's answer, or the one that the first such request got.

        Raises what the handler raises, and WireError 400 for a key that belongs to another request.
        """
        once = call.once
        assert once is not None, "other requests are not recognised"
        if not once.key_hash:
            try:
                return await endpoint.handler(self._gateway, call)
            except Repeated as repeated:
                return _replayed(await self._again(endpoint, call, repeated.earlier))
        # one at a time under one key: the second finds the answer of the first
        turn = self._turns.setdefault((once.account_id, once.key_hash), asyncio.Lock())
        async with turn:
            earlier = await self._gateway.services.idempotency.earlier(once)
            if earlier is None:
                try:
                    return await self._kept(endpoint.handler(self._gateway, call), call, once)
                except Repeated as repeated:  # another process was faster
                    earlier = repeated.earlier
            if earlier.request_hash != once.request_hash:
                raise WireError("400", "invalid_request", KEY_REUSED)
            if earlier.answer is not None:
                return _replayed(Answer(earlier.answer.body, earlier.answer.headers, earlier.answer.status))
            return _replayed(await self._kept(self._again(endpoint, call, earlier), call, once))

    async def _again(self, endpoint: Endpoint, call: Call, earlier: Earlier) -> Answer:
        assert endpoint.replay is not None, "only requests that can be replayed are recognised"
        try:
            return await endpoint.replay(self._gateway, call, earlier.remembered)
        except WireError as error:
            return Answer(error.body(call.account.language), error.headers)

    async def _kept(self, answering: Awaitable[Answer], call: Call, once: Once) -> Answer:
        """Gives the answer and keeps it for repetitions, refusals of stored messages included."""
        try:
            answer = await answering
        except WireError as error:
            await self._keep(once, Answer(error.body(call.account.language), error.headers))
            raise
        await self._keep(once, answer)
        return answer

    async def _keep(self, once: Once, answer: Answer) -> None:
        if answer.body.get("code") == "408":
            return
        try:
            await self._gateway.services.idempotency.keep(once, KeptAnswer(answer.body, answer.headers, answer.status))
        except DatabaseUnavailable as error:
            # the messages are stored and the answer is right; a repetition will be answered from them
            log.warning("answer_lost", reason=str(error))


def _replayed(answer: Answer) -> Answer:
    return Answer(answer.body, answer.headers | REPLAYED, answer.status)


def _key(body: Body, header: str) -> str:
    given = body.value(KEY_FIELD)
    field = given if isinstance(given, str) else body.text(KEY_FIELD, expected=ONCE_KEY_EXPECTED)
    for name, key in ((KEY_HEADER, header), (KEY_FIELD, field)):
        if key and not (len(key) <= KEY_LIMIT and key.isprintable() and key.strip()):
            raise wrong(name, ONCE_KEY_EXPECTED)
    if header and field and header != field:
        raise wrong(KEY_FIELD, ONE_KEY)
    return header or field

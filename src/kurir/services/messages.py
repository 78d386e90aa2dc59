"""Reads messages from the database: lists, and one with its tries. Changes are in `message_actions`."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from kurir.kit.clock import Clock
from kurir.kit.ids import parse_message_id
from kurir.messages.lifecycle import STATES
from kurir.numbers import numbers
from kurir.outbox import operator_actions
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.operator_actions import Try
from kurir.outbox.wait_facts import reasons
from kurir.outbox.wait_reasons import Waiting
from kurir.reasons import administration as refusals
from kurir.services.errors import Invalid, NotFound
from kurir.store.database import Database

MOST = 10_000
"""Maximum messages of one list."""


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """A message of a list; `number_key` is "" when its number was removed, `waits_for` None when it has ended."""

    message: Snapshot
    number_key: str
    waits_for: Waiting | None


@dataclass(frozen=True, slots=True)
class MessageHistory:
    """A message with its tries, oldest first; `waits_for` None when it has ended."""

    message: Snapshot
    tries: list[Try]
    waits_for: Waiting | None


class Messages:
    """The messages of all accounts. Raises DatabaseUnavailable throughout."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list(self, account_id: int, state: str | None = None, limit: int = 50) -> list[ListedMessage]:
        """The account's messages in that state (None: in any), newest first. Raises Invalid."""
        if state is not None and state not in STATES:
            raise Invalid("state", refusals.ONE_OF(words=", ".join(STATES)))
        if not 1 <= limit <= MOST:
            raise Invalid("limit", refusals.RANGE(least=1, most=MOST))
        wanted, now = state, self._clock()

        def work(connection: Connection) -> list[ListedMessage]:
            keys = {number.id: number.key for number in numbers.of_account(connection, account_id)}
            found = operator_actions.listed(connection, account_id, wanted, limit)
            waits = reasons(connection, account_id, [message.id for message in found], now)
            return [ListedMessage(one, keys.get(one.number_id, ""), waits.get(one.id)) for one in found]

        return await self._database.read(work, of=account_id, pool="lists")

    async def show(self, account_id: int, message_id: int) -> MessageHistory:
        """The account's message with its tries. Raises NotFound."""
        now = self._clock()

        def work(connection: Connection) -> MessageHistory:
            message = operator_actions.get_any_account(connection, message_id)
            if message is None or message.account_id != account_id:
                raise unknown_message()
            tries = operator_actions.tries(connection, account_id, message_id)
            return MessageHistory(message, tries, reasons(connection, account_id, [message_id], now).get(message_id))

        return await self._database.read(work, of=account_id)

    async def get_of_any(self, written: str) -> Snapshot:
        """The message with this id (`msg_…`), of whichever account: for the operator only.

        Raises Invalid and NotFound.
        """
        message_id = message_id_of(written)
        found = await self._database.read(lambda c: operator_actions.get_any_account(c, message_id))
        if found is None:
            raise unknown_message()
        return found


def message_id_of(written: str) -> int:
    """The message's internal id. Raises Invalid for anything else."""
    message_id = parse_message_id(written)
    if message_id is None:
        raise Invalid("id", refusals.NO_MESSAGE_ID(written=repr(written)))
    return message_id


def unknown_message() -> NotFound:
    """The error for no message, or another account's."""
    return NotFound("id", refusals.NO_MESSAGE())

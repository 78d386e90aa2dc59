"""Operator actions on a running gateway's messages: replay, cancel; and what a message waits for now."""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.kit.clock import Clock
from kurir.numbers.numbers import Number
from kurir.outbox import operator_actions
from kurir.outbox.message_rows import Snapshot
from kurir.outbox.outbox import Outbox
from kurir.outbox.wait_reasons import STOPPING, UNKNOWN, Waiting, waiting_for
from kurir.services.errors import NotPossible
from kurir.services.messages import unknown_message
from kurir.store.database import DatabaseUnavailable


class MessageActions:
    """Acts on messages of the running gateway's outbox."""

    def __init__(self, outbox: Outbox, linked_devices: LinkedDevices, clock: Clock) -> None:
        self._outbox = outbox
        self._linked_devices = linked_devices
        self._clock = clock

    async def replay(self, account_id: int, message_id: int) -> Snapshot:
        """Queues the account's failed, expired or unconfirmed message anew.

        Raises NotFound, NotPossible and DatabaseUnavailable.
        """
        return await _decided(self._outbox.replay(account_id, message_id))

    async def cancel(self, account_id: int, message_id: int) -> Snapshot:
        """Ends the account's queued or unconfirmed message. Raises as `replay`."""
        return await _decided(self._outbox.cancel(account_id, message_id))

    async def waits_for(self, account_id: int, message_id: int) -> Waiting:
        """What the account's message waits for, as far as that can be seen now. Never raises DatabaseUnavailable."""
        if self._outbox.dismissed:
            return STOPPING
        try:
            facts = await self._outbox.waiting_facts(account_id, message_id)
        except DatabaseUnavailable:
            return UNKNOWN  # the message is stored, which is what counts
        if facts is None:
            return UNKNOWN
        if facts.number is not None:
            facts = msgspec.structs.replace(facts, state=self.connected_as(facts.number))
        return waiting_for(facts, self._clock())

    def unseen(self) -> Waiting:
        """The answer for a message of which nothing can be read."""
        return STOPPING if self._outbox.dismissed else UNKNOWN

    def connected_as(self, number: Number) -> str:
        """The number's connection state, as the gateway that holds it sees it: the stored one may lag behind."""
        if number.channel == "cloud_api":
            return number.state
        if self._linked_devices.ready(number):
            return "connected"
        return "connecting" if number.state == "connected" else number.state


async def _decided(decision: Awaitable[Snapshot]) -> Snapshot:
    try:
        return await decision
    except KeyError as error:
        raise unknown_message() from error
    except operator_actions.NotPossible as error:
        raise NotPossible(error.reason, "id") from error

"""Sends contents to a recipient: stores them durably first, and waits for the outcome with a timeout.

Every interface sends this way, on both channels. Templates to many people go by `broadcasts`, codes by `otps`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from cachetools import LRUCache

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.inbox import window_open_until
from kurir.kit.clock import Clock
from kurir.media.store import MediaStore
from kurir.messages.content import Content
from kurir.numbers.numbers import Number
from kurir.outbox.idempotency import Once
from kurir.outbox.outbox import Draft, NotSettledYet, Outbox, Snapshot
from kurir.outbox.wait_reasons import Waiting
from kurir.services.message_actions import MessageActions
from kurir.store.database import Database

_WINDOWS = 20_000
"""How many open service windows are remembered."""


class NotSettled(Exception):  # noqa: N818 - a state of the world, not a mistake
    """A stored message was not settled in time: it is in `state` and waits for `waiting`."""

    def __init__(self, message_id: int, state: str, waiting: Waiting) -> None:
        super().__init__(f"message {message_id} is {state}")
        self.message_id = message_id
        self.state = state
        self.waiting = waiting


class Sending:
    """Sends from the numbers of all accounts."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        media: MediaStore,
        linked_devices: LinkedDevices,
        message_actions: MessageActions,
        clock: Clock,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._media = media
        self._linked_devices = linked_devices
        self._actions = message_actions
        self._clock = clock
        self._open_until: LRUCache[tuple[int, str], float] = LRUCache(_WINDOWS)
        """When open service windows close at the earliest: one that is open can only be prolonged."""

    def check_url(self, url: str) -> None:
        """Checks a file's URL as far as possible without a network. Raises UrlRefused."""
        self._media.check(url)

    async def send(
        self,
        number: Number,
        recipient: str,
        contents: Sequence[Content],
        *,
        typing: bool = False,
        once: Once | None = None,
        awaited: bool = False,
    ) -> list[int]:
        """Stores the contents durably as messages to the recipient, in order; returns their ids.

        With `once` the request is remembered; `awaited`: the caller is about to wait for each of them. Raises
        QueueFull, DatabaseUnavailable and Repeated; then nothing was stored.
        """
        drafts = [
            Draft(
                account_id=number.account_id,
                number_id=number.id,
                recipient=recipient,
                content=content,
                typing=typing,
            )
            for content in contents
        ]
        return (await self._outbox.accept(drafts, once=once, awaited=awaited)).ids

    async def wait(self, account_id: int, message_id: int, timeout: float) -> Snapshot:
        """The account's message as soon as it is settled, or as it is after `timeout` seconds.

        Raises NotSettledYet when it cannot be read by then, or was removed by retention.
        """
        try:
            return await self._outbox.wait_until_settled(account_id, message_id, timeout)
        except KeyError as error:
            raise NotSettledYet("it was removed") from error

    async def settled(self, account_id: int, ids: Sequence[int], timeout: float) -> AsyncIterator[Snapshot]:
        """Each of the account's messages once it is settled, `timeout` seconds in all. Raises NotSettled."""
        deadline = self._clock() + timeout
        for message_id in ids:
            try:
                message = await self.wait(account_id, message_id, max(0.0, deadline - self._clock()))
            except NotSettledYet:
                raise NotSettled(message_id, "queued", self._actions.unseen()) from None
            if message.state in {"queued", "sending"}:
                waiting = await self._actions.waits_for(account_id, message_id)
                raise NotSettled(message_id, message.state, waiting)
            yield message

    def connected(self, number: Number) -> bool:
        """Whether the linked device can send now."""
        return self._linked_devices.ready(number) and not number.paused

    async def window_open(self, number: Number, person: str) -> bool:
        """Whether the person wrote to the official number within the last 24 hours.

        Meta, "Customer service windows": free text reaches only such people.
        """
        now, which = self._clock(), (number.id, person)
        if now < self._open_until.get(which, 0.0):
            return True
        until = await self._database.read(
            lambda c: window_open_until(c, number.account_id, number.id, person), of=number.account_id
        )
        if until is None or now >= until:
            return False
        self._open_until[which] = until
        return True

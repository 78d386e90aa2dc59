"""Channels without WhatsApp: they take what they are sent, answer what a test says, and report events that it makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast, get_args

from kurir.channels.channel import Capabilities
from kurir.channels.cloud_api.templates.calls import Created, MetaTemplate
from kurir.channels.linked_device.channel import DeviceUnavailable, Vitals
from kurir.channels.linked_device.protocol import DeviceContact, DeviceGroup
from kurir.kit.metrics import DeviceStats
from kurir.messages.channel_reports import Event, Evidence, NumberState, Outcome, Sent, Unknown
from kurir.messages.content import Outgoing
from kurir.numbers.numbers import Number
from kurir.reasons import Reason, as_written


class FakeTemplates:
    """Meta's side of template calls: takes what is submitted and approves it at once."""

    def __init__(self) -> None:
        self.listed: list[MetaTemplate] = []

    def listed_within(self, number: Number, seconds: float) -> bool:
        return False

    async def create(self, number: Number, body: dict[str, Any]) -> Created:
        identifier = str(1234567890 + len(self.listed))
        self.listed.append(
            MetaTemplate(
                identifier, body["name"], body["language"], "APPROVED", body["category"], body.get("components", [])
            )
        )
        return Created(identifier, "PENDING")

    async def list(self, number: Number) -> list[MetaTemplate]:
        return self.listed


class FakeChannel:
    """Takes every message and answers what `outcome` answers."""

    def __init__(self, *, groups: bool) -> None:
        kinds = frozenset({"text", "image", "document", "location", "template"})
        self.capabilities = Capabilities(kinds=cast(Any, kinds), groups=groups, typing=True, window=4)
        self.connected = True
        self.sent: list[Outgoing] = []
        self.arrived = asyncio.Event()
        self.outcome: Callable[[Outgoing], Outcome] = lambda outgoing: Sent(f"remote-{outgoing.message_id}")
        self.evidence_of: Callable[[Outgoing], Evidence] = lambda _: Unknown()
        self.let_go: list[Event] = []
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def start(self) -> None: ...

    def ready(self, number: Number) -> bool:
        return self.connected

    async def send(self, number: Number, outgoing: Outgoing) -> Outcome:
        self.sent.append(outgoing)
        self.arrived.set()
        return self.outcome(outgoing)

    async def evidence(self, number: Number, outgoing: Outgoing) -> Evidence:
        return self.evidence_of(outgoing)

    def hear(self, event: Event) -> None:
        """Something happens on the network."""
        self._events.put_nowait(event)

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    def stored(self, events: Sequence[Event]) -> None:
        self.let_go.extend(events)

    async def close(self) -> None:
        self._events.put_nowait(None)


class FakeLinkedDevices(FakeChannel):
    """The devices; look-ups answer what the test put in, or fail with `unavailable`."""

    def __init__(self) -> None:
        super().__init__(groups=True)
        self.unavailable = ""
        self.on_whatsapp: dict[str, bool] = {}
        self.address_book: list[DeviceContact] = []
        self.member_of: list[DeviceGroup] = []

    async def open_device(self, number: Number) -> None: ...

    async def close_device(self, number_id: int) -> None: ...

    def is_pairing(self, number_id: int) -> bool:
        return False

    def device_stats(self) -> DeviceStats:
        return DeviceStats(dict.fromkeys(get_args(NumberState), 0), 0.0, 0.0, hosts=0)

    async def is_on_whatsapp(self, number: Number, phones: list[str]) -> dict[str, bool]:
        self._must_be_available()
        return {phone: self.on_whatsapp[phone] for phone in phones if phone in self.on_whatsapp}

    def state(self, number: Number) -> tuple[NumberState, Reason]:
        return number.state, number.state_reason

    def vitals(self, number: Number) -> Vitals:
        return Vitals(None, None)

    def dismiss(self) -> None: ...

    async def contacts(self, number: Number) -> list[DeviceContact]:
        self._must_be_available()
        return self.address_book

    async def groups(self, number: Number) -> list[DeviceGroup]:
        self._must_be_available()
        return self.member_of

    def _must_be_available(self) -> None:
        if self.unavailable:
            raise DeviceUnavailable(as_written(self.unavailable))


class FakeCloudApi(FakeChannel):
    """The official numbers, and Meta's review of their templates."""

    def __init__(self) -> None:
        super().__init__(groups=False)
        self.templates = FakeTemplates()

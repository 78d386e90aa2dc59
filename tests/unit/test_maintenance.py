"""Maintenance of a running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tests.harness.channels import FakeCloudApi, FakeLinkedDevices
from tests.harness.gateway import URL, open_harness, quarantined
from tests.harness.signals import Signals

from kurir.app import Channels, running
from kurir.messages.channel_reports import Quarantined
from kurir.quarantine import quarantine


async def test_a_gateway_forgets_what_is_old_when_it_starts(tmp_path: Path):
    async with open_harness(tmp_path) as harness:
        number, settings = harness.ours.device, harness.gateway.settings
        old = Quarantined(number.account_id, number.id, "inbox", "reference", "reason", b"payload")
        await harness.gateway.database.write(lambda c: quarantine.add(c, old, 1.0))
        assert len(await harness.gateway.database.read(quarantined)) == 1
    signals = Signals()
    channels = Channels(cast(Any, FakeLinkedDevices()), cast(Any, FakeCloudApi()))
    async with running(settings, URL, channels=channels, signals=signals) as gateway:
        await signals.reached("maintained")
        assert await gateway.database.read(quarantined) == []

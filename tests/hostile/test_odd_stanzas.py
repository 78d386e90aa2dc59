"""Stanzas and plaintexts that a stranger's client makes up: none ends the line, none vanishes in silence."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.device_rig import KEY, Rig
from tests.e2e.sandbox_network import SandboxNetwork, eventually

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.messages.channel_reports import ConnectionChanged, Received

pytestmark = pytest.mark.e2e

IDS = (b"\xff\xfe", b"3EB0\xc3(", b"\xed\xa0\x80", b"\x80" * 60, b"\xf0\x9f\x91", b"\0\xff")
_RANDOM = random.Random(4)
NO_PROTOBUF = (
    b"\x0a\x10halo",  # a string that breaks off
    b"\x0a",  # a field without a value
    b"\xff" * 11,  # a number without an end
    b"\x07",  # a wire type that there is none of
    b"\x04",  # the end of a group that did not begin
    *(b"\x0a\x7f" + _RANDOM.randbytes(20) for _ in range(3)),
)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Listening(Rig):
    """A rig that counts what is not read."""

    def __init__(self, sandbox: SandboxNetwork, data_dir: Path) -> None:
        super().__init__(sandbox, data_dir)
        self.unread: Counter[str] = Counter()
        self.devices = LinkedDevices(
            self.settings, KEY, self._list, time.time, unread=lambda kind: self.unread.update([kind])
        )

    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Received)]

    def changes(self) -> int:
        return sum(isinstance(event, ConnectionChanged) for event in self.events)


async def chats(sandbox: SandboxNetwork, owner: str, member: str) -> list[dict[str, Any]]:
    """A chat of the two, and a group."""
    group = await sandbox.post("/groups", {"subject": "Grup", "owner": owner, "members": [member]})
    return [{"to": owner}, {"group": group["id"]}]


async def test_ids_and_words_that_are_no_utf8_leave_the_line_alone(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner, siti = await sandbox.person("Toko"), await sandbox.person("Siti")
    async with Listening(sandbox, tmp_path) as rig:
        paired = await rig.pair(owner)
        before = rig.changes()
        for place in await chats(sandbox, owner, siti):
            for n, odd in enumerate(IDS):
                attributes = {"id": {"base64": b64(odd)}, "notify": {"base64": b64(odd)}}
                await sandbox.post(
                    f"/people/{siti}/messages", {**place, "text": f"{n} {[*place]}", "attributes": attributes}
                )
        await eventually(lambda: len(set(rig.texts())) == 2 * len(IDS), 30, what="all messages")

        async def acknowledged() -> set[str]:
            receipts = await sandbox.get(f"/devices/{paired.jid}/stanzas?tag=receipt")
            ids = [row["stanza"]["attributes"].get("id") for row in receipts]
            return {one["base64"] for one in ids if isinstance(one, dict) and "base64" in one}

        async with asyncio.timeout(30):
            while await acknowledged() != {b64(odd) for odd in IDS}:
                assert rig.changes() == before, "the line was ended"
                await asyncio.sleep(0.05)
        await sandbox.post(f"/people/{siti}/messages", {"to": owner, "text": "terakhir"})
        await eventually(lambda: "terakhir" in rig.texts(), what="the next message")
        assert rig.changes() == before


async def test_plaintext_that_is_no_protobuf_is_counted(sandbox: SandboxNetwork, tmp_path: Path) -> None:
    owner, siti = await sandbox.person("Toko"), await sandbox.person("Siti")
    async with Listening(sandbox, tmp_path) as rig:
        await rig.pair(owner)
        before = rig.changes()
        for n, place in enumerate(await chats(sandbox, owner, siti), start=1):
            # a group's first message brings the sender's key, which counts by itself
            await sandbox.post(f"/people/{siti}/messages", {**place, "text": f"awal {n}"})
            await eventually(lambda n=n: f"awal {n}" in rig.texts(), what="a first message")
            before_empty = rig.unread.total() - rig.unread["undecodable"]
            for raw in (*NO_PROTOBUF, b""):
                await sandbox.post(f"/people/{siti}/messages", {**place, "raw": b64(raw)})
            await sandbox.post(f"/people/{siti}/messages", {**place, "text": "x", "enc": {"type": "what"}})
            await sandbox.post(f"/people/{siti}/messages", {**place, "text": f"akhir {n}"})
            await eventually(lambda n=n: f"akhir {n}" in rig.texts(), what="the next message")
            wanted = n * (len(NO_PROTOBUF) + 1)
            await eventually(lambda wanted=wanted: rig.unread["undecodable"] >= wanted, what=f"counted: {rig.unread}")
            assert rig.unread["undecodable"] == wanted
            known = rig.unread.total() - rig.unread["undecodable"]
            assert known - before_empty == 1, f"an empty message is one of no kind: {rig.unread}"
        assert rig.changes() == before

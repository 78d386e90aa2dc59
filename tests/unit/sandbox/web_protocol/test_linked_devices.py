"""The register of linked devices: queues that last until a stanza is acknowledged, and keys that are given out once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from kurir_sandbox.web_protocol.linked_devices import Device, LinkedDevices
from kurir_sandbox.web_protocol.stanza import JID, Node
from kurir_sandbox.world import World


class Line:
    """A connection that notes what it is sent."""

    def __init__(self) -> None:
        self.sent: list[Node] = []

    async def send(self, node: Node) -> None:
        self.sent.append(node)

    def reported(self) -> list[str]:
        return [node.text("id") for node in self.sent if node.tag != "ib"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def device(number: int = 1) -> Device:
    return Device("621", "991", number, 1, bytes(32), 1, bytes(32), bytes(64), bytes(32), "test", 0)


def message(wire_id: str) -> Node:
    return Node("message", {"id": wire_id, "from": JID("5", "lid")}, [Node("enc", {}, b"x")])


def receipt(wire_id: str, kind: str | None = None) -> Node:
    return Node("receipt", {"id": wire_id, "from": JID("5", "lid"), "type": kind})


def ack(node: Node) -> Node:
    return Node(
        "ack", {"class": node.tag, "id": node.text("id"), "to": node.jid("from"), "type": node.text("type") or None}
    )


async def test_a_queue_outlives_the_register_and_keeps_its_order(world: World) -> None:
    devices, ours = LinkedDevices(world.state), device()
    devices.add(ours)
    for node in (message("1"), receipt("0"), message("2"), receipt("0", "read")):
        await devices.post(ours, node)

    again, line = LinkedDevices(world.state), Line()
    assert again.all() == [ours]
    again.attach(ours, line)
    await again.post(ours, message("3"))
    assert line.sent == []
    await again.activate(ours)
    assert line.reported() == ["1", "0", "2", "0", "3"]
    assert [n.text("offline") for n in line.sent if n.tag != "ib"] == ["0", "1", "2", "3", "4"]
    assert line.sent[0].need("offline_preview").text("message") == "3"
    assert line.sent[-1].need("offline").text("count") == "5"
    await again.post(ours, message("4"))
    assert line.reported()[-1] == "4"


async def test_ids_that_people_chose_keep_their_messages_apart(world: World) -> None:
    devices, ours = LinkedDevices(world.state), device()
    devices.add(ours)
    group = JID("1", "g.us")
    sources: list[tuple[JID, JID | None]] = [(JID("7", "lid"), None), (JID("8", "lid"), None)]
    sources += [(group, JID("7", "lid")), (group, JID("8", "lid"))]
    for chat, author in sources:
        attrs = {"id": "A", "from": chat, "participant": author, "notify": b"\xff"}
        await devices.post(ours, Node("message", attrs, [Node("enc", {}, b"1")]))
        await devices.post(ours, Node("message", attrs, [Node("enc", {}, b"2")]))  # sent again: the same message
    again, line = LinkedDevices(world.state), Line()
    assert again.queued(ours) == 4
    again.attach(ours, line)
    await again.activate(ours)
    assert [node.attrs.get("notify") for node in line.sent if node.tag == "message"] == [b"\xff"] * 4
    assert {node.need("enc").data for node in line.sent if node.tag == "message"} == {b"2"}
    for left, (chat, author) in zip((3, 2, 1, 0), sources[::-1], strict=True):
        again.settle_message(ours, "A", chat, author)
        assert again.queued(ours) == left
        assert (chat, author) not in [(w.jid("from"), w.jid("participant")) for w in again.waiting(ours)]
    await again.post(ours, Node("message", {"id": "B", "from": JID("7", "lid", 3)}))
    again.settle_message(ours, "B", JID("7", "lid"))  # a client may leave the device out
    again.settle_message(ours, "B", JID("7", "lid"))
    assert again.queued(ours) == 0


async def test_only_what_was_acknowledged_leaves_the_queue(world: World) -> None:
    devices, ours, line = LinkedDevices(world.state), device(), Line()
    devices.add(ours)
    devices.attach(ours, line)
    await devices.activate(ours)
    for node in (message("1"), message("2"), receipt("1"), receipt("1", "read")):
        await devices.post(ours, node)
    devices.settle_message(ours, "2", JID("1", "lid"))
    devices.settle(ours, ack(receipt("1", "read")))
    devices.settle(ours, ack(receipt("unknown")))
    assert devices.queued(ours) == 2
    devices.detach(ours, line)

    again, second = LinkedDevices(world.state), Line()
    again.attach(ours, second)
    await again.activate(ours)
    assert [(n.tag, n.text("id"), n.text("type")) for n in second.sent[1:-1]] == [
        ("message", "1", ""),
        ("receipt", "1", ""),
    ]


async def test_news_wait_behind_what_waited_before(world: World) -> None:
    class SlowLine(Line):
        async def send(self, node: Node) -> None:
            await asyncio.sleep(0)
            await super().send(node)

    devices, ours, line = LinkedDevices(world.state), device(), SlowLine()
    devices.add(ours)
    for number in range(5):
        await devices.post(ours, message(str(number)))
    devices.attach(ours, line)
    await asyncio.gather(devices.activate(ours), *(devices.post(ours, message(str(n))) for n in range(5, 10)))
    assert line.reported() == [str(n) for n in range(10)]


async def test_a_message_that_is_sent_again_is_queued_once(world: World) -> None:
    devices, ours = LinkedDevices(world.state), device()
    devices.add(ours)
    await devices.post(ours, message("1"))
    await devices.post(ours, message("1"))
    assert devices.queued(ours) == LinkedDevices(world.state).queued(ours) == 1


async def test_a_line_that_was_replaced_does_not_take_the_new_one_along(world: World) -> None:
    devices, ours, old, new = LinkedDevices(world.state), device(), Line(), Line()
    devices.add(ours)
    devices.attach(ours, old)
    devices.attach(ours, new)
    devices.detach(ours, old)
    assert devices.line(ours) is new and devices.view(ours).connected


async def test_an_unlinked_device_leaves_nothing_behind(world: World) -> None:
    devices, ours = LinkedDevices(world.state), device(devices_id(world))
    devices.add(ours)
    devices.add_one_time_keys(ours, {1: bytes(32)})
    await devices.post(ours, message("1"))
    devices.remove(ours)
    await devices.post(ours, message("2"))
    again = LinkedDevices(world.state)
    assert again.all() == [] and again.find(ours.jid) is None and again.find(ours.lid) is None
    assert world.state.items(f"queue/{ours.jid}") == []
    assert again.next_device_id("621") == ours.device_id + 1


def devices_id(world: World) -> int:
    return LinkedDevices(world.state).next_device_id("621")


def test_a_one_time_key_is_given_out_once(world: World) -> None:
    devices, ours = LinkedDevices(world.state), device()
    devices.add(ours)
    devices.add_one_time_keys(ours, {1: b"a" * 32, 2: b"b" * 32})
    assert devices.bundle(ours).one_time_id == 1
    again = LinkedDevices(world.state)
    assert again.one_time_key_count(ours) == 1
    assert again.bundle(ours).one_time_key == b"b" * 32
    assert again.bundle(ours).one_time_id is None

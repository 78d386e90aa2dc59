"""Recent messages: the latest are kept over a restart, the oldest are forgotten."""

from __future__ import annotations

from pathlib import Path

from kurir_sandbox.web_protocol.recent_messages import RecentMessages, Remembered
from kurir_sandbox.world import World


def message(second: int) -> Remembered:
    return Remembered("6281", "6282", "text", None, b"halo", str(1_700_000_000 + second))


def test_the_latest_are_kept_and_the_oldest_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    recent = RecentMessages(world.state, kept=3)
    for second, wire_id in enumerate(("D", "C", "B", "A")):
        recent.put(wire_id, message(second))
    assert recent.get("D") is None
    assert recent.get("A") == message(3)

    again = RecentMessages(world.state, kept=2)
    assert [again.get(wire_id) for wire_id in "CBA"] == [None, message(2), message(3)]
    again.put("Z", message(4))
    assert [wire_id for wire_id, _ in world.state.items("sent_by_phones")] == ["A", "Z"]
    world.close()

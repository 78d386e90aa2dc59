"""Recent messages: the latest are kept over a restart, the oldest are forgotten."""

from __future__ import annotations

from pathlib import Path

from kurir_sandbox.web_protocol.drafts import Form, Outgoing
from kurir_sandbox.web_protocol.recent_messages import RecentMessages, Remembered
from kurir_sandbox.web_protocol.stanza import JID, Node
from kurir_sandbox.world import World


def message(second: int, wire_id: str) -> Remembered:
    return Remembered.of("6281", "6282", wire_id, Outgoing(b"halo"), str(1_700_000_000 + second))


def test_the_latest_are_kept_and_the_oldest_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    recent = RecentMessages(world.state, kept=3)
    for second, wire_id in enumerate(("D", "C", "B", "A")):
        recent.put(message(second, wire_id))
    assert recent.get("6281", "6282", "D") is None
    assert recent.get("6281", "6282", "A") == message(3, "A")

    again = RecentMessages(world.state, kept=2)
    assert [again.get("6281", "6282", wire_id) for wire_id in "CBA"] == [None, message(2, "B"), message(3, "A")]
    again.put(message(4, "Z"))
    assert [wire_id for wire_id, _ in world.state.items("messages_of_phones")] == ["6281/6282/A", "6281/6282/Z"]
    world.close()


def test_what_the_sender_chose_comes_back_as_it_was(tmp_path: Path) -> None:
    world = World(tmp_path)
    form = Form(
        attributes={"sender_pn": None, "from": JID("7", "lid"), "notify": b"\xff\xfe", "edit": "x@lid"},
        enc={"type": "msmsg"},
        children=[Node("meta", {"target": JID("1", "g.us")}, [Node("a", {}, b"\0"), Node("b")])],
        unreadable=2,
        padding=b"",
    )
    outgoing = Outgoing(b"\xff", form=form)
    sent = Remembered.of("6281", "6282", "", outgoing, "1")
    RecentMessages(world.state).put(sent)
    found = RecentMessages(world.state).get("6281", "6282", "")
    assert found is not None and found.outgoing == outgoing
    unsealed = Remembered.of("6281", "6282", "", Outgoing(b"", form=Form(sealed=False)), "1")
    assert unsealed.outgoing.form == Form(sealed=False)
    world.close()

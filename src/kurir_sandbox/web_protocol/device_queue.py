"""A device's queue: the stanzas it still has to acknowledge, in order."""

from __future__ import annotations

from dataclasses import dataclass

from .stanza import Node

_Ticket = tuple[str, ...]


@dataclass(slots=True)
class Waiting:
    """A stanza in the queue. `number` ascends; `stored`: whether it is on disk."""

    number: int
    node: Node
    stored: bool


class Queue:
    """Stanzas by what their acknowledgement repeats (the ticket), one for each ticket, oldest first.

    A message that is sent again to a device that asked for it has the ticket of its first try and takes its place.
    """

    def __init__(self) -> None:
        self._waiting: dict[_Ticket, Waiting] = {}
        self._messages: dict[str, list[_Ticket]] = {}

    def all(self) -> list[Waiting]:
        """Everything in it, in order."""
        return list(self._waiting.values())

    def add(self, waiting: Waiting) -> Waiting | None:
        """Appends `waiting`; returns what it replaced."""
        ticket = _ticket(waiting.node)
        earlier = self.take(ticket)
        self._waiting[ticket] = waiting
        if waiting.node.tag == "message":
            self._messages.setdefault(ticket[1], []).append(ticket)
        return earlier

    def take(self, ticket: _Ticket) -> Waiting | None:
        """Removes and returns the stanza with this ticket: (tag, id, from, participant, type), no type for messages."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is not None and waiting.node.tag == "message":
            same_id = self._messages[ticket[1]]
            same_id.remove(ticket)
            if not same_id:
                del self._messages[ticket[1]]
        return waiting

    def take_message(self, wire_id: str, to: str, participant: str) -> Waiting | None:
        """Removes and returns the message that a receipt to `to` (and `participant`) acknowledges.

        Senders choose ids, so several messages may have this one. Clients name the chat of a copy of an own message,
        and leave the device out, as they like; so a message that is alone with its id is meant in any case.
        """
        tickets = self._messages.get(wire_id)
        if not tickets:
            return None
        exact = ("message", wire_id, to, participant)
        return self.take(exact if exact in tickets else tickets[0])


def _ticket(node: Node) -> _Ticket:
    names = ("id", "from", "participant") if node.tag == "message" else ("id", "from", "participant", "type")
    return (node.tag, *(node.text(name) for name in names))

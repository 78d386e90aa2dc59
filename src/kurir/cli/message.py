"""`kurir message …`: see where messages stand, replay and cancel single ones."""

from __future__ import annotations

import time
from datetime import datetime

from cyclopts import App
from sqlalchemy import Connection

from kurir.cli.terminal import CommandError, Table, account_of, operator, say, with_snapshot
from kurir.kit.ids import parse_message_id, public_message_id
from kurir.messages.lifecycle import STATES, MessageState
from kurir.numbers import numbers
from kurir.outbox import operator_actions
from kurir.outbox.rows import Snapshot
from kurir.outbox.waiting import Waiting, sentence
from kurir.outbox.waiting_facts import reasons

app = App(name="message", help="Messages: where they stand; replay and cancel.")


@app.command(name="list")
def list_(email: str, *, state: MessageState | None = None, limit: int = 50) -> None:
    """List an account's messages, newest first.

    Args:
        email: Address of the account.
        state: Only messages in this state, such as unconfirmed or failed.
        limit: How many at most.
    """
    if state is not None and state not in STATES:
        raise CommandError(f"--state: expected one of {', '.join(STATES)}")
    if not 1 <= limit <= 10_000:
        raise CommandError("--limit: expected 1 to 10000")

    now = time.time()

    def work(connection: Connection, _sealing: object) -> tuple[list[Snapshot], dict[int, str], dict[int, Waiting]]:
        account = account_of(connection, email)
        keys = {number.id: number.key for number in numbers.of_account(connection, account.id)}
        found = operator_actions.listed(connection, account.id, state, limit)
        return found, keys, reasons(connection, account.id, [message.id for message in found], now)

    found, keys, waits = with_snapshot(work)
    table = Table("message", "accepted", "from", "to", "kind", "state", "tries", "reason or what it waits for")
    for message in found:
        table.add_row(
            public_message_id(message.id),
            _moment(message.created_at),
            keys.get(message.number_id, "removed"),
            message.recipient,
            message.kind,
            message.state,
            str(message.attempts),
            sentence(waits[message.id]) if message.id in waits else message.error_reason,
        )
    table.show()


@app.command
def show(id: str) -> None:
    """Show one message with all its tries.

    Args:
        id: The message's id (msg_…), as `X-Message-Id` gave it.
    """

    now = time.time()

    def work(connection: Connection, _sealing: object) -> tuple[Snapshot, list[operator_actions.Try], Waiting | None]:
        message = operator_actions.get_any_account(connection, _id(id))
        if message is None:
            raise CommandError(f"there is no message {id}")
        waits = reasons(connection, message.account_id, [message.id], now)
        return message, operator_actions.tries(connection, message.account_id, message.id), waits.get(message.id)

    message, tries, waits = with_snapshot(work)
    facts = {
        "to": message.recipient,
        "kind": message.kind,
        "state": message.state,
        "waits for": sentence(waits) if waits is not None else "",
        "reason": message.error_reason,
        "accepted": _moment(message.created_at),
        "at WhatsApp": message.remote_id or "",
    }
    for name, value in facts.items():
        if value:
            say(f"{name:12}{value}")
    table = Table("try", "ended", "outcome", "code", "reason")
    for one in tries:
        table.add_row(str(one.number), _moment(one.ended_at), one.outcome, one.code, one.reason)
    table.show()


@app.command
def replay(*ids: str) -> None:
    """Send failed, expired or unconfirmed messages anew. An unconfirmed one may then arrive twice.

    Args:
        ids: The messages' ids (msg_…).
    """
    _decide(ids, "replay")


@app.command
def cancel(*ids: str) -> None:
    """Call off messages that are queued or unconfirmed.

    Args:
        ids: The messages' ids (msg_…).
    """
    _decide(ids, "cancel")


def _decide(ids: tuple[str, ...], decision: str) -> None:
    """Decides all of them; those that have moved on are named at the end."""
    if not ids:
        raise CommandError("name at least one message: `kurir message list <email> --state unconfirmed` shows them")
    names = [public_message_id(_id(text)) for text in ids]
    refused: list[str] = []
    for text in names:
        try:
            message = operator("POST", f"/messages/{text}/{decision}")
        except CommandError as error:
            refused.append(str(error))
        else:
            say(f"{message['id']} is {message['state']}.")
    if refused:
        raise CommandError("; ".join(refused))


def _id(text: str) -> int:
    message_id = parse_message_id(text)
    if message_id is None:
        raise CommandError(f"{text!r} is no message id: expected msg_ and 13 letters and digits")
    return message_id


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""`kurir message …`: see where messages stand, replay and cancel single ones."""

from __future__ import annotations

from datetime import datetime

from cyclopts import App

from kurir.cli.language import language
from kurir.cli.terminal import CommandError, Table, operator, over_data, say
from kurir.kit.ids import public_message_id
from kurir.messages.lifecycle import MessageState
from kurir.outbox.wait_reasons import reason_of
from kurir.reasons import read, sentence
from kurir.services.errors import Invalid
from kurir.services.messages import ListedMessage, MessageHistory, message_id_of
from kurir.services.stored_services import StoredServices

app = App(name="message", help="Messages: where they stand; replay and cancel.")


@app.command(name="list")
def list_(email: str, *, state: MessageState | None = None, limit: int = 50) -> None:
    """List an account's messages, newest first.

    Args:
        email: Address of the account.
        state: Only messages in this state, such as unconfirmed or failed.
        limit: How many at most.
    """

    async def work(services: StoredServices) -> list[ListedMessage]:
        return await services.messages.list((await services.accounts.by_email(email)).id, state, limit)

    table = Table("message", "accepted", "from", "to", "kind", "state", "tries", "reason or what it waits for")
    for one in over_data(work):
        message = one.message
        table.add_row(
            public_message_id(message.id),
            _moment(message.created_at),
            one.number_key or "removed",
            message.recipient,
            message.kind,
            message.state,
            str(message.attempts),
            sentence(reason_of(one.waits_for) if one.waits_for is not None else message.error_reason, language()),
        )
    table.show()


@app.command
def show(id: str) -> None:
    """Show one message with all its tries.

    Args:
        id: The message's id (msg_…), as `X-Message-Id` gave it.
    """

    async def work(services: StoredServices) -> MessageHistory:
        message = await services.messages.get_of_any(id)
        return await services.messages.show(message.account_id, message.id)

    found = over_data(work)
    message, waits = found.message, found.waits_for
    facts = {
        "to": message.recipient,
        "kind": message.kind,
        "state": message.state,
        "waits for": sentence(reason_of(waits), language()) if waits is not None else "",
        "reason": sentence(message.error_reason, language()),
        "accepted": _moment(message.created_at),
        "at WhatsApp": message.remote_id or "",
    }
    for name, value in facts.items():
        if value:
            say(f"{name:12}{value}")
    table = Table("try", "ended", "outcome", "code", "reason")
    for one in found.tries:
        table.add_row(
            str(one.number), _moment(one.ended_at), one.outcome, one.code, sentence(read(one.reason), language())
        )
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
    """Applies the action to all; reports at the end those that failed."""
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
    try:
        return message_id_of(text)
    except Invalid as error:
        raise CommandError(sentence(error.reason, language())) from error


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")

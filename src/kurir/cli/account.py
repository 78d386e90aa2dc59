"""`kurir account …`: tenants and their API keys."""

from __future__ import annotations

import secrets
from datetime import datetime

from cyclopts import App

from kurir.accounts import accounts, api_keys, members
from kurir.cli.terminal import CommandError, Table, account_of, bold, say, with_database, with_snapshot

app = App(name="account", help="Accounts (tenants) and their API keys.")


@app.command
def create(
    *,
    email: str,
    name: str = "",
    package: str = "Enterprise",
    until: str = "",
    timezone: str = "Asia/Jakarta",
    language: str = "id",
    country_code: str = "62",
) -> None:
    """Create an account with its first API key and a member who can sign in.

    Args:
        email: Address of the owner; also the sign-in name.
        name: Name of the account; the address when left out.
        package: Name of the package, as `info` shows it.
        until: Last day of the package (YYYY-MM-DD); one year from now when left out.
        timezone: Time zone of dates on the wire.
        language: Language of error messages: id or en.
        country_code: Country of recipients that come without one.
    """
    password = secrets.token_urlsafe(12)
    password_hash = members.hashed(password)

    def work(connection, sealing):
        account = accounts.create(
            connection,
            name=name,
            email=email,
            package_name=package,
            package_until=_day_after(until) if until else None,
            timezone=timezone,
            language=language,
            country_code=country_code,
        )
        members.create(connection, account.id, account.email, password_hash)
        return account, api_keys.create(connection, sealing, account.id, "first key")

    account, key = with_database(work, create=True)
    say("Account ", bold(account.email), " is ready.")
    say(f"  API key   {key}")
    say(f"  password  {password}")
    say("Both are shown only now. Next: `kurir number add " + account.email + "`.")


@app.command(name="list")
def list_() -> None:
    """List all accounts."""
    found = with_snapshot(lambda connection, _: accounts.list_all(connection))
    table = Table("account", "name", "package", "until", "time zone", "language")
    for account in found:
        until = account.local(account.package_until).strftime("%Y-%m-%d")
        table.add_row(account.email, account.name, account.package_name, until, account.timezone, account.language)
    table.show()


@app.command(name="set")
def set_(email: str, *, doubt: str = "", repeat_guard: float | None = None) -> None:
    """Change how an account's messages are sent.

    Args:
        email: Address of the account.
        doubt: What becomes of a message that may or may not have left: hold (for a receipt or a person) or resend.
        repeat_guard: Seconds for which the same content to the same recipient counts as a retry and is sent once;
            0 turns it off.
    """

    def work(connection, _sealing):
        account = account_of(connection, email)
        accounts.change(connection, account.id, doubt=doubt or None, repeat_guard_seconds=repeat_guard)
        return account_of(connection, email)

    account = with_database(work)
    guard = f"{account.repeat_guard_seconds:g} s" if account.repeat_guard_seconds else "off"
    say(f"{account.email}: doubt {account.doubt}, repeat guard {guard}; running gateways follow within seconds.")


@app.command
def key(email: str, *, label: str = "") -> None:
    """Make a further API key for an account and show it once.

    Args:
        email: Address of the account.
        label: What the key is for.
    """
    text = with_database(
        lambda connection, sealing: api_keys.create(connection, sealing, account_of(connection, email).id, label)
    )
    say(text)


@app.command
def keys(email: str) -> None:
    """List an account's live API keys by their last four characters."""
    found = with_snapshot(lambda connection, _: api_keys.of_account(connection, account_of(connection, email).id))
    table = Table("key", "label", "made")
    for last4, label, made in found:
        table.add_row("…" + last4, label, datetime.fromtimestamp(made).astimezone().strftime("%Y-%m-%d %H:%M"))
    table.show()


@app.command
def revoke(email: str, last4: str) -> None:
    """End the live API keys of an account that end in these four characters."""
    count = with_database(
        lambda connection, _: api_keys.revoke(connection, account_of(connection, email).id, last4[-4:])
    )
    if not count:
        raise CommandError(f"no live key of {email} ends in {last4}")
    say(f"{count} key ended; running gateways refuse it within seconds.")


def _day_after(day: str) -> float:
    """The end of a local day, as unix seconds."""
    try:
        return datetime.strptime(day, "%Y-%m-%d").astimezone().timestamp() + 86_400
    except ValueError as error:
        raise CommandError("--until: expected a day such as 2027-12-31") from error

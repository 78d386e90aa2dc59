"""`kurir account …`: tenants and their API keys."""

from __future__ import annotations

from datetime import date, datetime

from cyclopts import App

from kurir.accounts.accounts import Account
from kurir.cli.terminal import CommandError, Table, bold, over_data, say
from kurir.services.accounts import AccountChange, CreatedAccount, KeyLine, NewAccount
from kurir.services.stored_services import StoredServices

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
    wanted = NewAccount(
        email=email,
        name=name,
        package=package,
        until=_day(until) if until else None,
        timezone=timezone,
        language=language,
        country_code=country_code,
    )

    async def work(services: StoredServices) -> CreatedAccount:
        return await services.accounts.create(wanted)

    made = over_data(work, create=True)
    say("Account ", bold(made.account.email), " is ready.")
    say(f"  API key   {made.api_key}")
    say(f"  password  {made.password}")
    say("Both are shown only now. Next: `kurir number add " + made.account.email + "`.")


@app.command(name="list")
def list_() -> None:
    """List all accounts."""
    found = over_data(lambda services: services.accounts.list())
    table = Table("account", "name", "package", "until", "time zone", "language")
    for account in found:
        table.add_row(
            account.email, account.name, account.package_name, _last_day(account), account.timezone, account.language
        )
    table.show()


@app.command(name="set")
def set_(
    email: str,
    *,
    name: str | None = None,
    package: str | None = None,
    until: str = "",
    timezone: str | None = None,
    language: str | None = None,
    country_code: str | None = None,
    doubt: str | None = None,
    repeat_guard: float | None = None,
) -> None:
    """Change an account: its name, its package and how long it lasts, and how its messages are sent.

    Args:
        email: Address of the account.
        name: Another name.
        package: Name of the package, as `info` shows it.
        until: Last day of the package (YYYY-MM-DD), in the account's time zone.
        timezone: Time zone of dates on the wire.
        language: Language of error messages: id or en.
        country_code: Country of recipients that come without one.
        doubt: What becomes of a message that may or may not have left: hold (for a receipt or a person) or resend.
        repeat_guard: Seconds for which the same content to the same recipient counts as a retry and is sent once;
            0 turns it off.
    """
    change = AccountChange(
        name=name,
        package=package,
        until=_day(until) if until else None,
        timezone=timezone,
        language=language,
        country_code=country_code,
        doubt=doubt,
        repeat_guard_seconds=repeat_guard,
    )

    async def work(services: StoredServices) -> Account:
        return await services.accounts.change((await services.accounts.by_email(email)).id, change)

    account = over_data(work)
    guard = f"{account.repeat_guard_seconds:g} s" if account.repeat_guard_seconds else "off"
    facts = {
        "name": account.name,
        "package": f"{account.package_name} until {_last_day(account)}",
        "time zone": account.timezone,
        "language": account.language,
        "country code": account.country_code,
        "doubt": account.doubt,
        "repeat guard": guard,
    }
    say(f"{account.email}; running gateways follow within seconds:")
    for what, value in facts.items():
        say(f"  {what:14}{value}")


@app.command
def key(email: str, *, label: str = "") -> None:
    """Make a further API key for an account and show it once.

    Args:
        email: Address of the account.
        label: What the key is for.
    """

    async def work(services: StoredServices) -> str:
        return await services.accounts.add_key((await services.accounts.by_email(email)).id, label)

    text = over_data(work)
    say(text)


@app.command
def keys(email: str) -> None:
    """List an account's live API keys by their last four characters."""

    async def work(services: StoredServices) -> list[KeyLine]:
        return await services.accounts.keys((await services.accounts.by_email(email)).id)

    table = Table("key", "label", "made")
    for line in over_data(work):
        made = datetime.fromtimestamp(line.made_at).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row("…" + line.last4, line.label, made)
    table.show()


@app.command
def revoke(email: str, last4: str) -> None:
    """End the live API keys of an account that end in these four characters."""

    async def work(services: StoredServices) -> int:
        return await services.accounts.revoke_key((await services.accounts.by_email(email)).id, last4)

    say(f"{over_data(work)} key ended; running gateways refuse it within seconds.")


def _last_day(account: Account) -> str:
    """The last day of the account's package, in its time zone."""
    return account.local(account.package_until - 1).strftime("%Y-%m-%d")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise CommandError("--until: expected a day such as 2027-12-31") from error

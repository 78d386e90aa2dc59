"""`kurir number …`: sender numbers: add, pair by QR or code, list, rename, pause, log out, remove."""

from __future__ import annotations

import getpass
import io
import os

import segno
from cyclopts import App

from kurir.cli.language import language
from kurir.cli.terminal import (
    CommandError,
    Table,
    bold,
    draw,
    in_path,
    is_running,
    operator,
    over_data,
    say,
    waiting,
)
from kurir.numbers.numbers import Number, shown_state
from kurir.reasons import sentence
from kurir.services.numbers import OfficialNumber, TokenSet
from kurir.services.stored_services import StoredServices

app = App(name="number", help="Sender numbers: linked devices (BO-…) and official numbers (WB-…).")

_LONG_POLL = 15
"""Seconds that one poll of a pairing's state may take."""


@app.command
def add(email: str, *, name: str = "") -> None:
    """Add a linked device to an account; pair it next.

    Args:
        email: Address of the account.
        name: What to call the device.
    """

    async def work(services: StoredServices) -> Number:
        return await services.numbers.add_device((await services.accounts.by_email(email)).id, name)

    number = over_data(work)
    say(f"number_id  {number.key}")
    say(f"Next: `kurir number pair {number.key}` while the gateway runs.")


@app.command
def official(
    email: str, *, phone: str, phone_number_id: str, waba_id: str, app_id: str, verify_token: str, name: str = ""
) -> None:
    """Add an official number (Cloud API) to an account.

    The access token and app secret are asked for, or read from KURIR_META_TOKEN and KURIR_META_APP_SECRET, so that
    they do not stay in the shell's history.

    Args:
        email: Address of the account.
        phone: The number with its country code.
        phone_number_id: Meta's id of the number.
        waba_id: Meta's id of the WhatsApp Business Account.
        app_id: Meta's id of the app.
        verify_token: The verify token that you enter at Meta for the callback address.
        name: What to call the number.
    """
    token = os.environ.get("KURIR_META_TOKEN") or getpass.getpass("Access token: ")
    secret = os.environ.get("KURIR_META_APP_SECRET") or getpass.getpass("App secret: ")
    wanted = OfficialNumber(
        phone=phone,
        phone_number_id=phone_number_id,
        waba_id=waba_id,
        app_id=app_id,
        access_token=token,
        app_secret=secret,
        verify_token=verify_token,
        name=name,
    )

    async def work(services: StoredServices) -> Number:
        return await services.numbers.add_official((await services.accounts.by_email(email)).id, wanted)

    number = over_data(work)
    say(f"licenses_key  {number.key}")
    say("Enter <public address>/meta/callbacks as the callback address at Meta, with your verify token.")


@app.command(name="list")
def list_(email: str = "") -> None:
    """List sender numbers and their connection.

    Args:
        email: Only this account's numbers.
    """

    async def work(services: StoredServices) -> list[Number]:
        if email:
            return await services.numbers.list((await services.accounts.by_email(email)).id)
        return await services.numbers.list_of_all()

    table = Table("key", "channel", "phone", "name", "state", "reason")
    for number in over_data(work):
        state, reason = shown_state(number, number.state, number.state_reason)
        words = [sentence(reason, language())]
        if number.paused and state != "paused":
            state = f"{state}, paused"
            words.append(sentence(number.pause_reason, language()))
        table.add_row(
            number.key,
            number.channel.replace("_", " "),
            number.phone or "not paired",
            number.name,
            state,
            "; ".join(filter(None, words)),
        )
    table.show()
    if not is_running():
        say("The gateway of this data folder is not running: these are the states that it last saw.")


@app.command
def pair(key: str, *, phone: str = "") -> None:
    """Pair a linked device with a phone: scan the QR code shown here, or type the code on the phone.

    Args:
        key: The number_id (BO-…).
        phone: Pair by 8-character code for this number instead of by QR.
    """
    state = operator("POST", f"/numbers/{in_path('number_id', key)}/pairing", {"phone": phone} if phone else {})
    shown = ""
    with waiting("Waiting for the phone …"):
        while state["state"] in {"starting", "qr", "code"}:
            offer = state["code"] or state["qr"]
            if offer and offer != shown:
                shown = offer
                _show(offer, is_code=bool(state["code"]))
            state = operator("GET", f"/numbers/{key}/pairing?wait={_LONG_POLL}")
    if state["state"] != "paired":
        raise CommandError(f"pairing ended ({state['state']}): {state['error'] or 'start it again'}")
    say(bold("Paired.", good=True), " The device connects by itself from now on.")


@app.command
def token(key: str) -> None:
    """Put in a new access token for an official number, and resume it if it was paused.

    The token is asked for, or read from KURIR_META_TOKEN. A running gateway takes it up within half a minute.

    Args:
        key: The licenses_key (WB-…).
    """
    new = os.environ.get("KURIR_META_TOKEN") or getpass.getpass("Access token: ")

    async def work(services: StoredServices) -> TokenSet:
        number = await services.numbers.get_of_any(key, "cloud_api")
        return await services.numbers.set_token(number.account_id, key, new)

    resumed = over_data(work).resumed
    say(f"{key} has a new access token" + (" and goes on." if resumed else "."))


@app.command
def resume(key: str) -> None:
    """Resume a paused number, once what it was paused for is settled; its messages go out again.

    `kurir number list` says why it was paused. A running gateway resumes within half a minute.

    Args:
        key: The number_id (BO-…) or licenses_key (WB-…).
    """

    async def work(services: StoredServices) -> Number:
        number = await services.numbers.get_of_any(key)
        return await services.numbers.resume(number.account_id, key)

    over_data(work)
    say(f"{key} goes on.")


@app.command
def pause(key: str, *, reason: str = "") -> None:
    """Pause a number until `kurir number resume`: its messages wait, and what people write still comes in.

    Args:
        key: The number_id (BO-…) or licenses_key (WB-…).
        reason: Why, shown with the number.
    """

    async def work(services: StoredServices) -> Number:
        number = await services.numbers.get_of_any(key)
        return await services.numbers.pause(number.account_id, key, reason)

    over_data(work)
    say(f"{key} is paused: `kurir number resume {key}` lets it go on.")


@app.command
def rename(key: str, name: str) -> None:
    """Give a number another name.

    Args:
        key: The number_id (BO-…) or licenses_key (WB-…).
        name: What to call it.
    """

    async def work(services: StoredServices) -> Number:
        number = await services.numbers.get_of_any(key)
        return await services.numbers.rename(number.account_id, key, name)

    say(f"{key} is called ", bold(over_data(work).name or "nothing"), ".")


@app.command
def remove(key: str) -> None:
    """End a number and erase its secrets; what waits on it is not sent. A device is logged out of its phone.

    Without a running gateway only a number that no phone knows can be removed.

    Args:
        key: The number_id (BO-…) or licenses_key (WB-…).
    """
    if is_running():
        operator("DELETE", f"/numbers/{in_path('key', key)}")
    else:

        async def work(services: StoredServices) -> Number:
            number = await services.numbers.get_of_any(key)
            return await services.numbers.remove(number.account_id, key)

        over_data(work)
    say(f"{key} is removed.")


@app.command
def logout(key: str) -> None:
    """Log a linked device out of its phone. Queued messages wait until it is paired again or expire."""
    operator("POST", f"/numbers/{in_path('number_id', key)}/logout")
    say(f"{key} is logged out.")


def _show(offer: str, *, is_code: bool) -> None:
    if is_code:
        say("On the phone: WhatsApp › Linked devices › Link with phone number. Code:")
        say(bold(offer))
        return
    say("On the phone: WhatsApp › Linked devices › Link a device, then scan:")
    drawing = io.StringIO()
    segno.make(offer, error="l").terminal(out=drawing, compact=True)
    draw(drawing.getvalue())

"""`kurir number …`: sender numbers: add, pair by QR or code, list, log out."""

from __future__ import annotations

import getpass
import io
import os
import time

import segno
from cyclopts import App
from sqlalchemy import Connection

from kurir.cli.terminal import (
    CommandError,
    Table,
    account_of,
    bold,
    draw,
    in_path,
    operator,
    say,
    waiting,
    with_database,
    with_snapshot,
)
from kurir.data_folder import read_ready_file
from kurir.kit.sealing import Sealing
from kurir.messages.addresses import AddressError, parse_phone
from kurir.numbers import numbers
from kurir.numbers import status as number_status
from kurir.numbers.numbers import Number
from kurir.settings import Settings

app = App(name="number", help="Sender numbers: linked devices (BO-…) and official numbers (WB-…).")

_LONG_POLL = 15
"""Seconds that one question for news about a pairing may take."""


@app.command
def add(email: str, *, name: str = "") -> None:
    """Add a linked device to an account; pair it next.

    Args:
        email: Address of the account.
        name: What to call the device.
    """
    number = with_database(
        lambda connection, _: numbers.add_linked_device(connection, account_of(connection, email).id, name)
    )
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
    try:
        digits = parse_phone(phone if phone.startswith("+") else "+" + phone)
    except AddressError as error:
        raise CommandError(f"--phone: {error}") from error
    token = os.environ.get("KURIR_META_TOKEN") or getpass.getpass("Access token: ")
    secret = os.environ.get("KURIR_META_APP_SECRET") or getpass.getpass("App secret: ")
    for what, value in (("--verify-token", verify_token), ("the access token", token), ("the app secret", secret)):
        if not value.strip():
            raise CommandError(f"{what} is empty: enter what Meta shows for the app")
    number = with_database(
        lambda connection, sealing: numbers.add_official(
            connection,
            sealing,
            account_of(connection, email).id,
            phone=digits,
            phone_number_id=phone_number_id,
            waba_id=waba_id,
            app_id=app_id,
            access_token=token,
            app_secret=secret,
            verify_token=verify_token,
            name=name,
        )
    )
    say(f"licenses_key  {number.key}")
    say("Enter <public address>/meta/callbacks as the callback address at Meta, with your verify token.")


@app.command(name="list")
def list_(email: str = "") -> None:
    """List sender numbers and their connection.

    Args:
        email: Only this account's numbers.
    """

    def work(connection, _sealing):
        if email:
            return numbers.of_account(connection, account_of(connection, email).id)
        return numbers.all_of_channel(connection, "linked_device") + numbers.all_of_channel(connection, "cloud_api")

    table = Table("key", "channel", "phone", "name", "state", "reason")
    for number in with_snapshot(work):
        state, reason = numbers.shown_state(number, number.state, number.state_reason)
        table.add_row(
            number.key,
            number.channel.replace("_", " "),
            number.phone or "not paired",
            number.name,
            state,
            reason,
        )
    table.show()
    if read_ready_file(Settings.load().data_dir) is None:
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
    if not new.strip():
        raise CommandError("the access token is empty")

    now = time.time()

    def work(connection: Connection, sealing: Sealing) -> bool:
        number = _official(connection, key)
        numbers.set_access_token(connection, sealing, number.account_id, number.id, new.strip())
        if paused := number.state == "paused":
            number_status.resume(connection, number, now)
        return paused

    resumed = with_database(work)
    say(f"{key} has a new access token" + (" and goes on." if resumed else "."))


@app.command
def resume(key: str) -> None:
    """Let a paused official number go on, once what Meta complained of is settled.

    `kurir number list` says why it was paused. A running gateway goes on within half a minute.

    Args:
        key: The licenses_key (WB-…).
    """
    now = time.time()
    try:
        with_database(lambda c, _: number_status.resume(c, _official(c, key), now))
    except number_status.NotPaused as error:
        raise CommandError(str(error)) from error
    say(f"{key} goes on.")


def _official(connection: Connection, key: str) -> Number:
    known = numbers.all_of_channel(connection, "cloud_api")
    number = next((number for number in known if number.key == key), None)
    if number is None:
        raise CommandError(f"{key} is no official number here: `kurir number list` shows them")
    return number


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

"""`kurir contacts …`: lists of people, from files and from WhatsApp."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from kurir.cli.language import language
from kurir.cli.terminal import counting, in_path, operator, over_data, say, waiting
from kurir.contacts.imports.importing import ImportReport
from kurir.reasons import sentence
from kurir.services.stored_services import StoredServices

app = App(name="contacts", help="Contact lists and the people (audiences) in them.")


@app.command(name="import")
def import_(email: str, file: Path, *, list_name: str = "") -> None:
    """Import people from a CSV or Excel file into a contact list; the same list again takes in what is new.

    Args:
        email: Address of the account.
        file: CSV or XLSX with the columns name and phone (in Indonesian or English); others become custom fields.
        list_name: Name of the list; the file's name when left out.
    """

    async def work(services: StoredServices) -> ImportReport:
        account = await services.accounts.by_email(email)
        with counting("Importing") as progress:
            return await services.contacts.import_file(account, file, list_name, progress)

    report = over_data(work)
    say(f"contact_id  {report.contact_key or 'none: no row was good'}")
    say(f"{report.stored} people stored, {report.merged} merged, {len(report.problems)} rows refused.")
    for problem in report.problems[:20]:
        say(f"  line {problem.line}: {sentence(problem.reason, language())}")
    if len(report.problems) > 20:
        say(f"  … and {len(report.problems) - 20} more")


@app.command
def sync(key: str, *, group_id: str = "") -> None:
    """Take a linked device's address book, or a group's members, into a contact list.

    Args:
        key: The number_id (BO-…) of a connected device.
        group_id: Take this group's members instead of the address book.
    """
    with waiting("Asking the device …"):
        report = operator(
            "POST", f"/numbers/{in_path('number_id', key)}/contacts/sync", {"group_id": group_id} if group_id else {}
        )
    say(f"contact_id  {report['contact_key']}")
    say(f"{report['stored']} people new, {report['merged']} known, {report['removed']} gone.")
    if report["hidden"]:
        say(f"{report['hidden']} people without a visible phone number were left out.")


@app.command
def check(key: str, contact_id: str) -> None:
    """Ask WhatsApp which people of a contact list are on it.

    Args:
        key: The number_id (BO-…) of a connected device that asks.
        contact_id: The list, as `get-list-contacts` shows it.
    """
    with waiting("Asking WhatsApp …"):
        report = operator("POST", f"/numbers/{in_path('number_id', key)}/contacts/check", {"contact_id": contact_id})
    say(f"{report['valid']} valid, {report['invalid']} invalid, {report['unknown']} without an answer.")

"""`kurir contacts …`: lists of people, from files and from WhatsApp."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App
from rich.progress import Progress

from kurir import contacts_import
from kurir.cli.terminal import account_of, err, out, with_async_database
from kurir.foundation.database import Database

app = App(name="contacts", help="Contact lists and the people (audiences) in them.")


@app.command(name="import")
def import_(email: str, file: Path, *, list_name: str = "") -> None:
    """Import people from a CSV or Excel file into a new contact list.

    Args:
        email: Address of the account.
        file: CSV or XLSX with the columns name and phone (in Indonesian or English); others become custom fields.
        list_name: Name of the list; the file's name when left out.
    """

    async def work(database: Database):
        account = await database.read(lambda connection: account_of(connection, email))
        with Progress(console=err, transient=True) as progress:
            task = progress.add_task("Importing", total=None)
            return await contacts_import.import_file(
                database,
                account,
                file,
                list_name or file.stem,
                progress=lambda done: progress.update(task, completed=done),
            )

    report = with_async_database(work)
    out.print(f"contact_id  {report.contact_key}")
    out.print(f"{report.stored} people stored, {report.merged} merged, {len(report.problems)} rows refused.")
    for problem in report.problems[:20]:
        out.print(f"  line {problem.line}: {problem.reason}")
    if len(report.problems) > 20:
        out.print(f"  … and {len(report.problems) - 20} more")

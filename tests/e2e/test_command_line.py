"""The command line against a running gateway: a second account from nothing to a sent message, and contacts."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.demo_process import DemoProcess, Phone

pytestmark = pytest.mark.e2e
SECOND_OWNER = "6281100000002"


class Terminal:
    """Runs `kurir …` on the demo's gateway."""

    def __init__(self, demo: DemoProcess) -> None:
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("KURIR_")}
        self._environment |= {"KURIR_DATA_DIR": str(demo.folder / "gateway"), "COLUMNS": "200", "NO_COLOR": "1"}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kurir",
            *arguments,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, code: int = 0) -> str:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == code, (out.decode(), err.decode())
        assert b"Traceback" not in err
        return (out if code == 0 else err).decode()


@pytest.fixture
def terminal(demo: DemoProcess) -> Terminal:
    return Terminal(demo)


def field(text: str, name: str) -> str:
    found = re.search(rf"{name}\s+(\S+)", text)
    assert found, text
    return found[1]


async def test_from_nothing_to_a_sent_message(
    terminal: Terminal, demo: DemoProcess, session: aiohttp.ClientSession, tmp_path: Path
):
    sandbox = demo.file["sandbox_url"]
    made = await terminal.run("account", "create", "--email", "second@example.com", "--name", "Toko Kedua")
    api_key = field(made, "API key")
    number_id = field(await terminal.run("number", "add", "second@example.com", "--name", "Kasir"), "number_id")

    pairing = await terminal.start("number", "pair", number_id, "--phone", SECOND_OWNER)
    assert pairing.stdout is not None
    code = ""
    while not code:
        line = (await asyncio.wait_for(pairing.stdout.readline(), 30)).decode()
        assert line, "the pairing ended without a code"
        code = next(iter(re.findall(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b", line)), "")
    async with session.post(f"{sandbox}/scan", json={"code": code, "phone": SECOND_OWNER}) as answer:
        assert answer.status < 300, await answer.text()
    assert await asyncio.wait_for(pairing.wait(), 30) == 0
    await pairing.communicate()

    phone = Phone(session, sandbox, demo.file["people"][6])
    body = {"api_key": api_key, "number_id": number_id, "phone_no": phone.number, "message": "Dari kasir"}
    await phone.catch_up()
    async with session.post(f"{demo.file['base_url']}/send_personal_message", json=body) as answer:
        assert (await answer.json())["code"] == "200"
    message = await phone.next()
    assert (message["text"], message["from"]) == ("Dari kasir", SECOND_OWNER)

    # the demo's account and this one do not see each other's numbers
    body["number_id"] = demo.file["number_id"]
    async with session.post(f"{demo.file['base_url']}/send_personal_message", json=body) as answer:
        assert (await answer.json())["code"] == "404"

    listed = await terminal.run("number", "list", "second@example.com")
    assert number_id in listed
    assert SECOND_OWNER in listed

    people = tmp_path / "people.csv"
    people.write_text("Nama;No HP;Kota\nSiti;0812-3456-7801;Bandung\nPos;0819 9999 9901;Bogor\nrusak;abc;x\n")
    imported = await terminal.run("contacts", "import", "second@example.com", str(people))
    assert "2 people stored" in imported
    assert "line 4" in imported
    contact_id = field(imported, "contact_id")
    checked = await terminal.run("contacts", "check", number_id, contact_id)
    assert "1 valid, 1 invalid, 0 without an answer" in checked

    last4 = api_key[-4:]
    await terminal.run("account", "revoke", "second@example.com", last4)
    await terminal.run("number", "logout", number_id)
    listed = await terminal.run("number", "list", "second@example.com")
    assert "logged_out" in listed


async def test_contacts_come_from_the_phone_and_from_a_group(terminal: Terminal, demo: DemoProcess):
    synced = await terminal.run("contacts", "sync", demo.file["number_id"])
    assert re.search(r"[1-9]\d* people new", synced)
    group = await terminal.run("contacts", "sync", demo.file["number_id"], "--group-id", demo.file["group_id"])
    assert field(group, "contact_id") != field(synced, "contact_id")
    again = await terminal.run("contacts", "sync", demo.file["number_id"], "--group-id", demo.file["group_id"])
    assert field(again, "contact_id") == field(group, "contact_id")
    assert "0 people new" in again


async def test_mistakes_are_one_sentence(terminal: Terminal, tmp_path: Path):
    for arguments in (
        ("number", "pair", "BO-0000000000000000"),
        ("number", "add", "nobody@example.com"),
        ("account", "create", "--email", "no-address"),
        ("account", "revoke", "demo@kurir.example", "none"),
        ("contacts", "import", "demo@kurir.example", str(tmp_path / "missing.csv")),
        ("contacts", "sync", "BO-0000000000000000"),
    ):
        output = await terminal.run(*arguments, code=1)
        assert output.strip().startswith("kurir: "), output
        assert len(output.strip().splitlines()) <= 2, output


async def test_a_second_gateway_on_the_same_folder_refuses_to_start(terminal: Terminal, demo: DemoProcess):
    output = await terminal.run("serve", code=1)
    assert "another gateway serves" in output or "cannot listen" in output


async def test_the_doctor_finds_this_machine_fit(terminal: Terminal):
    output = await terminal.run("doctor")
    assert "neonize" in output
    assert "✗" not in output

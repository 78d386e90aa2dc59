"""The demo's stored state and its account: reads and writes `demo.json`, and creates the account and its people.

The API key is stored in clear in the demo's folder (mode 0600), because scripts need it; only the demo does that.
"""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from kurir.contacts.contacts import Person as Customer
from kurir.kit.atomic_files import replace_whole
from kurir.services.accounts import NewAccount
from kurir.services.numbers import OfficialNumber
from kurir.services.stored_services import over_data_folder
from kurir.settings import Settings

EMAIL = "demo@kurir.example"
TEMPLATE_NAME = "order_confirmation"


class DemoError(Exception):
    """The demo cannot start or continue; the message says why and where to look."""


class Member(msgspec.Struct):
    """The credentials of the demo's member."""

    email: str
    password: str


class Processes(msgspec.Struct):
    """Process ids, updated while the demo runs."""

    gateway: int = 0
    sandbox: int = 0


class DemoFile(msgspec.Struct):
    """`demo.json`: everything a script needs to use the demo. Its keys are fixed."""

    base_url: str
    dashboard_url: str
    sandbox_url: str
    api_key: str
    number_id: str
    secret_key: str
    licenses_key: str
    template_id: str
    template_name: str
    group_id: str
    contact_id: str
    people: list[str]
    not_on_whatsapp: list[str]
    device_phone: str
    waba_phone: str
    member: Member
    processes: Processes


class Memory(msgspec.Struct):
    """The state stored between starts."""

    port: int = 0
    sandbox_port: int = 0
    api_key: str = ""
    number_id: str = ""
    licenses_key: str = ""
    contact_id: str = ""
    password: str = ""
    verify_token: str = ""


class Business(msgspec.Struct):
    """An official number as the sandbox describes it in `sandbox.json`."""

    phone: str
    name: str
    phone_number_id: str
    waba_id: str
    app_id: str
    app_secret: str
    access_token: str
    verify_token: str


class SandboxFile(msgspec.Struct):
    """`sandbox.json`: how to reach the sandbox network."""

    pid: int
    url: str
    graph_url: str
    proxy_url: str
    ca_file: str
    noise_root: str
    businesses: list[Business]


class Person(msgspec.Struct):
    """A person of the sandbox's control API."""

    phone: str
    name: str
    on_whatsapp: bool


def read_memory(folder: Path) -> Memory:
    """The state of an earlier demo in this folder; empty for a new one."""
    try:
        return msgspec.json.decode((folder / "memory.json").read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory()
    except msgspec.MsgspecError as error:
        raise DemoError(f"{folder}/memory.json is damaged: remove the folder {folder} to begin anew") from error


def write_memory(folder: Path, memory: Memory) -> None:
    """Stores the state for the next start."""
    replace_whole(folder / "memory.json", msgspec.json.format(msgspec.json.encode(memory)))


def port_for(wanted: int, before: int) -> int:
    """The port to use: the wanted one, or for 0 that of the last start if it is free, or any free one."""
    if wanted:
        return wanted
    for candidate in (before, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("no free port on 127.0.0.1")


async def ensure_account(settings: Settings, memory: Memory, business: Business, people: list[Person]) -> None:
    """The demo's account with its keys, its two numbers and a contact list; made once, then found again."""
    async with over_data_folder(settings, create=True) as services:
        known = next((account for account in await services.accounts.list() if account.email == EMAIL), None)
        if known is None:
            made = await services.accounts.create(NewAccount(email=EMAIL, name="Toko Kurir", language="en"))
            known, memory.password, memory.api_key = made.account, made.password, made.api_key
        # creates what an interrupted start has left out
        memory.verify_token = memory.verify_token or business.verify_token
        memory.api_key = memory.api_key or await services.accounts.add_key(known.id, "demo")
        if not memory.number_id:
            memory.number_id = (await services.numbers.add_device(known.id, "Toko Kurir")).key
        if not memory.licenses_key:
            memory.licenses_key = (await services.numbers.add_official(known.id, _official(business))).key
        if not memory.contact_id:
            customers = [Customer(person.phone, person.name) for person in people]
            memory.contact_id = (await services.contacts.create(known.id, "Pelanggan", customers)).key


def _official(business: Business) -> OfficialNumber:
    return OfficialNumber(
        phone=business.phone,
        phone_number_id=business.phone_number_id,
        waba_id=business.waba_id,
        app_id=business.app_id,
        access_token=business.access_token,
        app_secret=business.app_secret,
        verify_token=business.verify_token,
        name=business.name,
    )

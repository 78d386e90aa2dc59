"""A real gateway for a benchmark: a data folder with an account, its numbers and limits, and `kurir serve`."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kurir.bench.program import Program, python, running
from kurir.data_folder import READY_FILE, ReadyFile
from kurir.services.accounts import NewAccount
from kurir.services.numbers import OfficialNumber
from kurir.services.stored_services import over_data_folder
from kurir.settings import Settings

_LOOPBACK = "127.0.0.1/32"
_ENVIRONMENT = {
    "KURIR_PORT": "0",
    "KURIR_LOG_FORMAT": "json",
    # one account stands for all of a gateway's, so that it has the limits of all
    "KURIR_RATE_LIMIT": "1000000000/second",
    "KURIR_QUEUE_LIMIT": "1000000000",
    "KURIR_ALLOWED_NETWORKS": _LOOPBACK,
}
SECRET = "app secret of the benchmark"  # noqa: S105 - signs the benchmark's own callbacks
_folders = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Official:
    """An official number of the site."""

    key: str
    phone_number_id: str
    waba_id: str
    phone: str


@dataclass(frozen=True, slots=True)
class Site:
    """A data folder with one account, a linked device that nobody has paired, and official numbers."""

    settings: Settings
    account_id: int
    api_key: str
    device: str
    officials: tuple[Official, ...]

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """The settings of its gateway; `changes` by the names of the environment."""
        own = {"KURIR_DATA_DIR": str(self.settings.data_dir), "KURIR_DATABASE_URL": self.settings.database_url}
        return {**_ENVIRONMENT, **own, **(changes or {})}


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that answers at `url`."""

    program: Program
    url: str
    site: Site

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.program.pid


async def new_site(folder: Path, database_url: str = "", *, officials: int = 20) -> Site:
    """A new site in a folder of its own within `folder`, made as the command line makes one."""
    settings = Settings(
        data_dir=folder / f"site-{next(_folders)}", database_url=database_url, allowed_networks=(_LOOPBACK,)
    )
    async with over_data_folder(settings, create=True) as services:
        made = await services.accounts.create(NewAccount(email="bench@kurir.example", name="Bench", language="en"))
        device = await services.numbers.add_device(made.account.id, "Bench")
        numbers: list[Official] = []
        for i in range(officials):
            phone, phone_number_id, waba_id = f"+62811{i:07d}", f"1000000{i:05d}", f"2000000{i:05d}"
            wanted = OfficialNumber(
                phone, phone_number_id, waba_id, "300000000", "token of the benchmark", SECRET, "verify", f"Bench {i}"
            )
            number = await services.numbers.add_official(made.account.id, wanted)
            numbers.append(Official(number.key, phone_number_id, waba_id, phone))
    return Site(settings, made.account.id, made.api_key, device.key, tuple(numbers))


@asynccontextmanager
async def serving(
    site: Site, changes: Mapping[str, str] | None = None, command: Sequence[str] = ()
) -> AsyncGenerator[Gateway]:
    """`kurir serve` (or `command`) on the site, from its ready file to its orderly end."""
    ready_file = site.settings.data_dir / READY_FILE
    ready_file.unlink(missing_ok=True)

    def look() -> ReadyFile | None:
        try:
            return msgspec.json.decode(ready_file.read_bytes(), type=ReadyFile)
        except FileNotFoundError:
            return None

    environment = site.environment(changes)
    async with running(
        "gateway", command or python("kurir", "serve"), site.settings.data_dir.parent, environment
    ) as program:
        yield Gateway(program, (await program.ready(look)).url, site)

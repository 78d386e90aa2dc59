"""Runs the demo from start to Ctrl+C: sandbox, account, gateway, pairing by QR, template, and commands to copy.

All its data are in one folder (`KURIR_DATA_DIR`, default `var/demo`); a later start continues with them.

More than 300 lines: one sequence of steps, in the order in which they run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from rich.console import Console

from kurir.data_folder import READY_FILE, ReadyFile
from kurir.demo.scene import (
    EMAIL,
    TEMPLATE_NAME,
    DemoError,
    DemoFile,
    Member,
    Memory,
    Person,
    Processes,
    SandboxFile,
    ensure_account,
    port_for,
    read_memory,
    write_memory,
)
from kurir.demo.supervisor import Supervised, last_lines
from kurir.kit.atomic_files import replace_whole
from kurir.kit.tokens import read_token
from kurir.settings import Settings, given
from kurir.settings_rules import check_data_dir

T = TypeVar("T")
out = Console(highlight=False)
_TIMEOUT = 40.0
_POLL = 0.1
_START_TRIES = 3


async def demo() -> None:
    """Runs the demo until Ctrl+C or SIGTERM. Raises DemoError when it cannot start."""
    folder = demo_folder()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    play = _Demo(folder)
    work = asyncio.create_task(play.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            out.print("\nCtrl+C ends the demo; `make run` continues it with the same data.")
            await stopping
        out.print("\nStopping …")
    finally:
        for task in (work, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await play.stop()


def demo_folder() -> Path:
    """The demo's folder, created when missing."""
    folder = Path(os.environ.get("KURIR_DATA_DIR") or "var/demo").resolve()
    check_data_dir(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


class _Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = os.environ.get("KURIR_HOST") or "127.0.0.1"
        self.memory: Memory = read_memory(folder)
        self.memory.port = port_for(_port("KURIR_PORT", 8080), self.memory.port)
        self.memory.sandbox_port = port_for(_port("KURIR_SANDBOX_PORT", 8090), self.memory.sandbox_port)
        self.processes = Processes()
        self.file: DemoFile | None = None
        self.sandbox: Supervised | None = None
        self.gateway: Supervised | None = None

    async def run(self) -> None:
        (self.folder / "demo.json").unlink(missing_ok=True)
        write_memory(self.folder, self.memory)
        out.print("Starting the sandbox network …")
        sandbox = await self._start_sandbox()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            people = msgspec.convert(await _get(session, sandbox.url + "/people"), list[Person], strict=False)
            settings = Settings.load({}, data_dir=self.folder / "gateway")
            business = sandbox.businesses[0]
            groups = await _get(session, sandbox.url + "/groups")
            group = groups[0]
            device_phone = str(group["owner"])
            customers = [p for p in people if p.phone not in {device_phone, business.phone} and p.on_whatsapp]
            await ensure_account(settings, self.memory, business, customers)
            write_memory(self.folder, self.memory)

            out.print("Starting the gateway …")
            url = await self._start_gateway(settings, sandbox)
            await self._pair(session, url, sandbox, device_phone)
            await self._subscribe(session, sandbox, url)
            for person in customers:
                await _post(
                    session,
                    f"{sandbox.url}/people/{person.phone}/messages",
                    {"to": business.phone, "text": f"Halo, saya {person.name}."},
                )
            template_id = await self._template(session, url)
            self.file = DemoFile(
                base_url=f"{url}/public/v1",
                dashboard_url=f"{url}/",
                sandbox_url=sandbox.url,
                api_key=self.memory.api_key,
                number_id=self.memory.number_id,
                secret_key=self.memory.api_key,
                licenses_key=self.memory.licenses_key,
                template_id=template_id,
                template_name=TEMPLATE_NAME,
                group_id=str(group["id"]),
                contact_id=self.memory.contact_id,
                people=[p.phone for p in customers],
                not_on_whatsapp=[p.phone for p in people if not p.on_whatsapp],
                device_phone=device_phone,
                waba_phone=business.phone,
                member=Member(EMAIL, self.memory.password),
                processes=self.processes,
            )
        self._write()
        self._explain(self.file)

    async def stop(self) -> None:
        if self.gateway is not None:
            await self.gateway.stop(30.0)
        if self.sandbox is not None:
            await self.sandbox.stop(5.0)
        (self.folder / "demo.json").unlink(missing_ok=True)

    # -- the two programs ------------------------------------------------------------------------------------------

    async def _start_sandbox(self) -> SandboxFile:
        data = self.folder / "sandbox"
        data.mkdir(exist_ok=True, mode=0o700)
        ready = data / "sandbox.json"
        ready.unlink(missing_ok=True)
        arguments = ["kurir_sandbox", "--data", str(data), "--host", self.host, "--port", str(self.memory.sandbox_port)]
        self.sandbox = Supervised(
            "sandbox",
            arguments,
            {},
            self.folder / "sandbox.log",
            started=lambda pid: self._started("sandbox", pid),
            died=out.print,
        )
        await self.sandbox.start()
        return await self._until(self.sandbox, lambda: _read(ready, SandboxFile))

    async def _start_gateway(self, settings: Settings, sandbox: SandboxFile) -> str:
        ready = settings.data_dir / READY_FILE
        ready.unlink(missing_ok=True)
        environment = {
            "KURIR_DATA_DIR": str(settings.data_dir),
            "KURIR_HOST": self.host,
            "KURIR_PORT": str(self.memory.port),
            "KURIR_LOG_FORMAT": "json",
            "KURIR_STATUS_PAGE": "open",
            "KURIR_SANDBOX": "on",
            "KURIR_SANDBOX_PROXY": sandbox.proxy_url,
            "KURIR_SANDBOX_CA": sandbox.ca_file,
            "KURIR_SANDBOX_NOISE_ROOT": sandbox.noise_root,
            "KURIR_GRAPH_URL": sandbox.graph_url,
            "KURIR_ALLOWED_NETWORKS": _networks(sandbox.url),
        }
        self.gateway = Supervised(
            "gateway",
            ["kurir", "serve"],
            environment,
            self.folder / "gateway.log",
            started=lambda pid: self._started("gateway", pid),
            died=out.print,
        )
        await self.gateway.start()
        return (await self._until(self.gateway, lambda: _read(ready, ReadyFile))).url

    def _started(self, name: str, pid: int) -> None:
        setattr(self.processes, name, pid)
        if self.file is not None:
            self._write()

    def _write(self) -> None:
        assert self.file is not None
        replace_whole(self.folder / "demo.json", msgspec.json.format(msgspec.json.encode(self.file)))

    async def _until(self, program: Supervised, look: Callable[[], T | None]) -> T:
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while (found := look()) is None:
            if asyncio.get_running_loop().time() > deadline or program.deaths >= _START_TRIES:
                log_file = self.folder / f"{program.name}.log"
                raise DemoError(f"the {program.name} does not come up; the end of {log_file}:\n{last_lines(log_file)}")
            await asyncio.sleep(_POLL)
        return found

    # -- what a person would do ------------------------------------------------------------------------------------

    async def _pair(self, session: aiohttp.ClientSession, url: str, sandbox: SandboxFile, phone: str) -> None:
        token = read_token(self.folder / "gateway")
        headers = {"Authorization": f"Bearer {token}"}
        address = f"{url}/api/v1/numbers/{self.memory.number_id}"

        async def device() -> dict[str, Any]:
            found = await _get(session, f"{url}/api/v1/numbers", headers)
            return next(n for n in found["numbers"] if n["key"] == self.memory.number_id)

        if not (await device())["phone"]:
            out.print(f"Pairing the linked device with the phone {phone} by QR …")
            await _post(session, f"{address}/pairing", {}, headers)

            async def offered() -> str | None:
                state = await _get(session, f"{address}/pairing", headers)
                return state.get("qr") or None

            code = await _eventually(offered, "the engine offers no QR code")
            await _post(session, f"{sandbox.url}/scan", {"qr": code, "phone": phone})

        async def connected() -> bool | None:
            return (await device())["state"] == "connected" or None

        await _eventually(connected, "the linked device does not connect")

    async def _subscribe(self, session: aiohttp.ClientSession, sandbox: SandboxFile, url: str) -> None:
        business = sandbox.businesses[0]
        await _post(
            session,
            f"{sandbox.graph_url}/{business.waba_id}/subscribed_apps",
            {"override_callback_uri": f"{url}/meta/callbacks", "verify_token": business.verify_token},
            {"Authorization": f"Bearer {business.access_token}"},
        )

    async def _template(self, session: aiohttp.ClientSession, url: str) -> str:
        credentials = {"secret_key": self.memory.api_key, "licenses_key": self.memory.licenses_key}

        async def find() -> dict[str, Any] | None:
            answer = await _post(
                session, f"{url}/public/v1/get-template-list", {**credentials, "search": TEMPLATE_NAME, "length": 100}
            )
            return next((row for row in answer["data"] if row["template_name"] == TEMPLATE_NAME), None)

        if await find() is None:
            out.print("Asking for a template's review …")
            await _post(session, f"{url}/public/v1/create-template", {**credentials, **_TEMPLATE})

        async def approved() -> str | None:
            row = await find()
            return row.get("templateId") if row else None

        return await _eventually(approved, "the template is not approved")

    def _explain(self, file: DemoFile) -> None:
        person, other = file.people[1:3]
        out.print(_TEXT.format(file=file, person=person, other=other, folder=self.folder), soft_wrap=True, markup=False)


_TEMPLATE = {
    "name": TEMPLATE_NAME,
    "language": "id",
    "category": "UTILITY",
    "submitToFacebook": True,
    "body": "Halo {{1}}, pesanan {{2}} sudah kami terima dan akan dikirim pada {{3}}. Terima kasih.",
    "footer": "Toko Kurir",
    "variables": [
        {"placeholder": "{{1}}", "label": "Nama", "example": "Sari"},
        {"placeholder": "{{2}}", "label": "Pesanan", "example": "A-1001"},
        {"placeholder": "{{3}}", "label": "Tanggal", "example": "21 Desember"},
    ],
    "buttons": [{"type": "QUICK_REPLY", "data": {"label": "Terima kasih"}}],
}

_TEXT = """
Kurir runs.
  Numbers and API reference   {file.dashboard_url}
  Sandbox (phones)            {file.sandbox_url}
  Everything for scripts      {folder}/demo.json
  Logs                        {folder}/gateway.log, {folder}/sandbox.log

Send with the linked device, then look at the person's phone:
  curl -s {file.base_url}/send_personal_message -d api_key={file.api_key} \\
    -d number_id={file.number_id} -d phone_no={person} -d 'message=Halo dari Kurir' -d method_send=sync
  curl -s {file.sandbox_url}/people/{person}/inbox

Send with the official number:
  curl -s {file.base_url}/send_meta_personal_message -d secret_key={file.secret_key} \\
    -d licenses_key={file.licenses_key} -d reciptient={other} -d 'message=Halo dari nomor resmi'
  curl -s {file.sandbox_url}/people/{other}/inbox
"""


def _networks(sandbox_url: str) -> str:
    """The sandbox's address together with the networks that the user has allowed."""
    own = given().get("KURIR_ALLOWED_NETWORKS", "")
    return ",".join(filter(None, (own, sandbox_url.partition("://")[2])))


def _port(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) > 65_535:
        raise DemoError(f"{name}: expected 0 to 65535, got {text!r}")
    return int(text)


def _read(path: Path, type_: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except FileNotFoundError:
        return None


async def _eventually(look: Callable[[], Awaitable[T | None]], error_text: str) -> T:
    deadline = asyncio.get_running_loop().time() + _TIMEOUT
    while (found := await look()) is None:
        if asyncio.get_running_loop().time() > deadline:
            raise DemoError(f"{error_text} within {_TIMEOUT:.0f} s; see the logs in the demo's folder")
        await asyncio.sleep(_POLL)
    return found


async def _get(session: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None) -> Any:
    async with session.get(url, headers=headers) as answer:
        return await _checked(answer)


async def _post(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Any:
    async with session.post(url, json=body, headers=headers) as answer:
        return await _checked(answer)


async def _checked(answer: aiohttp.ClientResponse) -> Any:
    text = await answer.text()
    if answer.status >= 400:
        raise DemoError(f"{answer.method} {answer.url} answered {answer.status}: {text[:500]}")
    return msgspec.json.decode(text)

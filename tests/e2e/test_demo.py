"""`kurir demo` as a user meets it: what it writes, what it survives, how it ends and goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.demo_process import DemoProcess, Phone, wait_until

pytestmark = pytest.mark.e2e

KEYS = [
    "base_url",
    "dashboard_url",
    "sandbox_url",
    "api_key",
    "number_id",
    "secret_key",
    "licenses_key",
    "template_id",
    "template_name",
    "group_id",
    "contact_id",
    "people",
    "not_on_whatsapp",
    "device_phone",
    "waba_phone",
    "member",
    "processes",
]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def send(session: aiohttp.ClientSession, demo: DemoProcess, phone: Phone, text: str) -> None:
    file = demo.file
    body = {"api_key": file["api_key"], "number_id": file["number_id"], "phone_no": phone.number, "message": text}
    async with session.post(file["base_url"] + "/send_personal_message", json=body) as answer:
        assert answer.status == 200, await answer.text()


def test_demo_json_has_exactly_the_documented_keys(demo: DemoProcess):
    file = demo.file
    assert list(file) == KEYS
    assert file["base_url"].endswith("/public/v1")
    assert file["template_id"].isdigit()
    assert set(file["member"]) == {"email", "password"}
    assert set(file["processes"]) == {"gateway", "sandbox"}
    assert all(alive(pid) for pid in file["processes"].values())
    assert not set(file["people"]) & {*file["not_on_whatsapp"], file["device_phone"], file["waba_phone"]}
    assert (demo.folder / "demo.json").stat().st_mode & 0o077 == 0


def test_the_printed_curl_lines_work(demo: DemoProcess):
    printed = demo.output.read_text()
    commands = re.findall(r"^  (curl .*?)(?=\n  curl|\n\n|\n$)", printed, re.DOTALL | re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        answer = subprocess.run(["bash", "-c", command], capture_output=True, timeout=40, check=True).stdout.decode()
        assert "Halo dari" in answer or '"code":"200"' in answer, (command, answer)


async def test_a_killed_gateway_comes_back_with_its_device_and_its_queue(
    tmp_path: Path, session: aiohttp.ClientSession
):
    demo = DemoProcess(tmp_path / "data").start()
    try:
        before = demo.file
        phone = Phone(session, before["sandbox_url"], before["people"][0])
        await send(session, demo, phone, "before")
        assert (await phone.next())["text"] == "before"

        os.kill(before["processes"]["gateway"], signal.SIGKILL)
        wait_until(lambda: demo.file["processes"]["gateway"] != before["processes"]["gateway"], 2, demo.explain)
        assert {**demo.file, "processes": 0} == {**before, "processes": 0}
        wait_until(lambda: (demo.folder / "gateway" / "gateway.json").read_bytes() and serves(demo), 20, demo.explain)
        await send(session, demo, phone, "after the gateway died")
        assert (await phone.next(40))["text"] == "after the gateway died"

        os.kill(demo.file["processes"]["sandbox"], signal.SIGKILL)
        wait_until(lambda: demo.file["processes"]["sandbox"] != before["processes"]["sandbox"], 2, demo.explain)
        await send(session, demo, phone, "after WhatsApp died")
        wait_until(lambda: answers(before["sandbox_url"] + "/people"), 20, demo.explain)
        assert (await phone.next(60))["text"] == "after WhatsApp died"

        pids = demo.file["processes"].values()
        assert demo.stop() == 0, demo.explain()
        assert not any(alive(pid) for pid in pids)
        assert not (demo.folder / "demo.json").exists()

        demo.start()
        again = demo.file
        assert {**again, "processes": 0} == {**before, "processes": 0}
        await send(session, demo, phone, "after a restart")
        assert (await phone.next())["text"] == "after a restart"
    finally:
        if demo.process is not None and demo.process.poll() is None:
            demo.stop()


def serves(demo: DemoProcess) -> bool:
    """Whether the gateway answers under its old address."""
    return answers(demo.file["base_url"].replace("/public/v1", "/readyz"))


def answers(url: str) -> bool:
    """Whether something answers with success."""
    done = subprocess.run(["curl", "-sf", "-o", "/dev/null", url], timeout=10, check=False)
    return done.returncode == 0


def test_it_refuses_what_it_cannot_use_with_one_sentence(tmp_path: Path):
    environment = {**os.environ, "KURIR_DATA_DIR": str(tmp_path), "KURIR_PORT": "eighty"}
    done = subprocess.run(
        [sys.executable, "-m", "kurir", "demo"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "KURIR_PORT" in done.stderr
    assert "Traceback" not in done.stderr

"""The examples of docs/webhooks.md do what they say, and the commands' help says what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from kurir.cli import webhook
from kurir.events.bodies import WEBHOOK_EVENTS
from kurir.webhooks.signing import headers, new_secret

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
BODY = '{"type":"incoming_chat","data":{"message_body":"Halo 👋"}}'
DRIVERS = {
    "js": (
        "node",
        ["node", "-e"],
        "const c = JSON.parse(process.argv[1]); "
        "console.log(JSON.stringify(c.map(([s, h, b]) => verified(s, h, Buffer.from(b)))));",
    ),
    "php": (
        "php",
        ["php", "-r"],
        "echo json_encode(array_map(fn($c) => verified($c[0], $c[1], $c[2]), json_decode($argv[1], true)));",
    ),
}


def example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def cases() -> tuple[list, list[bool]]:
    new, old = new_secret(), new_secret()
    good = headers([new, old], "evt_1", "BO-1", BODY.encode(), time.time())
    stale = headers([new], "evt_1", "BO-1", BODY.encode(), time.time() - 400)
    tried = [
        (new, good, BODY),
        (old, good, BODY),
        (new_secret(), good, BODY),
        (new, good, BODY + " "),
        (new, stale, BODY),
        (new, {**good, "webhook-id": "evt_2"}, BODY),
    ]
    return tried, [True, True, False, False, False, False]


def test_the_python_example() -> None:
    scope: dict = {}
    exec(example("python"), scope)
    tried, wanted = cases()
    assert [scope["verified"](secret, given, body.encode()) for secret, given, body in tried] == wanted


@pytest.mark.parametrize("language", DRIVERS)
def test_the_examples_of_other_languages(language: str) -> None:
    program, command, driver = DRIVERS[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    tried, wanted = cases()
    arguments = [*command, example(language) + driver]
    arguments += ["--", json.dumps(tried)] if language == "php" else [json.dumps(tried)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wanted


def test_every_key_of_the_page_is_sent() -> None:
    from kurir.events.bodies import DeviceStatus, IncomingChat, MessageStatus, TemplateStatus

    shown = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    assert list(json.loads(shown[1])["data"]) == list(IncomingChat.__struct_fields__)
    for name, body in (
        ("message_status", MessageStatus),
        ("device_status", DeviceStatus),
        ("template_status", TemplateStatus),
    ):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
        for key in body.__struct_fields__:
            assert f"`{key}`" in row


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    webhook.app([command, "--help"], result_action="return_value")
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


def test_the_help_names_every_event_that_a_webhook_may_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = help_of("add", capsys)
    assert [kind for kind in WEBHOOK_EVENTS if kind not in found] == []
    assert "incoming_chat (when left out), media_status," in found


def test_the_page_names_every_event_that_a_webhook_may_ask_for() -> None:
    assert [kind for kind in WEBHOOK_EVENTS if f"`{kind}`" not in PAGE] == []


def test_the_help_promises_nothing_of_the_time_while_an_endpoint_was_disabled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = help_of("enable", capsys)
    assert "what happens from now on" in found
    assert "What happened while it was disabled was not kept for it and is not sent." in found

"""docs/architecture.md names modules, classes and functions that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "kurir"
ROOTS = ("", "channels", "channels/linked_device", "web")
"""Folders from which the walks name modules."""


def test_the_walks_name_what_exists():
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    walks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    assert len(walks) == 4, "one message out, one in, one status callback, one webhook"
    assert not [fault for walk in walks for name in names_in(walk) if (fault := fault_of(name))]


@pytest.mark.parametrize(
    "name", ["outbox/nothing", "outbox/outbox.Outbox.forgive", "outbox/outbox.Inbox.take", "web/nowhere.build"]
)
def test_the_rule_finds_what_does_not_exist(name: str):
    assert fault_of(name)


def names_in(walk: str) -> list[str]:
    """`folder/module` with the class and function after it, such as `outbox/outbox.Outbox.accept`."""
    found = re.findall(r"(?<![\w/])[a-z_0-9]+(?:/[a-z_0-9]+)+(?:\.[A-Za-z_]+)*", walk)
    return [name for name in found if not name.startswith("public/")]


def fault_of(name: str) -> str:
    module, *inside = name.split(".")
    file = next((file for root in ROOTS if (file := SOURCE / root / f"{module}.py").is_file()), None)
    if file is None:
        return f"{name}: no such module"
    source = file.read_text(encoding="utf-8")
    missing = [one for one in inside if not re.search(rf"\b(class|def) {one}\b", source)]
    return f"{name}: no {missing[0]} in it" if missing else ""

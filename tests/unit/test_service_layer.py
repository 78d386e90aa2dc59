"""One service layer: faces call services, only the compositions build parts, and services know no face."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kurir

SOURCE = Path(kurir.__file__).parent
FEATURES = ("accounts", "broadcasts", "contacts", "events", "inbox", "leases", "media", "numbers", "otp", "outbox",
            "quarantine", "templates", "webhooks")  # fmt: skip
PURE = {"shown_state", "reason_of", "filled", "variables_of", "recipients_of",
        "clamp_lifetime", "source_of"}  # fmt: skip
"""Functions of features that read and store nothing: every face may call them."""
PARTS = {"Outbox", "Templates", "Deliverer", "Dispatcher", "Inbox", "MediaStore", "LinkedDevices", "CloudApi",
         "Pairing", "Notifier", "Leases", "Services", "StoredServices", "Replays", "Devices", "MessageActions",
         "Sending", "Broadcasts", "Otps", "Callers", "SignIn", "Callbacks", "ReceivedPeerCalls",
         "Idempotency"}  # fmt: skip
COMPOSITIONS = {"app.py", "services/services.py", "services/stored_services.py"}
EXEMPT = {
    "cli/backups.py: events.restored",
    "cli/backups.py: leases.statements.leave_all",
    "cli/backups.py: otp.check",
    "cli/backups.py: outbox.hold_after_restore",
    "cli/doctor.py: numbers.numbers.restricted_count",
    "cli/doctor.py: quarantine.quarantine",
}
"""A restore and the doctor work on databases that may be old, damaged, or not there: no service starts on them."""


def test_faces_call_services_and_no_store_functions() -> None:
    faces = [file for face in ("cli", "web", "demo") for file in sorted((SOURCE / face).rglob("*.py"))]
    found = {
        f"{file.relative_to(SOURCE)}: {name}"
        for file in faces
        for name in store_functions(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found - EXEMPT == set(), "these reach past the services"
    assert EXEMPT - found == set(), "these are no longer needed: take them from the list"


def test_only_the_compositions_build_parts() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{line}: {name}"
        for file in sorted(SOURCE.rglob("*.py"))
        if str(file.relative_to(SOURCE)) not in COMPOSITIONS
        for line, name in built(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found, found


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from kurir.numbers import numbers", "numbers.numbers"),
        ("from kurir.numbers import numbers as store", "numbers.numbers"),
        ("import kurir.numbers.numbers", "numbers.numbers"),
        ("import kurir.outbox.operator_actions as actions", "outbox.operator_actions"),
        ("from kurir.numbers.numbers import Number, by_key", "numbers.numbers.by_key"),
        ("from kurir.webhooks.history import latest", "webhooks.history.latest"),
        ("from kurir import webhooks", "webhooks"),
        ("def f():\n    from kurir.accounts import api_keys", "accounts.api_keys"),
    ],
)
def test_the_rule_finds_store_functions(code: str, name: str) -> None:
    assert list(store_functions(ast.parse(code))) == [name]


@pytest.mark.parametrize(
    "code",
    [
        "from kurir.numbers.numbers import KEY_PREFIX, Number, shown_state",
        "from kurir.services import numbers",
        "from kurir.web.operator import numbers",
        "from kurir.messages import bounds",
    ],
)
def test_the_rule_lets_types_and_pure_functions_pass(code: str) -> None:
    assert not list(store_functions(ast.parse(code)))


def test_the_rule_finds_what_builds_parts() -> None:
    code = "from kurir.outbox.outbox import Outbox\na = Outbox(1)\nb = kurir.webhooks.deliver.Deliverer()\nNumber()"
    assert [name for _, name in built(ast.parse(code))] == ["Outbox", "Deliverer"]


def store_functions(module: ast.Module) -> Iterator[str]:
    """The modules and functions of features that a module imports; types and constants are everybody's."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (name for one in node.names if (name := within(one.name)))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for one in node.names:
                name = within(f"{node.module}.{one.name}")
                if name and one.name not in PURE and one.name == one.name.lower():
                    yield name


def within(name: str) -> str:
    """A dotted name without `kurir.`, when it is of a feature; else ""."""
    package, _, rest = name.partition(".")
    return rest if package == "kurir" and rest.split(".")[0] in FEATURES else ""


def built(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Every (line, part) where a part is made."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            # `say.Devices(…)` and the like are values of a protocol
            if name in PARTS and not (isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "say"):
                yield node.lineno, name

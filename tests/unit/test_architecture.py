"""docs/architecture.md names modules, classes and functions that exist.

Checked are the paths and dotted names of the walks and of the text (`outbox/outbox.Outbox.accept`, `Lane.wake`,
`events/append.append`), the names of classes, words that are identifiers (`in_snake_case`), links, and for the table of
layers that each row is a package or module with the parts that it names.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = REPOSITORY / "src"
SOURCE = PACKAGES / "kurir"
ROOTS = (
    "src/kurir", "src/kurir/channels", "src/kurir/channels/linked_device",
    "src/kurir/channels/linked_device/engine_host", "src/kurir/web", "src/kurir/services", "src/kurir_sandbox", "",
)  # fmt: skip
"""Folders from which the document names modules."""
ELSEWHERE = {
    "public/v1", "gateway.json", "/readyz",
}  # fmt: skip
"""Addresses and files of a data folder."""


def document() -> str:
    return (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_document_names_what_exists():
    faults = {fault for name in names_in(document()) if (fault := fault_of(name))}
    assert not faults, "\n" + "\n".join(sorted(faults))


def test_each_walk_is_read():
    walks = [walk for walk in walks_in(document()) if re.search(r"^ 1 ", walk, re.MULTILINE)]
    assert len(walks) == 4, "one message out, one in, one status callback, one webhook"
    assert all(len(names_in(f"```\n{walk}```")) > 8 for walk in walks)


def test_the_layers_name_their_parts():
    table = document().partition("| layer | what it is |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) > 15
    assert not [fault for places, text in rows if (fault := fault_of_row(places, text))]


def test_every_module_that_appends_events_is_named():
    callers = document().partition("## One webhook")[2].partition("(callers:")[2].partition(")")[0]
    named = {name.split(".")[0] for name in re.findall(r"[\w/.]+/[\w.]+", callers)}
    appending = {
        str(module.relative_to(SOURCE).with_suffix(""))
        for module in modules()
        if re.search(r"^from kurir.events.append import append$", module.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named == appending


def test_the_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)", document())
    assert links
    assert not [link for link in links if not (REPOSITORY / "docs" / link).exists()]


@pytest.mark.parametrize(
    "name",
    [
        "outbox/nothing", "outbox/outbox.Outbox.forgive", "outbox/outbox.Inbox.take", "web/nowhere.build", "Lane.sing",
        "quarantine.sing", "NoSuchClass", "app.Dispatcher.sing", "engine_host/device.sing",
        "tests/unit/test_nothing.py", "no_such_word",
    ],
)  # fmt: skip
def test_the_rule_finds_what_does_not_exist(name: str):
    assert names_in(f"It is `{name}`.") == [name]
    assert fault_of(name)


@pytest.mark.parametrize(
    ("places", "text"), [("`web/`", "the `pages`"), ("`walls/`", "nothing"), ("`kit/`", "`turns`")]
)
def test_the_rule_finds_layers_that_do_not_exist(places: str, text: str):
    assert fault_of_row(places, text)


# -- the rule ----------------------------------------------------------------------------------------------------------


def walks_in(text: str) -> list[str]:
    return re.findall(r"```\n(.*?)```", text, re.DOTALL)


def names_in(text: str) -> list[str]:
    """What the text names: in walks every path and dotted name, elsewhere those in backticks, and classes."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = [name for name in re.findall(r"`([^`\n]+)`", prose) if re.fullmatch(r"[\w/]+(\.\w+)*", name)]
    for walk in walks_in(text):
        found += re.findall(r"(?<![\w/.])\w+(?:/\w+)*(?:\.\w+)+|(?<![\w/.])[a-z_0-9]+(?:/[a-z_0-9]+)+", walk)
    return [name for name in found if name not in ELSEWHERE and re.search(r"[/._]|^[A-Z][a-z]\w+$", name)]


def fault_of(name: str) -> str:
    """What is wrong with a name: a path, perhaps with a class and function after it, or a dotted name; else ""."""
    path, *inside = name.rstrip("/").split(".")
    if inside[-1:] in (["py"], ["md"], ["toml"]):
        named = f"{path}.{inside[-1]}"
        exists = any((REPOSITORY / root / named).is_file() for root in ROOTS) or any(SOURCE.glob(f"*/{named}"))
        return "" if exists else f"{name}: no such file"
    if not inside and "_" in path and "/" not in path:
        return "" if path in words() else f"{name}: no such word in the source"  # also of columns, settings, metrics
    if "/" not in path:
        return "" if is_known(path, inside) else f"{name}: no such name"
    places = [
        place
        for root in ROOTS
        for place in (REPOSITORY / root / path, REPOSITORY / root / f"{path}.py")
        if place.exists()
    ]
    if not places:
        return f"{name}: no such module"
    return "" if any(has(place, inside) for place in places) else f"{name}: no {'.'.join(inside)} in it"


def fault_of_row(places: str, text: str) -> str:
    packages = [SOURCE / place for place in re.findall(r"`([\w./]+)`", places)]
    if missing := [package.name for package in packages if not package.exists()]:
        return f"{missing[0]}: no such layer"
    for name in re.findall(r"`([\w/]+)`", text):
        if not any(child.is_file() or child.is_dir() for package in packages for child in children(package, name)):
            return f"{places}: no {name} in it"
    return ""


def children(package: Path, name: str) -> list[Path]:
    return [package / name.rstrip("/"), package / f"{name}.py", package.parent / name.rstrip("/")]


def is_known(first: str, inside: list[str]) -> bool:
    """Whether a module or package of that name, or a class, has what is named after it."""
    if first[0].isupper():
        return any(first in names and set(inside) <= names[first] for names in map(definitions, modules()))
    return any(has(place, inside) for place in [*SOURCE.rglob(f"{first}.py"), *SOURCE.rglob(first)])


def has(place: Path, inside: list[str]) -> bool:
    """Whether a module or package defines a function or class, with this member perhaps."""
    if not inside:
        return True
    if place.is_dir():
        module = place / f"{inside[0]}.py"
        if module.is_file():
            return has(module, inside[1:])
        return has(place / "__init__.py", inside) or has(place / f"{place.name}.py", inside)
    if not place.is_file():
        return False
    names = definitions(place)
    return inside[0] in names and set(inside[1:]) <= names[inside[0]]


@functools.cache
def modules() -> list[Path]:
    return sorted(PACKAGES.rglob("*.py"))


@functools.cache
def words() -> set[str]:
    """Every word of the gateway's source, and the names of its files."""
    named = {file.stem for file in PACKAGES.rglob("*")}
    return named.union(*(re.findall(r"\w+", file.read_text(encoding="utf-8")) for file in modules()))


@functools.cache
def definitions(module: Path) -> dict[str, set[str]]:
    """The functions, classes and constants of a module, each with what a class defines."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.ClassDef(name=name):
                found.setdefault(name, set()).update(members(node))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.setdefault(name, set())
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.setdefault(name, set())
            case _:
                pass
    return found


def members(node: ast.ClassDef) -> set[str]:
    names: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                names.add(name)
            case _:
                pass
    return names

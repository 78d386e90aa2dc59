"""Rules that no linter knows: what runs inside a transaction changes nothing but the database.

`Database.write` and `Database.read` may run their work several times, or roll it back, on a thread of their own. So a
function that takes a `Connection`, and every function handed to the database, may change no object that it did not
make itself, touch no file, ask no clock and call nothing of asyncio. What a commit changes in memory goes into
`after_commit`; files are removed after the commit; the time is an argument. And it does nothing that is slow by its
nature (hashing passwords, compressing, other programs, the network): everybody's writes wait for it.

A module that is long states the reason, and none is very long.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import kurir

SOURCE = Path(kurir.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

MACHINERY = {SOURCE / "store" / name for name in ("writer.py", "transaction_end.py", "ordered_appends.py")} | {
    SOURCE / "store" / "statements.py"
}
"""What runs the work, and so changes its own memory: what it remembers does not depend on the transaction."""
RUN_WORK = {"write", "read"}
"""Calls whose function arguments run inside a transaction; `after_commit=` does not."""
MUTATING = {
    "append", "appendleft", "extend", "insert", "add", "discard", "remove", "pop", "popitem", "popleft", "clear",
    "update", "setdefault", "subtract", "put", "put_nowait", "set", "set_result", "set_exception", "move_to_end",
}  # fmt: skip
FILES = {
    "unlink", "write_text", "write_bytes", "read_text", "read_bytes", "mkdir", "rmdir", "rename", "touch", "chmod",
    "symlink_to", "hardlink_to", "rmtree", "copyfile", "makedirs",
}  # fmt: skip
CLOCKS = {"system_clock", "self._clock", "self._now", "datetime.now", "datetime.utcnow", "date.today"}
MODULES = ("time.", "asyncio.", "os.", "shutil.", "threading.")
SLOW_MODULES = (
    "_hasher.", "zlib.", "gzip.", "bz2.", "lzma.", "zipfile.", "tarfile.", "subprocess.", "socket.", "ssl.", "urllib.",
    "requests.", "aiohttp.", "httpx.", "http.", "hashlib.scrypt", "hashlib.pbkdf2_hmac",
)  # fmt: skip
SLOW = {"hashed", "fits", "getaddrinfo", "urlopen"}
"""Functions of ours and others that take longer than a transaction may, by their last name."""
LOOP = {"create_task", "call_soon", "call_later", "call_soon_threadsafe", "run_in_executor", "spawn"}


def test_what_runs_inside_a_transaction_changes_nothing_but_the_database():
    found = [
        f"{file.relative_to(SOURCE)}:{line}: {why}"
        for file in sorted(SOURCE.rglob("*.py"))
        if "migrations" not in file.parts and file not in MACHINERY
        for line, why in faults(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found, "\n" + "\n".join(found)


def test_nothing_is_added_to_memory_across_an_await():
    """`x += await f()` reads x before it waits, and overwrites what others added meanwhile."""
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.AugAssign)
        and not isinstance(node.target, ast.Name)
        and any(isinstance(inner, ast.Await) for inner in ast.walk(node.value))
    ]
    assert not found, found


@pytest.mark.parametrize(
    "code",
    [
        "def f(connection: Connection):\n    self.x = 1",
        "def f(c: sa.Connection, seen):\n    seen.add(1)",
        "def f(c: Connection, seen):\n    seen['a'] = 1",
        "def f(c: Connection, seen):\n    del seen['a']",
        "def f(c: Connection, path):\n    path.unlink(missing_ok=True)",
        "def f(c: Connection, path):\n    path.replace(other)",
        "def f(c: Connection):\n    open('x').read()",
        "def f(c: Connection):\n    c.execute(x, time.time())",
        "def f(c: Connection):\n    asyncio.get_running_loop()",
        "def f(self, c: Connection):\n    return self._clock()",
        "def f(self, c: Connection):\n    self._waiting[1] -= 1",
        "def f(self, c: Connection):\n    nonlocal x\n    x = 1",
        "async def g(db):\n    seen = []\n    def work(c):\n        seen.append(1)\n    await db.write(work)",
        "async def g(self):\n    await self._database.write(lambda c: self._seen.pop(1))",
        "async def g(self):\n    await self._database.read(partial(work, 1))\ndef work(n, c):\n    self.x = 1",
        "class A:\n    def note(self):\n        self.x = 1\n    def f(self, c: Connection):\n        self.note()",
        "def note():\n    SEEN.add(1)\ndef f(c: Connection):\n    note()",
        "def f(self, c: Connection):\n    seen = self._seen\n    seen.add(1)",
        "def f(self, c: Connection):\n    for one in self._all:\n        one.done = True",
        "def f(self, c: Connection):\n    self._seen.setdefault(1, []).append(2)",
        "def f(c: Connection):\n    def inner():\n        SEEN.add(1)\n    inner()",
        "def f(c: Connection, password):\n    c.execute(x, members.hashed(password))",
        "def f(c: Connection, password):\n    c.execute(x, _hasher.hash(password))",
        "def f(c: Connection, body):\n    c.execute(x, zlib.compress(body))",
        "def f(c: Connection):\n    requests.get('http://x/')",
        "def work(c):\n    return hashed('x')\nasync def g(db):\n    await db.write(work)",
    ],
)
def test_the_rule_finds_each_kind(code: str):
    assert list(faults(ast.parse(textwrap.dedent(code))))


@pytest.mark.parametrize(
    "code",
    [
        "def f(c: Connection):\n    seen = []\n    seen.append(1)\n    seen[0] = 2\n    found = {}\n    found['a'] = 1",
        "def f(c: Connection):\n    c.execute(messages.update().values(a='b'.replace('a', 'b')))",
        "def f(c: Connection):\n    endpoints.add(c, 1)\n    contacts.insert()",
        "def f(self, c: Connection):\n    return self._known.get(1)",
        "async def g(self):\n    def done(result):\n        self.x = 1\n"
        "    await self._database.write(work, after_commit=done)\ndef work(c: Connection): ...",
    ],
)
def test_the_rule_lets_the_rest_pass(code: str):
    assert not list(faults(ast.parse(textwrap.dedent(code))))


# -- the rule ----------------------------------------------------------------------------------------------------------


def faults(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Every (line, fault) of functions that run inside a transaction, and of what they call in the same module."""
    if any(isinstance(node, ast.ClassDef) and node.name == "Connection" for node in ast.walk(module)):
        return  # another thing of that name
    functions = [node for node in ast.walk(module) if isinstance(node, Function)]
    named: dict[str, list[Function]] = {}
    for function in functions:
        if not isinstance(function, ast.Lambda):
            named.setdefault(function.name, []).append(function)
    inside = [function for function in functions if takes_connection(function)]
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        if last_name(call.func) in RUN_WORK:
            for argument in call.args:
                inside += worked_by(argument, named)
    seen: list[Function] = []
    while inside:
        function = inside.pop()
        if function in seen:
            continue
        seen.append(function)
        yield from direct_faults(function)
        for node in body_of(function):
            if isinstance(node, ast.Call):
                inside += called_by(node, named)


def takes_connection(function: Function) -> bool:
    arguments = function.args
    return any(
        argument.annotation is not None and ast.unparse(argument.annotation) in {"Connection", "sa.Connection"}
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    )


def worked_by(argument: ast.expr, named: dict[str, list[Function]]) -> list[Function]:
    """The functions behind an argument of `write`: a lambda, a name, a method, or a partial of one."""
    match argument:
        case ast.Lambda():
            return [argument]
        case ast.Call(func=ast.Name(id="partial"), args=[first, *_]):
            return worked_by(first, named)
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            return named.get(name, [])
    return []


def called_by(call: ast.Call, named: dict[str, list[Function]]) -> list[Function]:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            return [function for function in named.get(name, []) if not isinstance(function, ast.AsyncFunctionDef)]
    return []


def direct_faults(function: Function) -> Iterator[tuple[int, str]]:
    own = own_names(function)
    for node in body_of(function):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Global() | ast.Nonlocal():
                yield line, f"changes {', '.join(node.names)} outside"
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                yield from ((line, why) for target in targets for why in changed(target, own))
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target) | ast.NamedExpr(target=target):
                yield from ((line, why) for why in changed(target, own))
            case ast.Call():
                yield from ((line, why) for why in called(node, own))


def changed(target: ast.expr, own: set[str]) -> Iterator[str]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from changed(element, own)
    elif isinstance(target, ast.Attribute | ast.Subscript) and root_name(target) not in own:
        yield f"changes {ast.unparse(target)}"


def called(call: ast.Call, own: set[str]) -> Iterator[str]:
    name, full = last_name(call.func), ast.unparse(call.func)
    on_object = isinstance(call.func, ast.Attribute)
    if full == "open" or (on_object and (name in FILES or (name == "replace" and len(call.args) == 1))):
        yield f"touches a file: {full}"
    elif full in CLOCKS or full.startswith(MODULES) or (on_object and name in LOOP):
        yield f"calls {full}"
    elif full.startswith(SLOW_MODULES) or name in SLOW:
        yield f"is slow: {full}"
    elif on_object and name in MUTATING and root_name(call.func) not in own and not is_statement(call):
        yield f"changes an object: {full}"


def is_statement(call: ast.Call) -> bool:
    """`table.insert()`, `sa.update(table)`, or a store function of another module, which is handed the connection."""
    if root_name(call.func) == "sa":
        return True
    if not call.args and not call.keywords:
        return last_name(call.func) in {"insert", "update", "delete"}
    return bool(call.args) and isinstance(call.args[0], ast.Name) and call.args[0].id in {"connection", "c"}


def own_names(function: Function) -> set[str]:
    """Names of objects that the function made itself: no parameter, and no other name for what somebody else has."""
    made: set[str] = set()
    others: set[str] = set()
    for node in body_of(function):
        match node:
            case ast.Assign(targets=targets, value=value):
                pass
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                targets = [target]
            case _:
                continue
        names = {
            inner.id
            for target in targets
            for inner in ast.walk(target)
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
        }
        alias = isinstance(value, ast.Name | ast.Attribute | ast.Subscript) and root_name(value) != "connection"
        if alias or (isinstance(value, ast.Call) and root_name(value) in {"self", "cls"}):
            others |= names
        else:
            made |= names
    return made - others


def body_of(function: Function) -> Iterator[ast.AST]:
    """Everything inside the function, its inner functions' insides too."""
    for part in function.body if isinstance(function.body, list) else [function.body]:
        yield from ast.walk(part)


def root_name(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_what_is_read_for_an_account_is_read_in_its_turn():
    """A read without `of=` or `pool=` counts as the gateway's own, which no account's flood may delay."""
    for_requests = {
        SOURCE / "outbox" / "outbox.py": {"snapshot", "waiting_facts", "wait_until_settled", "earlier"},
        **dict.fromkeys(sorted((SOURCE / "web" / "compat_v1").rglob("*.py"))),
    }
    assert len(for_requests) > 10, "the rooms have moved"
    found = {
        f"{file.relative_to(SOURCE)}:{line}"
        for file in sorted(SOURCE.rglob("*.py"))
        for line in unnamed_reads(ast.parse(file.read_text(encoding="utf-8")), for_requests.get(file, set()))
    }
    assert not found, found


@pytest.mark.parametrize(
    ("code", "faulty"),
    [
        ("async def f(self, account_id):\n    await self._database.read(lambda c: one(c, account_id))", True),
        ("async def f(self, entry):\n    await self._database.read(lambda c: one(c, entry.account_id))", True),
        ("async def f(db, call):\n    await database.read(lambda c: one(c, call.account.id))", True),
        ("async def f(db, account_id):\n    await database.read(lambda c: one(c, account_id), of=account_id)", False),
        ("async def f(db, account_id):\n    await database.read(lambda c: one(c, account_id), pool='lists')", False),
        ("async def f(db):\n    await database.read(everything)", False),
        ("async def f(file, account_id):\n    file.read(account_id)", False),
        ("async def f(database, account_id):\n    def g(c):\n        return 1\n    await database.read(g)", True),
    ],
)
def test_reads_for_an_account_are_distinguished_from_others(code: str, faulty: bool) -> None:
    assert bool(list(unnamed_reads(ast.parse(code), set()))) is faulty


def unnamed_reads(tree: ast.AST, functions: set[str] | None) -> Iterator[int]:
    """Lines of `….database.read(…)` that name neither an account nor a pool: in these functions (None: anywhere) all,
    elsewhere those whose function is handed an account's id, or that look one up for the reading."""
    for outer in ast.walk(tree):
        if not isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        handed = {argument.arg for argument in (*outer.args.args, *outer.args.kwonlyargs)}
        for node in ast.walk(outer):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "read"):
                continue
            if not ast.unparse(node.func.value).endswith("database"):
                continue
            if {keyword.arg for keyword in node.keywords} & {"of", "pool"}:
                continue
            known = "account_id" in handed or any(
                ast.unparse(inner).endswith((".account_id", ".account.id"))
                for argument in node.args
                for inner in ast.walk(argument)
                if isinstance(inner, ast.Attribute) and root_name(inner) not in table_names(tree)
            )
            if known or functions is None or outer.name in functions:
                yield node.lineno


def table_names(tree: ast.AST) -> set[str]:
    """Names that a module takes from a feature's tables: `messages.c.account_id` is no account at hand."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("tables")
        for alias in node.names
    }


def test_tables_can_be_used_whatever_was_imported_before() -> None:
    """A foreign key without a type of its own has none until the other table's module has been imported."""
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in sorted(SOURCE.rglob("tables.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and last_name(node.func) == "Column"
        if len(node.args) > 1 and isinstance(node.args[1], ast.Call) and last_name(node.args[1].func) == "ForeignKey"
    ]
    assert not found, found


# -- sizes -------------------------------------------------------------------------------------------------------------

LONG, LONGEST = 300, 500
"""Lines from which a module states the reason in its docstring, and lines that none exceeds."""


def test_long_modules_say_why() -> None:
    files = [file for package in ("kurir", "kurir_sandbox") for file in (SOURCE.parent / package).rglob("*.py")]
    assert any("versions" in file.parts for file in files), "migrations count too"
    found = {
        str(file.relative_to(SOURCE.parent)): fault
        for file in files
        if (fault := size_fault(file.read_text(encoding="utf-8")))
    }
    assert not found, found


@pytest.mark.parametrize(
    ("lines", "docstring", "faulty"),
    [
        (300, "A module.", False),
        (301, "A module.", True),
        (301, "A module.\n\nMore than 300 lines: one table.", False),
        (301, "A module.\n\nMore than 300 lines", True),
        (500, "A module.\n\nMore than 300 lines: one table.", False),
        (501, "A module.\n\nMore than 300 lines: one table.", True),
    ],
)
def test_the_rule_for_sizes_knows_its_bounds(lines: int, docstring: str, faulty: bool) -> None:
    text = f'"""{docstring}"""\n'
    text += "x = 1\n" * (lines - text.count("\n"))
    assert bool(size_fault(text)) is faulty


def size_fault(text: str) -> str:
    """What is wrong with the size of a module's text; "" when it is right."""
    lines = text.count("\n")
    if lines > LONGEST:
        return f"{lines} lines"
    if lines > LONG and not re.search(
        r"^More than 300 lines: \w", ast.get_docstring(ast.parse(text)) or "", re.MULTILINE
    ):
        return f"{lines} lines, and no reason in the docstring"
    return ""

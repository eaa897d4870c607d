"""The laws of the source tree, as functions from sources to the breaches in them.

Kept apart from their tests so that each law can be shown a sample that breaks it.
A breach is one line: ``xiaozhi/im/session/link.py:12: imports xiaozhi.storage``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter

# The layers, lowest first. A part may import any lower layer; within its own only what
# SIDEWAYS lists.
BASE = {"base", "languages", "wire", "_pb"}
SEAMS = {"interfaces"}
# Any mechanism may use these two.
GROUND = {"runtime", "metrics"}
MECHANISMS = {
    *("audio", "auth", "bridge", "cache", "plugins", "providers", "storage", "tools", "web"),
}
AGENTS = {"agents"}
SERVICES = {"im", "ai"}
PROGRAMS = {"cli", "device"}
TESTS = {"test", "testing"}

SIDEWAYS = {
    ("wire", "base"),
    ("wire", "_pb"),
    ("languages", "base"),
    ("providers", "audio"),
    ("providers", "plugins"),
    ("plugins", "providers"),
    ("tools", "plugins"),
    ("plugins", "tools"),
}
# Pure values that live in a higher room, which a seam names. They import only each other
# and the base.
VALUES = {"agents.agent", "agents.settings", "tools.settings"}
# What only a composition root joins to a service.
JOINED_BY_ROOTS = {"storage", "cache", "bridge", "providers", "plugins"}
# What only composition roots and programs use of the runtime.
ASSEMBLY = {"runtime.config", "runtime.component", "runtime.service"}
ROOTS = (
    *("xiaozhi/*/tap.py", "xiaozhi/*/schema.py"),
    *("xiaozhi/ai/assembly.py", "xiaozhi/ai/owners.py"),
)

# The rooms of each service, lowest first; a plain module counts as a room. A room may
# import those before it.
ROOMS = {
    "im": (
        *("settings", "counts", "language", "sessionlog", "playout", "session"),
        *("ingress", "websocket"),
        *("metrics", "schema", "tap"),
    ),
    "ai": (
        *("timeline", "vision", "speech", "memory", "listening", "llm", "turn", "session"),
        *("http", "metrics", "schema", "assembly", "owners", "tap"),
    ),
}
MODULE_LINES = 450
FUNCTION_LINES = 80
CONSTRUCTOR_PARAMETERS = 6
ROOM_MODULES = 14
PURPOSE_WORDS = 4
# Where the global reactor may be named at module level.
COMMANDS = ("*/tap.py", "*/cli.py", "xiaozhi/cli/*", "*_child.py", "*/__main__.py")
SLEEP = "time.sleep"
TEST_MODULES = "xiaozhi/test/*"


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name.

    :ivar typing_only: under ``if TYPE_CHECKING``.
    :ivar top_level: runs when the module is imported.
    """

    name: str
    line: int
    typing_only: bool
    top_level: bool


def module_name(path: str) -> str:
    """``xiaozhi/wire/__init__.py`` → ``xiaozhi.wire``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def imports(path: str, source: str) -> list[Import]:
    """Every import of a module; ``from a import b`` counts as ``a.b``."""
    package = module_name(path).split(".")
    if not path.endswith("__init__.py"):
        package = package[:-1]
    found: list[Import] = []

    def visit(node: ast.AST, typing_only: bool, top_level: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(a.name, node.lineno, typing_only, top_level) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            found.extend(
                Import(f"{prefix}.{alias.name}", node.lineno, typing_only, top_level)
                for alias in node.names
            )
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for guarded in node.body:
                visit(guarded, True, top_level)
            for other in node.orelse:
                visit(other, typing_only, top_level)
            return
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, typing_only, top_level and not inside)

    visit(_tree(source), False, True)
    return found


@cache
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


def _part(name: str) -> str:
    """``xiaozhi.wire.frames`` → ``wire``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def _room(name: str) -> str:
    """``xiaozhi.im.session.link`` → ``session``."""
    parts = name.split(".")
    return parts[2] if len(parts) > 2 else ""


def _may_import(path: str, part: str, imported: str) -> bool:
    other = _part(imported)
    if part in TESTS or other in (part, "__version__", ""):
        return True
    if (part, other) in SIDEWAYS:
        return True
    value = f"{other}.{_room(imported)}" in VALUES
    if f"{part}.{_room(module_name(path))}" in VALUES:
        return value or other in BASE
    if value and part in SEAMS:
        return True
    order = (BASE, SEAMS, GROUND, MECHANISMS, AGENTS, SERVICES, PROGRAMS)
    mine, theirs = (
        next((rank for rank, layer in enumerate(order) if one in layer), len(order))
        for one in (part, other)
    )
    if theirs >= mine or other in SERVICES:
        return False
    if part in PROGRAMS or any(fnmatch(path, pattern) for pattern in ROOTS):
        return True
    if f"{other}.{_room(imported)}" in ASSEMBLY:
        return part in GROUND
    return part not in SERVICES or other not in JOINED_BY_ROOTS


def import_law(path: str, source: str) -> Iterator[str]:
    """A layer imports only lower layers, and no module a tap."""
    part = _part(module_name(path))
    for each in imports(path, source):
        if not each.name.startswith("xiaozhi"):
            continue
        where = f"{path}:{each.line}: imports {each.name}"
        if re.search(r"\.tap(\.|$)", each.name) and part not in TESTS:
            yield where + ": nobody imports a tap"
        elif not _may_import(path, part, each.name):
            yield where + f": {part} may not"


def room_law(path: str, source: str) -> Iterator[str]:
    """Inside a service a room imports only rooms before it."""
    name = module_name(path)
    order = ROOMS.get(_part(name), ())
    here = _room(name)
    if not here or not order:
        return
    if here not in order:
        yield f"{path}: {here} has no place in ROOMS; give it one in {__name__}"
        return
    for each in imports(path, source):
        there = _room(each.name)
        if _part(each.name) != _part(name) or there in (here, ""):
            continue
        if there not in order or order.index(there) > order.index(here):
            yield f"{path}:{each.line}: imports {each.name}: {here} comes before {there}"


def length_law(path: str, source: str) -> Iterator[str]:
    """A module and a function are short enough to be taken in."""
    lines = source.count("\n")
    if lines > MODULE_LINES:
        yield f"{path}: {lines} lines; split it at {MODULE_LINES}"
    for node in ast.walk(_tree(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def homonym_law(sources: Mapping[str, str]) -> Iterator[str]:
    """Two public classes with one name would be confused."""
    found: dict[str, list[str]] = {}
    for path, source in sources.items():
        for node in _tree(source).body:
            # twistd asks every plugin for a class of this name.
            if isinstance(node, ast.ClassDef) and node.name[0] != "_" and node.name != "Options":
                found.setdefault(node.name, []).append(path)
    for name, paths in sorted(found.items()):
        if len(paths) > 1:
            yield f"class {name}: defined in {' and '.join(paths)}"


def parts_law(paths: Iterable[str]) -> Iterator[str]:
    """Every part of the package has its place in the layers."""
    known = BASE | SEAMS | GROUND | MECHANISMS | AGENTS | SERVICES | PROGRAMS | TESTS | {""}
    for part in sorted({_part(module_name(path)) for path in paths} - known):
        yield f"xiaozhi/{part}: stands in no layer; give it one in {__name__}"


def cycle_law(sources: Mapping[str, str]) -> Iterator[str]:
    """Modules do not need each other in a circle, not even to name a type."""
    modules = {module_name(path): path for path in sources}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        needed = graph.setdefault(name, set())
        for each in imports(path, sources[path]):
            if not each.top_level:
                continue
            target = each.name if each.name in modules else each.name.rpartition(".")[0]
            # A package may gather its modules; they have it as a parent anyway.
            if target in modules and target != name and not name.startswith(target + "."):
                needed.add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "circular import: " + " -> ".join(reversed(error.args[1]))


def async_test_law(path: str, source: str) -> Iterator[str]:
    """``async def test_x`` in a SynchronousTestCase would pass without running.

    A class with unknown bases counts as one, unless its name has ``TestCase``.
    """
    if "async def test" not in source:
        return
    classes = {n.name: n for n in ast.walk(_tree(source)) if isinstance(n, ast.ClassDef)}

    def synchronous(node: ast.ClassDef) -> bool:
        for base in node.bases:
            name = ast.unparse(base).split("[")[0].rpartition(".")[2]
            if name == "TestCase" or (name in classes and not synchronous(classes[name])):
                return False
        return True

    for node in classes.values():
        for member in node.body:
            if (
                isinstance(member, ast.AsyncFunctionDef)
                and member.name.startswith("test")
                and synchronous(node)
            ):
                yield f"{path}:{member.lineno}: {node.name}.{member.name} would never run"


def reactor_law(path: str, source: str) -> Iterator[str]:
    """The global reactor is a parameter, named only where a program begins."""
    if any(fnmatch(path, pattern) for pattern in (*COMMANDS, TEST_MODULES)):
        return
    for each in imports(path, source):
        if each.name == "twisted.internet.reactor" and each.top_level and not each.typing_only:
            yield f"{path}:{each.line}: imports the reactor"


def sleep_law(path: str, source: str) -> Iterator[str]:
    """Nothing sleeps on the reactor's thread."""
    if fnmatch(path, "*_child.py"):
        return
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and ast.unparse(node) == SLEEP:
            yield f"{path}:{node.lineno}: time.sleep"
    for each in imports(path, source):
        if each.name == SLEEP:
            yield f"{path}:{each.line}: time.sleep"


def docstring_law(path: str, source: str) -> Iterator[str]:
    """Every public module has a docstring."""
    name = module_name(path).rpartition(".")[2]
    if (not name.startswith("_") or name == "__init__") and not ast.get_docstring(_tree(source)):
        yield f"{path}: has no docstring"


def private_path_law(path: str, text: str) -> Iterator[str]:
    """No path of a developer's machine."""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.search(
            r"(?<![\w./~-])/(?:home/\w+|Users/\w+|root|work|workspace)(?![\w-])", line
        )
        if found:
            yield f"{path}:{number}: names {found.group()}"


def drop_in_law(paths: Iterable[str]) -> Iterator[str]:
    """``twisted/`` and ``twisted/plugins/`` are not packages of ours."""
    for path in paths:
        if path in ("twisted/__init__.py", "twisted/plugins/__init__.py"):
            yield f"{path}: would hide Twisted itself"


def packages_law(paths: Iterable[str]) -> Iterator[str]:
    """Every folder with modules has an ``__init__.py``: setup.py finds packages by it."""
    paths = set(paths)
    rooms = {p.rpartition("/")[0] for p in paths if p.startswith("xiaozhi/") and p.endswith(".py")}
    for room in sorted(rooms):
        if f"{room}/__init__.py" not in paths:
            yield f"{room}: has no __init__.py, so it would not be installed"


def constructor_law(path: str, source: str) -> Iterator[str]:
    """A constructor takes at most six parameters; more are grouped into values.

    A frozen value (a dataclass, a settings struct) has no constructor of its own and may
    have any number of fields.
    """
    for node in ast.walk(_tree(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                given = member.args
                # Without `self`.
                count = len(given.posonlyargs) + len(given.args) - 1 + len(given.kwonlyargs)
                if count > CONSTRUCTOR_PARAMETERS:
                    yield f"{path}:{member.lineno}: {node.name} takes {count} parameters"


def purpose_law(path: str, source: str) -> Iterator[str]:
    """The ``__init__`` of a room states its purpose in a sentence."""
    if not path.endswith("/__init__.py"):
        return
    stated = ast.get_docstring(_tree(source)) or ""
    sentence = stated.partition("\n\n")[0]
    if not sentence.rstrip().endswith(".") or len(sentence.split()) < PURPOSE_WORDS:
        yield f"{path}: state the room's purpose in a sentence"


def crowd_law(paths: Iterable[str]) -> Iterator[str]:
    """A room has few enough modules to be remembered."""
    rooms: dict[str, int] = {}
    for path in paths:
        room, _, module = path.rpartition("/")
        if module.endswith(".py") and module != "__init__.py":
            rooms[room] = rooms.get(room, 0) + 1
    for room, count in sorted(rooms.items()):
        if count > ROOM_MODULES:
            yield f"{room}: {count} modules; make two rooms of it"

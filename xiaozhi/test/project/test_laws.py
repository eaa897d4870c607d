"""The tree keeps its laws, and each law can tell a breach."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
from twisted.trial import unittest

from xiaozhi.test import laws

ROOT = Path(laws.__file__).resolve().parents[2]
PYTHON = ("xiaozhi", "tests", "twisted", "benchmarks")


@cache
def files() -> dict[str, str]:
    """Text files by their path: all that git tracks, and our Python files in any case."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    paths = {ROOT / line for line in listing.stdout.splitlines()}
    paths |= {ROOT / "setup.cfg"}
    paths |= {path for part in PYTHON for path in (ROOT / part).rglob("*.py")}
    found = {}
    for path in sorted(paths):
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue  # not text, or deleted and not yet committed
    return found


def sources(*prefixes: str) -> dict[str, str]:
    """Python files under any of the prefixes, but for generated ones."""
    return {
        path: text
        for path, text in files().items()
        if path.endswith(".py") and path.startswith(prefixes) and "/_pb/" not in path
    }


Law = Callable[[str, str], Iterator[str]]


class TreeTests(unittest.SynchronousTestCase):
    def assert_kept(self, breaches: Iterator[str]) -> None:
        found = list(breaches)
        self.assertEqual(found, [], "\n".join(["", *found]))

    def assert_each_keeps(self, law: Law, *prefixes: str) -> None:
        tree = sources(*prefixes)
        self.assertGreater(len(tree), 2)
        self.assert_kept(breach for path, text in tree.items() for breach in law(path, text))

    def assert_own(self, law: Law) -> None:
        """Check the program: everything except tests and their shared code."""
        self.assert_kept(breach for path, text in self.own().items() for breach in law(path, text))

    def test_imports(self) -> None:
        self.assert_each_keeps(laws.import_law, "xiaozhi/")
        self.assert_kept(laws.parts_law(sources("xiaozhi/")))

    def test_rooms(self) -> None:
        self.assert_own(laws.room_law)

    def test_lengths(self) -> None:
        self.assert_own(laws.length_law)

    def test_names_are_distinct(self) -> None:
        self.assert_kept(laws.homonym_law(self.own()))

    def test_constructors(self) -> None:
        self.assert_own(laws.constructor_law)

    def test_rooms_state_their_purpose(self) -> None:
        self.assert_own(laws.purpose_law)

    def test_rooms_are_not_crowded(self) -> None:
        self.assert_kept(laws.crowd_law(self.own()))

    def own(self) -> dict[str, str]:
        """Return the program: everything except tests and their shared code."""
        tree = sources("xiaozhi/")
        return {p: text for p, text in tree.items() if not p.startswith("xiaozhi/test")}

    def test_no_cycles(self) -> None:
        self.assert_kept(laws.cycle_law(sources("xiaozhi/")))

    def test_every_test_runs(self) -> None:
        self.assert_each_keeps(laws.async_test_law, "xiaozhi/test", "tests/")

    def test_reactor_is_a_parameter(self) -> None:
        self.assert_each_keeps(laws.reactor_law, "xiaozhi/")

    def test_properties_have_no_time_limit(self) -> None:
        self.assertIsNone(hypothesis.settings().deadline)

    def test_nothing_sleeps(self) -> None:
        self.assert_each_keeps(laws.sleep_law, "xiaozhi/")

    def test_modules_have_docstrings(self) -> None:
        tree = {path: text for path, text in sources("xiaozhi/").items() if "/test/" not in path}
        self.assert_kept(
            breach for path, text in tree.items() for breach in laws.docstring_law(path, text)
        )

    def test_no_private_paths(self) -> None:
        own = ("xiaozhi/test/laws.py", "xiaozhi/test/project/test_laws.py")
        tree = {path: text for path, text in files().items() if path not in own}
        self.assert_kept(
            breach for path, text in tree.items() for breach in laws.private_path_law(path, text)
        )

    def test_drop_ins_are_no_package(self) -> None:
        self.assert_kept(laws.drop_in_law(files()))

    def test_packages_are_found(self) -> None:
        self.assert_kept(laws.packages_law(files()))


class LawTests(unittest.SynchronousTestCase):
    """Each law sees a breach, and an allowed lookalike."""

    def assert_breach(self, law: Law, path: str, source: str) -> None:
        self.assertEqual(len(list(law(path, source))), 1, source)

    def assert_allowed(self, law: Law, path: str, source: str) -> None:
        self.assertEqual(list(law(path, source)), [])

    def test_import_law(self) -> None:
        for path, source in (
            ("xiaozhi/base/values.py", "import xiaozhi.interfaces"),
            ("xiaozhi/agents/agent.py", "from xiaozhi.providers.kit import catalogue"),
            ("xiaozhi/interfaces/agents.py", "from xiaozhi.agents.roles import Roles"),
            ("xiaozhi/wire/frames.py", "from xiaozhi.runtime.config import load"),
            ("xiaozhi/interfaces/tools.py", "from xiaozhi.runtime import service"),
            ("xiaozhi/interfaces/tools.py", "def f():\n    import xiaozhi.audio"),
            ("xiaozhi/storage/store.py", "from xiaozhi.runtime.config import load"),
            ("xiaozhi/audio/codec.py", "from xiaozhi.providers import base"),
            ("xiaozhi/storage/store.py", "from xiaozhi.im.session.link import DeviceLink"),
            ("xiaozhi/im/session/link.py", "from xiaozhi.ai.session.session import Session"),
            ("xiaozhi/im/session/link.py", "from ...storage import store"),
            ("xiaozhi/ai/session/session.py", "from xiaozhi import providers"),
            ("xiaozhi/im/session/link.py", "from xiaozhi.runtime.config import load"),
            ("xiaozhi/im/tap.py", "from xiaozhi.ai.session.session import Session"),
            ("xiaozhi/device/cli.py", "from xiaozhi.im import link"),
            ("xiaozhi/im/session/link.py", "from xiaozhi.im import tap"),
            ("xiaozhi/device/cli.py", "import xiaozhi.ai.tap"),
            ("xiaozhi/ai/session/session.py", "from xiaozhi.testing import wire"),
            (
                "xiaozhi/interfaces/tools.py",
                "if TYPE_CHECKING:\n    from xiaozhi.runtime import service",
            ),
        ):
            self.assert_breach(laws.import_law, path, source)
        for path, source in (
            ("xiaozhi/interfaces/tools.py", "from xiaozhi.base.values import Picture"),
            ("xiaozhi/interfaces/agents.py", "from xiaozhi.agents.agent import Agent"),
            ("xiaozhi/agents/settings.py", "from xiaozhi.tools.settings import McpSettings"),
            (
                "xiaozhi/im/session/link.py",
                "from xiaozhi.im.playout.pacer import Pacer\nimport json",
            ),
            (
                "xiaozhi/im/session/link.py",
                "from . import pacer\nfrom xiaozhi.interfaces import IBridge",
            ),
            (
                "xiaozhi/im/tap.py",
                "from xiaozhi.storage import store\nimport xiaozhi.bridge.edge.client",
            ),
            ("xiaozhi/ai/schema.py", "from xiaozhi.bridge import server"),
            ("xiaozhi/providers/offline/espeak.py", "from xiaozhi.audio import wav"),
            (
                "xiaozhi/bridge/memory.py",
                "from xiaozhi.bridge import items\nimport xiaozhi.metrics",
            ),
            ("xiaozhi/test/test_tap.py", "from xiaozhi.im import tap"),
        ):
            self.assert_allowed(laws.import_law, path, source)

    def test_parts_law(self) -> None:
        self.assertEqual(
            len(list(laws.parts_law(["xiaozhi/util/text.py", "xiaozhi/base/errors.py"]))), 1
        )

    def test_room_law(self) -> None:
        pacer, link = "xiaozhi/im/session/pacer.py", "from xiaozhi.im.ingress import gateway"
        self.assert_breach(laws.room_law, pacer, link)
        self.assert_breach(laws.room_law, "xiaozhi/im/session/__init__.py", link)
        self.assert_breach(laws.room_law, "xiaozhi/ai/turn/turn.py", "import xiaozhi.ai.tap")
        self.assert_breach(laws.room_law, "xiaozhi/im/attic/old.py", "")
        for path, source in (
            (pacer, "from xiaozhi.im.session import delivery\nfrom xiaozhi.im import settings"),
            (pacer, "from xiaozhi.wire import frames"),
            ("xiaozhi/im/__init__.py", link),
            ("xiaozhi/device/cli.py", "from xiaozhi.im.session import link"),
        ):
            self.assert_allowed(laws.room_law, path, source)

    def test_length_law(self) -> None:
        path = "xiaozhi/im/session/link.py"
        function = "def f():\n" + "    x = 1\n" * (laws.FUNCTION_LINES - 1)
        self.assert_allowed(laws.length_law, path, function)
        self.assert_breach(laws.length_law, path, function + "    x = 1\n")
        self.assert_breach(laws.length_law, path, "async " + function + "    x = 1\n")
        self.assert_allowed(laws.length_law, path, "x = 1\n" * laws.MODULE_LINES)
        self.assert_breach(laws.length_law, path, "x = 1\n" * (laws.MODULE_LINES + 1))

    def test_homonym_law(self) -> None:
        a, b = "xiaozhi/im/a.py", "xiaozhi/ai/b.py"
        same = {a: "class Session: pass", b: "class Session: pass"}
        self.assertEqual(len(list(laws.homonym_law(same))), 1)
        for name in ("_Session", "Options"):
            allowed = dict.fromkeys((a, b), f"class {name}: pass")
            self.assertEqual(list(laws.homonym_law(allowed)), [])
        nested = {a: "class Session: pass", b: "class B:\n    class Session: pass"}
        self.assertEqual(list(laws.homonym_law(nested)), [])

    def test_constructor_law(self) -> None:
        path = "xiaozhi/im/session/link.py"
        for parameters in ("a, b, c, d, e, f, g", "a, b, c, /, d, e, *, f, g"):
            source = f"class A:\n    def __init__(self, {parameters}): pass"
            self.assert_breach(laws.constructor_law, path, source)
        for source in (
            "class A:\n    def __init__(self, a, b, c, d, *, e, f=1): pass",
            "class A:\n    def other(self, a, b, c, d, e, f, g): pass",
            "@dataclass\nclass A:\n" + "".join(f"    {x}: int\n" for x in "abcdefg"),
        ):
            self.assert_allowed(laws.constructor_law, path, source)

    def test_purpose_law(self) -> None:
        path = "xiaozhi/im/session/__init__.py"
        for source in ("", '"""Session."""', '"""The state of one device"""'):
            self.assert_breach(laws.purpose_law, path, source)
        self.assert_allowed(laws.purpose_law, path, '"""The state of one device.\n\nMore"""')
        self.assert_allowed(laws.purpose_law, "xiaozhi/im/session/link.py", "")

    def test_crowd_law(self) -> None:
        paths = [f"xiaozhi/im/session/m{n}.py" for n in range(laws.ROOM_MODULES)]
        elsewhere = ["xiaozhi/im/session/__init__.py", "xiaozhi/im/m.py"]
        self.assertEqual(list(laws.crowd_law(paths + elsewhere)), [])
        self.assertEqual(len(list(laws.crowd_law([*paths, "xiaozhi/im/session/x.py"]))), 1)

    def test_cycle_law(self) -> None:
        a, b = "xiaozhi/im/a.py", "xiaozhi/im/b.py"
        for back in (
            "from xiaozhi.im import a",
            "if TYPE_CHECKING:\n    from xiaozhi.im import a",
        ):
            circle = {a: "from xiaozhi.im.b import x", b: back}
            self.assertEqual(len(list(laws.cycle_law(circle))), 1)
        for broken in (
            {a: "from xiaozhi.im.b import x", b: "def f():\n    from xiaozhi.im import a"},
            {"xiaozhi/im/__init__.py": "from xiaozhi.im.a import x", a: "import xiaozhi.im"},
        ):
            self.assertEqual(list(laws.cycle_law(broken)), [])

    def test_async_test_law(self) -> None:
        body = "    async def test_x(self): pass\n"
        path = "xiaozhi/test/test_x.py"
        for classes in (
            "class T(unittest.SynchronousTestCase):\n" + body,
            "class B(SynchronousTestCase): pass\nclass T(B):\n" + body,
            "class T(SomeContract):\n" + body,
        ):
            self.assert_breach(laws.async_test_law, path, classes)
        for classes in (
            "class T(unittest.TestCase):\n" + body,
            "class B(TestCase): pass\nclass T(Contract, B):\n" + body,
            "class T(SynchronousTestCase):\n    async def help(self): pass\n",
        ):
            self.assert_allowed(laws.async_test_law, path, classes)

    def test_reactor_law(self) -> None:
        source = "from twisted.internet import reactor"
        self.assert_breach(laws.reactor_law, "xiaozhi/im/session/link.py", source)
        self.assert_breach(
            laws.reactor_law, "xiaozhi/im/session/link.py", "class A:\n    " + source
        )
        self.assert_allowed(laws.reactor_law, "xiaozhi/im/tap.py", source)
        self.assert_allowed(
            laws.reactor_law, "xiaozhi/im/session/link.py", "def f():\n    " + source
        )

    def test_sleep_law(self) -> None:
        self.assert_breach(
            laws.sleep_law, "xiaozhi/im/session/link.py", "import time\ntime.sleep(1)"
        )
        self.assert_breach(laws.sleep_law, "xiaozhi/im/session/link.py", "from time import sleep")
        self.assert_allowed(laws.sleep_law, "xiaozhi/a/b_child.py", "import time\ntime.sleep(1)")

    def test_docstring_law(self) -> None:
        self.assert_breach(laws.docstring_law, "xiaozhi/a.py", "x = 1")
        self.assert_allowed(laws.docstring_law, "xiaozhi/a.py", '"""It."""')
        self.assert_allowed(laws.docstring_law, "xiaozhi/_a.py", "x = 1")

    def test_private_path_law(self) -> None:
        places = ("home/ann", "Users/ann", "ro" + "ot", "workspace/x")
        for text in (f'x = "/{place}"' for place in places):
            self.assert_breach(laws.private_path_law, "README.md", text)
        for text in ("network/work", "https://a.b/root", "/workers", "./root", "/root-cause"):
            self.assert_allowed(laws.private_path_law, "README.md", text)

    def test_drop_in_law(self) -> None:
        paths = ["twisted/__init__.py", "twisted/plugins/__init__.py", "twisted/plugins/x.py"]
        self.assertEqual(len(list(laws.drop_in_law(paths))), 2)

    def test_packages_law(self) -> None:
        paths = ["xiaozhi/__init__.py", "xiaozhi/im/tap.py", "twisted/plugins/x.py"]
        self.assertEqual(len(list(laws.packages_law(paths))), 1)
        self.assertEqual(list(laws.packages_law([*paths, "xiaozhi/im/__init__.py"])), [])

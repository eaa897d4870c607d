"""The mutation operators: which parts of a function they change, and which they skip."""

from __future__ import annotations

import ast
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from tests.mutation.operators import code_of, mutations

# Statements of a function, and the labels of their mutations.
CHANGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("return a < b", ("a < b → a <= b",)),
    ("return a is not b", ("a is not b → a is b",)),
    ("return a and b", ("a and b → a or b",)),
    ("return not a", ("not a → a",)),
    ("return a + b", ("a + b → a - b",)),
    ("return 'a' + b", ()),
    ("return f(7)", ("7 → 8",)),
    ("return True", ("True → False",)),
    ("self.a = b", ("self.a = b → pass",)),
    ("a = b", ()),
    ("a += b", ("a += b → a -= b", "a += b → pass")),
    ("f(a)", ("f(a) → pass",)),
    ("raise Error(f(1))", ("raise Error(f(1)) → pass",)),
    ("if a:\n    pass", ("a → not a",)),
    ("while f():\n    break", ("f() → not f()", "break → continue")),
    ("self._log.info('gone', size=1 + 1)", ()),
    ("assert a < b", ()),
    ("'''Say something.'''", ()),
    ("f(1)\nf(1)", ("f(1) → pass", "1 → 2", "f(1) → pass #2", "1 → 2 #2")),
)


def _labels(body: str) -> tuple[str, ...]:
    lines = body.replace("\n", "\n        ")
    source = f"class A:\n    def method(self, a=1, b: int = 2) -> None:\n        {lines}\n"
    found = mutations(ast.parse(source))
    return tuple(mutation.label.removeprefix("A.method: ") for mutation in found)


class OperatorTests(SynchronousTestCase):
    def test_changes(self) -> None:
        for body, labels in CHANGES:
            with self.subTest(body=body):
                self.assertEqual(_labels(body), labels)

    def test_applied_and_taken_back(self) -> None:
        tree = ast.parse(
            dedent("""
            def outer(a):
                def inner():
                    return a + 1
                return inner()
            """)
        )
        before = ast.dump(tree)
        answers = []
        for mutation in mutations(tree):
            self.assertEqual(mutation.function, "outer")
            with mutation.applied():
                module = compile(ast.fix_missing_locations(tree), "sample", "exec")
            space: dict[str, object] = {}
            exec(compile("def outer(a): ...", "sample", "exec"), space)
            outer = space["outer"]
            assert callable(outer)
            outer.__code__ = code_of(module, "outer")  # type: ignore[attr-defined]
            answers.append(outer(5))
        self.assertEqual((answers, ast.dump(tree)), ([4, 7], before))

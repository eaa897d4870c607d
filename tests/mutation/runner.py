"""Runs the unit tests against each mutant of a module, each in a process of its own.

The tests and their imports are loaded once. Every test then runs once to find the lines of the
module that it reaches. A mutant is a forked child in which one function has other code, and which
runs the tests that reach the changed line, the closest and quickest first, until one fails.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any
from unittest import TestResult, TestSuite

from twisted.trial.runner import TestLoader

from tests.mutation.operators import Mutation, code_of, mutations

# A test that takes so much longer with the mutant counts as endless, so the mutant is noticed.
# Seconds of processor time, and of real time for a test that only waits.
_PATIENCE, _SLOWER = 2.0, 5
_WAIT = 60
# The most tests for a mutant; one that only a later test would notice counts as a survivor.
_MOST_TESTS = 150
_MEMORY = 4 << 30
_SURVIVED, _KILLED = 0, 1


@dataclass(frozen=True)
class Verdict:
    """The result of one mutant.

    :ivar outcome: ``killed``, ``timeout``, ``survived`` or ``unreached`` by any test.
    """

    module: str
    line: int
    label: str
    outcome: str

    @property
    def noticed(self) -> bool:
        """Whether a test failed, or never ended."""
        return self.outcome in ("killed", "timeout")

    def __str__(self) -> str:
        return f"{self.outcome} {self.module}:{self.line} {self.label}"


class Subject:
    """One module under mutation, with its tests.

    :param module: its full name.
    :param tests: names of modules of ``xiaozhi.test``.
    """

    def __init__(self, module: str, tests: tuple[str, ...]) -> None:
        self.name = module
        self._module = importlib.import_module(module)
        self._path = Path(inspect.getfile(self._module))
        self._tree = ast.parse(self._path.read_text())
        self.mutations = mutations(self._tree)
        loader = TestLoader()
        self._tests: list[Any] = []
        # The module whose tests are closest to the subject comes first.
        self._rank: dict[int, tuple[int, float]] = {}
        self._seconds: list[float] = []
        for nearness, test in enumerate(tests):
            loaded = _flat(loader.loadByName(f"xiaozhi.test.{test}", recurse=True))
            for one in loaded:
                self._rank[len(self._tests)] = (nearness, 0.0)
                self._tests.append(one)
        self._reached: dict[int, set[int]] = defaultdict(set)

    def measure(self) -> None:
        """Run every test once, unchanged.

        :raises RuntimeError: one fails already.
        """
        for index, test in enumerate(self._tests):
            reached: set[int] = set()
            began = time.monotonic()
            result = TestResult()
            with _tracing(str(self._path), reached):
                test.run(result)
            if not result.wasSuccessful():
                raise RuntimeError(f"{test.id()} fails without a mutant: {result}")
            self._seconds.append(time.monotonic() - began)
            self._rank[index] = (self._rank[index][0], self._seconds[index])
            for line in reached:
                self._reached[line].add(index)

    def judge(self, mutation: Mutation) -> Verdict:
        """Run the tests that reach a mutation, in a child."""
        reaching = sorted(self._reached.get(mutation.line, ()), key=self._rank.__getitem__)
        reaching = reaching[:_MOST_TESTS]
        if not reaching:
            return Verdict(self.name, mutation.line, mutation.label, "unreached")
        pid = os.fork()
        if pid == 0:
            self._be(mutation, reaching)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            late = os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF)
            outcome = "timeout" if late else "killed"
        else:
            outcome = "survived" if os.WEXITSTATUS(status) == _SURVIVED else "killed"
        return Verdict(self.name, mutation.line, mutation.label, outcome)

    def _be(self, mutation: Mutation, reaching: list[int]) -> None:
        """Be the mutant: never returns."""
        status = _KILLED
        try:
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            quiet = os.open(os.devnull, os.O_RDWR)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            self._change(mutation)
            if all(self._passes(index) for index in reaching):
                status = _SURVIVED
        finally:
            os._exit(status)

    def _passes(self, index: int) -> bool:
        """Run one test within its limits: past them the process dies by a signal."""
        signal.setitimer(signal.ITIMER_PROF, _PATIENCE + _SLOWER * self._seconds[index])
        signal.alarm(_WAIT)
        result = TestResult()
        self._tests[index].run(result)
        return result.wasSuccessful()

    def _change(self, mutation: Mutation) -> None:
        with mutation.applied():
            module = ast.fix_missing_locations(self._tree)
            code = compile(module, str(self._path), "exec")
        function = _function(self._module, mutation.function)
        function.__code__ = _fitting(code_of(code, mutation.function), function)


def share(module: str, tests: tuple[str, ...], part: int, parts: int) -> list[Verdict]:
    """Judge every ``parts``-th mutant of a module; meant for a process of its own."""
    os.chdir(tempfile.mkdtemp(prefix="mutants-"))
    subject = Subject(module, tests)
    subject.measure()
    # In an order that spreads the slow ones over the processes, the same each time.
    order = list(subject.mutations)
    random.Random(0).shuffle(order)
    return [subject.judge(mutation) for mutation in order[part::parts]]


def _fitting(code: CodeType, function: FunctionType) -> CodeType:
    """Keep the cells with which a function was made."""
    return code.replace(co_freevars=function.__code__.co_freevars)


def _function(module: ModuleType, name: str) -> FunctionType:
    owner: Any = module
    for part in name.split("."):
        owner = inspect.getattr_static(owner, part)
    if isinstance(owner, property):
        owner = owner.fget
    owner = inspect.unwrap(getattr(owner, "__func__", owner))
    if not isinstance(owner, FunctionType):
        raise TypeError(f"{module.__name__}.{name} is no function: {owner!r}")
    return owner


def _flat(suite: Any) -> list[Any]:
    if isinstance(suite, TestSuite):
        return [test for inner in suite for test in _flat(inner)]
    return [suite]


class _tracing:
    """Records which lines of one file run."""

    def __init__(self, path: str, reached: set[int]) -> None:
        self._path = path
        self._reached = reached

    def _call(self, frame: Any, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename == self._path else None

    def _line(self, frame: Any, event: str, argument: object) -> Any:
        self._reached.add(frame.f_lineno)
        return self._line

    def __enter__(self) -> None:
        sys.settrace(self._call)

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)

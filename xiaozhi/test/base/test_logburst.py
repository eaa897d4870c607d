"""Log bursts: one line for many."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.logburst import LogBurst


class BurstTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[int, str]] = []
        self.burst = LogBurst[str](self.clock, lambda count, what: self.told.append((count, what)))

    def test_the_first_at_once(self) -> None:
        self.burst.add("a")
        self.assertEqual(self.told, [(1, "a")])
        self.clock.advance(10)
        self.assertEqual(self.told, [(1, "a")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_rest_in_one_go(self) -> None:
        for what in "abcd":
            self.burst.add(what)
        self.assertEqual(self.told, [(1, "a")])
        self.clock.advance(10)
        self.assertEqual(self.told, [(1, "a"), (3, "d")])

    def test_a_burst_that_continues(self) -> None:
        for _ in range(35):
            self.burst.add("x")
            self.clock.advance(1)
        self.assertEqual(self.told, [(1, "x"), (9, "x"), (10, "x"), (10, "x")])

    def test_a_quiet_time_ends_it(self) -> None:
        self.burst.add("a")
        self.burst.add("b")
        self.clock.advance(10)
        self.burst.add("c")
        self.assertEqual(self.told, [(1, "a"), (1, "b")])
        self.clock.advance(10)
        self.clock.advance(10)
        self.burst.add("d")
        self.assertEqual(self.told, [(1, "a"), (1, "b"), (1, "c"), (1, "d")])

    def test_stop_keeps_nothing_back(self) -> None:
        for what in "abc":
            self.burst.add(what)
        self.burst.stop()
        self.burst.stop()
        self.assertEqual(self.told, [(1, "a"), (2, "c")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

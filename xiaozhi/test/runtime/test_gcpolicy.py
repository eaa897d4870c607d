"""Times of garbage collections."""

from __future__ import annotations

import gc

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.runtime import gcpolicy
from xiaozhi.runtime.gcpolicy import GcPolicy


class GcPolicyTests(SynchronousTestCase):
    """Calls of the collector are recorded, not made: the tests' own collector must stay on."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[str] = []
        self.now, self.takes = 0.0, 0.001
        for name in ("collect", "freeze", "set_threshold"):
            self.patch(gc, name, lambda *_, name=name: self.called(name))
        self.patch(gcpolicy, "perf_counter", lambda: self.now)
        self.collector = GcPolicy(self.clock)

    def called(self, name: str) -> None:
        self.calls.append(name)
        if name == "collect":
            self.now += self.takes

    def collected(self, seconds: float) -> int:
        """Return the number of collections in so many seconds."""
        before = self.calls.count("collect")
        self.clock.pump([1.0] * int(seconds))
        return self.calls.count("collect") - before

    def test_surviving_objects_are_frozen(self) -> None:
        self.collector.start()
        self.assertEqual(self.calls, ["collect", "freeze", "set_threshold"])

    def test_a_quick_one_once_a_minute(self) -> None:
        self.collector.start()
        self.assertEqual(self.collected(59), 0)
        self.assertEqual(self.collected(121), 3)

    def test_a_long_one_seldom(self) -> None:
        """A hundredth of a second in 100; but never more than five minutes apart."""
        for takes, apart in ((0.001, 60), (0.01, 100), (0.025, 250), (0.25, 300), (3.0, 300)):
            self.takes = takes
            self.collector.start()
            self.assertEqual(self.collected(60), 1, takes)
            self.assertEqual(self.collected(apart - 1), 0, takes)
            self.assertEqual(self.collected(1), 1, takes)
            self.collector.stop()

    def test_the_end(self) -> None:
        self.collector.stop()
        self.collector.start()
        self.collector.stop()
        self.collector.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

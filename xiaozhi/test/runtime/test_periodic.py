"""Periodic jobs, on virtual time."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.runtime.periodic import PeriodicJob
from xiaozhi.testing.logs import LogLines


class PeriodicJobTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.left = 0
        self.calls: list[float] = []
        self.answer: Deferred[int] | None = None
        self.log = LogLines(self)
        self.job = PeriodicJob("tidying", self.portion, self.clock, interval=100, first=10, size=5)
        self.job.start()
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.job.stop)

    def portion(self, size: int) -> Deferred[int]:
        self.calls.append(round(self.clock.seconds(), 1))
        if self.answer is not None:
            return self.answer
        done = min(size, self.left)
        self.left -= done
        return succeed(done)

    def test_in_portions_with_pauses_until_nothing_is_left(self) -> None:
        self.left = 12
        self.clock.pump([10, 0.1, 0.1])
        self.assertEqual((self.calls, self.left, self.job.done), ([10, 10.1, 10.2], 0, 12))
        self.clock.advance(99)
        self.assertEqual(len(self.calls), 3)
        self.clock.advance(1)
        self.assertEqual(self.calls[-1], 110.2)

    def test_a_failure_is_logged_once_and_retried(self) -> None:
        self.answer = fail(RuntimeError("away"))
        self.clock.advance(10)
        self.answer = fail(RuntimeError("away"))
        self.clock.advance(100)
        self.assertEqual(self.log.count("tidying: away"), 1)
        self.answer, self.left = None, 3
        self.clock.advance(100)
        self.assertEqual((self.calls, self.job.done), ([10, 110, 210], 3))
        self.answer = fail(RuntimeError("away"))
        self.clock.advance(100)
        self.assertEqual(self.log.count("tidying: away"), 2)

    def test_stopped_in_the_middle(self) -> None:
        self.answer = Deferred()
        self.clock.advance(10)
        self.job.stop()
        self.clock.advance(1000)
        self.assertEqual(self.calls, [10])

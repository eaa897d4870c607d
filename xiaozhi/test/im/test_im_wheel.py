from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.playout.timerwheel import TickWheel


class TickWheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TickWheel(self.clock, 0.01)
        self.ran: list[tuple[str, float]] = []

    def at(self, due: float, name: str) -> int:
        return self.wheel.at(due, lambda: self.ran.append((name, round(self.clock.seconds(), 6))))

    def test_runs_at_the_first_tick_not_before_due(self) -> None:
        self.at(0.0501, "a")
        self.at(0.05, "b")
        self.clock.pump([0.001] * 70)
        self.assertEqual(self.ran, [("b", 0.05), ("a", 0.06)])

    def test_one_delayed_call_for_all(self) -> None:
        for number in range(1000):
            self.at(number * 0.013, str(number))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_rests_while_empty(self) -> None:
        self.at(0.02, "a")
        self.clock.advance(0.02)
        self.assertEqual(len(self.ran), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_earlier_call_moves_the_timer(self) -> None:
        self.at(10.0, "late")
        self.at(0.01, "soon")
        self.clock.advance(0.01)
        self.assertEqual(self.ran, [("soon", 0.01)])
        self.clock.advance(9.99)
        self.assertEqual([name for name, _ in self.ran], ["soon", "late"])

    def test_a_late_tick_catches_up_in_order(self) -> None:
        for name, due in (("b", 0.02), ("a", 0.01), ("c", 0.03), ("d", 5.0)):
            self.at(due, name)
        self.clock.advance(1.0)
        self.assertEqual([name for name, _ in self.ran], ["a", "b", "c"])

    def test_does_not_drift(self) -> None:
        seen: list[float] = []

        def again() -> None:
            seen.append(self.clock.seconds())
            self.wheel.at(len(seen) * 0.06 + 0.06, again)

        self.wheel.at(0.06, again)
        # Each turn of the reactor is 1.7 ms late; ten seconds later no more than that.
        self.clock.pump([0.0117] * 855)
        self.assertEqual(len(seen), 166)
        self.assertLess(max(at - (i + 1) * 0.06 for i, at in enumerate(seen)), 0.0118)

    def test_a_past_time_runs_in_the_next_turn_of_the_reactor(self) -> None:
        self.clock.advance(5)
        self.at(1.0, "a")
        self.assertEqual(self.ran, [])
        self.clock.advance(0)
        self.assertEqual(self.ran, [("a", 5.0)])

    def test_a_call_rescheduled_into_the_past_runs_at_the_next_tick(self) -> None:
        def again() -> None:
            self.ran.append(("again", 0))
            if len(self.ran) < 6:
                self.wheel.at(0.0, again)
                self.at(0.0, "other")

        self.wheel.at(0.0, again)
        self.clock.advance(0)
        names = [name for name, _ in self.ran]
        self.assertEqual(names, ["again", "again", "other", "again", "other", "again", "other"][:7])

    def test_cancel(self) -> None:
        calls: list[int] = []

        def call() -> None:
            calls.append(1)

        tick = self.wheel.at(0.05, call)
        self.wheel.cancel(tick, call)
        self.wheel.cancel(tick, call)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1)
        self.assertEqual(calls, [])

    def test_a_failing_call_is_logged_and_affects_no_other(self) -> None:
        self.wheel.at(0.01, lambda: 1 / 0)
        self.at(0.01, "b")
        self.clock.advance(0.01)
        self.assertEqual(self.ran, [("b", 0.01)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        self.at(0.01, "a")
        self.wheel.stop()
        self.clock.advance(1)
        self.assertEqual(self.ran, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

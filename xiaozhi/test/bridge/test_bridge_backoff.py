"""Backoff and heartbeats of the bridge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge.edge.backoff import Backoff
from xiaozhi.bridge.edge.heartbeat import Heartbeat


class BackoffTests(SynchronousTestCase):
    def test_doubles_to_the_cap(self) -> None:
        backoff = Backoff(0.2, 10.0, 30.0, 1.0, lambda: 1.0)
        delays = [backoff.delay() for _ in range(8)]
        self.assertEqual(delays, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])

    def test_jitter_is_full(self) -> None:
        draws = iter([0.0, 0.5, 0.25])
        backoff = Backoff(1.0, 10.0, 30.0, 1.0, lambda: next(draws))
        self.assertEqual([backoff.delay() for _ in range(3)], [0.0, 1.0, 1.0])

    def test_only_a_stable_connection_resets(self) -> None:
        backoff = Backoff(1.0, 10.0, 30.0, 1.0, lambda: 1.0)
        self.assertEqual([backoff.delay(0), backoff.delay(29.9)], [1.0, 2.0])
        self.assertEqual([backoff.delay(30.0), backoff.delay(0)], [1.0, 2.0])

    def test_base_above_cap(self) -> None:
        self.assertEqual(Backoff(5.0, 2.0, 30.0, 1.0, lambda: 1.0).delay(), 2.0)

    def test_jitter(self) -> None:
        for jitter, draw, expected in ((0.0, 0.0, 4.0), (0.5, 0.0, 2.0), (0.5, 0.5, 3.0)):
            self.assertEqual(Backoff(4.0, 4.0, 30.0, jitter, lambda: draw).delay(), expected)  # noqa: B023

    @given(st.lists(st.floats(0, 100), max_size=30), st.floats(0, 1, exclude_max=True))
    def test_never_negative_never_above_cap(self, ups: list[float], draw: float) -> None:
        backoff = Backoff(0.2, 10.0, 30.0, 1.0, lambda: draw)
        for up in ups:
            self.assertTrue(0 <= backoff.delay(up) <= 10.0)


class HeartbeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pings: list[tuple[float, int]] = []
        self.deaths: list[float] = []
        self.heart = Heartbeat(
            self.clock,
            10.0,
            5.0,
            2,
            lambda number: self.pings.append((self.clock.seconds(), number)),
            lambda: self.deaths.append(self.clock.seconds()),
        )

    def test_answered(self) -> None:
        self.heart.start()
        self.assertIsNone(self.heart.rtt)
        self.clock.advance(0.25)
        self.heart.answered(1)
        self.assertEqual(self.heart.rtt, 0.25)
        self.clock.advance(10)
        self.assertEqual(self.pings, [(0, 1), (10.25, 2)])
        self.assertEqual(self.deaths, [])

    def test_misses_in_a_row(self) -> None:
        self.heart.start()
        self.clock.pump([5, 5, 5])
        self.assertEqual(self.pings, [(0, 1), (5, 2)])
        self.assertEqual(self.deaths, [10])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_late_answer_proves_liveness_but_is_not_measured(self) -> None:
        self.heart.start()
        self.clock.advance(5)
        self.heart.answered(1)
        self.assertIsNone(self.heart.rtt)
        self.clock.advance(5)
        self.assertEqual(self.deaths, [])
        self.clock.advance(5)
        self.assertEqual(self.deaths, [15])

    def test_the_same_answer_twice(self) -> None:
        self.heart.start()
        self.heart.answered(1)
        self.clock.advance(3)
        self.heart.answered(1)
        self.assertEqual(self.heart.rtt, 0.0)

    def test_stop(self) -> None:
        self.heart.start()
        self.heart.stop()
        self.heart.stop()
        self.heart.answered(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

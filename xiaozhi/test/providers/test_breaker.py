"""The circuit breaker, by example and against a model."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.providers.kit.failover.breaker import Attempt, Breaker, BreakerState

LIMIT, COOLDOWN, LONGEST = 3, 10.0, 35.0


class BreakerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[bool] = []
        self.breaker = Breaker(self.clock, LIMIT, COOLDOWN, LONGEST, self.told.append)

    def fail(self, times: int = 1) -> None:  # type: ignore[override]
        for _ in range(times):
            self.breaker.attempt().failed()

    def test_opens_after_failures_in_a_row(self) -> None:
        self.fail(LIMIT - 1)
        self.breaker.attempt().succeeded()
        self.fail(LIMIT - 1)
        self.assertIs(self.breaker.state, BreakerState.CLOSED)
        self.assertTrue(self.breaker.admits)
        self.fail()
        self.assertIs(self.breaker.state, BreakerState.OPEN)
        self.assertFalse(self.breaker.admits)
        self.assertEqual(self.told, [True])
        self.assertEqual(self.breaker.wait, COOLDOWN)

    def test_outcomes_without_meaning(self) -> None:
        self.fail(LIMIT - 1)
        self.breaker.attempt().abandoned()
        self.assertEqual(self.breaker.failures, LIMIT - 1)

    def test_one_probe_at_a_time(self) -> None:
        self.fail(LIMIT)
        self.clock.advance(COOLDOWN)
        self.assertIs(self.breaker.state, BreakerState.HALF_OPEN)
        probe = self.breaker.attempt()
        self.assertFalse(self.breaker.admits)
        probe.abandoned()
        self.assertTrue(self.breaker.admits)
        self.breaker.attempt().answers()
        self.assertIs(self.breaker.state, BreakerState.CLOSED)
        self.assertEqual(self.told, [True, False])

    def test_cooldown_grows_and_begins_anew(self) -> None:
        self.fail(LIMIT)
        for cooldown in (10.0, 20.0, 35.0, 35.0):
            self.assertEqual(self.breaker.wait, cooldown)
            self.clock.advance(cooldown)
            self.fail()
        self.assertEqual(self.told, [True], "it never closed meanwhile")
        self.breaker.attempt().succeeded()
        self.fail(LIMIT)
        self.assertEqual(self.breaker.wait, COOLDOWN)

    def test_many_that_fail_together_are_one_failure(self) -> None:
        """A hundred sessions wait for the same dead vendor."""
        crowd = [self.breaker.attempt() for _ in range(100)]
        for attempt in crowd:
            attempt.failed()
        self.assertEqual(self.breaker.wait, COOLDOWN)
        # All circuits are open, so it was called in spite of it.
        crowd = [self.breaker.attempt() for _ in range(100)]
        for attempt in crowd:
            attempt.failed()
        self.assertEqual(self.breaker.wait, 2 * COOLDOWN)

    def test_one_that_answers_and_always_breaks_off(self) -> None:
        for _ in range(LIMIT):
            attempt = self.breaker.attempt()
            attempt.answers()
            attempt.failed()
        # From then on one call probes each time, at growing intervals.
        for cooldown in (10.0, 20.0, 35.0):
            self.assertEqual(self.breaker.wait, cooldown)
            self.clock.advance(cooldown)
            probe = self.breaker.attempt()
            probe.answers()
            self.assertIs(self.breaker.state, BreakerState.CLOSED)
            probe.failed()
        self.assertIs(self.breaker.state, BreakerState.OPEN)

    def test_the_first_word_counts(self) -> None:
        attempt = self.breaker.attempt()
        attempt.succeeded()
        attempt.failed()
        self.assertEqual(self.breaker.failures, 0)


class Model(RuleBasedStateMachine):
    """A specification of the breaker, with the whole history instead of a state.

    :ivar row: failures that counted since the last success.
    :ivar opened: when and for how long it opened last; None: it is closed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.told: list[bool] = []
        self.breaker = Breaker(self.clock, LIMIT, COOLDOWN, LONGEST, self.told.append)
        self.running: list[tuple[Attempt, object]] = []
        self.row = 0
        self.opened: tuple[float, float] | None = None
        self.turned = object()
        self.probe: Attempt | None = None

    def due(self) -> bool:
        assert self.opened is not None
        return self.clock.seconds() >= sum(self.opened)

    def welcome(self) -> bool:
        return self.opened is None or (self.due() and self.probe is None)

    @rule()
    def begin(self) -> None:
        welcome = self.welcome()
        attempt = self.breaker.attempt()
        self.running.append((attempt, self.turned))
        if self.opened is not None and welcome:
            self.probe = attempt

    def ends(self, index: int) -> tuple[Attempt, object]:
        attempt, turned = self.running.pop(index % len(self.running))
        if attempt is self.probe:
            self.probe = None
        return attempt, turned

    def close(self) -> None:
        if self.opened is not None:
            self.opened, self.turned, self.probe = None, object(), None

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 99))
    def succeed(self, index: int) -> None:
        attempt, _ = self.ends(index)
        attempt.succeeded()
        self.close()
        self.row = 0

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 99))
    def answer(self, index: int) -> None:
        at = index % len(self.running)
        attempt, _ = self.running[at]
        attempt.answers()
        self.close()
        self.running[at] = attempt, self.turned

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 99))
    def abandon(self, index: int) -> None:
        self.ends(index)[0].abandoned()

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 99))
    def fail(self, index: int) -> None:
        attempt, turned = self.ends(index)
        attempt.failed()
        if turned is not self.turned:
            return
        self.row += 1
        if self.row >= LIMIT:
            cooldown = min(COOLDOWN * 2 ** (self.row - LIMIT), LONGEST)
            self.opened, self.turned, self.probe = (self.clock.seconds(), cooldown), object(), None

    @rule(seconds=st.sampled_from((0.5, 4.0, COOLDOWN, LONGEST)))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def agree(self) -> None:
        breaker = self.breaker
        assert breaker.admits == self.welcome()
        assert breaker.failures == self.row
        assert (breaker.state is BreakerState.CLOSED) == (self.opened is None)
        if self.opened is not None:
            assert (breaker.state is BreakerState.HALF_OPEN) == self.due()
            assert breaker.cooldown == self.opened[1]
        # It reports each change once.
        assert self.told == [bool(n % 2 == 0) for n in range(len(self.told))]
        assert bool(len(self.told) % 2) == (self.opened is not None)


class ModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        run_state_machine_as_test(Model, settings=settings(max_examples=60, deadline=None))

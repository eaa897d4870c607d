"""Time limits, gates, wake words and the dialogue."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.settings import WakeSettings
from xiaozhi.ai.listening.wake import is_wake_word
from xiaozhi.languages.texts import CATALOGUES, text
from xiaozhi.runtime.cancelling import Gate, Limit, each_within, within


class LateError(Exception):
    """Raised at a timeout."""


class WithinTests(SynchronousTestCase):
    def test_in_time(self) -> None:
        clock = Clock()
        waiting: Deferred[None] = Deferred.fromCoroutine(
            within(2, clock, deferLater(clock, 1), LateError)
        )
        clock.advance(1)
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_too_late_cancels(self) -> None:
        clock = Clock()
        waiting: Deferred[None] = Deferred.fromCoroutine(
            within(2, clock, deferLater(clock, 3), LateError)
        )
        clock.advance(2)
        self.failureResultOf(waiting, LateError)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_cancelling_goes_through(self) -> None:
        clock = Clock()
        waiting: Deferred[None] = Deferred.fromCoroutine(
            within(2, clock, deferLater(clock, 1), LateError)
        )
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(clock.getDelayedCalls(), [])


class LimitTests(SynchronousTestCase):
    """A wait outside does not count, but has a limit of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.limit = Limit(2, self.clock, LateError)

    def work(self, before: float, held_up: float, after: float) -> Deferred[str]:
        async def work() -> str:
            if before:
                await deferLater(self.clock, before)
            await self.limit.held_up(deferLater(self.clock, held_up))
            await deferLater(self.clock, after)
            return "done"

        return Deferred.fromCoroutine(self.limit.run(work()))

    def after(self, seconds: float, waiting: Deferred[str]) -> Deferred[str]:
        self.clock.pump([0.25] * int(seconds * 4))
        return waiting

    def test_in_time(self) -> None:
        for before in (0, 1):
            waiting = self.after(before + 2.5, self.work(before, 1.75, 0.75))
            self.assertEqual(self.successResultOf(waiting), "done")
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_total_limit_exceeded(self) -> None:
        waiting = self.after(3.5, self.work(1, 1.75, 1.25))
        self.assertNoResult(waiting)
        self.failureResultOf(self.after(0.25, waiting), LateError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_held_up_too_long(self) -> None:
        waiting = self.after(2.75, self.work(1, 3, 0.25))
        self.assertNoResult(waiting)
        self.failureResultOf(self.after(0.25, waiting), LateError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_while_held_up(self) -> None:
        waiting = self.after(1.5, self.work(1, 3, 0.25))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_outside_of_it(self) -> None:
        waiting: Deferred[None] = Deferred.fromCoroutine(
            self.limit.held_up(deferLater(self.clock, 9))
        )
        self.clock.advance(9)
        self.assertIsNone(self.successResultOf(waiting))


class EachWithinTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.closed = False
        self.seen: list[int] = []

    async def numbers(self, *delays: float) -> AsyncGenerator[int, None]:
        try:
            for number, delay in enumerate(delays):
                await deferLater(self.clock, delay)
                yield number
        finally:
            self.closed = True

    def collect(self, *delays: float, taken: float = 0) -> Deferred[None]:
        """Collect the items.

        :param taken: seconds to handle an item.
        """

        async def see(number: int) -> None:
            if taken:
                await deferLater(self.clock, taken)
            self.seen.append(number)

        return Deferred.fromCoroutine(
            each_within(5, 1, self.clock, self.numbers(*delays), see, LateError)
        )

    def test_first_may_take_longer(self) -> None:
        done = self.collect(4, 0.9, 0.9)
        self.clock.pump([0.1] * 60)
        self.successResultOf(done)
        self.assertEqual(self.seen, [0, 1, 2])

    def test_a_slow_consumer_is_not_a_timeout(self) -> None:
        done = self.collect(4, 0.9, 0.9, taken=30)
        self.clock.pump([0.1] * 960)
        self.successResultOf(done)
        self.assertEqual(self.seen, [0, 1, 2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_late_item_closes_the_stream(self) -> None:
        done = self.collect(4, 1.1)
        self.clock.pump([0.1] * 60)
        self.failureResultOf(done, LateError)
        self.assertEqual((self.seen, self.closed), ([0], True))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_error_while_handling_an_item_closes_the_stream(self) -> None:
        async def fail(number: int) -> None:
            raise ZeroDivisionError

        done = Deferred.fromCoroutine(
            each_within(5, 1, self.clock, self.numbers(4, 1), fail, LateError)
        )
        self.clock.advance(4)
        self.failureResultOf(done, ZeroDivisionError)
        self.assertTrue(self.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelling_closes_the_stream(self) -> None:
        done = self.collect(4)
        self.clock.advance(1)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(self.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class GateTests(SynchronousTestCase):
    def test_waiters_pass_when_it_opens(self) -> None:
        gate = Gate(is_open=False)
        first, second = gate.passed(), gate.passed()
        self.assertNoResult(first)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        gate.open()
        self.successResultOf(second)
        self.successResultOf(gate.passed())
        gate.close()
        self.assertNoResult(gate.passed())


class WakeWordTests(SynchronousTestCase):
    def test_punctuation_space_and_case_do_not_matter(self) -> None:
        words = WakeSettings().words
        for wake in ("你好小智", "你好，小智！", "嘿，你好呀", "Hi, ESP", "hi esp"):
            self.assertTrue(is_wake_word(wake, words), wake)

    def test_typed_text_is_none(self) -> None:
        """§9.26."""
        words = WakeSettings().words
        for typed in ("你好小智，几点了", "what time is it", "", "!?"):
            self.assertFalse(is_wake_word(typed, words), typed)


class TextTests(SynchronousTestCase):
    def test_every_language_has_every_text(self) -> None:
        for catalogue in CATALOGUES.values():
            self.assertEqual(catalogue.keys(), CATALOGUES["en"].keys())
        self.assertEqual(text("apology", "zh-CN"), CATALOGUES["zh"]["apology"])
        self.assertEqual(text("apology", "eo"), CATALOGUES["en"]["apology"])

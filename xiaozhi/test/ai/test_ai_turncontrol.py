"""Who has the floor, and how an answer is paused."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.turn.turncontrol import TurnControl
from xiaozhi.testing.parts import turn_parts
from xiaozhi.wire import messages as m


class FloorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[Any] = []
        self.over = 0
        mind, mouth = turn_parts(self.clock, self.sent.append)
        self.floor = TurnControl(0, mind, mouth, self.ended)
        self.late = 0

    def ended(self) -> None:
        self.over += 1

    def limit_reached(self) -> None:
        self.late += 1

    def begin(self) -> Deferred[bool]:
        done: Deferred[bool] = Deferred()
        self.floor.begin(lambda turn: done, None)
        return done

    def test_a_pause_is_undone_once(self) -> None:
        self.begin()
        for _ in range(2):
            self.floor.pause(8, self.limit_reached)
        for _ in range(2):
            self.floor.resume()
        self.assertEqual(self.sent, [m.Pause(1, paused=True), m.Pause(1, paused=False)])
        self.clock.advance(10)
        self.assertEqual(self.late, 0)

    def test_its_limit(self) -> None:
        self.begin()
        self.floor.pause(8, self.limit_reached)
        self.clock.advance(7.9)
        self.assertEqual(self.late, 0)
        self.clock.advance(0.2)
        self.assertEqual(self.late, 1)

    def test_a_turn_that_ends_while_it_is_paused(self) -> None:
        """The edge still has some of it: that must be heard, and its end come."""
        done = self.begin()
        self.floor.pause(8, self.limit_reached)
        done.callback(True)
        self.assertEqual(self.sent[-1], m.Pause(1, paused=False))
        self.assertEqual((self.over, self.floor.taken, self.floor.paused), (1, False, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_a_turn_there_is_nothing_to_pause(self) -> None:
        self.floor.pause(8, self.limit_reached)
        self.floor.resume()
        self.assertEqual(self.sent, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_next_one_begins_unpaused(self) -> None:
        self.begin().addErrback(lambda _: None)
        self.floor.pause(8, self.limit_reached)
        self.begin()
        self.assertFalse(self.floor.paused)
        self.assertEqual(self.floor.turns, 2)
        self.floor.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

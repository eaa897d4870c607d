"""Turn control at the AI service: start, pause and end of turns."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.turn.turncontrol import TurnControl
from xiaozhi.testing.parts import turn_parts
from xiaozhi.wire import messages as m


class TurnControlTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[Any] = []
        self.over = 0
        context, output = turn_parts(self.clock, self.sent.append)
        self.control = TurnControl(0, context, output, self.ended)
        self.late = 0

    def ended(self) -> None:
        self.over += 1

    def limit_reached(self) -> None:
        self.late += 1

    def begin(self) -> Deferred[bool]:
        done: Deferred[bool] = Deferred()
        self.control.begin(lambda turn: done, None)
        return done

    def test_a_pause_is_undone_once(self) -> None:
        self.begin()
        for _ in range(2):
            self.control.pause(8, self.limit_reached)
        for _ in range(2):
            self.control.resume()
        self.assertEqual(self.sent, [m.Pause(1, paused=True), m.Pause(1, paused=False)])
        self.clock.advance(10)
        self.assertEqual(self.late, 0)

    def test_its_limit(self) -> None:
        self.begin()
        self.control.pause(8, self.limit_reached)
        self.clock.advance(7.9)
        self.assertEqual(self.late, 0)
        self.clock.advance(0.2)
        self.assertEqual(self.late, 1)

    def test_a_turn_that_ends_while_it_is_paused(self) -> None:
        """The edge still has a part of it, which must be played with its end."""
        done = self.begin()
        self.control.pause(8, self.limit_reached)
        done.callback(True)
        self.assertEqual(self.sent[-1], m.Pause(1, paused=False))
        self.assertEqual((self.over, self.control.taken, self.control.paused), (1, False, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_a_turn_there_is_nothing_to_pause(self) -> None:
        self.control.pause(8, self.limit_reached)
        self.control.resume()
        self.assertEqual(self.sent, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_next_one_begins_unpaused(self) -> None:
        self.begin().addErrback(lambda _: None)
        self.control.pause(8, self.limit_reached)
        self.begin()
        self.assertFalse(self.control.paused)
        self.assertEqual(self.control.turns, 2)
        self.control.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

"""Base class of tests that hold complete conversations."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device import events as e
from xiaozhi.testing.house import House, Visitor

LONG = "This is a long answer that takes quite some seconds to say, and then some more."


class ConversationCase(SynchronousTestCase):
    """Makes houses, and checks after each test that they left no timer behind."""

    def house(self, **settings: Any) -> House:
        house = House(**settings)

        def check() -> None:
            self.assertEqual(house.close(), [], "timers left behind")

        self.addCleanup(check)
        return house

    def assert_paired(self, visitor: Visitor) -> None:
        """§9.2: exactly one stop per start."""
        starts, stops = visitor.seen(e.SpeechStarted), visitor.seen(e.SpeechStopped)
        self.assertEqual(len(stops), len(starts))

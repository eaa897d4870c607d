"""Departure: lets a device finish before this process stops."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.im.session.answers import Answers
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.nobody import ignore
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.interfaces import IEdgeLink
from xiaozhi.wire.messages import Leave


class Departure:
    """Lets the current sentence end, and starts no further one.

    A person who is speaking or waiting for an answer may finish and hear the first sentence of
    the answer. Only the AI knows whether somebody is speaking; it ends the session when nobody
    is. The gateway limits the total time (``drain_timeout``).

    :ivar begun: whether the process stops.
    """

    __slots__ = ("_alone", "_answers", "_down", "_go", "_turns", "_watching", "begun")

    def __init__(
        self, down: Delivery, answers: Answers, turns: TurnGate, go: Callable[[], None]
    ) -> None:
        """:param go: closes the device's connection."""
        self._down = down
        self._answers = answers
        self._turns = turns
        self._go: Callable[..., None] = go
        self._alone = False  # the AI no longer answers
        self._watching = False
        self.begun = False

    def close(self) -> None:
        """Stop: the link is closed."""
        self._go = ignore

    def begin(self, session: IEdgeLink | None) -> None:
        """Close the connection as soon as the device waits for nothing.

        :param session: the session at the AI; None: no session, or no AI available.
        """
        self.begun = True
        self._down.wind_up()
        if session is None:
            self.at_rest()
            return
        if self._waits:
            session.send(Leave())
        self.check()

    def check(self) -> None:
        """Close the connection if the device no longer waits for anything."""
        if self.begun:
            if not self._waits:
                self._go()
            elif not self._watching:
                self._watching = True
                self._down.at_rest(self._rested)

    def _rested(self) -> None:
        self._watching = False
        self.check()

    def at_rest(self) -> None:
        """Close after playback: the AI's end of the session is gone."""
        if self.begun:
            self._alone = True
            self.check()

    @property
    def _waits(self) -> bool:
        answerable = self._answers.waited_for or self._turns.microphone is not None
        return self._down.busy or (answerable and not self._alone)

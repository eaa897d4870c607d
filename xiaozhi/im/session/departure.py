"""Sending a device away when this process stops."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.im.session.answers import Answers
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.nobody import ignore
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.interfaces import IEdgeLink
from xiaozhi.wire.messages import Leave


class Departure:
    """Finishes the sentence that is being played and starts no further one.

    A person in the middle of an utterance, or waiting for an answer, may finish and hear
    the answer's first sentence. Only the AI knows whether somebody is speaking: it ends the
    session when nobody is. The gateway limits the time for all of this
    (``drain_timeout``).

    :ivar begun: the process stops.
    """

    __slots__ = ("_alone", "_answers", "_down", "_go", "_turns", "_watching", "begun")

    def __init__(
        self, down: Delivery, answers: Answers, turns: TurnGate, go: Callable[[], None]
    ) -> None:
        """:param go: sends the device away."""
        self._down = down
        self._answers = answers
        self._turns = turns
        self._go: Callable[..., None] = go
        self._alone = False  # no AI answers any more
        self._watching = False
        self.begun = False

    def close(self) -> None:
        """Do nothing more: the link is closed."""
        self._go = ignore

    def begin(self, session: IEdgeLink | None) -> None:
        """Send the device away as soon as possible.

        :param session: at the AI; None: no session, or no AI available.
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
        """Check again whether the device still waits for something."""
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
        """Play what was sent, then go: the AI's end of the session is gone."""
        if self.begun:
            self._alone = True
            self.check()

    @property
    def _waits(self) -> bool:
        answerable = self._answers.waited_for or self._turns.microphone is not None
        return self._down.busy or (answerable and not self._alone)

"""How a device is sent away when this process stops."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.im.session.answers import Answers
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.nobody import ignore
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.interfaces import ISessionLink
from xiaozhi.wire.messages import Leave


class Departure:
    """Lets the sentence that is being played end, and begins no further one.

    Who is in the middle of an utterance, or waits for an answer, may finish and hear the
    answer's first sentence. Whether somebody is speaking only the AI knows: it ends the
    session when nobody is. How long all of this may take is the gateway's affair
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
        """The link is over."""
        self._go = ignore

    def begin(self, session: ISessionLink | None) -> None:
        """Send the device away as soon as may be.

        :param session: at the AI; None: there is none, or nobody answers there.
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
        """Something that was waited for may have come, or been given up."""
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
        """The AI's end of the session is gone: what was sent is still played."""
        if self.begun:
            self._alone = True
            self.check()

    @property
    def _waits(self) -> bool:
        answerable = self._answers.waited_for or self._turns.microphone is not None
        return self._down.busy or (answerable and not self._alone)

"""Who has the floor: the answer that is being given, if any."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.speech.output import SpeechOutput
from xiaozhi.ai.turn.turn import Turn
from xiaozhi.base import trace, usage
from xiaozhi.runtime.cancelling import forget_frames
from xiaozhi.wire.messages import Pause, Playback, PlaybackState


class TurnControl:
    """Runs one turn at a time.

    :param first: the number of the first turn; each has a higher one.
    :param over: called with nothing when a turn has come to its own end.
    :ivar cut: the turn that came to its own end last was cut off at the edge.
    :ivar paused: the device is to be silent while somebody speaks over the answer.
    """

    _log = Logger()

    def __init__(
        self, first: int, mind: TurnContext, mouth: SpeechOutput, over: Callable[[], None]
    ) -> None:
        self._number = first
        self._mind = mind
        self._mouth = mouth
        self._over = over
        self._turn: Turn | None = None
        self._answer: Deferred[bool] | None = None
        self._pause_limit: IDelayedCall | None = None
        self._paused_at = 0.0
        self.paused = False
        self.cut = False

    @property
    def taken(self) -> bool:
        """Whether an answer is being given."""
        return self._turn is not None

    @property
    def started(self) -> bool:
        """Whether the device has been told of it."""
        return self._turn is not None and self._turn.started

    @property
    def turns(self) -> int:
        """The number of the turn begun last."""
        return self._number

    def begin(
        self, answer: Callable[[Turn], Awaitable[bool]], request: trace.TracedMessage | None
    ) -> None:
        """Start a turn; one that is under way ends first.

        :param request: what it answers.
        """
        self.cancel()
        self._number += 1
        turn = self._turn = Turn(self._number, self._mind, self._mouth)

        async def run() -> bool:
            return await answer(turn)

        # The turn may end at once; _ended looks at what is current.
        with trace.working_for(request), usage.noting(turn.timeline):
            deferred = self._answer = Deferred.fromCoroutine(run())
        deferred.addBoth(self._ended, turn)

    def cancel(self) -> None:
        """Nobody wants to hear more of it."""
        self._unpause()
        answer, self._answer, self._turn = self._answer, None, None
        if answer is not None:
            answer.cancel()

    def pause(self, limit: float, late: Callable[[], None]) -> None:
        """Let the device be silent, until :meth:`resume`, or for ``limit`` seconds: then
        ``late`` is called, and has to decide."""
        turn = self._turn
        if turn is None or self.paused:
            return
        self.paused = True
        self._paused_at = self._mind.clock.seconds()
        turn.wait(limit)
        turn.timeline.pauses()
        self._mouth.send(Pause(turn.number, paused=True))
        self._pause_limit = self._mind.clock.callLater(limit, late)

    def resume(self) -> None:
        """Go on where it was."""
        if self.paused and self._turn is not None:
            self._mouth.send(Pause(self._turn.number, paused=False))
        self._unpause()

    def playback(self, report: Playback) -> None:
        """The edge says how far the device is."""
        if report.state is not PlaybackState.STARTED:
            # Also of a turn that was cancelled: what was heard of it is kept.
            self._mind.dialogue.played(report.turn, report.played_ms)
            self._mind.echo.sounded()
        if self._turn is not None and report.turn == self._turn.number:
            self._turn.playback(report)

    def _unpause(self) -> None:
        if self.paused and self._turn is not None:
            self._turn.timeline.goes_on()
            self._turn.stood(self._mind.clock.seconds() - self._paused_at)
        self.paused = False
        if self._pause_limit is not None and self._pause_limit.active():
            self._pause_limit.cancel()
        self._pause_limit = None

    def _ended(self, outcome: bool | Failure, turn: Turn) -> None:
        if isinstance(outcome, Failure) and not isinstance(outcome.value, CancelledError):
            self._log.failure(
                "{session_id}: turn {turn} broke",
                outcome,
                session_id=self._mind.session_id,
                turn=turn.number,
            )
        if isinstance(outcome, Failure):
            forget_frames(outcome)
        if turn is self._turn:
            # Or what the edge still has of it would never be heard, nor its end.
            self.resume()
            self._turn = self._answer = None
            self.cut = turn.timeline.cut
            self._over()

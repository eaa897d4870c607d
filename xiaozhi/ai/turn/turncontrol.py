"""Turn control: at most one turn runs, and it can be paused, resumed or cancelled."""

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

#: Runs a turn; returns False if there was nothing to answer.
Answer = Callable[[Turn], Awaitable[bool]]


class TurnControl:
    """Runs one turn at a time.

    :param first: number of the last turn so far; turns are numbered upwards from it.
    :param over: called when a turn has ended, but not when it was cancelled.
    :ivar cut: whether the edge cut off the playback of the last turn that was not cancelled.
    :ivar paused: whether the answer is paused because a person speaks over it.
    """

    _log = Logger()

    def __init__(
        self, first: int, context: TurnContext, output: SpeechOutput, over: Callable[[], None]
    ) -> None:
        self._number = first
        self._context = context
        self._output = output
        self._over = over
        self._turn: Turn | None = None
        self._answer: Deferred[bool] | None = None
        self._pause_limit: IDelayedCall | None = None
        self._paused_at = 0.0
        self.paused = False
        self.cut = False

    @property
    def taken(self) -> bool:
        """Whether a turn is running."""
        return self._turn is not None

    @property
    def started(self) -> bool:
        """Whether ``tts start`` of the running turn has been sent."""
        return self._turn is not None and self._turn.started

    @property
    def turns(self) -> int:
        """The number of the latest turn."""
        return self._number

    def adopt(self, context: TurnContext, output: SpeechOutput) -> None:
        """Use another context and output from the next turn on."""
        self._context, self._output = context, output

    def begin(self, answer: Answer, request: trace.TracedMessage | None) -> None:
        """Cancel the running turn, if any, and start another.

        :param request: the message that the turn answers.
        """
        self.cancel()
        self._number += 1
        turn = self._turn = Turn(self._number, self._context, self._output)

        async def run() -> bool:
            return await answer(turn)

        # The turn may end synchronously; _ended() compares it with self._turn.
        with trace.working_for(request), usage.noting(turn.timeline):
            deferred = self._answer = Deferred.fromCoroutine(run())
        deferred.addBoth(self._ended, turn)

    def cancel(self) -> None:
        """Cancel the running turn."""
        self._unpause()
        answer, self._answer, self._turn = self._answer, None, None
        if answer is not None:
            answer.cancel()

    def pause(self, limit: float, late: Callable[[], None]) -> None:
        """Pause the answer until :meth:`resume`.

        :param limit: seconds.
        :param late: called when the limit has passed; it must resume or cancel the answer.
        """
        turn = self._turn
        if turn is None or self.paused:
            return
        self.paused = True
        self._paused_at = self._context.clock.seconds()
        turn.wait(limit)
        turn.timeline.pauses()
        self._output.send(Pause(turn.number, paused=True))
        self._pause_limit = self._context.clock.callLater(limit, late)

    def resume(self) -> None:
        """Resume a paused answer where it stopped."""
        if self.paused and self._turn is not None:
            self._output.send(Pause(self._turn.number, paused=False))
        self._unpause()

    def playback(self, report: Playback) -> None:
        """Handle the edge's report of how far the device has played."""
        if report.state is not PlaybackState.STARTED:
            # Also for a cancelled turn: the dialogue keeps its played part.
            self._context.dialogue.played(report.turn, report.played_ms)
            self._context.echo.sounded()
        if self._turn is not None and report.turn == self._turn.number:
            self._turn.playback(report)

    def _unpause(self) -> None:
        if self.paused and self._turn is not None:
            self._turn.timeline.resumes()
            self._turn.was_paused(self._context.clock.seconds() - self._paused_at)
        self.paused = False
        if self._pause_limit is not None and self._pause_limit.active():
            self._pause_limit.cancel()
        self._pause_limit = None

    def _ended(self, outcome: bool | Failure, turn: Turn) -> None:
        if isinstance(outcome, Failure) and not isinstance(outcome.value, CancelledError):
            self._log.failure(
                "{session_id}: turn {turn} raised an exception",
                outcome,
                session_id=self._context.session_id,
                turn=turn.number,
            )
        if isinstance(outcome, Failure):
            forget_frames(outcome)
        if turn is self._turn:
            # Otherwise the edge would neither play the rest nor report the end.
            self.resume()
            self._turn = self._answer = None
            self.cut = turn.timeline.cut
            self._over()

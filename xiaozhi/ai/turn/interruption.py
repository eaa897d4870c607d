"""Decide whether a voice over an answer is an interruption or a noise.

In realtime mode the microphone stays open while the device speaks. Voice pauses the answer;
recognised words end it, and without words it resumes where it paused (§4.6).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.agents.settings import ListenSettings
from xiaozhi.ai.timeline.timeline import Overheard
from xiaozhi.ai.turn.turncontrol import TurnControl
from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Transcript
from xiaozhi.interfaces import IRecognition
from xiaozhi.runtime.cancelling import late, within

# Concurrent recognitions of utterances over one answer; one more cancels the oldest.
_MOST = 3


class InterruptionEvents(Protocol):
    """Acts on the decisions of an :class:`Interruption`."""

    def speaking(self) -> bool:
        """Return whether a person is in the middle of an utterance."""

    def interrupted_by(self, over: Overheard) -> None:
        """Cancel the running answer and answer the utterance over it."""

    def talked_over(self) -> None:
        """Cancel the answer and listen: the open utterance has words or has not ended."""

    def undisturbed(self) -> None:
        """Continue: no recognition is pending, and none found words."""


class Interruption:
    """Decides which utterances over an answer interrupt it.

    :param recognize: timeout of a recognition, in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        session_id: str,
        control: TurnControl,
        settings: ListenSettings,
        recognize: float,
        clock: IReactorTime,
        events: InterruptionEvents,
    ) -> None:
        self._session_id = session_id
        self._control = control
        self._settings = settings
        self._recognize = recognize
        self._clock = clock
        self._events = events
        # Pending recognitions, oldest utterance first. Bound: _MOST.
        self._candidates: list[Deferred[Overheard | None]] = []

    def adopt(self, settings: ListenSettings, recognize: float) -> None:
        """Switch to other settings."""
        self._settings, self._recognize = settings, recognize

    @property
    def deciding(self) -> bool:
        """Whether a recognition is pending; it may outlast the answer."""
        return bool(self._candidates)

    def voice_heard(self, milliseconds: int) -> None:
        """Pause the answer once the utterance over it has ``barge_in`` seconds of voice."""
        if milliseconds >= self._settings.barge_in * 1000:
            self._control.pause(self._settings.pause, self._paused_long)

    def words_heard(self, text: str) -> None:
        """Cancel a paused answer as soon as the open utterance has words."""
        if self._control.paused and text.strip():
            self._events.talked_over()

    def utterance_ended(self, recognition: IRecognition) -> None:
        """Recognise an utterance that has ended; if it has words, it interrupts at once and
        cancels the recognition of older utterances."""
        if not (self._control.paused or self._candidates):
            # Too little voice to be speech.
            recognition.cancel()
            return
        if len(self._candidates) >= _MOST:
            self._candidates[0].cancel()
        who = usage.Who()
        with usage.noting(who):
            candidate = Deferred.fromCoroutine(self._understood(recognition.finish(), who))
        self._candidates.append(candidate)
        candidate.addBoth(self._decided, candidate)

    def noise_heard(self) -> None:
        """Resume the answer: the open utterance was noise."""
        if not self._candidates:
            self._control.resume()

    def forget(self) -> None:
        """Cancel all pending recognitions: the answer was cancelled, or another one starts."""
        candidates, self._candidates = self._candidates, []
        for candidate in candidates:
            candidate.cancel()

    async def _understood(self, heard: Awaitable[Transcript], who: usage.Who) -> Overheard | None:
        """Return the recognised utterance; None if it has no words."""
        ended = self._clock.seconds()
        try:
            transcript = await within(self._recognize, self._clock, heard, late("asr"))
        except ProviderError as error:
            # Without words there is no interruption.
            self._log.warn(
                "{session_id}: speech over an answer was not recognised, the answer continues:"
                " {error}",
                session_id=self._session_id,
                error=error,
            )
            return None
        if not transcript.text.strip():
            return None
        now = self._clock.seconds()
        return Overheard(transcript, ended, now, who.provider, who.model)

    def _decided(
        self, outcome: Overheard | Failure | None, candidate: Deferred[Overheard | None]
    ) -> Failure | None:
        # A candidate that was cancelled is no longer listed.
        if candidate in self._candidates:
            at = self._candidates.index(candidate)
            before, self._candidates = self._candidates[:at], self._candidates[at + 1 :]
            if isinstance(outcome, Overheard):
                for older in before:
                    older.cancel()
                # Later candidates may still interrupt the answer to this one.
                self._log.debug("{session_id}: interrupted by voice", session_id=self._session_id)
                self._events.interrupted_by(outcome)
                return None
            self._candidates = before + self._candidates
            if not self._candidates and not self._events.speaking():
                self._control.resume()
                self._events.undisturbed()
        if isinstance(outcome, Failure) and not outcome.check(CancelledError):
            return outcome
        return None

    def _paused_long(self) -> None:
        """Decide at the limit of a pause: ongoing speech interrupts, a late transcript does not."""
        if self._events.speaking():
            self._events.talked_over()
        else:
            self.forget()
            self._control.resume()

"""Decide whether a voice over an answer is an interruption or a noise.

In realtime the microphone stays open while the device speaks. A voice pauses the answer;
words end it, and without words it resumes where it stopped (§4.6).
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

# Utterances over one answer that are recognised at a time; beyond, the oldest is cancelled.
_MOST = 3


class InterruptionEvents(Protocol):
    """Acts on the decisions of an :class:`Interruption`."""

    def speaking(self) -> bool:
        """Return whether a person is in the middle of an utterance."""

    def interrupted_by(self, over: Overheard) -> None:
        """Answer what was said over the answer."""

    def talked_over(self) -> None:
        """Give the answer up and listen: the utterance over it has words, or goes on."""

    def undisturbed(self) -> None:
        """Go on: nothing is being recognised any more, and it had no words."""


class Interruption:
    """Decides about what is said during an answer.

    :param recognize: seconds within which an utterance must be recognised.
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
        # In the order in which they were said. Bound: _MOST.
        self._candidates: list[Deferred[Overheard | None]] = []

    def adopt(self, settings: ListenSettings, recognize: float) -> None:
        """Use other settings from now on."""
        self._settings, self._recognize = settings, recognize

    @property
    def deciding(self) -> bool:
        """Whether an utterance is being recognised, perhaps beyond the end of the answer."""
        return bool(self._candidates)

    def voice_heard(self, milliseconds: int) -> None:
        """Pause the answer once an utterance over it has enough voice."""
        if milliseconds >= self._settings.barge_in * 1000:
            self._control.pause(self._settings.pause, self._paused_long)

    def words_heard(self, text: str) -> None:
        """Give the answer up as soon as the open utterance has words."""
        if self._control.paused and text.strip():
            self._events.talked_over()

    def utterance_ended(self, recognition: IRecognition) -> None:
        """Recognise an utterance that has ended; earlier ones decide before it."""
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
        """Resume the answer: the open utterance was a noise."""
        if not self._candidates:
            self._control.resume()

    def forget(self) -> None:
        """Cancel all decisions: the answer is given up, or another one begins."""
        candidates, self._candidates = self._candidates, []
        for candidate in candidates:
            candidate.cancel()

    async def _understood(self, heard: Awaitable[Transcript], who: usage.Who) -> Overheard | None:
        """Recognise one utterance.

        :return: None: it has no words.
        """
        ended = self._clock.seconds()
        try:
            transcript = await within(self._recognize, self._clock, heard, late("asr"))
        except ProviderError as error:
            # Treated as no words: the answer goes on.
            self._log.warn(
                "{session_id}: speech over an answer was not recognised, it goes on: {error}",
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
        # A cancelled one decides nothing.
        if candidate in self._candidates:
            at = self._candidates.index(candidate)
            before, self._candidates = self._candidates[:at], self._candidates[at + 1 :]
            if isinstance(outcome, Overheard):
                for older in before:
                    older.cancel()
                # Those behind it may interrupt its own answer.
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
        """Decide at the limit of a pause: speech that goes on counts, late words do not."""
        if self._events.speaking():
            self._events.talked_over()
        else:
            self.forget()
            self._control.resume()

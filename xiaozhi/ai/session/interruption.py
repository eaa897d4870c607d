"""A voice over an answer: a person who wants to speak, or a noise.

In realtime the microphone stays open while the device speaks. At a voice the answer is
paused; words end it, and without words it goes on where it was (§4.6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.agents.settings import ListenSettings
from xiaozhi.ai.session.turncontrol import TurnControl
from xiaozhi.ai.timeline.timeline import Overheard
from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Transcript
from xiaozhi.interfaces import IRecognition
from xiaozhi.runtime.cancelling import late, within

# Utterances over one answer that are recognised at a time; with more, the oldest is given up.
_MOST = 3


class Interruption:
    """Decides about what is heard during an answer.

    :param recognize: seconds an utterance may take to be recognised.
    :param speaking: whether somebody is in the middle of an utterance.
    :param words: called with what was said over the answer.
    :param settled: called when nothing is being recognised any more, and it had no words.
    :param silence: called when what is being said has words, or goes on and on: the
        answer is given up for it.
    """

    _log = Logger()

    def __init__(
        self,
        session_id: str,
        floor: TurnControl,
        settings: ListenSettings,
        recognize: float,
        clock: IReactorTime,
        speaking: Callable[[], bool],
        words: Callable[[Overheard], None],
        silence: Callable[[], None],
        settled: Callable[[], None],
    ) -> None:
        self._session_id = session_id
        self._floor = floor
        self._settings = settings
        self._recognize = recognize
        self._clock = clock
        self._speaking = speaking
        self._words = words
        self._silence = silence
        self._settled = settled
        # In the order in which they were said. Bound: _MOST.
        self._candidates: list[Deferred[Overheard | None]] = []

    @property
    def deciding(self) -> bool:
        """Whether something is being recognised, perhaps beyond the end of the answer."""
        return bool(self._candidates)

    def voiced(self, milliseconds: int) -> None:
        """So much of an utterance over the answer is voice."""
        if milliseconds >= self._settings.barge_in * 1000:
            self._floor.pause(self._settings.pause, self._paused_long)

    def worded(self, text: str) -> None:
        """So much of it has been understood while it goes on."""
        if self._floor.paused and text.strip():
            self._silence()

    def uttered(self, recognition: IRecognition) -> None:
        """It has ended: its words decide, behind those that are still being recognised."""
        if not (self._floor.paused or self._candidates):
            # Too short a voice to be anybody's.
            recognition.cancel()
            return
        if len(self._candidates) >= _MOST:
            self._candidates[0].cancel()
        who = usage.Who()
        with usage.noting(who):
            candidate = Deferred.fromCoroutine(self._understood(recognition.finish(), who))
        self._candidates.append(candidate)
        candidate.addBoth(self._decided, candidate)

    def hushed(self) -> None:
        """What was taken for a voice was none."""
        if not self._candidates:
            self._floor.resume()

    def forget(self) -> None:
        """The answer is given up, or another one begins: nobody is waited for any more."""
        candidates, self._candidates = self._candidates, []
        for candidate in candidates:
            candidate.cancel()

    async def _understood(self, heard: Awaitable[Transcript], who: usage.Who) -> Overheard | None:
        """:return: None: there are no words in it."""
        ended = self._clock.seconds()
        try:
            transcript = await within(self._recognize, self._clock, heard, late("asr"))
        except ProviderError as error:
            # As good as no words: the answer goes on.
            self._log.warn(
                "{session_id}: what was said over an answer was not recognised: {error}",
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
        # One that is forgotten decides nothing.
        if candidate in self._candidates:
            at = self._candidates.index(candidate)
            before, self._candidates = self._candidates[:at], self._candidates[at + 1 :]
            if isinstance(outcome, Overheard):
                for older in before:
                    older.cancel()
                # Those behind it may interrupt what it is answered.
                self._log.debug("{session_id}: interrupted by voice", session_id=self._session_id)
                self._words(outcome)
                return None
            self._candidates = before + self._candidates
            if not self._candidates and not self._speaking():
                self._floor.resume()
                self._settled()
        if isinstance(outcome, Failure) and not outcome.check(CancelledError):
            return outcome
        return None

    def _paused_long(self) -> None:
        """Paused for so long: who still speaks means it; words that do not come do not."""
        if self._speaking():
            self._silence()
        else:
            self.forget()
            self._floor.resume()

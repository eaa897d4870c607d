"""Failover of recognisers: the sound is kept until one of them has recognised it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, fail
from zope.interface import implementer

from xiaozhi.base.call import calling, current_call
from xiaozhi.base.values import Transcript
from xiaozhi.interfaces import IRecognition, IRecognizer
from xiaozhi.providers.kit.failover.candidate import Candidate
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.kinds import Failover
from xiaozhi.providers.kit.transcripts import cleaned, words

_BYTES_PER_SECOND = 2 * 16000


@implementer(IRecognizer)
class FailoverRecognizer(Failover):
    """Recogniser over a failover group.

    The preferred recogniser gets the sound while the person speaks; if it fails, the next one gets
    the kept sound. Tags that recognisers add to the text are removed.
    """

    def recognition(self, interim: Callable[[str], None] | None = None) -> IRecognition:
        """See :class:`~xiaozhi.interfaces.IRecognizer`."""
        return _Recognition(self.group, interim)


def _words_of(interim: Callable[[str], None]) -> Callable[[str], None]:
    """Pass on interim results without tags; skip those without words."""

    def heard(text: str) -> None:
        if said := words(text):
            interim(said)

    return heard


@implementer(IRecognition)
class _Recognition:
    def __init__(self, group: FailoverGroup, interim: Callable[[str], None] | None) -> None:
        self._group = group
        # Bound: `failover.keep` seconds; without an alternative, nothing.
        self._room = int(group.settings.keep) * _BYTES_PER_SECOND
        if len(group.candidates) == 1:
            self._room = 0
        self._kept: list[bytes] = []
        self._running: IRecognition | None = None
        self._broken: Exception | None = None
        self._result: Deferred[Transcript] | None = None
        self._cancelled = False
        self._call = current_call()
        self._candidate = group.order()[0][0]
        if interim is not None:
            interim = _words_of(interim)
        try:
            self._running = self._candidate.provider.recognition(interim)
        except Exception as error:
            self._broken = error

    def feed(self, pcm: bytes) -> None:
        if self._cancelled or self._result is not None:
            return
        if self._room >= len(pcm):
            self._room -= len(pcm)
            self._kept.append(pcm)
        else:
            # Of a long utterance the beginning is kept, without a gap.
            self._room = 0
        if self._running is None or self._broken is not None:
            return
        try:
            self._running.feed(pcm)
        except Exception as error:
            # Raised when the text is asked for.
            self._broken = error

    def finish(self) -> Deferred[Transcript]:
        if self._cancelled:
            return fail(CancelledError())
        # Run in the context of the session that began the utterance, whichever ends it.
        with calling(self._call):
            self._result = Deferred.fromCoroutine(self._understood())
        return self._result

    def cancel(self) -> None:
        self._cancelled = True
        self._kept.clear()
        if self._result is not None:
            self._result.cancel()
        elif self._running is not None:
            self._running.cancel()

    async def _understood(self) -> Transcript:
        try:
            return cleaned(await self._group.answered(self._ask))
        finally:
            self._kept.clear()
            if self._running is not None:
                self._running.cancel()

    def _ask(self, candidate: Candidate) -> Deferred[Transcript]:
        if candidate is not self._candidate:
            # The previous recogniser is no longer needed.
            if self._running is not None:
                self._running.cancel()
            self._running, self._broken = None, None
            self._candidate = candidate
            self._running = candidate.provider.recognition()
            for pcm in self._kept:
                self._running.feed(pcm)
        if self._broken is not None:
            raise self._broken
        assert self._running is not None
        return self._running.finish()

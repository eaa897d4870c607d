"""Phrase prewarming: synthesises phrases before they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.agents.settings import SessionSettings
from xiaozhi.ai.speech.output import Speech, SpeechOutput
from xiaozhi.ai.speech.phrases import Phrases
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.base.errors import XiaozhiError
from xiaozhi.interfaces import ISynthesizer, TimedOffload
from xiaozhi.languages.scripts import language_of
from xiaozhi.languages.texts import CATALOGUES, SPOKEN, catalogue_of, text
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.wire.messages import AudioParams

T = TypeVar("T")

#: The format that nearly all devices ask for (§2.2).
USUAL = AudioParams(sample_rate=24000, frame_duration=60)

# Minimum seconds between a failure and the next attempt.
_RETRY = 60.0

# Deadline in seconds for encoding, so that other work gets threads first.
_NO_HURRY = 5.0

# Maximum formats per voice; there are fifteen legal ones.
_MOST = 16


@dataclass(frozen=True, slots=True)
class PrewarmingRuntime:
    """Facilities that the prewarming of all voices shares.

    :ivar turns: lets one voice run at a time, so that a restart with many agents does not
        flood the vendors.
    """

    offload: TimedOffload
    clock: IReactorTime
    turns: DeferredLock


class Prewarming(Protocol):
    """Synthesises the phrases of one voice in advance."""

    def wanted(self, downlink: AudioParams) -> None:
        """Prewarm the format of a device that has connected."""

    def stop(self) -> None:
        """Stop. Idempotent."""


class NoPrewarming:
    """Prewarms nothing."""

    def wanted(self, downlink: AudioParams) -> None:
        """See :class:`Prewarming`."""

    def stop(self) -> None:
        """See :class:`Prewarming`."""


class PhrasePrewarming:
    """Synthesises each phrase that is not cached, for each format that devices use, one after
    the other.

    A failure is logged and retried when a device connects later.

    :param done: sample rate and frame duration of each format that is prewarmed or in
        progress. The caller keeps it for later instances with the same voice and texts.
    """

    _log = Logger()

    def __init__(
        self,
        phrases: Phrases,
        synthesizer: ISynthesizer,
        settings: SessionSettings,
        runtime: PrewarmingRuntime,
        done: set[tuple[int, int]],
    ) -> None:
        self._phrases = phrases
        self._synthesizer = synthesizer
        self._settings = settings
        self._runtime = runtime
        self._done = done
        # Bound: `_MOST` formats.
        self._waiting: list[AudioParams] = []
        self._running: Deferred[None] | None = None
        self._not_before = 0.0
        self._stopped = False

    def stop(self) -> None:
        """Stop; formats that are not complete are no longer done. Idempotent."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    def wanted(self, downlink: AudioParams) -> None:
        """Prewarm the format of a device that has connected."""
        form = downlink.sample_rate, downlink.frame_duration
        idle = not self._settings.speech.rehearse or self._stopped
        if idle or form in self._done or len(self._done) >= _MOST:
            return
        if self._runtime.clock.seconds() < self._not_before:
            return
        self._done.add(form)
        self._waiting.append(downlink)
        if self._running is None or self._running.called:
            self._running = Deferred.fromCoroutine(self._prewarm())

    async def _prewarm(self) -> None:
        try:
            async with self._runtime.turns:
                while self._waiting:
                    await self._speak_all(self._waiting[0])
                    self._waiting.pop(0)
        except CancelledError:
            return
        except XiaozhiError as error:
            self._log.warn(
                "phrases were not prewarmed, an apology may be silent: {error}", error=error
            )
            self._not_before = self._runtime.clock.seconds() + _RETRY
        finally:
            for left in self._waiting:
                self._done.discard((left.sample_rate, left.frame_duration))
            self._waiting.clear()

    async def _speak_all(self, downlink: AudioParams) -> None:
        output = SpeechOutput(
            synthesizer=self._synthesizer,
            send=lambda _: None,
            gate=Gate(is_open=True),
            downlink=downlink,
            offload=self._unhurried,
            clock=self._runtime.clock,
            settings=self._settings.speech,
            limits=self._settings.turn,
            phrases=self._phrases,
        )
        for words, language in self._texts():
            speech = Speech(output, 0, language, Timeline(AiCounts(), self._runtime.clock))
            try:
                await speech.pronounce(words, language)
                await speech.finish()
            finally:
                speech.cancel()

    def _unhurried(self, _: float, function: Callable[..., T], /, *args: Any) -> Deferred[T]:
        return self._runtime.offload(_NO_HURRY, function, *args)

    def _texts(self) -> Iterator[tuple[str, str]]:
        usual = catalogue_of(self._settings.dialogue.language)
        languages = sorted(CATALOGUES, key=lambda language: language != usual)
        for key in SPOKEN:
            for language in languages:
                yield text(key, language), language
        roles = (role.greetings for role in self._settings.roles.values())
        for greeting in chain(self._settings.wake.greetings, *roles):
            yield greeting, language_of(greeting, self._settings.dialogue.language)

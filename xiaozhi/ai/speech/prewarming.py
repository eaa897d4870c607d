"""What the server says by itself is spoken before it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
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

# What nearly all devices ask for (§2.2).
_USUAL = AudioParams(sample_rate=24000, frame_duration=60)

# Seconds after which it is tried again, at the earliest.
_RETRY = 60.0

# Seconds that sound waits for a thread while others need one.
_NO_HURRY = 5.0

# Forms that are rehearsed; there are fifteen legal ones.
_MOST = 16


class PhrasePrewarming:
    """Has each phrase spoken once for each form that devices want, one after the other.

    What is kept already is not spoken again. A failure costs nothing but a line in the
    log; it is tried again when a device connects later.
    """

    _log = Logger()

    def __init__(
        self,
        phrases: Phrases,
        synthesizer: ISynthesizer,
        offload: TimedOffload,
        clock: IReactorTime,
        settings: SessionSettings,
    ) -> None:
        self._phrases = phrases
        self._synthesizer = synthesizer
        self._offload = offload
        self._clock = clock
        self._settings = settings
        self._known: set[tuple[int, int]] = set()
        self._waiting: list[AudioParams] = []
        self._running: Deferred[None] | None = None
        self._not_before = 0.0
        self._stopped = False

    def start(self) -> None:
        """The service has started."""
        self.wanted(_USUAL)

    def stop(self) -> None:
        """The service stops."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    def wanted(self, downlink: AudioParams) -> None:
        """A device wants its sound like this."""
        form = downlink.sample_rate, downlink.frame_duration
        idle = not self._settings.speech.rehearse or self._stopped
        if idle or form in self._known or len(self._known) >= _MOST:
            return
        if self._clock.seconds() < self._not_before:
            return
        self._known.add(form)
        self._waiting.append(downlink)
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._rehearse())

    async def _rehearse(self) -> None:
        try:
            while self._waiting:
                await self._speak_all(self._waiting[0])
                self._waiting.pop(0)
        except CancelledError:
            return
        except XiaozhiError as error:
            self._log.warn(
                "phrases cannot be spoken ahead, an apology may be silent: {error}", error=error
            )
            self._not_before = self._clock.seconds() + _RETRY
            for left in self._waiting:
                self._known.discard((left.sample_rate, left.frame_duration))
            self._waiting.clear()
        finally:
            self._running = None

    async def _speak_all(self, downlink: AudioParams) -> None:
        mouth = SpeechOutput(
            synthesizer=self._synthesizer,
            send=lambda _: None,
            gate=Gate(is_open=True),
            downlink=downlink,
            offload=self._unhurried,
            clock=self._clock,
            settings=self._settings.speech,
            limits=self._settings.turn,
            phrases=self._phrases,
        )
        for words, language in self._texts():
            speech = Speech(mouth, 0, language, Timeline(AiCounts(), self._clock))
            try:
                await speech.pronounce(words, language)
                await speech.finish()
            finally:
                speech.cancel()

    def _unhurried(self, _: float, function: Callable[..., T], /, *args: Any) -> Deferred[T]:
        return self._offload(_NO_HURRY, function, *args)

    def _texts(self) -> Iterator[tuple[str, str]]:
        usual = catalogue_of(self._settings.dialogue.language)
        languages = sorted(CATALOGUES, key=lambda language: language != usual)
        for key in SPOKEN:
            for language in languages:
                yield text(key, language), language
        roles = (role.greetings for role in self._settings.roles.values())
        for greeting in chain(self._settings.wake.greetings, *roles):
            yield greeting, language_of(greeting, self._settings.dialogue.language)

"""Double of a synthesiser that takes text as a model writes it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Encoding, SentenceMark, SoundFormat
from xiaozhi.interfaces import IIncrementalSynthesizer, ISpeechStream

# Text up to the end of a sentence.
_SENTENCE = re.compile(r".*?[.!?。！？\n]+\s*", re.DOTALL)

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class IncrementalToneSettings(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True
):
    """
    :ivar sample_rate: Hz of the PCM.
    :ivar milliseconds: sound for each character of a text.
    :ivar delay: seconds before a sentence's first piece.
    :ivar pause: seconds between two pieces.
    :ivar marks: whether sentence marks are given.
    :ivar most: characters that one stream takes.
    :ivar fail: code of the error that a stream ends with at its first sentence; empty: none.
    """

    sample_rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] = 24000
    milliseconds: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60
    delay: _Seconds = 0.0
    pause: _Seconds = 0.0
    marks: bool = True
    most: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    fail: str = ""


@implementer(IIncrementalSynthesizer)
class IncrementalTone:
    """Speaks a square wave, a sentence as soon as it is complete."""

    Settings = IncrementalToneSettings

    def __init__(self, settings: IncrementalToneSettings, clock: Any) -> None:
        self.settings = settings
        self.clock = clock
        self.closed = False
        self.sound = SoundFormat(Encoding.PCM, settings.sample_rate)
        # Bound: streams that are being spoken.
        self._streams: set[_ToneStream] = set()

    def speech(self, language: str) -> ISpeechStream:
        """See :class:`~xiaozhi.interfaces.IIncrementalSynthesizer`."""
        return _ToneStream(self, self._streams)

    def close(self) -> Deferred[None]:
        """Running streams fail with ``closed``."""
        self.closed = True
        for stream in [*self._streams]:
            stream.wake()
        return succeed(None)


@implementer(ISpeechStream)
class _ToneStream:
    def __init__(self, synthesizer: IncrementalTone, running: set[_ToneStream]) -> None:
        self._synthesizer = synthesizer
        self._running = running
        # Bound: `most` characters.
        self._text = ""
        self._room = synthesizer.settings.most
        self._finished = self._cancelled = False
        self._waiting: Deferred[None] | None = None

    def feed(self, text: str) -> None:
        if self._finished or self._cancelled:
            return
        if len(text) > self._room:
            raise ProviderError("too_long", "the stream takes no more text", retryable=False)
        self._room -= len(text)
        self._text += text
        self.wake()

    def finish(self) -> None:
        self._finished = True
        self.wake()

    def cancel(self) -> None:
        self._cancelled = True
        self.wake()

    def wake(self) -> None:
        """Look again at what there is to do."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def pieces(self) -> AsyncGenerator[bytes | SoundFormat | SentenceMark, None]:
        self._running.add(self)
        try:
            while not self._cancelled:
                self._check()
                if sentence := self._next():
                    async for piece in self._spoken(sentence):
                        yield piece
                elif self._finished:
                    return
                else:
                    self._waiting = Deferred()
                    await self._waiting
        finally:
            self._running.discard(self)
            self._cancelled = True

    def _check(self) -> None:
        if self._synthesizer.closed:
            raise ProviderError("closed", "the provider was closed", retryable=False)

    def _next(self) -> str:
        """Take a complete sentence, or the rest after the end."""
        found = _SENTENCE.match(self._text)
        end = found.end() if found else len(self._text) if self._finished else 0
        sentence, self._text = self._text[:end], self._text[end:]
        return sentence

    async def _spoken(self, sentence: str) -> AsyncGenerator[bytes | SentenceMark, None]:
        settings = self._synthesizer.settings
        await self._sleep(settings.delay)
        if settings.fail:
            raise ProviderError(settings.fail, "told to fail by configuration", retryable=True)
        if settings.marks and not self._cancelled:
            yield SentenceMark(sentence)
        samples = len(sentence) * settings.milliseconds * settings.sample_rate // 1000
        period = b"\x00\x10" * 20 + b"\x00\xf0" * 20
        sound = (period * (samples * 2 // len(period) + 1))[: samples * 2]
        step = settings.sample_rate // 10 * 2
        for at in range(0, len(sound), step):
            if at:
                await self._sleep(settings.pause)
            if self._cancelled:
                return
            self._check()
            yield sound[at : at + step]

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            await deferLater(self._synthesizer.clock, seconds)

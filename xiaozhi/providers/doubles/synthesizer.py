"""Double of a synthesiser: a tone as long as the text."""

from __future__ import annotations

import math
from array import array
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import msgspec
from zope.interface import implementer

from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.interfaces import IProvider, ISynthesizer
from xiaozhi.providers.doubles.base import Double, DoubleSettings


class ToneSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of :class:`ToneSynthesizer`.

    :ivar sample_rate: Hz of the PCM.
    :ivar milliseconds: sound for each character of a text.
    :ivar frequency: Hz of the tone.
    :ivar level: its amplitude, 0 to 32767.
    :ivar pace: speed of its delivery relative to real time; 0: at once.
    """

    sample_rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] = 24000
    milliseconds: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60
    frequency: Annotated[int, msgspec.Meta(ge=20, le=4000)] = 440
    level: Annotated[int, msgspec.Meta(ge=0, le=32767)] = 3000
    pace: Annotated[float, msgspec.Meta(ge=0)] = 0.0


@implementer(ISynthesizer, IProvider)
class ToneSynthesizer(Double):
    """Synthesises a tone as long as the text would take to say, in pieces of 0.1 s."""

    Settings: ClassVar[type[msgspec.Struct]] = ToneSettings

    def __init__(self, settings: ToneSettings, clock: Any) -> None:
        super().__init__(settings, clock)
        self.sound = SoundFormat(Encoding.PCM, settings.sample_rate, 1)
        # A tenth of a second holds whole periods of any multiple of 10 Hz.
        frequency = max(10, settings.frequency // 10 * 10)
        self._piece = _tone(frequency, settings.level, settings.sample_rate)

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        """See :class:`ISynthesizer`."""
        crawl = await self._begin(text)
        settings = self._settings
        pause = crawl + (0.1 / settings.pace if settings.pace else 0.0)
        left = len(text) * settings.milliseconds * settings.sample_rate // 1000 * 2
        first = True
        while left > 0:
            if not first:
                await self._sleep(pause)
            first = False
            yield self._piece[:left]
            left -= len(self._piece)


@lru_cache(maxsize=16)
def _tone(frequency: int, level: int, rate: int) -> bytes:
    """Make 0.1 s of a sine wave, s16le mono."""
    step = 2 * math.pi * frequency / rate
    return array("h", (round(level * math.sin(step * n)) for n in range(rate // 10))).tobytes()

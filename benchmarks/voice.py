"""Synthetic sound that takes a codec and a detector as much CPU as a voice."""

from __future__ import annotations

import math
import random
from array import array

_PITCH = 120.0
_FORMANTS = ((500.0, 1.0), (1500.0, 0.5), (2500.0, 0.25))
_WIDTH = 300.0
_SYLLABLES = 4.0  # per second
_LOUD = 6000.0
_NOISE = 10.0


def voice(seconds: float, rate: int) -> bytes:
    """Make a voice without words: s16, with varying pitch and loudness."""
    chance = random.Random(1)
    harmonics = [
        (number, sum(part / (1 + ((number * _PITCH - at) / _WIDTH) ** 2) for at, part in _FORMANTS))
        for number in range(1, 25)
    ]
    samples, phase = array("h"), 0.0
    for index in range(int(seconds * rate)):
        time = index / rate
        phase += 2 * math.pi * _PITCH * (1 + 0.15 * math.sin(time * 2.1)) / rate
        loudness = 0.55 + 0.45 * math.sin(2 * math.pi * _SYLLABLES * time)
        tone = sum(part * math.sin(number * phase) for number, part in harmonics)
        sample = _LOUD * loudness * tone / 3 + chance.gauss(0.0, _NOISE)
        samples.append(max(-32768, min(32767, round(sample))))
    return samples.tobytes()


def quiet(seconds: float, rate: int) -> bytes:
    """Make the noise of a microphone without speech."""
    chance = random.Random(2)
    return array(
        "h", (round(chance.gauss(0.0, _NOISE)) for _ in range(int(seconds * rate)))
    ).tobytes()

"""PCM samples: conversion to mono at another rate, and loudness."""

from __future__ import annotations

import math
from array import array

from av import AudioFrame, AudioResampler

#: Sample formats that a :class:`Resampler` accepts, with their bytes per sample.
SAMPLE_BYTES = {"u8": 1, "s16": 2, "s32": 4, "flt": 4, "dbl": 8}

#: libav's names of channel layouts, by the number of channels.
_LAYOUTS = {
    1: "mono",
    2: "stereo",
    3: "2.1",
    4: "quad",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}


class Resampler:
    """Converts a stream of samples to s16le mono at another rate.

    The output does not depend on how the input is cut into pieces. After :meth:`finish` it has
    ``round(samples * to / from)`` samples.
    """

    def __init__(
        self, from_rate: int, to_rate: int, channels: int = 1, sample_format: str = "s16"
    ) -> None:
        """:param sample_format: a key of :data:`SAMPLE_BYTES`; channels are interleaved.
        :raises ValueError: unusable rate, channel count or format.
        """
        if not (1000 <= from_rate <= 768000 and 1000 <= to_rate <= 768000):
            raise ValueError(f"sample rate out of range: {from_rate} to {to_rate} Hz")
        if channels not in _LAYOUTS:
            raise ValueError(f"{channels} channels are not supported")
        self._from_rate = from_rate
        self._to_rate = to_rate
        self._format = sample_format
        self._layout = _LAYOUTS[channels]
        self._width = SAMPLE_BYTES[sample_format] * channels
        # Whole blocks of 20 ms make the result independent of the caller's pieces.
        self._block = max(1, from_rate // 50)
        self._plain = from_rate == to_rate and channels == 1 and sample_format == "s16"
        self._resampler = None if self._plain else AudioResampler("s16", "mono", to_rate)
        self._waiting = bytearray()
        self._samples_in = 0
        self._bytes_out = 0

    def feed(self, data: bytes) -> bytes:
        """Convert a piece of input.

        :param data: any number of bytes, which may end within a sample.
        """
        waiting = self._waiting
        waiting += data
        if self._plain:
            usable = len(waiting) & ~1
            out = bytes(waiting[:usable])
            del waiting[:usable]
            return out
        size = self._block * self._width
        count = len(waiting) // size
        if not count:
            return b""
        with memoryview(waiting) as view:
            out = b"".join(
                self._convert(bytes(view[at : at + size])) for at in range(0, count * size, size)
            )
        del waiting[: count * size]
        return out

    def finish(self) -> bytes:
        """Return the rest. An incomplete sample at the end is dropped. Nothing may be fed
        afterwards.
        """
        rest = bytes(self._waiting[: len(self._waiting) // self._width * self._width])
        self._waiting.clear()
        resampler = self._resampler
        if resampler is None:
            return rest
        before = self._bytes_out
        tail = self._convert(rest) if rest else b""
        if self._samples_in:
            # Silence flushes the filter; cutting the output restores the exact length.
            silence = (b"\x80" if self._format == "u8" else b"\0") * (self._block * self._width)
            total = (self._samples_in * self._to_rate * 2 + self._from_rate) // (
                2 * self._from_rate
            )
            wanted = max(0, total * 2 - before)
            while len(tail) < wanted:
                tail += self._convert(silence)
            tail = tail[:wanted]
        self._resampler = None
        return tail

    def _convert(self, data: bytes) -> bytes:
        resampler = self._resampler
        assert resampler is not None, "feed() called after finish()"
        samples = len(data) // self._width
        frame = AudioFrame(format=self._format, layout=self._layout, samples=samples)
        frame.sample_rate = self._from_rate
        plane = frame.planes[0]
        plane.update(data.ljust(plane.buffer_size, b"\0"))
        out = b"".join(samples_of(piece) for piece in resampler.resample(frame))
        self._samples_in += samples
        self._bytes_out += len(out)
        return out


def samples_of(frame: AudioFrame) -> bytes:
    """Return the samples of an s16 mono frame; libav's plane may be longer."""
    return bytes(frame.planes[0])[: frame.samples * 2]


def rms(pcm: bytes) -> float:
    """Return the loudness: the root mean square of samples, 0 to 32768."""
    samples = array("h", pcm)
    # 7 µs for 20 ms at 16 kHz; squaring and adding up in Python takes three times as long.
    return math.hypot(*samples) / math.sqrt(len(samples)) if samples else 0.0


def louder(pcm: bytes, level: float) -> bool:
    """Return whether :func:`rms` is at least ``level``; for loud sound eight times as fast."""
    samples = memoryview(pcm).cast("h")
    enough = level * math.sqrt(max(1, len(samples)))
    # The remaining samples can only increase the sum.
    return math.hypot(*samples[::40]) >= enough or math.hypot(*samples) >= enough


def resample(pcm: bytes, from_rate: int, to_rate: int) -> bytes:
    """Convert a complete piece of sound to another rate."""
    resampler = Resampler(from_rate, to_rate)
    return resampler.feed(pcm) + resampler.finish()

"""Wav: streamed reading, and whole files."""

from __future__ import annotations

import os
import struct
import wave
from dataclasses import dataclass

from xiaozhi.audio.pcm import Resampler
from xiaozhi.errors import ProviderError


def bad_sound(message: str) -> ProviderError:
    return ProviderError("bad_sound", message, retryable=False)


@dataclass(frozen=True, slots=True)
class WavShape:
    """What a wav header says of its samples; ``sample_format`` as libav names it."""

    sample_rate: int
    channels: int
    sample_format: str


class WavParser:
    """Reads a wav file's header across pieces and hands its samples through.

    Sizes that a streaming writer could not know (0 or 0xFFFFFFFF) mean: to the end.
    """

    def __init__(self) -> None:
        self.shape: WavShape | None = None
        self._widen = False
        self._waiting = bytearray()
        self._skip = 0
        self._state = "riff"
        self._left = 0
        self._fed = False

    def feed(self, data: bytes) -> bytes:
        """:return: samples, once :attr:`shape` is set."""
        self._fed = self._fed or bool(data)
        self._waiting += data
        while self._state != "data":
            if not self._parse_chunk():
                return b""
        usable = min(len(self._waiting), self._left)
        if self._widen:
            usable -= usable % 3
        samples = bytes(self._waiting[:usable])
        del self._waiting[:usable]
        self._left -= usable
        if not self._left:
            self._waiting.clear()
        return _widened(samples) if self._widen else samples

    def finish(self) -> WavShape:
        """:raises ProviderError: ``bad_sound``: the header never came to its end."""
        if self.shape is None or self._state != "data":
            raise bad_sound("the wav header is incomplete")
        return self.shape

    @property
    def empty(self) -> bool:
        """Nothing was fed at all."""
        return not self._fed

    def _parse_chunk(self) -> bool:
        """Take one header or chunk off what waits; False: more is needed."""
        waiting = self._waiting
        if self._skip:
            taken = min(self._skip, len(waiting))
            del waiting[:taken]
            self._skip -= taken
            if self._skip:
                return False
        if self._state == "riff":
            if len(waiting) < 12:
                return False
            if waiting[:4] != b"RIFF" or waiting[8:12] != b"WAVE":
                raise bad_sound("not a wav stream: no RIFF/WAVE header")
            del waiting[:12]
            self._state = "chunks"
            return True
        if len(waiting) < 8:
            return False
        name, size = struct.unpack_from("<4sI", waiting)
        if name == b"fmt ":
            if not 16 <= size <= 1024:
                raise bad_sound(f"wav format chunk of {size} bytes")
            if len(waiting) < 8 + size:
                return False
            self._read_format(bytes(waiting[8 : 8 + size]))
            del waiting[: 8 + size]
            self._skip = size & 1
        elif name == b"data":
            if self.shape is None:
                raise bad_sound("wav samples before their format")
            del waiting[:8]
            # Some writers leave 0x7FFFFF.. instead; nothing real is that long.
            self._left = size if 0 < size < 0x7FFFFF00 else 1 << 62
            self._state = "data"
        else:
            del waiting[:8]
            self._skip = size + (size & 1)
        return True

    def _read_format(self, chunk: bytes) -> None:
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if tag == 0xFFFE and len(chunk) >= 26:
            (tag,) = struct.unpack_from("<H", chunk, 24)
        formats = {(1, 8): "u8", (1, 16): "s16", (1, 24): "s32", (1, 32): "s32", (3, 32): "flt"}
        name = formats.get((tag, bits))
        if name is None:
            raise bad_sound(f"wav format {tag} with {bits} bits is not supported")
        if not (1 <= channels <= 8 and 1000 <= rate <= 768000):
            raise bad_sound(f"wav with {channels} channels at {rate} Hz is not supported")
        self._widen = bits == 24
        self.shape = WavShape(rate, channels, name)


def _widened(samples: bytes) -> bytes:
    """24-bit samples as 32-bit ones."""
    out = bytearray(len(samples) // 3 * 4)
    for byte in range(3):
        out[byte + 1 :: 4] = samples[byte::3]
    return bytes(out)


def read_wav(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    """Read a wav file of any channel count as mono.

    :return: samples and their rate in Hz.
    :raises ProviderError: ``bad_sound``: not a wav file we can read.
    """
    parser = WavParser()
    with open(path, "rb") as file:
        data = parser.feed(file.read())
    shape = parser.finish()
    same_rate = Resampler(shape.sample_rate, shape.sample_rate, shape.channels, shape.sample_format)
    return same_rate.feed(data) + same_rate.finish(), shape.sample_rate


def write_wav(path: str | os.PathLike[str], pcm: bytes, sample_rate: int) -> None:
    """Write a mono wav file."""
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm)

"""WAV: streaming reader, and complete files."""

from __future__ import annotations

import os
import struct
import wave
from collections.abc import Callable
from dataclasses import dataclass

from xiaozhi.audio.pcm import Resampler
from xiaozhi.base.errors import ProviderError

# Bytes that identify a file's header: RIFF, size, WAVE, fmt.
_HEADER = 16
_UNKNOWN = 1 << 62
# Chunks that follow the samples.
_TRAILERS = {
    *(b"LIST", b"fact", b"cue ", b"bext", b"iXML", b"smpl", b"inst", b"plst", b"JUNK"),
    *(b"PAD ", b"FLLR", b"note", b"labl", b"ltxt", b"_PMX", b"PEAK", b"afsp", b"cart", b"junk"),
}


def bad_sound(message: str) -> ProviderError:
    return ProviderError("bad_sound", message, retryable=False)


@dataclass(frozen=True, slots=True)
class WavShape:
    """The sample format that a WAV header declares.

    :ivar sample_format: libav's name of it, after :meth:`plain`.
    :ivar width: bytes in the file of one sample of all channels.
    """

    sample_rate: int
    channels: int
    sample_format: str
    width: int = 2
    _convert: Callable[[bytes], bytes] | None = None

    def plain(self, samples: bytes) -> bytes:
        """Convert samples to a form that libav accepts."""
        return samples if self._convert is None else self._convert(samples)


class WavParser:
    """Reads WAV headers across pieces and passes the samples through.

    A streaming writer may not know the sizes (0, 0xFFFFFFFF) or get them wrong; such a size does
    not end the sound. Samples continue to the next header or to the end. So several files in one
    stream are all read: some vendors send one for each sentence.

    :ivar shape: that of the newest header.
    """

    def __init__(self) -> None:
        self.shape: WavShape | None = None
        self._waiting = bytearray()
        self._skip = 0
        self._state = "riff"
        # Remaining bytes that the header declared.
        self._left = 0
        self._odd = False
        self._fed = False

    def feed(self, data: bytes) -> list[tuple[WavShape, bytes]]:
        """Read a piece.

        :return: samples, each with its format.
        """
        self._fed = self._fed or bool(data)
        self._waiting += data
        found: list[tuple[WavShape, bytes]] = []
        while self._step(found, complete=False):
            pass
        return found

    def finish(self) -> list[tuple[WavShape, bytes]]:
        """Return the rest.

        :raises ProviderError: ``bad_sound``: the header is incomplete.
        """
        if self._fed and self.shape is None:
            raise bad_sound("the wav header is incomplete")
        found: list[tuple[WavShape, bytes]] = []
        while self._step(found, complete=True):
            pass
        return found

    def _step(self, found: list[tuple[WavShape, bytes]], complete: bool) -> bool:
        """Consume a part of the buffer; return False if more data is needed."""
        waiting = self._waiting
        if self._skip:
            taken = min(self._skip, len(waiting))
            del waiting[:taken]
            self._skip -= taken
            if self._skip:
                return False
        if self._state == "samples":
            return self._samples(found, complete)
        if self._state == "end":
            return self._behind(complete)
        if self._state == "chunks":
            return self._chunk()
        if len(waiting) < 12:
            return False
        if bytes(waiting[:4]) not in (b"RIFF", b"RF64") or waiting[8:12] != b"WAVE":
            raise bad_sound("not a wav stream: no RIFF/WAVE header")
        del waiting[:12]
        self._state = "chunks"
        return True

    def _samples(self, found: list[tuple[WavShape, bytes]], complete: bool) -> bool:
        waiting, shape = self._waiting, self.shape
        assert shape is not None
        border = _next_file(waiting)
        # Keep a possible beginning of a header.
        limit = border if border >= 0 else len(waiting) - (0 if complete else _HEADER - 1)
        ended = self._left <= limit
        end = self._left if ended else max(0, limit - limit % shape.width)
        if samples := bytes(waiting[: end - end % shape.width]):
            found.append((shape, shape.plain(samples)))
        if ended:
            self._state = "end"
        elif border >= 0:
            end, self._state = border, "riff"
        del waiting[:end]
        self._left -= end
        return bool(end) or ended or border >= 0

    def _behind(self, complete: bool) -> bool:
        """Read the bytes after the declared samples: a chunk, another file, or more samples."""
        waiting = self._waiting
        if len(waiting) < _HEADER + 1 and (not complete or not waiting):
            return False
        pad = int(self._odd and waiting[:1] == b"\0")
        if _next_file(waiting[pad:]) == 0:
            del waiting[:pad]
            self._state = "riff"
        elif _is_chunk(waiting, pad):
            del waiting[:pad]
            self._state = "chunks"
        elif complete and len(waiting) < 8:
            waiting.clear()
            return False
        else:
            self._left, self._state = _UNKNOWN, "samples"
        return True

    def _chunk(self) -> bool:
        """Consume one chunk of the buffer, or its header."""
        waiting = self._waiting
        if len(waiting) < 8:
            return False
        if waiting[:4] == b"RIFF" and self.shape is not None:
            self._state = "riff"
            return True
        name, size = struct.unpack_from("<4sI", waiting)
        if name == b"fmt ":
            if not 16 <= size <= 1024:
                raise bad_sound(f"wav format chunk of {size} bytes")
            if len(waiting) < 8 + size:
                return False
            self.shape = _read_format(bytes(waiting[8 : 8 + size]))
            del waiting[: 8 + size]
            self._skip = size & 1
        elif name == b"data":
            if self.shape is None:
                raise bad_sound("wav samples before their format")
            del waiting[:8]
            # Some writers leave 0x7FFFFF.. instead; no real chunk is that long.
            known = 0 < size < 0x7FFFFF00
            self._left, self._odd = size if known else _UNKNOWN, bool(known and size & 1)
            self._state = "samples"
        else:
            del waiting[:8]
            self._skip = size + (size & 1)
        return True


def _next_file(data: bytearray) -> int:
    """Return the offset of another file in samples; -1: no other file follows."""
    at = data.find(b"WAVEfmt ")
    while at >= 0:
        if at >= 8 and data[at - 8 : at - 4] == b"RIFF":
            return at - 8
        at = data.find(b"WAVEfmt ", at + 1)
    return -1


def _is_chunk(data: bytearray, at: int) -> bool:
    """Return whether a chunk that writers append to the samples begins there."""
    return bytes(data[at : at + 4]) in _TRAILERS or bytes(data[at : at + 4]).lower() == b"id3 "


def _read_format(chunk: bytes) -> WavShape:
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == 0xFFFE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    name = _FORMATS.get((tag, bits))
    if name is None:
        raise bad_sound(f"wav format {tag} with {bits} bits is not supported")
    if not (1 <= channels <= 8 and 1000 <= rate <= 768000):
        raise bad_sound(f"wav with {channels} channels at {rate} Hz is not supported")
    return WavShape(rate, channels, name, bits // 8 * channels, _PLAIN.get((tag, bits)))


def _widened(samples: bytes) -> bytes:
    """Convert 24-bit samples to 32 bits."""
    out = bytearray(len(samples) // 3 * 4)
    for byte in range(3):
        out[byte + 1 :: 4] = samples[byte::3]
    return bytes(out)


def _expanded(table: tuple[int, ...]) -> Callable[[bytes], bytes]:
    """Convert companded samples to 16 bits."""
    low = bytes(value & 0xFF for value in table)
    high = bytes(value >> 8 & 0xFF for value in table)

    def expand(samples: bytes) -> bytes:
        out = bytearray(2 * len(samples))
        out[::2], out[1::2] = samples.translate(low), samples.translate(high)
        return bytes(out)

    return expand


def _mu_law(code: int) -> int:
    """ITU-T G.711, table 2."""
    code = ~code
    value = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -value if code & 0x80 else value


def _a_law(code: int) -> int:
    """ITU-T G.711, table 1."""
    code ^= 0x55
    value, segment = (code & 0x0F) << 4, code >> 4 & 7
    value = value + 8 if not segment else value + 0x108 << segment - 1
    return value if code & 0x80 else -value


# By format tag and bits: libav's sample format, and the conversion to it.
_FORMATS = {
    (1, 8): "u8",
    (1, 16): "s16",
    (1, 24): "s32",
    (1, 32): "s32",
    (3, 32): "flt",
    (3, 64): "dbl",
    (6, 8): "s16",
    (7, 8): "s16",
}
_PLAIN = {
    (1, 24): _widened,
    (6, 8): _expanded(tuple(map(_a_law, range(256)))),
    (7, 8): _expanded(tuple(map(_mu_law, range(256)))),
}


def read_wav(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    """Read a WAV file of any channel count as mono.

    :return: samples and their rate in Hz.
    :raises ProviderError: ``bad_sound``: not a supported WAV file.
    """
    parser = WavParser()
    with open(path, "rb") as file:
        found = parser.feed(file.read()) + parser.finish()
    shape = parser.shape
    if shape is None:
        raise bad_sound("the wav header is incomplete")
    reader = WavReader(shape.sample_rate)
    return reader.take(found) + reader.finish(), shape.sample_rate


class WavReader:
    """Converts samples of any format to s16le mono at one rate."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._shape: WavShape | None = None
        self._resampler: Resampler | None = None

    def take(self, found: list[tuple[WavShape, bytes]]) -> bytes:
        """Convert samples.

        :param found: the output of a :class:`WavParser`.
        """
        out = b""
        for shape, samples in found:
            if shape != self._shape:
                out += self.finish()
                self._shape = shape
            if self._resampler is None:
                self._resampler = Resampler(
                    shape.sample_rate, self._rate, shape.channels, shape.sample_format
                )
            out += self._resampler.feed(samples)
        return out

    def finish(self) -> bytes:
        """Return the rest."""
        resampler, self._resampler = self._resampler, None
        return resampler.finish() if resampler is not None else b""


def write_wav(path: str | os.PathLike[str], pcm: bytes, sample_rate: int) -> None:
    """Write a mono WAV file."""
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm)

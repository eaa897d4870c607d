"""libopus through ctypes: one call for each packet.

PyAV encodes and decodes with the same library, to the same packets. But its filter graph releases
and reacquires the interpreter's lock seven times for each packet, and each of these may cost 5 ms
while other threads are busy. It also always decodes to 48 kHz and resamples, while libopus decodes
to any of its own rates.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

#: Applications that an encoder can optimise for, with libopus' numbers.
APPLICATIONS = {"voip": 2048, "audio": 2049, "lowdelay": 2051}
_SET_BITRATE, _SET_COMPLEXITY = 4002, 4010

# The buffer size that libopus recommends for a packet of any bit rate and duration.
_MAX_PACKET = 4000


def _candidates() -> Iterator[str]:
    """Yield the library in PyAV's wheel, then the system's."""
    package = Path(av.__file__).parent
    for directory in (package.parent / "av.libs", package / ".dylibs"):
        yield from sorted(str(path) for path in directory.glob("*opus*"))
    if (system := ctypes.util.find_library("opus")) is not None:
        yield system


def _find() -> str:
    for path in _candidates():
        try:
            if hasattr(ctypes.CDLL(path), "opus_encoder_init"):
                return path
        except OSError:
            continue
    raise ImportError(
        "libopus was found neither in PyAV's wheel nor on this system; "
        "install it (Debian: libopus0)"
    )


_PATH = _find()
_pointer, _int, _bytes = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p

# Encoding takes up to two milliseconds a packet; other threads run meanwhile.
_free: Any = ctypes.CDLL(_PATH)
_free.opus_encode.argtypes = [_pointer, _bytes, _int, _pointer, _int]

# All other calls take less than 100 µs; releasing and reacquiring the interpreter's lock may take
# longer.
_held: Any = ctypes.PyDLL(_PATH)
_held.opus_decode.argtypes = [_pointer, _bytes, _int, _pointer, _int, _int]
# Variadic arguments follow; without this declaration Apple's processors pass them wrongly.
_held.opus_encoder_ctl.argtypes = [_pointer, _int]
_held.opus_encoder_init.argtypes = [_pointer, _int, _int, _int]
_held.opus_decoder_init.argtypes = [_pointer, _int, _int]
_held.opus_strerror.restype = _bytes

_ENCODER_BYTES = _held.opus_encoder_get_size(1)
_DECODER_BYTES = _held.opus_decoder_get_size(1)


class OpusError(Exception):
    """A call of libopus failed; the message is libopus' own."""


def _checked(code: int) -> int:
    if code < 0:
        raise OpusError(_held.opus_strerror(code).decode())
    return code


class Encoder:
    """Encoder of one mono stream. Other threads run while it encodes."""

    def __init__(self, sample_rate: int, complexity: int, bitrate: int, application: str) -> None:
        # The state lives in memory of ours, so there is nothing to free.
        self._state = ctypes.create_string_buffer(_ENCODER_BYTES)
        number = APPLICATIONS[application]
        _checked(_held.opus_encoder_init(self._state, sample_rate, 1, number))
        for request, value in ((_SET_BITRATE, bitrate), (_SET_COMPLEXITY, complexity)):
            _checked(_held.opus_encoder_ctl(self._state, request, _int(value)))
        self._packet = ctypes.create_string_buffer(_MAX_PACKET)

    def encode(self, pcm: bytes) -> bytes:
        """Encode one packet.

        :param pcm: s16 samples of the whole packet: 2.5, 5, 10, 20, 40 or 60 ms.
        """
        packet = self._packet
        size = _free.opus_encode(self._state, pcm, len(pcm) // 2, packet, _MAX_PACKET)
        return ctypes.string_at(packet, _checked(size))


class Decoder:
    """Decoder of one stream, to mono."""

    def __init__(self, sample_rate: int) -> None:
        self._state = ctypes.create_string_buffer(_DECODER_BYTES)
        _checked(_held.opus_decoder_init(self._state, sample_rate, 1))
        self._room = sample_rate * 120 // 1000  # samples; the longest packet
        self._pcm = ctypes.create_string_buffer(self._room * 2)

    def decode(self, packet: bytes) -> bytes:
        """Decode one packet.

        :raises OpusError: the packet is not valid; the next one decodes as usual.
        """
        pcm = self._pcm
        count = _held.opus_decode(self._state, packet, len(packet), pcm, self._room, 0)
        return ctypes.string_at(pcm, _checked(count) * 2)

"""Containers that vendors send by mistake: collected and decoded as a whole at the end."""

from __future__ import annotations

import io
from typing import cast

import av
from av import AudioResampler
from av.container import InputContainer
from av.error import FFmpegError

from xiaozhi.audio.pcm import samples_of
from xiaozhi.audio.sniff import SoundKind
from xiaozhi.audio.wav import bad_sound

#: Limits of one sentence in a container: bytes, and seconds of decoded sound.
_LARGEST = 16 << 20
_LONGEST = 600

#: libav's name of the container; libav tries no other format.
FORMATS = {
    SoundKind.OGG: "ogg",
    SoundKind.FLAC: "flac",
    SoundKind.MP4: "mp4",
    SoundKind.MATROSKA: "matroska",
    SoundKind.AIFF: "aiff",
    SoundKind.AU: "au",
    SoundKind.AMR: "amr",
    SoundKind.CAF: "caf",
}

# The first bytes of a file; they separate several files in one body.
_STARTS = {SoundKind.FLAC: b"fLaC\x00\x00\x00\x22", SoundKind.AMR: b"#!AMR"}


class ContainerDecoding:
    """Collects all input and decodes it in :meth:`finish`."""

    def __init__(self, kind: SoundKind, sample_rate: int) -> None:
        self._kind = kind
        self._rate = sample_rate
        self._data = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Keep a piece of input.

        :raises ProviderError: ``bad_sound``: the input is too large.
        """
        self._data += data
        if len(self._data) > _LARGEST:
            raise bad_sound(f"{self._kind.value} of more than {_LARGEST >> 20} MiB")
        return b""

    def finish(self) -> bytes:
        """Decode the input.

        :raises ProviderError: ``bad_sound``: the input contains no sound.
        """
        out = bytearray()
        for file in self._files():
            self._decode(file, out)
        if not out:
            raise bad_sound(f"no sound could be read from {self._kind.value}")
        return bytes(out)

    def _files(self) -> list[bytes]:
        data = bytes(self._data)
        start = _STARTS.get(self._kind)
        if start is None:
            return [data]
        return [start + part for part in data.split(start)[1:]] or [data]

    def _decode(self, data: bytes, out: bytearray) -> None:
        resampler = AudioResampler("s16", "mono", self._rate)
        try:
            opened = av.open(io.BytesIO(data), format=FORMATS[self._kind])
            with cast(InputContainer, opened) as file:
                for frame in file.decode(audio=0):
                    frame.pts = None
                    for piece in resampler.resample(frame):
                        out += samples_of(piece)
                    if len(out) > _LONGEST * self._rate * 2:
                        raise bad_sound(f"{self._kind.value} of more than {_LONGEST} s")
                for piece in resampler.resample(None):
                    out += samples_of(piece)
        except (FFmpegError, ValueError, IndexError, OSError):
            # Keep the sound that was read before the damage.
            return

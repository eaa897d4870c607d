"""Opus packets as devices send and expect them: no container, one in each frame (RFC 6716)."""

from __future__ import annotations

from functools import partial

from xiaozhi.audio.libopus import APPLICATIONS, Decoder, Encoder, OpusError
from xiaozhi.base.errors import ProtocolError
from xiaozhi.wire.opus import SAMPLE_RATES, packet_ms

#: Frame durations that an encoder accepts, ms.
FRAME_DURATIONS = (20, 40, 60)


class OpusDecoder:
    """Decoder of one stream, to s16le mono.

    A packet yields exactly as many samples as its header announces.
    """

    def __init__(self, sample_rate: int = 16000) -> None:
        """:param sample_rate: Hz, one of :data:`xiaozhi.wire.opus.SAMPLE_RATES`."""
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"Opus cannot be decoded to {sample_rate} Hz")
        self._make = partial(Decoder, sample_rate)
        # It takes 22 KB, and many sessions never receive audio.
        self._decoder: Decoder | None = None

    def decode(self, packet: bytes) -> bytes:
        """Decode one packet. A packet of one byte (DTX) is a complete frame.

        :raises ProtocolError: ``bad_audio``; the next packet decodes as usual.
        """
        # For an empty packet libopus would conceal a loss and invent sound.
        if not packet_ms(packet):
            raise ProtocolError("bad_audio", "not an Opus packet")
        if self._decoder is None:
            self._decoder = self._make()
        try:
            return self._decoder.decode(packet)
        except OpusError as error:
            raise ProtocolError("bad_audio", "not a valid Opus packet") from error

    def reset(self) -> None:
        """End the stream; the next packet begins another one."""
        self._decoder = None


class OpusEncoder:
    """Encoder of s16le mono, to packets of exactly one frame."""

    def __init__(
        self,
        sample_rate: int = 24000,
        frame_duration: int = 60,
        complexity: int = 5,
        bitrate: int = 24000,
        application: str = "voip",
    ) -> None:
        """:param sample_rate: Hz, one of :data:`xiaozhi.wire.opus.SAMPLE_RATES`.
        :param frame_duration: ms, one of :data:`FRAME_DURATIONS`.
        :param complexity: 0 (cheapest) to 10.
        :param bitrate: bits per second.
        :param application: what libopus optimises for: ``voip``, ``audio`` or ``lowdelay``. The
            last uses CELT alone: better sound for twice the bits and a quarter of the CPU.
        :raises ValueError: a value is not allowed.
        """
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"Opus has no sample rate of {sample_rate} Hz")
        if frame_duration not in FRAME_DURATIONS:
            raise ValueError(f"frames of {frame_duration} ms are not supported")
        if not 0 <= complexity <= 10:
            raise ValueError(f"complexity {complexity} is not within 0 to 10")
        if not 6000 <= bitrate <= 128000:
            raise ValueError(f"bit rate {bitrate} is not within 6000 to 128000")
        if application not in APPLICATIONS:
            raise ValueError(f"Opus has no application {application}")
        self._size = sample_rate * frame_duration // 1000 * 2
        # On digital silence libopus' filters decay into denormal numbers, and a frame takes three
        # times as long. One step of the lowest bit every 10 ms is inaudible.
        self._silence = bytes(self._size)
        self._hush = (b"\x01" + bytes(sample_rate // 50 - 1)) * (frame_duration // 10)
        self._waiting = bytearray()
        self._make = partial(Encoder, sample_rate, complexity, bitrate, application)
        self._encoder: Encoder | None = None

    def encode(self, pcm: bytes) -> list[bytes]:
        """Encode samples.

        :param pcm: any length; an incomplete frame waits for more.
        """
        waiting = self._waiting
        waiting += pcm
        size = self._size
        whole = len(waiting) - len(waiting) % size
        frames = [bytes(waiting[at : at + size]) for at in range(0, whole, size)]
        del waiting[:whole]
        return [self._packet(frame) for frame in frames]

    def flush(self) -> list[bytes]:
        """Complete the last frame with silence. The encoder can be used again afterwards."""
        if not self._waiting:
            return []
        frame = bytes(self._waiting).ljust(self._size, b"\0")
        self._waiting.clear()
        return [self._packet(frame)]

    def _packet(self, frame: bytes) -> bytes:
        if self._encoder is None:
            # Slow, so it is made in the encoding thread and not at the start of an answer.
            self._encoder = self._make()
        return self._encoder.encode(self._hush if frame == self._silence else frame)

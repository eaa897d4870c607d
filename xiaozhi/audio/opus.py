"""Opus packets as devices send and want them: bare, one a frame (RFC 6716)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from av import AudioFrame, AudioResampler, CodecContext, Packet
from av.error import FFmpegError

from xiaozhi.audio.pcm import samples_of
from xiaozhi.errors import ProtocolError
from xiaozhi.wire.opus import SAMPLE_RATES, packet_ms

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

#: Frame durations an encoder takes, ms.
FRAME_DURATIONS = (20, 40, 60)

_NATIVE_RATE = 48000


class OpusDecoder:
    """Packets of one stream to s16le mono.

    Every packet gives exactly as many samples as its head announces. Where the
    rate is not 48 kHz the sound lags by about 1 ms, once.
    """

    def __init__(self, sample_rate: int = 16000) -> None:
        """:param sample_rate: Hz, one of :data:`xiaozhi.wire.opus.SAMPLE_RATES`."""
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"Opus cannot be decoded to {sample_rate} Hz")
        self._rate = sample_rate
        self._codec = _opus_codec("r", _NATIVE_RATE)
        self._resampler = (
            None if sample_rate == _NATIVE_RATE else AudioResampler("s16", "mono", sample_rate)
        )
        self._ready = bytearray()

    def decode(self, packet: bytes) -> bytes:
        """Decode one packet; one byte of it (DTX) is a whole frame of its own.

        :raises ProtocolError: ``bad_audio``; the next packet decodes as usual.
        """
        # An empty packet would flush libav's decoder for good: refused here.
        length = packet_ms(packet)
        if not length:
            raise ProtocolError("bad_audio", "not an Opus packet")
        wanted = int(length * self._rate / 1000) * 2
        try:
            frames = self._codec.decode(Packet(packet))
        except FFmpegError as error:
            raise ProtocolError("bad_audio", "not a valid Opus packet") from error
        ready = self._ready
        for frame in frames:
            if self._resampler is None:
                ready += samples_of(frame)
            else:
                for piece in self._resampler.resample(frame):
                    ready += samples_of(piece)
        if len(ready) < wanted:
            # The resampler keeps its first samples back; later ones come in full.
            ready[:0] = bytes(wanted - len(ready))
        out = bytes(ready[:wanted])
        del ready[:wanted]
        return out


class OpusEncoder:
    """s16le mono to packets, exactly one a frame."""

    def __init__(
        self,
        sample_rate: int = 24000,
        frame_duration: int = 60,
        complexity: int = 5,
        bitrate: int = 24000,
    ) -> None:
        """
        :param sample_rate: Hz, one of :data:`xiaozhi.wire.opus.SAMPLE_RATES`.
        :param frame_duration: ms, one of :data:`FRAME_DURATIONS`.
        :param complexity: 0 (cheapest) to 10.
        :param bitrate: bits a second.
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
        self._rate = sample_rate
        self._samples = sample_rate * frame_duration // 1000
        self._waiting = bytearray()
        codec = _opus_codec("w", sample_rate)
        codec.bit_rate = bitrate
        codec.options = {
            "application": "voip",
            "frame_duration": str(frame_duration),
            "compression_level": str(complexity),
        }
        codec.open()
        self._codec = codec

    def encode(self, pcm: bytes) -> list[bytes]:
        """:param pcm: any length; what does not fill a frame waits for more."""
        waiting = self._waiting
        waiting += pcm
        size = self._samples * 2
        packets = []
        for _ in range(len(waiting) // size):
            packets.append(self._encode_frame(bytes(waiting[:size])))
            del waiting[:size]
        return packets

    def flush(self) -> list[bytes]:
        """Fill the last frame with silence. The encoder can be used on."""
        if not self._waiting:
            return []
        # libav's own flush, encode(None), would end the encoder.
        size = self._samples * 2
        pcm = bytes(self._waiting).ljust(size, b"\0")[:size]
        self._waiting.clear()
        return [self._encode_frame(pcm)]

    def _encode_frame(self, pcm: bytes) -> bytes:
        frame = AudioFrame(format="s16", layout="mono", samples=self._samples)
        frame.sample_rate = self._rate
        plane = frame.planes[0]
        plane.update(pcm.ljust(plane.buffer_size, b"\0"))
        (packet,) = self._codec.encode(frame)
        return bytes(packet)


def _opus_codec(mode: str, sample_rate: int) -> AudioCodecContext:
    codec = cast("AudioCodecContext", CodecContext.create("libopus", mode))  # type: ignore[call-overload]
    codec.sample_rate = sample_rate
    codec.layout = "mono"
    codec.format = "s16"
    return codec

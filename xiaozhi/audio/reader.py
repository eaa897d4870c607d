"""Streaming decoder of any :class:`~xiaozhi.base.values.SoundFormat` to PCM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from av import AudioResampler, CodecContext, Packet
from av.error import FFmpegError

from xiaozhi.audio.containers import FORMATS, ContainerDecoding
from xiaozhi.audio.mpeg import MpegFrames
from xiaozhi.audio.ogg import OggPackets, OpusHead, parse_opus_head
from xiaozhi.audio.opus import OpusDecoder
from xiaozhi.audio.pcm import Resampler, samples_of
from xiaozhi.audio.sniff import SoundKind, sniff
from xiaozhi.audio.wav import WavParser, WavReader, bad_sound
from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.values import SoundFormat

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

#: Bytes without a decoded frame after which a stream is not MP3.
_PATIENCE = 65536


class _Decoding(Protocol):
    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class SoundReader:
    """Decodes a stream as it arrives, in pieces of any size.

    The bytes decide the format (:mod:`xiaozhi.audio.sniff`); the announced format matters only
    where they are ambiguous. Several files in a row are all read. The output does not depend on how
    the input is cut. An empty stream is silence, not an error. Must not be used after an error or
    :meth:`finish`.
    """

    def __init__(self, sound: SoundFormat, sample_rate: int) -> None:
        """:param sample_rate: Hz of the output, which is s16le mono."""
        self._sound = sound
        self._rate = sample_rate
        self._head = bytearray()
        self._decoding: _Decoding | None = None

    def feed(self, data: bytes) -> bytes:
        """Decode a piece.

        :raises ProviderError: ``bad_sound``: not sound, or an unsupported format.
        """
        if self._decoding is not None:
            return self._decoding.feed(data)
        self._head += data
        return self._begun(complete=False)

    def finish(self) -> bytes:
        """End the stream and return the rest.

        :raises ProviderError: ``bad_sound``: there was data but no sound in it.
        """
        out = b""
        if self._decoding is None:
            out = self._begun(complete=True)
        return out + self._decoding.finish() if self._decoding is not None else out

    def _begun(self, complete: bool) -> bytes:
        """Choose the decoder, if the bytes so far decide it."""
        head = bytes(self._head)
        kind = sniff(head, self._sound.encoding, complete) if head else None
        if kind is None:
            return b""
        self._head.clear()
        self._decoding = self._chosen(kind)
        return self._decoding.feed(head)

    def _chosen(self, kind: SoundKind) -> _Decoding:
        if kind is SoundKind.PCM:
            return Resampler(self._sound.sample_rate, self._rate, self._sound.channels)
        if kind is SoundKind.WAV:
            return _WavDecoding(self._rate)
        if kind is SoundKind.MPEG:
            return _MpegDecoding(self._rate)
        if kind is SoundKind.OGG_OPUS:
            return _OggOpusDecoding(self._rate)
        if kind in FORMATS:
            return ContainerDecoding(kind, self._rate)
        raise bad_sound(f"{kind.value} where {self._sound.encoding.value} was expected")


class _WavDecoding:
    def __init__(self, sample_rate: int) -> None:
        self._parser = WavParser()
        self._reader = WavReader(sample_rate)

    def feed(self, data: bytes) -> bytes:
        return self._reader.take(self._parser.feed(data))

    def finish(self) -> bytes:
        return self._reader.take(self._parser.finish()) + self._reader.finish()


class _MpegDecoding:
    def __init__(self, sample_rate: int) -> None:
        self._frames = MpegFrames()
        self._rate = sample_rate
        self._codec: AudioCodecContext | None = None
        self._codec_name = ""
        self._resampler: AudioResampler | None = None
        self._shape: tuple[int, str] | None = None

    def feed(self, data: bytes) -> bytes:
        out = b"".join(self._decode(*frame) for frame in self._frames.feed(data))
        fruitless = self._frames.fruitless
        if fruitless > _PATIENCE and self._resampler is None:
            raise bad_sound(f"no MP3 frame within {fruitless} bytes")
        return out

    def finish(self) -> bytes:
        out = b"".join(self._decode(*frame) for frame in self._frames.finish())
        if self._resampler is None:
            raise bad_sound("no MP3 frame found")
        return out + self._rest()

    def _decode(self, codec: str, data: bytes) -> bytes:
        if self._codec is None or codec != self._codec_name:
            self._codec = cast("AudioCodecContext", CodecContext.create(codec, "r"))
            self._codec_name = codec
        try:
            frames = self._codec.decode(Packet(data))
        except FFmpegError:
            # The first frame (Xing) often has no sound; a broken frame is a gap, not the end.
            return b""
        out = b""
        for frame in frames:
            shape = (frame.sample_rate, frame.layout.name)
            if shape != self._shape or self._resampler is None:
                out += self._rest()
                self._shape = shape
                self._resampler = AudioResampler("s16", "mono", self._rate)
            frame.pts = None
            out += b"".join(map(samples_of, self._resampler.resample(frame)))
        return out

    def _rest(self) -> bytes:
        """Return the samples that the resampler still holds."""
        if self._resampler is None:
            return b""
        return b"".join(map(samples_of, self._resampler.resample(None)))


class _OggOpusDecoding:
    def __init__(self, sample_rate: int) -> None:
        self._packets = OggPackets()
        self._file = 0
        self._head: OpusHead | None = None
        self._tags_seen = False
        self._decoder = OpusDecoder(48000)
        self._resampler = Resampler(48000, sample_rate)
        self._position = 0
        self._fed = False

    def feed(self, data: bytes) -> bytes:
        self._fed = self._fed or bool(data)
        return b"".join(
            self._packet(packet, last_position)
            for packet, last_position in self._packets.feed(data)
        )

    def finish(self) -> bytes:
        if self._fed and self._head is None:
            raise bad_sound("no Opus stream in the Ogg data")
        return self._resampler.finish()

    def _packet(self, packet: bytes, last_position: int | None) -> bytes:
        if self._packets.file != self._file:
            self._file, self._head, self._tags_seen = self._packets.file, None, False
            self._decoder, self._position = OpusDecoder(48000), 0
        if self._head is None:
            self._head = parse_opus_head(packet)
            return b""
        if not self._tags_seen:
            self._tags_seen = True
            return b""
        try:
            pcm = self._decoder.decode(packet)
        except ProtocolError:
            # A broken packet is a gap, not the end.
            return b""
        start = self._position
        self._position += len(pcm) // 2
        skipped = min(max(0, self._head.pre_skip - start), len(pcm) // 2)
        end = len(pcm) // 2
        if last_position is not None:
            end = min(end, max(0, last_position - start))
        return self._resampler.feed(pcm[skipped * 2 : end * 2])

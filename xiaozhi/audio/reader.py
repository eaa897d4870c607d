"""Streamed sound of any :class:`~xiaozhi.values.SoundFormat` to plain samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from av import AudioResampler, CodecContext
from av.error import FFmpegError

from xiaozhi.audio.ogg import OggPackets, OpusHead, parse_opus_head
from xiaozhi.audio.opus import OpusDecoder
from xiaozhi.audio.pcm import Resampler, samples_of
from xiaozhi.audio.wav import WavParser, bad_sound
from xiaozhi.errors import ProtocolError
from xiaozhi.values import Encoding, SoundFormat

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

#: Bytes without one decoded frame after which MP3 is given up.
_MP3_PATIENCE = 65536


class _Decoding(Protocol):
    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class SoundReader:
    """Decodes a stream as it arrives, in pieces of any size.

    The output does not depend on where the input is cut. An empty stream is
    silence, not an error. Not to be used on after an error or :meth:`finish`.
    """

    def __init__(self, sound: SoundFormat, sample_rate: int) -> None:
        """:param sample_rate: Hz of the samples wanted; they are s16le mono."""
        self._decoding: _Decoding
        if sound.encoding is Encoding.PCM:
            self._decoding = Resampler(sound.sample_rate, sample_rate, sound.channels)
        elif sound.encoding is Encoding.WAV:
            self._decoding = _WavDecoding(sample_rate)
        elif sound.encoding is Encoding.MP3:
            self._decoding = _Mp3Decoding(sample_rate)
        else:
            self._decoding = _OggOpusDecoding(sample_rate)

    def feed(self, data: bytes) -> bytes:
        """:raises ProviderError: ``bad_sound``: not what the format promised."""
        return self._decoding.feed(data)

    def finish(self) -> bytes:
        """The rest, once the stream has ended.

        :raises ProviderError: ``bad_sound``: there was data but no sound in it.
        """
        return self._decoding.finish()


class _WavDecoding:
    def __init__(self, sample_rate: int) -> None:
        self._parser = WavParser()
        self._rate = sample_rate
        self._resampler: Resampler | None = None

    def feed(self, data: bytes) -> bytes:
        samples = self._parser.feed(data)
        shape = self._parser.shape
        if shape is None or not samples:
            return b""
        if self._resampler is None:
            self._resampler = Resampler(
                shape.sample_rate, self._rate, shape.channels, shape.sample_format
            )
        return self._resampler.feed(samples)

    def finish(self) -> bytes:
        if not self._parser.empty:
            self._parser.finish()
        return self._resampler.finish() if self._resampler else b""


class _Mp3Decoding:
    def __init__(self, sample_rate: int) -> None:
        self._codec = cast("AudioCodecContext", CodecContext.create("mp3float", "r"))
        self._rate = sample_rate
        self._resampler: AudioResampler | None = None
        self._shape: tuple[int, str] | None = None
        self._head: bytearray | None = bytearray()
        self._skip = 0
        self._fruitless = 0

    def feed(self, data: bytes) -> bytes:
        data = self._without_id3(data)
        if not data:
            return b""
        self._fruitless += len(data)
        out = b"".join(self._decode(packet) for packet in self._codec.parse(data))
        if out:
            self._fruitless = 0
        elif self._fruitless > _MP3_PATIENCE and self._resampler is None:
            raise bad_sound(f"no MP3 frame within {self._fruitless} bytes")
        return out

    def finish(self) -> bytes:
        out = bytearray()
        if self._head:
            self._fruitless += len(self._head)
            for packet in self._codec.parse(bytes(self._head)):
                out += self._decode(packet)
        for packet in self._codec.parse(b""):
            out += self._decode(packet)
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                out += samples_of(piece)
        elif self._fruitless:
            raise bad_sound("no MP3 frame found")
        return bytes(out)

    def _without_id3(self, data: bytes) -> bytes:
        """Leave out a leading ID3v2 tag: a cover picture may look like MP3 frames."""
        if self._head is not None:
            self._head += data
            if len(self._head) < 10:
                return b""
            data, self._head = bytes(self._head), None
            if data[:3] == b"ID3":
                size = 0
                for byte in data[6:10]:
                    size = size << 7 | byte & 0x7F
                self._skip = 10 + size
        if self._skip:
            taken = min(self._skip, len(data))
            self._skip -= taken
            data = data[taken:]
        return data

    def _decode(self, packet: object) -> bytes:
        try:
            frames = self._codec.decode(packet)  # type: ignore[arg-type]
        except FFmpegError:
            # The first frame (Xing) is often none; a broken one is a gap, not the end.
            return b""
        out = bytearray()
        for frame in frames:
            shape = (frame.sample_rate, frame.layout.name)
            if shape != self._shape:
                if self._resampler is not None:
                    for piece in self._resampler.resample(None):
                        out += samples_of(piece)
                self._shape = shape
                self._resampler = AudioResampler("s16", "mono", self._rate)
            assert self._resampler is not None
            frame.pts = None
            for piece in self._resampler.resample(frame):
                out += samples_of(piece)
        return bytes(out)


class _OggOpusDecoding:
    def __init__(self, sample_rate: int) -> None:
        self._packets = OggPackets()
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

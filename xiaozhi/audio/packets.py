"""Conversion of a synthesiser's sound, as it arrives, to packets in the device's format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from xiaozhi.audio.ogg import OggPackets, parse_opus_head
from xiaozhi.audio.opus import OpusDecoder, OpusEncoder
from xiaozhi.audio.reader import SoundReader
from xiaozhi.base.errors import ProtocolError, ProviderError
from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.wire.opus import packet_ms

#: Seconds of sound encoded in one call: short, so that the first packet leaves soon and other
#: sessions get a worker thread.
SLICE_SECONDS = 0.24

# Bytes per second of compressed sound at a low bit rate: 32 kbit/s.
_COMPRESSED = 4000

# The format to which unsuitable packets are decoded.
_DECODED = SoundFormat(Encoding.PCM, 48000)


@dataclass(frozen=True, slots=True)
class OpusForm:
    """The required format of packets: see :class:`~xiaozhi.audio.opus.OpusEncoder`."""

    sample_rate: int
    frame_duration: int
    complexity: int
    bitrate: int
    application: str

    def encoder(self) -> OpusEncoder:
        """Make an encoder for this format."""
        return OpusEncoder(
            self.sample_rate,
            self.frame_duration,
            self.complexity,
            self.bitrate,
            self.application,
        )


class PacketMaker:
    """Makes the packets of one sentence; must not be used after an error or :meth:`finish`.

    Ogg/Opus whose packets are as long as the device's frames passes through unchanged: decoders
    accept any rate (RFC 6716), and the few milliseconds that a decoder needs to settle at the start
    are inaudible. Everything else is decoded, resampled and encoded.

    All methods take more than a millisecond: call them in a thread, one at a time.
    """

    def __init__(self, sound: SoundFormat, form: OpusForm, encoder: OpusEncoder) -> None:
        """:param encoder: shared by all sentences of an answer, so that joints are inaudible."""
        make = _Passing if sound.encoding is Encoding.OGG_OPUS else _Encoding
        self._way: _Passing | _Encoding = make(sound, form, encoder)

    def feed(self, data: bytes) -> list[bytes]:
        """Convert the next piece of sound.

        :return: packets for at most a few :data:`SLICE_SECONDS`; the rest waits for :meth:`more`.
        :raises ProviderError: ``bad_sound``: the data does not have the announced format.
        """
        return self._way.feed(data)

    @property
    def waiting(self) -> bool:
        """Whether :meth:`more` has packets."""
        return self._way.waiting

    def more(self) -> list[bytes]:
        """Return the next waiting packets; empty: all have been returned."""
        return self._way.more()

    def finish(self, data: bytes, pause: float) -> list[bytes]:
        """Convert the rest, and append silence.

        :param data: the last piece of sound.
        :param pause: seconds of silence. The end of an answer needs some: the encoder's look-ahead
            is 6.5 ms, and the sound in it would be lost.
        :raises ProviderError: ``bad_sound``: there was data but no sound in it.
        """
        return self._way.finish(data, pause)


class _Encoding:
    def __init__(self, sound: SoundFormat, form: OpusForm, encoder: OpusEncoder) -> None:
        self._reader = SoundReader(sound, form.sample_rate)
        self._rate = form.sample_rate
        self._slice = int(form.sample_rate * SLICE_SECONDS) * 2
        self._encoder = encoder
        self._pcm = bytearray()

    @property
    def waiting(self) -> bool:
        return len(self._pcm) > 0

    def feed(self, data: bytes) -> list[bytes]:
        self._pcm += self._reader.feed(data)
        return self.more()

    def more(self) -> list[bytes]:
        packets: list[bytes] = []
        while self._pcm and not packets:
            part = bytes(self._pcm[: self._slice])
            del self._pcm[: self._slice]
            packets = self._encoder.encode(part)
        return packets

    def finish(self, data: bytes, pause: float) -> list[bytes]:
        rest = bytes(self._pcm) + self._reader.feed(data) + self._reader.finish()
        self._pcm.clear()
        silence = bytes(int(self._rate * pause) * 2)
        return self._encoder.encode(rest + silence) + self._encoder.flush()


class _Passing:
    """Passes Ogg/Opus through, unless the data turns out to be something else or must be
    re-encoded.
    """

    def __init__(self, sound: SoundFormat, form: OpusForm, encoder: OpusEncoder) -> None:
        self._sound = sound
        self._form = form
        self._encoder = encoder
        self._ogg = OggPackets()
        # The data before the first audio packet.
        self._seen = bytearray()
        self._heads = 0
        self._file = 0
        self._mono = False
        self._passing = False
        self._encoding: _Encoding | None = None
        # For a later file that cannot be passed through.
        self._decoder: OpusDecoder | None = None

    @property
    def waiting(self) -> bool:
        return self._encoding is not None and self._encoding.waiting

    def feed(self, data: bytes) -> list[bytes]:
        if self._encoding is not None and self._decoder is None:
            return self._encoding.feed(data)
        if not self._passing:
            self._seen += data
            if self._seen and not b"OggS".startswith(self._seen[:4]):
                return self._encoded(bytes(self._seen))
        packets: list[bytes] = []
        for packet, _ in self._ogg.feed(data):
            if self._ogg.file != self._file:
                self._file, self._heads = self._ogg.file, 0
            if self._heads < 2:
                if not self._heads and not packet.startswith(b"OpusHead") and not self._passing:
                    return self._encoded(bytes(self._seen))
                if not self._heads:
                    self._mono = parse_opus_head(packet).channels == 1
                self._heads += 1
                continue
            right = packet_ms(packet) == self._form.frame_duration
            if not self._passing:
                if not (right and self._mono):
                    return self._encoded(bytes(self._seen))
                self._passing = True
                self._seen.clear()
            if self._decoder is not None or (self._file and not (right and self._mono)):
                packets += self._decoded(packet)
                continue
            # A stream's last packet may be shorter, which devices play; a longer one would fail to
            # decode on the device (§3.3).
            if packet_ms(packet) > self._form.frame_duration:
                raise _bad(f"a packet of {packet_ms(packet):g} ms among shorter ones")
            packets.append(packet)
        return packets

    def _decoded(self, packet: bytes) -> list[bytes]:
        if self._encoding is None or self._decoder is None:
            self._decoder = OpusDecoder(_DECODED.sample_rate)
            self._encoding = _Encoding(_DECODED, self._form, self._encoder)
        try:
            return self._encoding.feed(self._decoder.decode(packet))
        except ProtocolError:
            return []  # a gap, not the end

    def _encoded(self, data: bytes) -> list[bytes]:
        self._encoding = _Encoding(self._sound, self._form, self._encoder)
        return self._encoding.feed(data)

    def more(self) -> list[bytes]:
        return self._encoding.more() if self._encoding is not None else []

    def finish(self, data: bytes, pause: float) -> list[bytes]:
        if self._encoding is not None and self._decoder is None:
            return self._encoding.finish(data, pause)
        packets = self.feed(data)
        if self._encoding is not None:
            return packets + self._encoding.finish(b"", pause)
        if self._seen and not self._heads:
            raise _bad("no Opus stream in the Ogg data")
        count = -(-int(pause * 1000) // self._form.frame_duration)
        return packets + ([_silence(self._form)] * count if self._passing else [])


@lru_cache(maxsize=64)
def _silence(form: OpusForm) -> bytes:
    (packet,) = form.encoder().encode(bytes(form.sample_rate * form.frame_duration // 1000 * 2))
    return packet


def _bad(message: str) -> ProviderError:
    return ProviderError("bad_sound", message, retryable=False)


def size_of(seconds: float, sound: SoundFormat) -> int:
    """Return the bytes of a synthesiser's sound of this duration; more if the sound is compressed
    little.
    """
    if sound.encoding is Encoding.PCM:
        return int(sound.sample_rate * sound.channels * seconds) * 2
    return int(_COMPRESSED * seconds)

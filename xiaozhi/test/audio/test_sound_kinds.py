"""Vendors that send another format than requested, or no sound."""

from __future__ import annotations

import array
import io
import json
import struct
from typing import Any

import av
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.audio import OpusForm, PacketMaker
from xiaozhi.audio.sniff import SoundKind, sniff
from xiaozhi.audio.wav import WavParser
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.providers.openai.audio import OpenAISpeech, OpenAISpeechSettings
from xiaozhi.test.audio.test_audio import cut, encoded, read, strength, tone, wav_bytes
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import stream, until_close, whole
from xiaozhi.testing.vendors.refusals import REFUSALS
from xiaozhi.testing.vendors.vendor import HANG_UP, ScriptedVendor

# Half a second of 440 Hz.
HALF = tone(0.5, 24000)
MP3 = encoded(HALF, 24000, "mp3", "libmp3lame")
BARE_MP3 = MP3[10 + (MP3[8] << 7 | MP3[9]) :]
TAG = b"ID3\x03\0\0" + bytes([0, 0, 0x10, 0]) + BARE_MP3[:2000] + bytes(48)
ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
OPUS = encoded(HALF, 24000, "ogg", "libopus")


def riff(format_tag: int, bits: int, samples: bytes, rate: int = 24000, channels: int = 1) -> bytes:
    """Make a WAV file of any format."""
    width = bits // 8 * channels
    form = struct.pack("<HHIIHH", format_tag, channels, rate, rate * width, width, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(samples))
    return b"RIFF" + struct.pack("<I", len(body) + len(samples)) + body + samples


def sized(data: bytes, size: int) -> bytes:
    """Make a WAV file with another declared size."""
    return data[:4] + struct.pack("<I", size) + data[8:40] + struct.pack("<I", size) + data[44:]


def vorbis(pcm: bytes, rate: int) -> bytes:
    """Make an Ogg file that is not Opus."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as output:
        options = {"strict": "experimental"}
        stream = output.add_stream("vorbis", rate=rate, options=options)
        stream.layout = "stereo"
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.sample_rate = rate
        frame.planes[0].update(pcm.ljust(frame.planes[0].buffer_size, b"\0"))
        converter = av.AudioResampler("fltp", "stereo", rate, 64)
        for piece in [*converter.resample(frame), *converter.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return file.getvalue()


VALUES = array.array("h", HALF)
WAV = wav_bytes(HALF, 24000)
# Name, bytes, seconds of 440 Hz in them.
SOUNDS: tuple[tuple[str, bytes, float], ...] = (
    ("wav", WAV, 0.5),
    ("wav 8 kHz", wav_bytes(tone(0.5, 8000), 8000), 0.5),
    ("wav 44.1 kHz stereo", wav_bytes(tone(0.5, 44100, channels=2), 44100, 2), 0.5),
    ("wav of size 0", sized(WAV, 0), 0.5),
    ("wav of size 0xFFFFFFFF", sized(WAV, 0xFFFFFFFF), 0.5),
    ("wav with the size of its first piece", sized(WAV, 4800), 0.5),
    ("wav float", riff(3, 32, struct.pack("<12000f", *(v / 32768 for v in VALUES))), 0.5),
    ("wav double", riff(3, 64, struct.pack("<12000d", *(v / 32768 for v in VALUES))), 0.5),
    ("wav mu-law", encoded(HALF, 24000, "wav", "pcm_mulaw"), 0.5),
    ("wav A-law", encoded(HALF, 24000, "wav", "pcm_alaw"), 0.5),
    ("wav 24 bits", encoded(HALF, 24000, "wav", "pcm_s24le"), 0.5),
    ("mp3 with ID3", TAG + BARE_MP3, 0.5),
    ("mp3 without", BARE_MP3, 0.5),
    ("mp3 with ID3v1", BARE_MP3 + ID3V1, 0.5),
    ("mp3 44.1 kHz", encoded(tone(0.5, 44100), 44100, "mp3", "libmp3lame"), 0.5),
    ("mp2", encoded(tone(0.5, 24000), 24000, "mp2", "mp2"), 0.5),
    ("aac", encoded(HALF, 24000, "adts", "aac"), 0.5),
    ("flac", encoded(HALF, 24000, "flac", "flac"), 0.5),
    ("ogg opus", OPUS, 0.5),
    ("ogg vorbis", vorbis(HALF, 24000), 0.5),
    ("webm", encoded(tone(0.5, 48000), 48000, "matroska", "libopus"), 0.5),
    ("mp4", encoded(HALF, 24000, "mp4", "aac"), 0.5),
    ("aiff", encoded(HALF, 24000, "aiff", "pcm_s16be"), 0.5),
    ("au", encoded(HALF, 24000, "au", "pcm_s16be"), 0.5),
    # Several files in one body.
    ("two wav", WAV * 2, 1.0),
    ("two wav of unknown size", sized(WAV, 0xFFFFFFFF) * 2, 1.0),
    ("two wav of size 0", sized(WAV, 0) * 2, 1.0),
    ("wav of two rates", WAV + wav_bytes(tone(0.5, 16000), 16000), 1.0),
    ("wav with a list behind, and another", WAV + b"LIST\x04\0\0\0abcd" + WAV, 1.0),
    ("two wav that claim too much", sized(WAV, 1 << 24) * 2, 1.0),
    ("two mp3 with tags", (TAG + BARE_MP3) * 2, 1.0),
    ("two mp3 with tags on both sides", (TAG + BARE_MP3 + ID3V1) * 2, 1.0),
    ("two mp3 without tags", BARE_MP3 * 2, 1.0),
    ("mp3 of two rates", BARE_MP3 + encoded(tone(0.5, 44100), 44100, "mp3", "libmp3lame"), 1.0),
    ("two ogg opus", OPUS * 2, 1.0),
    ("two ogg vorbis", vorbis(HALF, 24000) * 2, 1.0),
    ("two flac", encoded(HALF, 24000, "flac", "flac") * 2, 1.0),
    ("two aac", encoded(HALF, 24000, "adts", "aac") * 2, 1.0),
)

# Answers without sound, with words that must reach the log, and the error's code.
TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (b'{"error": {"message": "no such voice"}}', "no such voice", "vendor_error"),
    (
        b'{"code": 3001, "message": "quota exceeded", "data": null}',
        "quota exceeded",
        "vendor_error",
    ),
    ('{"message": "余额不足"}'.encode(), "余额不足", "unpaid"),
    (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway", "bad_answer"),
    (b"<?xml version='1.0'?><Error>denied</Error>", "denied", "bad_answer"),
    (b"Internal Server Error", "Internal Server Error", "bad_answer"),
    (b"\xef\xbb\xbfrate limit reached", "rate limit", "bad_answer"),
    (b"\n\n  upstream timed out \n", "upstream timed out", "bad_answer"),
    (b'data: {"error": "overloaded"}\n\n' * 40, "overloaded", "vendor_error"),
    ("服务繁忙，请稍后再试".encode("gbk"), "no sound", "bad_answer"),
    (b"x" * 5000, "xxx", "bad_answer"),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "another file", "bad_answer"),
    (b"PK\x03\x04" + bytes(100), "another file", "bad_answer"),
    (b"%PDF-1.7\n" + bytes(range(256)), "another file", "bad_answer"),
)

# PCM samples that begin like another format.
LOOK_ALIKES: tuple[bytes, ...] = (
    b"\xff\xfb\x90\x00",
    b"\xff\xf1\x50\x80",
    b"\xff\xe3\x18\xc4",
    b"\xff\xff\xff\xff",
    b"RIFF",
    b"OggS",
    b"ID3\xff\xff",
    b"\x00\x00\x00\x00",
    b"{\x00\x01\x00",
    b"abcdefgh",
)

MEDIA_TYPES = (None, "audio/pcm", "audio/mpeg", "audio/wav", "application/octet-stream")


def lasting(test: SynchronousTestCase, pcm: bytes, seconds: float, name: str) -> None:
    """Check that it is 440 Hz of this duration, apart from codec delays."""
    heard = len(pcm) / 32000
    test.assertTrue(seconds - 0.08 <= heard <= seconds + 0.2 * seconds + 0.1, f"{name}: {heard} s")
    middle = pcm[3200 : len(pcm) // 2 // 2 * 2]
    test.assertGreater(strength(middle, 16000, 440.0), 0.7, name)


class ReaderTests(SynchronousTestCase):
    """:class:`SoundReader`, with any requested format."""

    def test_sounds(self) -> None:
        for name, data, seconds in SOUNDS:
            for expected in Encoding:
                pcm = read(SoundFormat(expected, 24000), 16000, [data])
                lasting(self, pcm, seconds, f"{name} for {expected}")

    def test_pieces(self) -> None:
        """Cut at any position."""
        for name, data, _ in SOUNDS:
            sound = SoundFormat(Encoding.PCM, 24000)
            at_once = read(sound, 16000, [data])
            for sizes in ([1], [7, 13], [1000], [4095, 2]):
                if sizes == [1] and len(data) > 30000:
                    continue
                self.assertEqual(read(sound, 16000, cut(data, sizes)), at_once, (name, sizes))

    def test_look_alikes(self) -> None:
        """PCM samples stay PCM samples."""
        for start in LOOK_ALIKES:
            data = start + HALF[len(start) :]
            pcm = read(SoundFormat(Encoding.PCM, 16000), 16000, cut(data, [1, 999]))
            self.assertEqual(pcm, data, start)

    def test_no_sound(self) -> None:
        for data, _, _ in TEXTS:
            for expected in Encoding:
                for pieces in ([data], cut(data, [3])):
                    error = self.assertRaises(
                        ProviderError, read, SoundFormat(expected), 16000, pieces
                    )
                    self.assertEqual(error.code, "bad_sound", data)

    def test_decided_early(self) -> None:
        """PCM samples do not wait."""
        self.assertIs(sniff(HALF[:12], Encoding.PCM, False), SoundKind.PCM)
        self.assertIs(sniff(b"RIFF\0\0\0\0WAVE", Encoding.PCM, False), SoundKind.WAV)
        self.assertIs(sniff(b"", Encoding.PCM, True), SoundKind.PCM)

    def test_wav_is_bounded(self) -> None:
        parser = WavParser()
        parser.feed(sized(WAV, 0)[:44])
        for _ in range(50):
            parser.feed(bytes(1 << 16))
        self.assertLess(len(parser._waiting), 100)

    def test_packets(self) -> None:
        """The pass-through is not used for other data."""
        form = OpusForm(24000, 20, 0, 24000, "voip")
        for name, data, seconds in SOUNDS:
            for expected in (Encoding.OGG_OPUS, Encoding.PCM):
                maker = PacketMaker(SoundFormat(expected, 24000), form, form.encoder())
                packets: list[bytes] = []
                for piece in cut(data, [997]):
                    packets += maker.feed(piece)
                    while maker.waiting:
                        packets += maker.more()
                packets += maker.finish(b"", 0.0)
                lasts = len(packets) * 0.02
                self.assertTrue(seconds - 0.1 < lasts < 1.2 * seconds + 0.15, f"{name}: {lasts}")


class VendorTests(SynchronousTestCase):
    """:class:`OpenAISpeech` with bytes in any pieces."""

    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)
        self.addCleanup(lambda: self.assertEqual(self.network.getDelayedCalls(), []))

    def spoken(self, *script: Any, **settings: Any) -> list[bytes | SoundFormat]:
        """Return the result of one sentence."""
        self.vendor.play(script)
        own = OpenAISpeechSettings(base_url="http://vendor:8000/v1", **settings)
        speech = OpenAISpeech(own, self.network)
        pieces: list[bytes | SoundFormat] = []

        async def speak() -> None:
            async for piece in speech.synthesize("Hello.", "en"):
                pieces.append(piece)

        speaking = Deferred.fromCoroutine(speak())
        for _ in range(4000):
            self.network.advance(0.001)
            if speaking.called:
                break
        speech.close()
        self.network.pump([0.1] * 20)
        outcome: list[Failure | None] = []
        speaking.addBoth(outcome.append)
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return pieces

    def test_sounds(self) -> None:
        """All requested formats, all media types, any segmentation."""
        for number, (name, data, seconds) in enumerate(SOUNDS):
            media_type = MEDIA_TYPES[number % len(MEDIA_TYPES)]
            for asked in ("pcm", "mp3"):
                script = stream(*cut(data, [1001]), media_type=media_type)
                pieces = self.spoken(*script, response_format=asked)
                self.assertEqual(b"".join(p for p in pieces if isinstance(p, bytes)), data, name)
                sound = SoundFormat(Encoding.PCM, 24000)
                lasting(self, read(sound, 16000, cut(data, [1001])), seconds, name)

    def test_no_sound(self) -> None:
        """The error has the vendor's text, for any media type."""
        for data, words, code in TEXTS:
            for media_type in (*MEDIA_TYPES, "application/json", "text/html", "text/plain"):
                for script in (
                    whole(data, media_type),
                    stream(*cut(data, [5]), media_type=media_type),
                    (until_close(data, media_type), HANG_UP),
                ):
                    try:
                        self.spoken(*script)
                    except ProviderError as error:
                        self.assertEqual((error.code, error.retryable), (code, code != "unpaid"))
                        self.assertIn(words, error.message)
                    else:
                        self.fail(f"{data!r} was accepted as sound")

    def test_errors_with_status_200(self) -> None:
        """They have the same meaning as in a chat, as JSON or as an event, under any media type."""
        for number, refusal in enumerate(REFUSALS):
            body = json.dumps(refusal.body).encode()
            media_type = (*MEDIA_TYPES, "application/json")[number % 6]
            for data in (
                body,
                b"\xef\xbb\xbf " + body,
                b"event: error\r\ndata: " + body + b"\r\n\r\n",
            ):
                script = stream(*cut(data, [7]), media_type=media_type)
                error = self.assertRaises(ProviderError, self.spoken, *script)
                self.assertEqual(
                    (error.code, error.retryable), (refusal.code, refusal.retryable), data
                )
                self.assertIn(refusal.words, error.message)

    def test_announced_rate(self) -> None:
        """Of PCM samples, if the answer announces it."""
        for media_type, sound in (
            ("audio/pcm;rate=16000", SoundFormat(Encoding.PCM, 16000)),
            ('audio/L16; rate="8000"; channels=1', SoundFormat(Encoding.PCM, 8000)),
            ("audio/pcm; rate=48000; channels=2", SoundFormat(Encoding.PCM, 48000, 2)),
            ("audio/pcm; rate=24000", None),
            ("audio/pcm", None),
            ("audio/pcm; rate=fast", None),
            ("audio/pcm; rate=1", None),
            ("text/plain; rate=8000", None),
        ):
            script = whole(HALF, media_type)
            first, *_ = self.spoken(*script)
            if sound is None:
                self.assertEqual(first, HALF, media_type)
            else:
                self.assertEqual(first, sound, media_type)

    def test_odd_borders(self) -> None:
        """Half a sample waits for its other half; at the end it is dropped."""
        pieces = self.spoken(*stream(*cut(HALF + b"\1", [3]), media_type="audio/pcm"))
        self.assertTrue(all(len(piece) % 2 == 0 for piece in pieces if isinstance(piece, bytes)))
        self.assertEqual(b"".join(p for p in pieces if isinstance(p, bytes)), HALF)

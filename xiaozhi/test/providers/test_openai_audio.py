"""Transcription and speech with a vendor that a test controls."""

from __future__ import annotations

import io
import json
import wave
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Encoding, SoundFormat, Transcript
from xiaozhi.interfaces import IRecognition, IRecognizer, ISynthesizer
from xiaozhi.providers.openai.audio import (
    OpenAISpeech,
    OpenAISpeechSettings,
    OpenAITranscription,
    TranscriptionSettings,
    wav,
)
from xiaozhi.test.providers.fake_vendor import FakeVendor, Reading


def form(body: bytes, media_type: str) -> dict[str, bytes]:
    """Parse the parts of a form as a server would."""
    boundary = media_type.partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    fields: dict[str, bytes] = {}
    for part in parts[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0]
        fields[name.decode()] = value.removesuffix(b"\r\n")
    return fields


class TranscriptionTests(SynchronousTestCase):
    """:class:`OpenAITranscription`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.vendor = FakeVendor()
        self.recognizer = self.make()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def make(self, **settings: Any) -> OpenAITranscription:
        settings = {"base_url": "http://vendor/v1", "api_key": "k-12345"} | settings
        return OpenAITranscription(TranscriptionSettings(**settings), self.clock, self.vendor)

    def test_provides_its_interfaces(self) -> None:
        verifyObject(IRecognizer, self.recognizer)
        verifyObject(IRecognition, self.recognizer.recognition())

    def test_an_utterance(self) -> None:
        self.recognizer = self.make(language="zh-CN", prompt="小智", extra={"vad": "on"})
        recognition = self.recognizer.recognition()
        recognition.feed(b"\x01\x00" * 100)
        recognition.feed(b"\x02\x00" * 60)
        self.assertEqual(self.vendor.requests, [])
        result = recognition.finish()
        request = self.vendor.last
        self.assertEqual(request.url, b"http://vendor/v1/audio/transcriptions")
        (media_type,) = request.headers.getRawHeaders("content-type", [])
        fields = form(request.body, media_type)
        self.assertEqual(
            list(fields), ["model", "response_format", "language", "prompt", "vad", "file"]
        )
        self.assertEqual((fields["model"], fields["language"]), (b"whisper-1", b"zh"))
        self.assertEqual(fields["prompt"].decode(), "小智")
        with wave.open(io.BytesIO(fields["file"])) as sound:
            self.assertEqual(sound.getparams()[:4], (1, 2, 16000, 160))
            self.assertEqual(sound.readframes(160), b"\x01\x00" * 100 + b"\x02\x00" * 60)
        request.whole('{"text": " 你好。 "}'.encode())
        self.assertEqual(self.successResultOf(result), Transcript("你好。", "zh-CN"))

    def test_nothing_said(self) -> None:
        self.assertEqual(
            self.successResultOf(self.recognizer.recognition().finish()), Transcript("")
        )
        self.assertEqual(self.vendor.requests, [])

    def test_plain_text_answer(self) -> None:
        recognition = self.make(extra={"response_format": "text"}).recognition()
        recognition.feed(bytes(640))
        result = recognition.finish()
        self.vendor.last.whole(b"hello\n", "text/plain")
        self.assertEqual(self.successResultOf(result), Transcript("hello"))

    def test_language_found_out(self) -> None:
        for named, language in (("chinese", "zh"), ("fr", "fr"), ("klingon", "")):
            recognition = self.recognizer.recognition()
            recognition.feed(bytes(640))
            result = recognition.finish()
            self.vendor.last.whole(json.dumps({"text": "a", "language": named}).encode())
            self.assertEqual(self.successResultOf(result), Transcript("a", language))

    def test_retained_data_is_bounded(self) -> None:
        recognition = self.make(max_seconds=1).recognition()
        for _ in range(4):
            recognition.feed(bytes(16000))
        result = recognition.finish()
        self.assertLess(len(self.vendor.last.body), 32000 + 1000)
        self.vendor.last.whole(b'{"text": ""}')
        self.assertEqual(self.successResultOf(result), Transcript(""))

    def test_bad_answers(self) -> None:
        for body, status, code in (
            (b'{"words": []}', 200, "bad_answer"),
            (b'{"result": "what was said"}', 200, "bad_answer"),
            (b'{"error": {"message": "no such model"}}', 404, "not_found"),
            (b"", 502, "vendor_error"),
        ):
            recognition = self.recognizer.recognition()
            recognition.feed(bytes(640))
            result = recognition.finish()
            self.vendor.last.whole(body, code=status)
            error = self.failureResultOf(result, ProviderError).value
            self.assertEqual(error.code, code)
            self.assertNotIn("said", str(error), "errors are logged")

    def test_cancel(self) -> None:
        recognition = self.recognizer.recognition()
        recognition.feed(bytes(640))
        result = recognition.finish()
        recognition.cancel()
        recognition.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.vendor.last.cancelled, [True])
        recognition.feed(bytes(640))

    def test_cancel_before_finish(self) -> None:
        recognition = self.recognizer.recognition()
        recognition.feed(bytes(640))
        recognition.cancel()
        self.failureResultOf(recognition.finish(), CancelledError)
        self.assertEqual(self.vendor.requests, [])

    def test_cancelling_the_deferred(self) -> None:
        recognition = self.recognizer.recognition()
        recognition.feed(bytes(640))
        result = recognition.finish()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.vendor.last.cancelled, [True])

    def test_close(self) -> None:
        recognition = self.recognizer.recognition()
        recognition.feed(bytes(640))
        result = recognition.finish()
        self.successResultOf(self.recognizer.close())
        self.assertEqual(self.failureResultOf(result, ProviderError).value.code, "closed")

    def test_wav_of_nothing(self) -> None:
        self.assertEqual(len(wav(b"")), 44)


SAMPLES = b"\1\0" * 8


class SpeechTests(SynchronousTestCase):
    """:class:`OpenAISpeech`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.vendor = FakeVendor()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def make(self, **settings: Any) -> OpenAISpeech:
        settings = {"base_url": "http://vendor/v1"} | settings
        return OpenAISpeech(OpenAISpeechSettings(**settings), self.clock, self.vendor)

    def test_formats(self) -> None:
        for name, sound in (
            ("pcm", SoundFormat(Encoding.PCM, 24000)),
            ("wav", SoundFormat(Encoding.WAV, 24000)),
            ("mp3", SoundFormat(Encoding.MP3, 24000)),
            ("opus", SoundFormat(Encoding.OGG_OPUS, 24000)),
        ):
            speech = self.make(response_format=name)
            verifyObject(ISynthesizer, speech)
            self.assertEqual(speech.sound, sound)
        with self.assertRaises(msgspec.ValidationError):
            msgspec.convert({"response_format": "flac"}, OpenAISpeechSettings)

    def test_sound_comes_as_it_arrives_in_whole_samples(self) -> None:
        reading = Reading(self.make(voice="nova", speed=1.5).synthesize("Hello.", "en"))
        self.assertEqual(
            json.loads(self.vendor.last.body),
            {
                "model": "gpt-4o-mini-tts",
                "voice": "nova",
                "input": "Hello.",
                "response_format": "pcm",
                "speed": 1.5,
            },
        )
        response = self.vendor.last.answer("audio/pcm")
        response.send(SAMPLES + b"c")
        self.assertEqual(reading.items, [SAMPLES])
        response.send(b"d", b"e")
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(reading.items, [SAMPLES, b"cd"])

    def test_containers_pass_unchanged(self) -> None:
        reading = Reading(self.make(response_format="mp3").synthesize("Hello.", "en"))
        response = self.vendor.last.answer("audio/mpeg")
        response.send(SAMPLES + b"c", b"d")
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(reading.items, [SAMPLES + b"c", b"d"])

    def test_no_sound(self) -> None:
        reading = Reading(self.make().synthesize("Hello.", "en"))
        self.vendor.last.whole(b'{"error": "voice unknown"}')
        error = self.failureResultOf(reading.done, ProviderError).value
        self.assertIn("voice unknown", str(error))

    def test_closing_the_generator_drops_the_connection(self) -> None:
        generator = self.make().synthesize("Hello.", "en")
        first = Deferred.fromCoroutine(anext(generator))
        response = self.vendor.last.answer("audio/pcm")
        response.send(SAMPLES)
        self.assertEqual(self.successResultOf(first), SAMPLES)
        self.successResultOf(Deferred.fromCoroutine(generator.aclose()))
        self.assertTrue(response.transport.aborted)

    def test_silence_times_out(self) -> None:
        reading = Reading(self.make(idle_timeout=2).synthesize("Hello.", "en"))
        response = self.vendor.last.answer("audio/pcm")
        response.send(b"ab")
        self.clock.advance(2)
        self.assertEqual(self.failureResultOf(reading.done, ProviderError).value.code, "timeout")
        self.assertTrue(response.transport.aborted)

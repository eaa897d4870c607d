"""Speech and transcription vendors that deviate from the specification, over real sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import SoundFormat, Transcript
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.openai.audio import (
    OpenAISpeech,
    OpenAISpeechSettings,
    OpenAITranscription,
    TranscriptionSettings,
)
from xiaozhi.test.audio.test_audio import cut, encoded, read, strength, tone, wav_bytes
from xiaozhi.testing.vendors.octets import stream, whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor

# Half a second of 440 Hz.
HALF = tone(0.5, 24000)
# Instead of the requested PCM at 24 kHz.
SOUNDS: tuple[tuple[str, bytes, float], ...] = (
    ("PCM", HALF, 0.5),
    ("MP3", encoded(HALF, 24000, "mp3", "libmp3lame"), 0.5),
    ("Ogg Opus", encoded(HALF, 24000, "ogg", "libopus"), 0.5),
    ("WAV at 16 kHz", wav_bytes(tone(0.5, 16000), 16000), 0.5),
    ("WAV at 44.1 kHz, stereo", wav_bytes(tone(0.5, 44100, channels=2), 44100, 2), 0.5),
    ("two WAV files", wav_bytes(HALF, 24000) * 2, 1.0),
)
# Body, the error's code, words that reach the log. None of them is sound or a transcript.
ERRORS: tuple[tuple[bytes, str, str], ...] = (
    (b'{"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}', "unauthorized",
     "Incorrect API key"),
    (b'{"base_resp": {"status_code": 1008, "status_msg": "no money"}}', "unpaid", "no money"),
    (b"<html><head><title>502 Bad Gateway</title></head></html>", "bad_answer", "502 Bad Gateway"),
)  # fmt: skip
# A recogniser's text, and the transcript.
TEXTS: tuple[tuple[str, Transcript], ...] = (
    ("<|zh|><|HAPPY|><|Speech|><|withitn|>你好。", Transcript("你好。", "zh", "happy")),
    ("<|nospeech|><|EMO_UNKNOWN|><|Speech|><|withitn|>。", Transcript("")),
    ("[BLANK_AUDIO]", Transcript("")),
    ("Turn on the light.", Transcript("Turn on the light.")),
)


class VendorTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.vendor = ScriptedVendor(reactor)
        self.port: Any = reactor.listenTCP(0, self.vendor, interface="127.0.0.1")
        self.addCleanup(lambda: maybeDeferred(self.port.stopListening))
        self.addCleanup(self.vendor.hang_up)
        host: Any = self.port.getHost()
        url = f"http://127.0.0.1:{host.port}/v1"
        self.speech = OpenAISpeech(OpenAISpeechSettings(base_url=url), reactor)
        self.addCleanup(self.speech.close)
        asr = OpenAITranscription(TranscriptionSettings(base_url=url), reactor)
        self.addCleanup(asr.close)
        self.recognizer = FailoverRecognizer(
            FailoverGroup.of("asr", [("a", asr)], FailoverSettings(), reactor)
        )

    async def spoken(self) -> list[bytes | SoundFormat]:
        return [piece async for piece in self.speech.synthesize("Hello.", "en")]

    async def heard(self) -> Transcript:
        recognition = self.recognizer.recognition()
        recognition.feed(bytes(6400))
        return await recognition.finish()

    async def refused(self, call: Callable[[], Awaitable[object]]) -> ProviderError:
        try:
            await call()
        except ProviderError as error:
            return error
        raise AssertionError("no error")

    async def test_sounds(self) -> None:
        for name, data, seconds in SOUNDS:
            self.vendor.play(stream(*cut(data, [1001]), media_type="audio/pcm"))
            pieces = [piece for piece in await self.spoken() if isinstance(piece, bytes)]
            pcm = read(self.speech.sound, 16000, pieces)
            self.assertTrue(seconds - 0.08 < len(pcm) / 32000 < seconds * 1.2 + 0.1, name)
            middle = pcm[3200 : len(pcm) // 2 // 2 * 2]
            self.assertGreater(strength(middle, 16000, 440.0), 0.7, name)

    async def test_transcripts(self) -> None:
        for text, transcript in TEXTS:
            self.vendor.play(whole({"text": text}))
            self.assertEqual(await self.heard(), transcript, text)

    async def test_errors_with_status_200(self) -> None:
        for call, media_type in ((self.spoken, "audio/pcm"), (self.heard, "application/json")):
            for body, code, words in ERRORS:
                self.vendor.play(whole(body, media_type))
                error = await self.refused(call)
                self.assertEqual((error.code, error.retryable), (code, code == "bad_answer"))
                self.assertIn(words, error.message)

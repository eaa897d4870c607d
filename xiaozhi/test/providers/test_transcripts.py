"""Removal of tags from recognisers' texts."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Transcript
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.transcripts import cleaned, language_tag, words
from xiaozhi.providers.openai.audio import OpenAITranscription, TranscriptionSettings
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import whole
from xiaozhi.testing.vendors.refusals import REFUSALS
from xiaozhi.testing.vendors.vendor import ScriptedVendor

# A recogniser's text; its words, language and emotion.
TEXTS: tuple[tuple[str, str, str, str], ...] = (
    ("<|zh|><|NEUTRAL|><|Speech|><|withitn|>你好。", "你好。", "zh", "neutral"),
    ("<|en|><|HAPPY|><|Speech|><|woitn|>hello there", "hello there", "en", "happy"),
    ("<|yue|><|SAD|><|BGM|><|withitn|>你好", "你好", "yue", "sad"),
    ("<|ja|><|EMO_UNKNOWN|><|Speech|><|withitn|>こんにちは", "こんにちは", "ja", ""),
    ("<|zh|><|ANGRY|>今天<|zh|><|ANGRY|>天气", "今天天气", "zh", "angry"),
    ("< | zh | > < | NEUTRAL | > < | Speech | > 你好", "你好", "zh", "neutral"),
    ("＜｜zh｜＞你好", "你好", "zh", ""),
    ("<|nospeech|><|EMO_UNKNOWN|><|Event_UNK|><|withitn|>", "", "", ""),
    ("<|nospeech|><|EMO_UNKNOWN|><|Speech|><|withitn|>。", "", "", ""),
    ("<|0.00|> Turn on the light.<|2.40|>", "Turn on the light.", "", ""),
    ("<|startoftranscript|><|en|><|transcribe|><|notimestamps|> Hi", "Hi", "en", ""),
    ("太好了😊", "太好了", "", "happy"),
    ("🎼你好", "你好", "", ""),
    ("😔", "", "", "sad"),
    ("[BLANK_AUDIO]", "", "", ""),
    (" [BLANK_AUDIO] ", "", "", ""),
    ("[ Silence ]", "", "", ""),
    ("(music)", "", "", ""),
    ("(upbeat music)", "", "", ""),
    ("[Music playing] Stop it.", "Stop it.", "", ""),
    ("*applause*", "", "", ""),
    ("**laughs** Good one.", "Good one.", "", ""),
    ("(speaking in foreign language)", "", "", ""),
    ("[音乐]", "", "", ""),
    ("（掌声）谢谢大家", "谢谢大家", "", ""),
    ("【背景音乐】", "", "", ""),
    ("[음악]", "", "", ""),
    ("(拍手)", "", "", ""),
    ("♪", "", "", ""),
    ("♪♪♪", "", "", ""),
    ("♪ la la la ♪", "", "", ""),
    ("<unk>", "", "", ""),
    ("hello <noise> world", "hello world", "", ""),
    ("<sil>", "", "", ""),
    ("[UNK] hello", "hello", "", ""),
    (".", "", "", ""),
    ("。", "", "", ""),
    ("...", "", "", ""),
    ("，。？！", "", "", ""),
    ("\u200b", "", "", ""),
    ("\ufeff你好", "你好", "", ""),
    ("", "", "", ""),
    # Spoken words are not changed.
    ("Turn on the light.", "Turn on the light.", "", ""),
    ("play some music", "play some music", "", ""),
    ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2", "", ""),
    ("f(x) is (almost) done", "f(x) is (almost) done", "", ""),
    ("打开 light 模式", "打开 light 模式", "", ""),
    ("¿Qué hora es?", "¿Qué hora es?", "", ""),
    ("it's 20 °C", "it's 20 °C", "", ""),
    ("播放音乐", "播放音乐", "", ""),
    ("नमस्ते", "नमस्ते", "", ""),
    ("7", "7", "", ""),
)

LANGUAGES = (
    ("chinese", "zh"),
    ("Chinese", "zh"),
    ("Mandarin", "zh"),
    ("Mandarin Chinese", "zh"),
    ("Chinese (Mandarin)", "zh"),
    ("Chinese (Cantonese)", "yue"),
    ("Cantonese", "yue"),
    ("english", "en"),
    ("English (US)", "en"),
    (" ENGLISH ", "en"),
    ("中文", "zh"),
    ("普通话", "zh"),
    ("zh", "zh"),
    ("zh-CN", "zh-CN"),
    ("zh_cn", "zh-CN"),
    ("zh-Hans-CN", "zh-CN"),
    ("zh-yue", "yue"),
    ("cmn", "zh"),
    ("cmn-Hans-CN", "zh-CN"),
    ("yue", "yue"),
    ("eng", "en"),
    ("en-us", "en-US"),
    ("es-419", "es-419"),
    ("de", "de"),
    ("auto", ""),
    ("nospeech", ""),
    ("unknown", ""),
    ("und", ""),
    ("klingon", ""),
    ("", ""),
)

# Members that make an answer an error even if it has a text.
CODED = {"error", "errors", "code", "Code", "error_code", "err_no", "errcode", "base_resp"}

# Body, media type, requested format. None of them is a transcript.
NO_WORDS = (
    (b"<html><body>502 Bad Gateway</body></html>", "text/html", "json"),
    (b"<!DOCTYPE html><html></html>", "application/json", "json"),
    (b"\n <HTML>", "text/plain", "text"),
    (b"<?xml version='1.0'?><e/>", "text/xml", "text"),
    (b'{"text": "secret", "p": NaN}', "application/json", "json"),
    (b'{"text": "secret", "p": Infinity}', "application/json", "json"),
    (b'{"text": "secret', "application/json", "json"),
    (b'{"text": "secret \xe9"}', "application/json", "json"),
    (b'{"text": null}', "application/json", "json"),
    (b'{"text": ["secret"]}', "application/json", "json"),
    (b'["secret"]', "application/json", "json"),
    (b'"secret"', "application/json", "json"),
    (b"secret", "text/plain", "json"),
    (b"Internal Server Error", None, "json"),
    (b"", "application/json", "json"),
    (b'[{"text": "secret"}]', "text/plain", "text"),
    (b"caf\xe9 secret", "text/plain", "text"),
    (b"\x00\x01secret", "text/plain", "text"),
    (b"[" * 5000, "application/json", "json"),
)


class TranscriptTests(SynchronousTestCase):
    """:mod:`xiaozhi.providers.kit.transcripts`."""

    def test_cleaned(self) -> None:
        for text, said, language, emotion in TEXTS:
            self.assertEqual(
                cleaned(Transcript(text)), Transcript(said, language, emotion), repr(text)
            )

    def test_twice(self) -> None:
        """Cleaning does not change clean text."""
        for _, said, _, _ in TEXTS:
            self.assertEqual(words(said), said)

    def test_known_fields_stay(self) -> None:
        told = cleaned(Transcript("<|en|><|SAD|>hi", "de", "happy"))
        self.assertEqual(told, Transcript("hi", "de", "happy"))

    def test_languages(self) -> None:
        for named, tag in LANGUAGES:
            self.assertEqual(language_tag(named), tag, named)

    def test_hostile(self) -> None:
        """Long junk takes no time."""
        for piece in ("<|", "[", "(", "<|zh|>", "*", "♪", "< | ", "_a"):
            self.assertIsInstance(words(piece * 20_000), str)


class FakeRecognizer:
    """Returns a scripted transcript, with an interim result."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.interim: Any = None

    def recognition(self, interim: Any = None) -> FakeRecognizer:
        self.interim = interim
        return self

    def feed(self, pcm: bytes) -> None:
        if self.interim is not None:
            self.interim(self.text)

    def finish(self) -> Deferred[Transcript]:
        return succeed(Transcript(self.text))

    def cancel(self) -> None:
        """Do nothing: nothing runs."""


class RecognizerTests(SynchronousTestCase):
    """Sessions get clean text, with any recogniser."""

    def test_all_are_cleaned(self) -> None:
        for text, said, language, emotion in TEXTS:
            recognizers = [("a", FakeRecognizer(text))]
            group = FailoverGroup.of("asr", recognizers, FailoverSettings(), Clock())
            interim: list[str] = []
            recognition = FailoverRecognizer(group).recognition(interim.append)
            recognition.feed(bytes(640))
            self.assertEqual(interim, [said] if said else [])
            result = self.successResultOf(recognition.finish())
            self.assertEqual(result, Transcript(said, language, emotion))


class VendorTests(SynchronousTestCase):
    """Bodies in any form."""

    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)

    def heard(self, body: bytes, media_type: str | None, form: str = "json") -> Transcript:
        """Return the transcript of an answer."""
        self.vendor.play(whole(body, media_type))
        settings = TranscriptionSettings(
            base_url="http://vendor:8000/v1", extra={"response_format": form}
        )
        recognizer = OpenAITranscription(settings, self.network)
        recognition = recognizer.recognition()
        recognition.feed(bytes(640))
        result = recognition.finish()
        self.network.pump([0.01] * 20)
        recognizer.close()
        self.network.pump([0.1] * 20)
        outcome: list[Transcript | Failure] = []
        result.addBoth(outcome.append)
        (told,) = outcome
        if isinstance(told, Failure):
            told.raiseException()
        return told

    def test_no_words(self) -> None:
        for body, media_type, form in NO_WORDS:
            with self.subTest(body=body):
                error = self.assertRaises(ProviderError, self.heard, body, media_type, form)
                self.assertEqual((error.code, error.retryable), ("bad_answer", True))
                self.assertNotIn("secret", error.message, "errors are logged")

    def test_errors_with_status_200(self) -> None:
        """They have the same meaning as in a chat, whatever form of transcript was requested."""
        for refusal in REFUSALS:
            bodies = [refusal.body]
            if isinstance(refusal.body, dict) and refusal.body.keys() & CODED:
                bodies.append({"text": "", **refusal.body})
            for body in bodies:
                data = json.dumps(body).encode()
                for form in ("json", "text"):
                    if form == "text" and body is not refusal.body:
                        continue
                    with self.subTest(body=body, form=form):
                        error = self.assertRaises(ProviderError, self.heard, data, None, form)
                        told = (error.code, error.retryable)
                        self.assertEqual(told, (refusal.code, refusal.retryable))
                        self.assertIn(refusal.words, error.message)

    def test_words_are_not_an_error(self) -> None:
        """A transcript, or an empty one, beside members of an error."""
        for body, told in (
            ({"text": "hi", "code": 0, "message": "ok"}, "hi"),
            ({"text": "hi", "message": "the server is busy"}, "hi"),
            ({"text": "", "code": 0, "message": "success"}, ""),
            ({"text": "", "message": "no speech"}, ""),
            ({"text": "", "status": "success"}, ""),
            ({"text": "", "error": None}, ""),
            ({"text": "", "error": {"code": 0, "message": ""}}, ""),
            ({"text": "", "language": "en", "duration": 1.0, "segments": []}, ""),
        ):
            with self.subTest(body=body):
                heard = self.heard(json.dumps(body).encode(), "application/json")
                self.assertEqual(heard.text, told)

    def test_words(self) -> None:
        for body, media_type, form, told in (
            (b'{"text": "hi", "language": "english"}', None, "json", Transcript("hi", "en")),
            (
                b'{"text": "hi", "language": "zh-CN"}',
                "text/plain",
                "json",
                Transcript("hi", "zh-CN"),
            ),
            (b'{"text": ""}', "application/json", "json", Transcript("")),
            (b"\xef\xbb\xbfhi\n", "text/plain", "text", Transcript("hi")),
            (b"<|zh|>hi", "text/plain", "text", Transcript("<|zh|>hi")),
            (b"[BLANK_AUDIO]", "text/plain", "text", Transcript("[BLANK_AUDIO]")),
            (b"", "text/plain", "text", Transcript("")),
        ):
            self.assertEqual(self.heard(body, media_type, form), told)

"""The doubles, on virtual time, against each interface's contract."""

from __future__ import annotations

import array
import random
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, TextDelta, ToolCall, Utterance
from xiaozhi.providers.doubles.activity import EnergyDetector, EnergySettings
from xiaozhi.providers.doubles.base import InjectedFault
from xiaozhi.providers.doubles.model import ModelSettings, ScriptedCall, ScriptedModel
from xiaozhi.providers.doubles.recognizer import RecognizerSettings, ScriptedRecognizer
from xiaozhi.providers.doubles.synthesizer import ToneSettings, ToneSynthesizer
from xiaozhi.providers.doubles.vision import ScriptedVision, ScriptedVisionSettings
from xiaozhi.providers.offline.webrtc_vad import WebrtcDetector, WebrtcSettings
from xiaozhi.testing.contracts.providers import (
    PICTURE,
    TOOL,
    LanguageModelContract,
    RecognizerContract,
    SynthesizerContract,
    VisionContract,
    VoiceActivityContract,
)


def noise(level: int, seconds: float, seed: int = 1) -> bytes:
    source = random.Random(seed)
    samples = (int(source.gauss(0, level)) for _ in range(int(seconds * 16000)))
    return array.array("h", samples).tobytes()


class Virtual(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def run_through(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        result = Deferred.fromCoroutine(coroutine)
        for _ in range(1000):
            if result.called:
                break
            self.clock.advance(0.01)
        self.successResultOf(result)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def failing(self, coroutine: Coroutine[Any, Any, Any]) -> ProviderError:
        failure = self.failureResultOf(Deferred.fromCoroutine(coroutine), ProviderError)
        error = failure.value
        assert isinstance(error, ProviderError)
        return error


class ScriptedRecognizerTests(Virtual, RecognizerContract):
    def provider(self) -> ScriptedRecognizer:
        return ScriptedRecognizer(RecognizerSettings(texts=("one", "two"), delay=0.05), self.clock)

    def speech(self) -> tuple[bytes, str]:
        return bytes(32000), "one"

    def heard(self, provider: ScriptedRecognizer) -> str:
        recognition = provider.recognition()
        recognition.feed(b"12")
        result = recognition.finish()
        self.assertNoResult(result)
        self.clock.advance(0.05)
        return self.successResultOf(result).text

    def test_texts_in_turn(self) -> None:
        provider = self.provider()
        self.assertEqual([self.heard(provider) for _ in range(3)], ["one", "two", "one"])

    def test_how_much_it_heard(self) -> None:
        recognizer = ScriptedRecognizer(RecognizerSettings(texts=("{ms} ms",)), self.clock)
        recognition = recognizer.recognition()
        recognition.feed(bytes(2 * 32 * 60))
        recognition.feed(bytes(32 * 60))
        self.assertEqual(self.successResultOf(recognition.finish()).text, "180 ms")

    def test_fails_and_hangs_as_configured(self) -> None:
        recognizer = ScriptedRecognizer(RecognizerSettings(fail="down", retryable=True), self.clock)
        error = self.failureResultOf(recognizer.recognition().finish(), ProviderError).value
        self.assertEqual((error.code, error.retryable), ("down", True))
        hanging = ScriptedRecognizer(RecognizerSettings(hang=True), self.clock).recognition()
        result = hanging.finish()
        self.clock.advance(3600)
        self.assertNoResult(result)
        hanging.cancel()
        self.failureResultOf(result, CancelledError)


class ScriptedModelTests(Virtual, LanguageModelContract):
    def provider(self) -> ScriptedModel:
        return self.model(answers=("I am fine, thank you.", "Yes."), token_delay=0.01)

    def model(self, **settings: Any) -> ScriptedModel:
        return ScriptedModel(ModelSettings(**settings), self.clock)

    def deltas(self, model: ScriptedModel, *dialogue: Utterance) -> list[Any]:
        async def take() -> list[Any]:
            return [delta async for delta in model.reply(dialogue, [TOOL])]

        return self.successResultOf(Deferred.fromCoroutine(take()))

    def test_word_by_word_on_time(self) -> None:
        heard: list[str] = []

        async def listen() -> None:
            async for delta in self.provider().reply([Utterance(Role.USER, "?")], []):
                assert isinstance(delta, TextDelta)
                heard.append(delta.text)

        result = Deferred.fromCoroutine(listen())
        self.assertEqual(heard, ["I"])
        self.clock.advance(0.01)
        self.assertEqual(heard, ["I", " am"])
        self.clock.pump([0.01] * 3)
        self.successResultOf(result)
        self.assertEqual("".join(heard), "I am fine, thank you.")

    def test_replies_to_exact_words(self) -> None:
        model = self.model(replies={"hi": "ho"})
        self.assertEqual(self.deltas(model, Utterance(Role.USER, "hi")), [TextDelta("ho")])

    def test_repeats_the_previous_words(self) -> None:
        model = self.model(recall="what did I say")
        question = Utterance(Role.USER, "what did I say")
        self.assertEqual(self.deltas(model, question), [TextDelta("Nothing.")])
        before = (Utterance(Role.USER, "hello"), Utterance(Role.ASSISTANT, "Hi."))
        self.assertEqual(self.deltas(model, *before, question), [TextDelta("hello")])

    def test_calls_tools_and_repeats_their_result(self) -> None:
        call = ScriptedCall(name="lamp", arguments={"on": True}, when="light")
        missing = ScriptedCall(name="no_such_tool")
        model = self.model(calls=(call, missing), answers=("Fine.",))
        self.assertEqual(
            self.deltas(model, Utterance(Role.USER, "light please")),
            [ToolCall("call-1", "lamp", '{"on":true}')],
        )
        answer = self.deltas(model, Utterance(Role.TOOL, "Done.", call_id="call-1"))
        self.assertEqual(answer, [TextDelta("Done.")])
        self.assertEqual(self.deltas(model, Utterance(Role.USER, "no")), [TextDelta("Fine.")])

    def test_repeats_the_transcript(self) -> None:
        call = ScriptedCall(name="lamp", arguments={"on": True, "why": "{words}"}, when="dark")
        model = self.model(calls=(call,), answers=("You said {words}.",))
        self.assertEqual(
            self.deltas(model, Utterance(Role.USER, "so")),
            [TextDelta("You"), TextDelta(" said"), TextDelta(" so.")],
        )
        self.assertEqual(
            self.deltas(model, Utterance(Role.USER, "it is dark")),
            [ToolCall("call-1", "lamp", '{"on":true,"why":"it is dark"}')],
        )

    def test_closing_leaves_nothing_behind(self) -> None:
        async def take() -> None:
            async for _ in self.model(delay=5.0).reply([Utterance(Role.USER, "?")], []):
                pass

        result = Deferred.fromCoroutine(take())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ToneSynthesizerTests(Virtual, SynthesizerContract):
    def provider(self) -> ToneSynthesizer:
        return ToneSynthesizer(ToneSettings(delay=0.02), self.clock)

    def test_as_long_as_the_text(self) -> None:
        tone = ToneSynthesizer(ToneSettings(sample_rate=16000), self.clock)

        async def take() -> bytes:
            return b"".join([piece async for piece in tone.synthesize("12345", "")])

        pcm = self.successResultOf(Deferred.fromCoroutine(take()))
        self.assertEqual(len(pcm), 5 * 60 * 16 * 2)

    def test_pace(self) -> None:
        tone = ToneSynthesizer(ToneSettings(pace=2.0), self.clock)
        pieces: list[bytes] = []

        async def take() -> None:
            async for piece in tone.synthesize("12345", ""):
                pieces.append(piece)

        result = Deferred.fromCoroutine(take())
        self.assertEqual(len(pieces), 1)
        self.clock.pump([0.05, 0.05])
        self.assertEqual(len(pieces), 3)
        self.successResultOf(result)

    def test_fails_as_configured(self) -> None:
        tone = ToneSynthesizer(ToneSettings(fail="no_quota"), self.clock)

        async def take() -> None:
            async for _ in tone.synthesize("1", ""):
                pass

        self.assertEqual(self.failing(take()).code, "no_quota")


class ScriptedVisionTests(Virtual, VisionContract):
    def provider(self) -> ScriptedVision:
        return ScriptedVision(ScriptedVisionSettings(delay=0.1), self.clock)

    def test_answers_in_turn(self) -> None:
        vision = ScriptedVision(ScriptedVisionSettings(answers=("a", "b")), self.clock)
        seen = [self.successResultOf(vision.describe(PICTURE, "?")) for _ in range(3)]
        self.assertEqual(seen, ["a", "b", "a"])


class EnergyDetectorTests(Virtual, VoiceActivityContract):
    def provider(self) -> EnergyDetector:
        return EnergyDetector(EnergySettings())

    def speech(self) -> bytes:
        return noise(2000, 1.0)

    def test_threshold(self) -> None:
        detector = EnergyDetector(EnergySettings(threshold=100)).detector()
        self.assertFalse(detector.is_speech(array.array("h", [99, -99] * 160).tobytes()))
        self.assertTrue(detector.is_speech(array.array("h", [100, -100] * 160).tobytes()))


class WebrtcSilenceTests(Virtual):
    def test_noise_after_near_silence_is_not_taken_for_speech(self) -> None:
        for quiet in (bytes(96000), noise(5, 3.0), noise(20, 3.0)):
            activity = WebrtcDetector(WebrtcSettings()).detector()
            for at in range(0, len(quiet), 640):
                self.assertFalse(activity.is_speech(quiet[at : at + 640]))
            loud = noise(300, 2.0, seed=2)
            found = [activity.is_speech(loud[at : at + 640]) for at in range(0, len(loud), 640)]
            self.assertLess(sum(found), 15)


class TroubleTests(Virtual):
    """Faults of some calls only."""

    trouble = (
        InjectedFault(when="600", hang=True),
        InjectedFault(when="broken", fail="rate_limited", retryable=True),
        InjectedFault(when="slow", crawl=2.0),
    )

    def heard(self, recognizer: ScriptedRecognizer, milliseconds: int) -> Deferred[Any]:
        recognition = recognizer.recognition()
        recognition.feed(bytes(milliseconds * 32))
        return recognition.finish()

    def test_of_a_recogniser(self) -> None:
        """Chosen by the transcript, so by the length of the sound."""
        settings = RecognizerSettings(texts=("{ms} ms",), trouble=self.trouble)
        recognizer = ScriptedRecognizer(settings, self.clock)
        hangs = self.heard(recognizer, 600)
        self.assertEqual(self.successResultOf(self.heard(recognizer, 300)).text, "300 ms")
        self.clock.advance(3600)
        self.assertNoResult(hangs)
        hangs.cancel()
        self.failureResultOf(hangs, CancelledError)

    def test_of_a_model(self) -> None:
        model = ScriptedModel(ModelSettings(answers=("a b",), trouble=self.trouble), self.clock)

        def reply(words: str) -> list[float]:
            """Return the time of each word."""
            came: list[float] = []

            async def listen() -> None:
                async for _ in model.reply([Utterance(Role.USER, words)], ()):
                    came.append(self.clock.seconds())

            self.run_through(listen())
            return came

        self.assertEqual(reply("fast"), [0.0, 0.0])
        first, second = reply("slow, please")
        self.assertAlmostEqual(first, 2.0, places=1)
        self.assertAlmostEqual(second - first, 2.0, places=1)
        error = self.failing(anext(model.reply([Utterance(Role.USER, "broken")], ())))
        self.assertEqual((error.code, error.retryable), ("rate_limited", True))

    def test_of_a_synthesiser(self) -> None:
        settings = ToneSettings(milliseconds=20, trouble=self.trouble)
        synthesizer = ToneSynthesizer(settings, self.clock)

        def spoken(text: str) -> list[float]:
            came: list[float] = []

            async def listen() -> None:
                async for _ in synthesizer.synthesize(text, "en"):
                    came.append(self.clock.seconds())

            self.run_through(listen())
            return came

        self.assertEqual(spoken("just so so"), [0.0, 0.0])
        first, second = spoken("go slow!!!")
        self.assertAlmostEqual(first, 2.0, places=1)
        self.assertAlmostEqual(second - first, 2.0, places=1)

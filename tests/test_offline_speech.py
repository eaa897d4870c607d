"""Real engines in real child processes: espeak-ng speaks, pocketsphinx listens."""

from __future__ import annotations

import array
import os
import random
import signal
import time
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from xiaozhi.audio import resample, rms
from xiaozhi.base.errors import ProviderError
from xiaozhi.interfaces import ISynthesizer
from xiaozhi.providers.kit.process.worker import Worker
from xiaozhi.providers.offline.espeak import SAMPLE_RATE, EspeakSettings, EspeakSynthesizer
from xiaozhi.providers.offline.sphinx import SphinxRecognizer, SphinxSettings
from xiaozhi.providers.offline.webrtc_vad import WebrtcDetector, WebrtcSettings
from xiaozhi.testing.contracts.capabilities import declared_by, gives_interim, sample_rates
from xiaozhi.testing.contracts.providers import (
    RecognizerContract,
    SynthesizerContract,
    VoiceActivityContract,
)

#: Sentences of the phrase book that the default settings recognise exactly.
SENTENCES = ("what time is it", "turn the volume up", "tell me a joke", "take a picture")
#: Sentences that are not in the phrase book.
OTHERS = ("the quick brown fox jumps over the lazy dog", "where is the nearest train station")


class Runtime:
    reactor: Any = reactor

    @staticmethod
    def offload(function: Any, /, *args: Any) -> Any:
        return deferToThread(function, *args)


def padded(pcm: bytes) -> bytes:
    """Add low noise, and 0.3 s of it before and after, as a microphone does."""
    source = random.Random(1)
    samples = array.array("h", bytes(9600) + pcm + bytes(9600))
    return array.array(
        "h", (max(-32768, min(32767, s + source.randint(-12, 12))) for s in samples)
    ).tobytes()


async def spoken(synthesizer: ISynthesizer, text: str, language: str = "en") -> bytes:
    async with aclosing(synthesizer.synthesize(text, language)) as pieces:
        pcm = b"".join([piece async for piece in pieces if isinstance(piece, bytes)])
    return resample(pcm, SAMPLE_RATE, 16000)


async def heard(recognizer: SphinxRecognizer, pcm: bytes) -> str:
    recognition = recognizer.recognition()
    for at in range(0, len(pcm), 1920):
        recognition.feed(pcm[at : at + 1920])
    return str((await recognition.finish()).text)


class Real(TestCase):
    """Closes the child processes after each test."""

    timeout = 60

    def espeak(self, **settings: Any) -> EspeakSynthesizer:
        made = EspeakSynthesizer.make(EspeakSettings(**settings), Runtime())
        self.addCleanup(made.close)
        return made

    def sphinx(self, **settings: Any) -> SphinxRecognizer:
        made = SphinxRecognizer.make(SphinxSettings(**settings), Runtime())
        self.addCleanup(made.close)
        return made

    def run_through(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)


class EspeakContractTests(Real, SynthesizerContract):
    sentences = (
        ("Hello there, how are you?", "en"),
        ("Good.", ""),
        ("你好，今天天气很好。", "zh-CN"),
        ("你好，今天天气很好。", ""),
        ("早晨", "zh-HK"),
        ("今日はいい天気ですね。", ""),
        ("Guten Tag.", "de"),
        ("Xin chào.", "vi"),
        ("我喜欢 Python 和 WiFi，2 加 3 等于 5。", "zh"),
        ("She said 你好 and Привет, then 안녕.", ""),
        ("Emoji 😀 and \x01 control, <b>tags</b> & [[phonemes]].", "en"),
    )

    def provider(self) -> EspeakSynthesizer:
        return self.espeak()

    async def test_declares_its_rate(self) -> None:
        espeak = self.espeak()
        rates = await sample_rates(espeak, "Hello.")
        self.assertEqual(rates, {*declared_by(espeak, EspeakSettings()).sample_rates})


class SphinxContractTests(Real, RecognizerContract):
    _pcm = b""

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        async def speak() -> None:
            self._pcm = padded(await spoken(self.espeak(), SENTENCES[0]))

        return Deferred.fromCoroutine(speak())

    def provider(self) -> SphinxRecognizer:
        return self.sphinx()

    def speech(self) -> tuple[bytes, str]:
        return self._pcm, SENTENCES[0]

    async def test_declares_interim_results(self) -> None:
        sphinx = self.sphinx()
        declared = declared_by(sphinx, SphinxSettings())

        async def settled(told: list[str]) -> None:
            while declared.interim and not told:
                await deferLater(reactor, 0.05)

        self.assertEqual(await gives_interim(sphinx, self._pcm, settled), declared.interim)


class WebrtcContractTests(Real, VoiceActivityContract):
    _pcm = b""

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        async def speak() -> None:
            self._pcm = await spoken(self.espeak(), "Hello there, how are you today?")

        return Deferred.fromCoroutine(speak())

    def provider(self) -> WebrtcDetector:
        return WebrtcDetector.make(WebrtcSettings(), Runtime())

    def speech(self) -> bytes:
        return self._pcm


class ConversationTests(Real):
    def test_spoken_text_is_recognised(self) -> Deferred[Any]:
        async def check() -> None:
            espeak, sphinx = self.espeak(), self.sphinx()
            for sentence in SENTENCES:
                pcm = padded(await spoken(espeak, sentence))
                self.assertEqual(await heard(sphinx, pcm), sentence)
            for sentence in OTHERS:
                pcm = padded(await spoken(espeak, sentence))
                self.assertEqual(await heard(sphinx, pcm), "")

        return self.run_through(check())

    def test_several_at_once(self) -> Deferred[Any]:
        async def check() -> None:
            espeak, sphinx = self.espeak(), self.sphinx(decoders=2)
            sound = [padded(await spoken(espeak, sentence)) for sentence in SENTENCES]
            running = [sphinx.recognition() for _ in sound]
            for at in range(0, max(map(len, sound)), 1920):
                for recognition, pcm in zip(running, sound, strict=True):
                    recognition.feed(pcm[at : at + 1920])
            results = await gatherResults([recognition.finish() for recognition in running])
            self.assertEqual([result.text for result in results], list(SENTENCES))

        return self.run_through(check())

    def test_noise_is_nothing_said(self) -> Deferred[Any]:
        async def check() -> None:
            source = random.Random(2)
            noise = array.array("h", (int(source.gauss(0, 300)) for _ in range(32000)))
            self.assertEqual(await heard(self.sphinx(), noise.tobytes()), "")

        return self.run_through(check())

    def test_scraps_of_sound_are_harmless(self) -> Deferred[Any]:
        async def check() -> None:
            sphinx = self.sphinx()
            source = random.Random(3)
            for samples in (1, 100, 319, 320, 321, 400, 640, 800, 1600, 4800, 16000):
                loud = array.array("h", (int(source.gauss(0, 3000)) for _ in range(samples)))
                self.assertEqual(await heard(sphinx, loud.tobytes() + b"1"), "")
            sphinx_pid = _pid(sphinx.workers[0])
            await heard(sphinx, bytes(32000))
            self.assertEqual(_pid(sphinx.workers[0]), sphinx_pid)

        return self.run_through(check())

    def test_other_grammar(self) -> Deferred[Any]:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("#JSGF V1.0;\ngrammar door;\npublic <top> = ( open | close ) the door;\n")

        async def check() -> None:
            sphinx = self.sphinx(grammar=path)
            pcm = padded(await spoken(self.espeak(), "close the door"))
            self.assertEqual(await heard(sphinx, pcm), "close the door")

        return self.run_through(check())

    def test_a_faulty_grammar_is_reported_once(self) -> Deferred[Any]:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("#JSGF V1.0;\ngrammar door;\npublic <top> = ( open | the door;\n")

        async def check() -> None:
            try:
                await heard(self.sphinx(grammar=path), bytes(6400))
            except ProviderError as error:
                self.assertEqual((error.code, error.retryable), ("bad_grammar", False))
            else:
                self.fail("a faulty grammar was accepted")

        return self.run_through(check())


class ChildTests(Real):
    def test_killed_child_is_replaced(self) -> Deferred[Any]:
        async def check() -> None:
            espeak, sphinx = self.espeak(), self.sphinx()
            pcm = padded(await spoken(espeak, SENTENCES[0]))
            await heard(sphinx, pcm)
            recognition = sphinx.recognition()
            recognition.feed(pcm)
            os.kill(_pid(sphinx.workers[0]), signal.SIGKILL)
            try:
                await recognition.finish()
            except ProviderError as error:
                self.assertEqual((error.code, error.retryable), ("crashed", True))
            else:
                self.fail("the recognition survived its process")
            self.assertEqual(await heard(sphinx, pcm), SENTENCES[0])

            os.kill(_pid(espeak.worker), signal.SIGKILL)
            while espeak.worker.pid is not None:
                await deferLater(reactor, 0.01)
            self.assertTrue(await spoken(espeak, "Still here."))

        return self.run_through(check())

    def test_cancelled_speech_frees_the_child_at_once(self) -> Deferred[Any]:
        async def check() -> None:
            espeak = self.espeak()
            long = "All work and no play makes a dull day. " * 50
            begun = time.monotonic()
            await spoken(espeak, long)
            whole = time.monotonic() - begun
            pid = espeak.worker.pid
            for _ in range(20):
                async with aclosing(espeak.synthesize(long, "en")) as pieces:
                    async for _piece in pieces:
                        break
            begun = time.monotonic()
            self.assertGreater(rms(await spoken(espeak, "Next.")), 100)
            # Spoken to their ends, the twenty would take twenty times as long.
            self.assertLess(time.monotonic() - begun, 10 * whole)
            self.assertEqual(espeak.worker.pid, pid)

        return self.run_through(check())

    def test_too_long_a_text(self) -> Deferred[Any]:
        async def check() -> None:
            try:
                await spoken(self.espeak(), "x" * 2001)
            except ProviderError as error:
                self.assertEqual((error.code, error.retryable), ("too_long", False))
            else:
                self.fail("too long a text was spoken")

        return self.run_through(check())

    def test_children_hold_no_secret_of_the_environment(self) -> Deferred[None]:
        async def tell() -> None:
            self.patch(os, "environ", {**os.environ, "OPENAI_API_KEY": "sk-secret"})
            espeak, sphinx = self.espeak(), self.sphinx()
            await spoken(espeak, "Hello.")
            await heard(sphinx, bytes(3200))
            for worker in (espeak.worker, sphinx.workers[0]):
                held = Path(f"/proc/{_pid(worker)}/environ").read_bytes()
                self.assertIn(b"PATH=", held)
                self.assertNotIn(b"sk-secret", held)

        return self.run_through(tell())

    def test_interrupt_from_the_terminal_is_left_to_the_parent(self) -> Deferred[Any]:
        async def check() -> None:
            espeak = self.espeak()
            await spoken(espeak, "Hello.")
            pid = _pid(espeak.worker)
            os.kill(pid, signal.SIGINT)
            await spoken(espeak, "Hello again.")
            self.assertEqual(espeak.worker.pid, pid)

        return self.run_through(check())

    def test_child_goes_with_its_provider(self) -> Deferred[Any]:
        async def check() -> None:
            espeak = self.espeak()
            await spoken(espeak, "Hello.")
            pid = _pid(espeak.worker)
            await espeak.close()
            with self.assertRaises(ProcessLookupError):
                os.kill(pid, 0)

        return self.run_through(check())


def _pid(worker: Worker) -> int:
    assert worker.pid is not None
    return worker.pid

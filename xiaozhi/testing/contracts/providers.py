"""Contracts of providers, as mix-ins for test cases.

A test case mixes one in and defines how to make the provider and how to wait: with the real reactor
or on a virtual clock. :meth:`ProviderContract.run_through` takes a coroutine and either returns its
Deferred (real) or runs it to the end (virtual).
"""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from xiaozhi.audio import SoundReader, rms
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import (
    Picture,
    Role,
    SoundFormat,
    TextDelta,
    ToolCall,
    ToolSpec,
    Transcript,
    Utterance,
)
from xiaozhi.interfaces import (
    ILanguageModel,
    IProvider,
    IRecognition,
    IRecognizer,
    ISynthesizer,
    IVisionModel,
    IVoiceActivity,
    IVoiceActivityDetector,
)

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Base
else:
    _Base = object

TOOL = ToolSpec("lamp", "Switches the lamp.", {"type": "object", "properties": {}})
PICTURE = Picture(b"\xff\xd8\xff\xe0", "image/jpeg", 640, 480)


class ProviderContract(_Base):
    """Common to all kinds."""

    def provider(self) -> Any:
        """Make the provider under test; the caller closes it."""
        raise NotImplementedError

    def run_through(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the Deferred that a test method returns, so that trial sees the end."""
        raise NotImplementedError

    def test_close_twice(self) -> Any:
        """Closing is possible before any use, and again."""

        async def check() -> None:
            provider = self.provider()
            verifyObject(IProvider, provider)
            await provider.close()
            await provider.close()

        return self.run_through(check())


class RecognizerContract(ProviderContract):
    """:class:`IRecognizer`."""

    def speech(self) -> tuple[bytes, str]:
        """Return sound at 16 kHz and its expected transcript."""
        raise NotImplementedError

    def test_recognises_speech(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            verifyObject(IRecognizer, provider)
            pcm, text = self.speech()
            recognition = provider.recognition()
            verifyObject(IRecognition, recognition)
            for at in range(0, len(pcm), 1921):
                recognition.feed(pcm[at : at + 1921])
            transcript = await recognition.finish()
            self.assertIsInstance(transcript, Transcript)
            self.assertEqual(transcript.text, text)

        return self.run_through(check())

    def test_interim(self) -> Any:
        """Interim results, if any, differ from one to the next."""

        async def check() -> None:
            provider = self.provider()
            pcm, text = self.speech()
            told: list[str] = []
            recognition = provider.recognition(told.append)
            for at in range(0, len(pcm), 1920):
                recognition.feed(pcm[at : at + 1920])
            result = recognition.finish()
            before = len(told)
            self.assertEqual((await result).text, text)
            self.assertEqual(len(told), before, "told after the end")
            for earlier, later in itertools.pairwise(told):
                self.assertNotEqual(earlier, later)
            cancelled = provider.recognition(told.append)
            cancelled.cancel()
            cancelled.feed(pcm)
            self.assertEqual(len(told), before, "told after cancel()")

        return self.run_through(check())

    def test_nothing_fed_is_nothing_said(self) -> Any:
        async def check() -> None:
            transcript = await self.provider().recognition().finish()
            self.assertEqual(transcript.text, "")

        return self.run_through(check())

    def test_cancel_any_time(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            pcm, _ = self.speech()
            unused = provider.recognition()
            unused.cancel()
            begun = provider.recognition()
            begun.feed(pcm[:6400])
            begun.cancel()
            begun.cancel()
            begun.feed(pcm[:6400])
            await self.cancelled(begun.finish())
            finished = provider.recognition()
            finished.feed(pcm)
            result = finished.finish()
            finished.cancel()
            if not result.called:
                raise AssertionError("finish() goes on after cancel()")
            result.addErrback(lambda failure: failure.trap(CancelledError))

        return self.run_through(check())

    def test_cancelling_the_deferred(self) -> Any:
        async def check() -> None:
            recognition = self.provider().recognition()
            recognition.feed(self.speech()[0])
            result = recognition.finish()
            if not result.called:
                result.cancel()
                await self.cancelled(result)

        return self.run_through(check())

    async def cancelled(self, result: Deferred[Any]) -> None:
        """A Deferred fails with CancelledError."""
        try:
            await result
        except CancelledError:
            return
        raise AssertionError("not cancelled")


class LanguageModelContract(ProviderContract):
    """:class:`ILanguageModel`."""

    def question(self) -> str:
        """Return a question that the model answers in words."""
        return "hello"

    def test_answers(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            verifyObject(ILanguageModel, provider)
            dialogue = [Utterance(Role.SYSTEM, "Be brief."), Utterance(Role.USER, self.question())]
            deltas = [delta async for delta in provider.reply(dialogue, [TOOL])]
            self.assertTrue(deltas)
            for delta in deltas:
                self.assertIsInstance(delta, (TextDelta, ToolCall))
            if not any(isinstance(delta, ToolCall) for delta in deltas):
                text = "".join(delta.text for delta in deltas)
                self.assertTrue(text.strip())

        return self.run_through(check())

    def test_closed_early(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            dialogue = [Utterance(Role.USER, self.question())]
            for _ in range(3):
                async with aclosing(provider.reply(dialogue, [])) as deltas:
                    async for _delta in deltas:
                        break

        return self.run_through(check())


class SynthesizerContract(ProviderContract):
    """:class:`ISynthesizer`."""

    #: (text, language) pairs that can be spoken.
    sentences: tuple[tuple[str, str], ...] = (("Hello there, how are you?", "en"), ("Good.", ""))

    async def heard(self, provider: Any, text: str, language: str) -> bytes:
        """Return a spoken sentence as samples at 16 kHz."""
        reader = SoundReader(provider.sound, 16000)
        pcm = b""
        async with aclosing(provider.synthesize(text, language)) as pieces:
            async for piece in pieces:
                if isinstance(piece, SoundFormat):
                    self.assertEqual(pcm, b"", "a format after the first piece")
                    reader = SoundReader(piece, 16000)
                else:
                    pcm += reader.feed(piece)
        return pcm + reader.finish()

    def test_speaks(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            verifyObject(ISynthesizer, provider)
            for text, language in self.sentences:
                pcm = await self.heard(provider, text, language)
                self.assertGreater(len(pcm), 3200, text)
                self.assertGreater(rms(pcm), 100, text)

        return self.run_through(check())

    def test_nothing_to_say(self) -> Any:
        async def check() -> None:
            async for piece in self.provider().synthesize("", "en"):
                self.assertEqual(piece, b"")

        return self.run_through(check())

    def test_closed_early_and_used_on(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            text, language = self.sentences[0]
            for _ in range(3):
                async with aclosing(provider.synthesize(text, language)) as pieces:
                    async for _piece in pieces:
                        break
            self.assertTrue(await self.heard(provider, text, language))

        return self.run_through(check())

    def test_two_at_once_do_not_mix(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            text, language = self.sentences[0]

            alone = await self.heard(provider, text, language)
            both = [Deferred.fromCoroutine(self.heard(provider, text, language)) for _ in range(2)]
            for pcm in both:
                # Engines carry some timing over from one sentence to the next.
                self.assertApproximates(len(await pcm) / len(alone), 1.0, 0.02)

        return self.run_through(check())

    def test_closed_provider_refuses(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            await provider.close()
            try:
                async for _ in provider.synthesize(*self.sentences[0]):
                    raise AssertionError("sound from a closed provider")
            except ProviderError as error:
                self.assertEqual(error.code, "closed")
            else:
                raise AssertionError("no error from a closed provider")

        return self.run_through(check())


class VisionContract(ProviderContract):
    """:class:`IVisionModel`."""

    def test_describes(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            verifyObject(IVisionModel, provider)
            self.assertTrue((await provider.describe(PICTURE, "What is this?")).strip())

        return self.run_through(check())


class VoiceActivityContract(ProviderContract):
    """:class:`IVoiceActivityDetector`."""

    def speech(self) -> bytes:
        """Return sound at 16 kHz that is mostly speech."""
        raise NotImplementedError

    def share(self, activity: IVoiceActivity, pcm: bytes) -> float:
        """Return the share of frames classified as speech."""
        frames = [pcm[at : at + 640] for at in range(0, len(pcm) - 639, 640)]
        return sum(activity.is_speech(frame) for frame in frames) / len(frames)

    def test_distinguishes_speech_from_silence(self) -> None:
        provider = self.provider()
        verifyObject(IVoiceActivityDetector, provider)
        activity = provider.detector()
        verifyObject(IVoiceActivity, activity)
        self.assertEqual(self.share(activity, bytes(64000)), 0.0)
        self.assertGreater(self.share(activity, self.speech()), 0.5)
        self.assertLess(self.share(activity, bytes(64000)), 0.1)

    def test_detectors_are_independent(self) -> None:
        provider = self.provider()
        first, second = provider.detector(), provider.detector()
        speech = self.speech()
        alone = [first.is_speech(speech[at : at + 640]) for at in range(0, 6400, 640)]
        self.share(second, bytes(6400))
        third = provider.detector()
        again = [third.is_speech(speech[at : at + 640]) for at in range(0, 6400, 640)]
        self.assertEqual(alone, again)

"""The double of an incremental synthesiser, on virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import SentenceMark
from xiaozhi.interfaces import (
    IIncrementalSynthesizer,
    IOfModel,
    IPreparable,
    ISpeechStream,
    ISynthesizer,
)
from xiaozhi.providers.doubles.incremental import IncrementalTone, IncrementalToneSettings
from xiaozhi.providers.kit.bysentence import BySentence, as_synthesizer
from xiaozhi.providers.kit.catalogue import ProviderCatalogue
from xiaozhi.providers.kit.maker import ProviderMaker
from xiaozhi.providers.kit.registry import ProviderRegistry
from xiaozhi.runtime.config import read_section
from xiaozhi.test.providers.test_doubles import Virtual
from xiaozhi.test.providers.test_provider_registry import Runtime
from xiaozhi.testing.contracts.incremental import IncrementalSynthesizerContract
from xiaozhi.testing.contracts.providers import SynthesizerContract


class IncrementalToneTests(Virtual, IncrementalSynthesizerContract):
    def provider(self, **settings: Any) -> IncrementalTone:
        told = {"delay": 0.05, "pause": 0.01, **settings}
        return IncrementalTone(IncrementalToneSettings(**told), self.clock)

    def test_speaks_a_sentence_before_the_text_is_complete(self) -> None:
        stream = self.provider().speech("en")
        got: list[Any] = []

        async def read() -> None:
            async for piece in stream.pieces():
                got.append(piece)

        reading = Deferred.fromCoroutine(read())
        stream.feed("Hello the")
        self.clock.advance(1)
        self.assertEqual(got, [])
        stream.feed("re. How ")
        self.clock.pump([0.05] * 40)
        self.assertEqual(got[0], SentenceMark("Hello there. "))
        self.assertGreater(sum(len(each) for each in got[1:]), 30000)
        self.assertFalse(reading.called)
        stream.cancel()
        self.successResultOf(reading)

    def test_closing_ends_a_stream_that_waits(self) -> None:
        provider = self.provider()
        ended = Deferred.fromCoroutine(self.heard(provider, provider.speech("en")))
        self.successResultOf(provider.close())
        self.assertEqual(self.failureResultOf(ended, ProviderError).value.code, "closed")

    def test_too_long(self) -> None:
        """The excess is refused; the beginning is spoken."""
        provider = self.provider(most=10)
        stream = provider.speech("en")
        stream.feed("Good. ")
        error = self.assertRaises(ProviderError, stream.feed, "And too much.")
        self.assertEqual(error.code, "too_long")
        stream.finish()
        ended = Deferred.fromCoroutine(self.heard(provider, stream))
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.successResultOf(ended).marks, ["Good. "])

    def test_it_fails_as_configured(self) -> None:
        ended = Deferred.fromCoroutine(self.said(self.provider(fail="vendor_error"), "Good."))
        self.clock.advance(0.05)
        self.assertEqual(self.failureResultOf(ended, ProviderError).value.code, "vendor_error")

    def test_vendors_without_marks(self) -> None:
        ended = Deferred.fromCoroutine(self.said(self.provider(marks=False), "Good."))
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.successResultOf(ended).marks, [])


class BySentenceTests(Virtual, SynthesizerContract):
    def provider(self) -> Any:
        settings = IncrementalToneSettings(delay=0.05, pause=0.01)
        return as_synthesizer(IncrementalTone(settings, self.clock))


@implementer(IIncrementalSynthesizer, IOfModel, IPreparable)
class Vendor:
    """A vendor's adapter that is only incremental."""

    Settings = IncrementalToneSettings
    model = "stream-1"
    prepared = 0

    def __init__(self, settings: IncrementalToneSettings, clock: Any) -> None:
        self._tone = IncrementalTone(settings, clock)
        self.sound = self._tone.sound

    @classmethod
    def make(cls, settings: IncrementalToneSettings, runtime: Any) -> Vendor:
        return cls(settings, runtime.reactor)

    def speech(self, language: str) -> ISpeechStream:
        return self._tone.speech(language)

    def prepare(self) -> None:
        self.prepared += 1

    def close(self) -> Deferred[None]:
        return succeed(None)


class RegistryTests(SynchronousTestCase):
    """A vendor that is only incremental is selected like any other."""

    def test_it_is_leased_as_a_synthesiser(self) -> None:
        clock = Clock()
        makers = [ProviderMaker("tts", "stream", "", f"{__name__}:Vendor")]
        catalogue = ProviderCatalogue({}, read_section, makers)
        registry = ProviderRegistry(catalogue, Runtime(clock))
        candidate = registry.lease(catalogue.entry("tts", "stream")).candidate
        self.assertTrue(ISynthesizer.providedBy(candidate.provider))
        self.assertEqual(candidate.model, "stream-1")
        registry.prepare()
        self.assertEqual(candidate.provider._provider.prepared, 1)
        self.successResultOf(registry.close())

    def test_others_are_unchanged(self) -> None:
        tone = BySentence(IncrementalTone(IncrementalToneSettings(), Clock()))
        self.assertFalse(IOfModel.providedBy(tone) or IPreparable.providedBy(tone))
        self.assertIs(as_synthesizer(tone), tone)
        self.assertIs(as_synthesizer(self), self)

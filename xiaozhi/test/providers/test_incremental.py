"""The double of an incremental synthesiser, on virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import SentenceMark
from xiaozhi.providers.doubles.incremental import IncrementalTone, IncrementalToneSettings
from xiaozhi.test.providers.test_doubles import Virtual
from xiaozhi.testing.contracts.incremental import IncrementalSynthesizerContract


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
        """The rest is refused; the beginning is spoken."""
        provider = self.provider(most=10)
        stream = provider.speech("en")
        stream.feed("Good. ")
        error = self.assertRaises(ProviderError, stream.feed, "And too much.")
        self.assertEqual(error.code, "too_long")
        stream.finish()
        ended = Deferred.fromCoroutine(self.heard(provider, stream))
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.successResultOf(ended).marks, ["Good. "])

    def test_it_fails_when_it_is_told_to(self) -> None:
        ended = Deferred.fromCoroutine(self.said(self.provider(fail="vendor_error"), "Good."))
        self.clock.advance(0.05)
        self.assertEqual(self.failureResultOf(ended, ProviderError).value.code, "vendor_error")

    def test_vendors_without_marks(self) -> None:
        ended = Deferred.fromCoroutine(self.said(self.provider(marks=False), "Good."))
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.successResultOf(ended).marks, [])

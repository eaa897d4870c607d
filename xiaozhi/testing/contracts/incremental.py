"""The contract of incremental synthesisers, as a mixin for test cases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from xiaozhi.audio import SoundReader, rms
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import SentenceMark, SoundFormat
from xiaozhi.interfaces import IIncrementalSynthesizer, ISpeechStream
from xiaozhi.testing.contracts.providers import ProviderContract

TEXT = "Hello there. How are you today? I am well"


@dataclass
class Spoken:
    """The outcome of a stream.

    :ivar pcm: samples at 16 kHz.
    :ivar marks: texts of the sentence marks.
    """

    pcm: bytes = b""
    marks: list[str] = field(default_factory=list)


class IncrementalSynthesizerContract(ProviderContract):
    """:class:`IIncrementalSynthesizer`."""

    async def heard(
        self, provider: Any, stream: Any, piece_came: Callable[[Spoken], None] = lambda _: None
    ) -> Spoken:
        """Read a stream to its end."""
        spoken = Spoken()
        reader = SoundReader(provider.sound, 16000)
        async with aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                if isinstance(piece, SentenceMark):
                    spoken.marks.append(piece.text)
                elif isinstance(piece, SoundFormat):
                    self.assertEqual(spoken.pcm, b"", "a format after the first piece")
                    reader = SoundReader(piece, 16000)
                else:
                    spoken.pcm += reader.feed(piece)
                    piece_came(spoken)
        spoken.pcm += reader.finish()
        return spoken

    async def said(self, provider: Any, *texts: str) -> Spoken:
        """Speak texts, fed one after the other."""
        stream = provider.speech("en")
        for text in texts:
            stream.feed(text)
        stream.finish()
        return await self.heard(provider, stream)

    def test_speaks(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            verifyObject(IIncrementalSynthesizer, provider)
            verifyObject(ISpeechStream, provider.speech("en"))
            spoken = await self.said(provider, TEXT)
            self.assertGreater(len(spoken.pcm), 16000)
            self.assertGreater(rms(spoken.pcm), 100)

        return self.run_through(check())

    def test_text_is_cut_anywhere(self) -> Any:
        """Cuts change neither the sound's length nor the marks."""

        async def check() -> None:
            provider = self.provider()
            whole = await self.said(provider, TEXT)
            cut = await self.said(provider, *TEXT)
            self.assertApproximates(len(cut.pcm) / len(whole.pcm), 1.0, 0.05)
            self.assertEqual(cut.marks, whole.marks)

        return self.run_through(check())

    def test_marks_equal_the_fed_text(self) -> Any:
        async def check() -> None:
            marks = (await self.said(self.provider(), TEXT)).marks
            if any(marks):
                self.assertEqual("".join("".join(marks).split()), "".join(TEXT.split()))

        return self.run_through(check())

    def test_nothing_fed_is_nothing_said(self) -> Any:
        async def check() -> None:
            spoken = await self.said(self.provider())
            self.assertEqual((spoken.pcm, spoken.marks), (b"", []))

        return self.run_through(check())

    def test_text_after_the_end_is_ignored(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            whole = await self.said(provider, TEXT)
            stream = provider.speech("en")
            stream.feed(TEXT)
            stream.finish()
            stream.feed(" And this is too late.")
            stream.finish()
            late = await self.heard(provider, stream)
            self.assertApproximates(len(late.pcm) / len(whole.pcm), 1.0, 0.05)

        return self.run_through(check())

    def test_cancel_any_time(self) -> Any:
        """The sound ends without an error, and other streams continue."""

        async def check() -> None:
            provider = self.provider()
            whole = await self.said(provider, TEXT)
            unused = provider.speech("en")
            unused.cancel()
            self.assertEqual((await self.heard(provider, unused)).pcm, b"")
            finished = provider.speech("en")
            finished.feed(TEXT)
            finished.finish()
            finished.cancel()
            finished.cancel()
            finished.feed("more")
            self.assertEqual((await self.heard(provider, finished)).pcm, b"")
            midway = provider.speech("en")
            midway.feed(TEXT)
            midway.finish()
            cut = await self.heard(provider, midway, lambda spoken: midway.cancel())
            self.assertLess(len(cut.pcm), len(whole.pcm))
            waiting = provider.speech("en")
            waiting.feed("Hel")
            ended = Deferred.fromCoroutine(self.heard(provider, waiting))
            waiting.cancel()
            await ended

        return self.run_through(check())

    def test_closed_early_and_used_on(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            for _ in range(3):
                stream = provider.speech("en")
                stream.feed(TEXT)
                stream.finish()
                async with aclosing(stream.pieces()) as pieces:
                    async for _piece in pieces:
                        break
            self.assertTrue((await self.said(provider, TEXT)).pcm)

        return self.run_through(check())

    def test_two_at_once_do_not_mix(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            texts = (TEXT, "Good.")
            alone = [await self.said(provider, text) for text in texts]
            both = [Deferred.fromCoroutine(self.said(provider, text)) for text in texts]
            for running, expected in zip(both, alone, strict=True):
                spoken = await running
                self.assertApproximates(len(spoken.pcm) / len(expected.pcm), 1.0, 0.05)
                self.assertEqual(spoken.marks, expected.marks)

        return self.run_through(check())

    def test_closed_provider_refuses(self) -> Any:
        async def check() -> None:
            provider = self.provider()
            await provider.close()
            try:
                spoken = await self.said(provider, TEXT)
            except ProviderError as error:
                self.assertEqual(error.code, "closed")
            else:
                raise AssertionError(f"{len(spoken.pcm)} bytes from a closed provider")

        return self.run_through(check())

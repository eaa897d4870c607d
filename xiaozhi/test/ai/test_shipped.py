"""Phrases that ship with the program: in each language, with the current texts."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.speech.phrases import Phrase, Phrases, PhraseStore
from xiaozhi.ai.speech.shipped import KEYS, Shipped, digest_of, file_of
from xiaozhi.audio import OpusDecoder, OpusForm, rms
from xiaozhi.languages.texts import CATALOGUES, text
from xiaozhi.testing.files import MemoryFiles
from xiaozhi.testing.parts import inline_timed_offload
from xiaozhi.testing.shipped import missing
from xiaozhi.wire.opus import packet_ms


class ShippedTests(SynchronousTestCase):
    def find(self, words: str, language: str, form: OpusForm) -> tuple[bytes, ...] | None:
        shipped = Shipped(inline_timed_offload)
        found = Deferred.fromCoroutine(shipped.find(Phrase(words, language, form)))
        return self.successResultOf(found)

    def test_each_text_in_each_language(self) -> None:
        """One is missing or has an old text: run ``make phrases``."""
        for language in CATALOGUES:
            for key in KEYS:
                for rate, duration in ((24000, 60), (16000, 20), (48000, 40)):
                    form = OpusForm(rate, duration, 5, 24000, "voip")
                    packets = self.find(text(key, language), language, form)
                    assert packets is not None, (key, language)
                    self.assertEqual({packet_ms(packet) for packet in packets}, {duration})
                    decoder = OpusDecoder(rate)
                    pcm = b"".join(decoder.decode(packet) for packet in packets)
                    seconds = len(pcm) / 2 / rate
                    self.assertTrue(0.8 < seconds < 7, (key, language, seconds))
                    self.assertGreater(rms(pcm), 500)

    def test_only_what_is_missing_is_recorded(self) -> None:
        """``make phrases`` leaves the other files as they are."""
        directory = Path(self.mktemp())
        directory.mkdir()
        names = [file_of(key, language) for key in KEYS for language in CATALOGUES]
        index = {
            file_of(key, language): digest_of(text(key, language))
            for key in KEYS
            for language in CATALOGUES
        }
        self.assertEqual(set(missing(directory, index)), set(names))
        for name in names:
            (directory / name).touch()
        self.assertEqual(missing(directory, index), {})
        index["waiting-de.ogg"] = digest_of("Moment.")
        words = text("waiting", "de")
        self.assertEqual(missing(directory, index), {"waiting-de.ogg": (words, "de")})

    def test_nothing_else(self) -> None:
        form = OpusForm(24000, 60, 5, 24000, "voip")
        self.assertIsNone(self.find("Something else.", "en", form))
        self.assertIsNone(self.find(text("apology", "en"), "xx", form))

    def test_a_voice_that_has_spoken_before_is_preferred(self) -> None:
        form = OpusForm(24000, 60, 5, 24000, "voip")
        phrase = Phrase(text("apology", "en"), "en", form)
        phrases = Phrases(
            PhraseStore(MemoryFiles()), "voice", "a", Shipped(inline_timed_offload).find
        )
        shipped = self.successResultOf(Deferred.fromCoroutine(phrases.any(phrase)))
        assert shipped is not None
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(phrases.find(phrase))), None)
        for speaker, packet in (("b", b"substitute"), ("a", b"preferred")):
            kept = phrases.keep(phrase, [packet], speaker)
            self.successResultOf(Deferred.fromCoroutine(kept))
            found = self.successResultOf(Deferred.fromCoroutine(phrases.any(phrase)))
            self.assertEqual(found, (packet,))

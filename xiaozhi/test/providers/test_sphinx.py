"""Code around pocketsphinx: grammar words, loudness, utterances and their decoders."""

from __future__ import annotations

import array
import json
import random
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.audio import rms
from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.kit.process.worker_child import DATA, DONE, Channel
from xiaozhi.providers.offline import sphinx, sphinx_child
from xiaozhi.providers.offline.intents.grammar import jsgf, words
from xiaozhi.providers.offline.sphinx import SphinxRecognizer, SphinxSettings
from xiaozhi.providers.offline.sphinx_child import (
    Loudness,
    Pair,
    Sphinx,
    cut_dictionary,
    grammar_words,
)


def noise(level: int, seconds: float) -> bytes:
    """Make noise after 20 ms of silence, so that it is detected as speech."""
    source = random.Random(1)
    samples = (int(source.gauss(0, level)) for _ in range(int(seconds * 16000)))
    return bytes(640) + array.array("h", samples).tobytes()[640:]


class GrammarTests(SynchronousTestCase):
    def test_words(self) -> None:
        grammar = """#JSGF V1.0;
        grammar test; // a comment
        import <other.rule>;
        /* another: nothing */
        public <top> = [ please ] ( open | /2.0/ close ) the door {tag} <thing>* ;
        <thing> = what's up | today's;
        """
        self.assertEqual(
            grammar_words(grammar),
            {"please", "open", "close", "the", "door", "what's", "up", "today's"},
        )

    def test_agrees_with_the_phrase_book(self) -> None:
        self.assertEqual(grammar_words(jsgf("en")), words("en"))

    def test_dictionary(self) -> None:
        lines = ["a AH\n", "a(2) EY\n", "about AH B AW T\n", "the DH AH\n"]
        self.assertEqual(
            cut_dictionary(lines, {"a", "the", "zzz"}),
            {"a": ["a AH\n", "a(2) EY\n"], "the": ["the DH AH\n"]},
        )


class SettingsTests(SynchronousTestCase):
    def refused(self, grammar: str | None, *parts: str) -> None:
        path = self.mktemp()
        if grammar is not None:
            with open(path, "w") as file:
                file.write(grammar)
        settings = SphinxSettings(grammar=path)
        error = self.assertRaises(ConfigError, SphinxRecognizer.make, settings, None)
        for part in parts:
            self.assertIn(part, error.message)

    def test_missing_package_says_how_to_get_it(self) -> None:
        self.patch(sphinx, "find_spec", lambda name: None)
        error = self.assertRaises(ConfigError, SphinxRecognizer.make, SphinxSettings(), None)
        self.assertIn("pip install '.[offline]'", error.message)

    def test_unknown_words_are_named(self) -> None:
        self.refused("#JSGF V1.0; grammar g;\npublic <a> = hello xyzzy plugh;", "plugh, xyzzy")

    def test_grammar_that_cannot_be_used(self) -> None:
        self.refused(None, "cannot be read")
        self.refused("#JSGF V1.0; grammar g;\n", "no words")
        self.refused("x" * 100_001, "longer than")


class LoudnessTests(SynchronousTestCase):
    def test_levels_come_out_alike(self) -> None:
        for level in (100, 1000, 6000):
            loudness = Loudness()
            loudness.feed(noise(5, 1.0) + noise(level, 1.0))
            self.assertTrue(loudness.ready)
            self.assertApproximates(rms(loudness.take()[-16000:]), 1000, 250)

    def test_a_short_word_is_over_with_a_pause(self) -> None:
        """The decoder need not wait for the end of the utterance."""
        word, click = (noise(5, 0.3) + noise(1000, seconds) for seconds in (0.3, 0.1))
        for sound, pause, ready in ((word, 0.2, False), (word, 0.3, True), (click, 0.6, False)):
            loudness = Loudness()
            loudness.feed(sound + noise(5, pause))
            self.assertIs(loudness.ready, ready, pause)

    def test_leading_silence_is_cut(self) -> None:
        loudness = Loudness()
        loudness.feed(noise(5, 5.0))
        self.assertTrue(loudness.silent)
        loudness.feed(noise(1000, 1.0))
        self.assertFalse(loudness.silent)
        self.assertApproximates(len(loudness.take()) / 32000, 1.3, 0.03)

    def test_not_a_sample_is_lost_later(self) -> None:
        loudness = Loudness()
        loudness.feed(noise(1000, 1.0))
        taken = len(loudness.take())
        for _ in range(100):
            loudness.feed(bytes(333))
            taken += len(loudness.take())
        self.assertEqual(taken, 32000 + 33300)

    def test_digital_silence(self) -> None:
        loudness = Loudness()
        loudness.feed(bytes(32000))
        self.assertTrue(loudness.silent)
        self.assertFalse(loudness.ready)


class FakeChannel:
    def __init__(self) -> None:
        self.sent: list[tuple[int, str]] = []
        self.told: list[tuple[int, str]] = []

    def send(self, request_id: int, kind: int, payload: bytes) -> None:
        if kind == DATA:
            self.told.append((request_id, payload.decode()))
            return
        assert kind == DONE
        self.sent.append((request_id, json.loads(payload)["text"]))


class FakePair:
    """Decoders that return the amount of sound they got."""

    def __init__(self, score: float = 0.0) -> None:
        self.score = score
        self.heard = 0
        self.running = False

    def start(self) -> None:
        assert not self.running
        self.running, self.heard = True, 0

    def feed(self, pcm: bytes) -> None:
        assert self.running
        self.heard += len(pcm)

    def stop(self) -> None:
        assert self.running
        self.running = False

    def result(self) -> tuple[str, float]:
        return f"{self.heard / 32000:.1f} s", self.score

    def whole(self, pcm: bytes) -> tuple[str, float]:
        return f"whole {len(pcm) / 32000:.1f} s", self.score


class SphinxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.channel = FakeChannel()
        self.use([FakePair()])

    def use(self, pairs: list[FakePair], second: FakePair | None = None) -> None:
        def make(*_: Any) -> list[Pair]:
            return cast("list[Pair]", [second or FakePair(), *pairs])

        self.patch(sphinx_child, "make_pairs", make)
        settings = {"grammar": "", "model": "", "decoders": len(pairs), "threshold": -14.0}
        self.sphinx = Sphinx(cast("Channel", self.channel), settings)

    def speak(self, request_id: int, seconds: float, end: bool = True) -> None:
        self.sphinx.opened(request_id, b"")
        self.sphinx.data(request_id, noise(1000, seconds))
        if end:
            self.sphinx.ended(request_id)

    def test_one_after_the_other(self) -> None:
        self.speak(1, 1.0)
        self.speak(2, 2.0)
        self.assertEqual(self.channel.sent, [(1, "1.0 s"), (2, "2.0 s")])

    def test_short_and_silent_ones(self) -> None:
        self.speak(1, 0.2)
        self.sphinx.opened(2, b"")
        self.sphinx.data(2, bytes(64000))
        self.sphinx.ended(2)
        self.sphinx.opened(3, b"")
        self.sphinx.ended(3)
        self.assertEqual(self.channel.sent, [(1, "0.2 s"), (2, ""), (3, "")])

    def test_utterances_without_a_decoder_wait_with_their_sound(self) -> None:
        self.speak(1, 1.0, end=False)
        self.speak(2, 2.0)
        self.speak(3, 3.0, end=False)
        self.assertEqual(self.channel.sent, [])
        self.sphinx.ended(1)
        self.assertEqual(self.channel.sent, [(1, "1.0 s"), (2, "2.0 s")])
        self.sphinx.data(3, noise(1000, 1.0))
        self.sphinx.ended(3)
        self.assertEqual(self.channel.sent[2:], [(3, "4.0 s")])

    def test_interim_results(self) -> None:
        """Occasionally, and only with a good match: a grammar matches its words in any noise."""
        self.speak(1, 1.0, end=False)
        for _ in range(20):
            self.sphinx.data(1, noise(1000, 0.1))
        told = [text for _, text in self.channel.told]
        self.assertEqual(len(told), len(set(told)))
        self.assertTrue(4 <= len(told) <= 8, told)
        self.channel.told.clear()
        self.use([FakePair(score=-10.0)])
        self.speak(2, 1.0, end=False)
        self.sphinx.data(2, noise(1000, 1.0))
        self.assertEqual(self.channel.told, [])

    def test_silence_holds_no_decoder(self) -> None:
        self.sphinx.opened(1, b"")
        self.sphinx.data(1, bytes(64000))
        self.speak(2, 1.0)
        self.assertEqual(self.channel.sent, [(2, "1.0 s")])

    def test_cancelled_ones_give_their_decoder_back(self) -> None:
        self.speak(1, 1.0, end=False)
        self.speak(2, 2.0)
        self.speak(3, 2.5)
        self.sphinx.cancelled(3)
        self.sphinx.cancelled(1)
        self.sphinx.cancelled(1)
        self.sphinx.data(1, noise(1000, 1.0))
        self.sphinx.ended(1)
        self.assertEqual(self.channel.sent, [(2, "2.0 s")])

    def test_doubtful_ones_are_looked_at_again(self) -> None:
        self.use([FakePair(-12.0)], FakePair(-5.0))
        self.speak(1, 1.0)
        self.assertEqual(self.channel.sent, [(1, "whole 1.0 s")])

    def test_a_poor_match_is_silence(self) -> None:
        self.use([FakePair(-30.0)], FakePair(-30.0))
        self.speak(1, 1.0)
        self.assertEqual(self.channel.sent, [(1, "")])

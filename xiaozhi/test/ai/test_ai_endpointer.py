"""Beginnings and ends of utterances."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from xiaozhi.agents.settings import Detector, ListenSettings
from xiaozhi.ai.listening.endpointer import (
    FRAME_BYTES,
    Endpointer,
    Event,
    SpeechBegan,
    SpeechEnded,
    SpeechWent,
)
from xiaozhi.ai.listening.turndetectors import DelayDetector, TextDetector, detector
from xiaozhi.ai.listening.unfinished import sounds_unfinished
from xiaozhi.interfaces import ITurnDetector, IVoiceActivity

VOICE = b"\x01" * FRAME_BYTES
QUIET = b"\x00" * FRAME_BYTES


@implementer(IVoiceActivity)
class FirstByte:
    """A detector for which a frame that begins with a one is speech."""

    def is_speech(self, pcm: bytes) -> bool:
        return pcm[:1] == b"\x01"


def endpointer(**changes: Any) -> Endpointer:
    settings = ListenSettings(**changes)
    return Endpointer(FirstByte(), detector(settings), settings)


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, SpeechWent)]


def end_of_first(events: list[Event]) -> int:
    """Return the number of events of the first utterance."""
    return next(at for at, event in enumerate(events) if isinstance(event, SpeechEnded))


def joined(events: list[Event]) -> list[Event]:
    """Join consecutive events of one utterance."""
    told: list[Event] = []
    for event in events:
        last = told[-1] if told else None
        if isinstance(event, SpeechWent) and isinstance(last, SpeechWent):
            told[-1] = SpeechWent(last.pcm + event.pcm)
        else:
            told.append(event)
    return told


class SettingsTests(SynchronousTestCase):
    def test_settings_with_which_nothing_is_ever_heard_are_refused(self) -> None:
        for settings in ({"start": 0.5}, {"min_speech": 2, "max_utterance": 1}):
            with self.assertRaisesRegex(msgspec.ValidationError, "start_window"):
                msgspec.convert(settings, ListenSettings)


class EndpointerTests(SynchronousTestCase):
    def test_one_utterance(self) -> None:
        endpoints = endpointer()
        events = list(endpoints.feed(QUIET * 50 + VOICE * 50 + QUIET * 50))
        self.assertEqual(kinds(events), ["SpeechBegan", "SpeechEnded"])
        self.assertEqual(events[-1], SpeechEnded(noise=False))
        self.assertFalse(endpoints.in_speech)

    def test_the_longest_utterance_includes_its_pre_roll(self) -> None:
        """Recognisers have their own limit; the sent sound must not exceed ours."""
        endpoints = endpointer(max_utterance=1.0, pre_roll=0.3)
        told = list(endpoints.feed(QUIET * 50 + VOICE * 200))
        first = told[: end_of_first(told)]
        sent = sum(len(e.pcm) for e in first if not isinstance(e, SpeechEnded))
        # All except the frame that ends it.
        self.assertEqual(sent, 49 * FRAME_BYTES)

    def test_pre_roll_is_kept(self) -> None:
        began = next(iter(endpointer(pre_roll=0.3).feed(QUIET * 50 + VOICE * 50)))
        assert isinstance(began, SpeechBegan)
        quiet = began.pcm.index(b"\x01") // FRAME_BYTES
        self.assertGreaterEqual(quiet * 20, 300)

    def test_a_click_is_no_speech(self) -> None:
        self.assertEqual(list(endpointer().feed(QUIET * 20 + VOICE * 3 + QUIET * 60)), [])

    def test_a_short_noise_is_said_to_be_one(self) -> None:
        events = list(endpointer(min_speech=0.2).feed(QUIET * 20 + VOICE * 6 + QUIET * 60))
        self.assertEqual(events[-1], SpeechEnded(noise=True))

    def test_a_pause_does_not_end_it(self) -> None:
        events = list(endpointer(end_silence=0.7).feed(VOICE * 30 + QUIET * 30 + VOICE * 30))
        self.assertEqual(kinds(events), ["SpeechBegan"])

    def test_silence_ends_it_after_just_so_long(self) -> None:
        endpoints = endpointer(end_silence=0.7)
        self.assertEqual(kinds(list(endpoints.feed(VOICE * 30 + QUIET * 34))), ["SpeechBegan"])
        self.assertEqual(kinds(list(endpoints.feed(QUIET))), ["SpeechEnded"])

    def test_an_endless_utterance_is_ended(self) -> None:
        events = list(endpointer(max_utterance=2.0).feed(VOICE * 150))
        self.assertEqual(kinds(events)[:2], ["SpeechBegan", "SpeechEnded"])

    def test_reset_forgets(self) -> None:
        endpoints = endpointer()
        list(endpoints.feed(VOICE * 30))
        endpoints.reset()
        self.assertFalse(endpoints.in_speech)
        self.assertEqual(endpoints.voiced_ms, 0)
        self.assertEqual(list(endpoints.feed(QUIET * 60)), [])

    @given(
        st.lists(st.sampled_from([VOICE, QUIET]), max_size=200),
        st.lists(st.integers(1, 3000), max_size=50),
    )
    def test_any_chunking_is_the_same(self, frames: list[bytes], cuts: list[int]) -> None:
        sound = b"".join(frames)
        whole = list(endpointer().feed(sound))
        endpoints, pieces, at = endpointer(), [], 0
        for cut in [*cuts, len(sound)]:
            pieces += list(endpoints.feed(sound[at : at + cut]))
            at += cut
        # Not assertEqual, which would compare different values letter by letter.
        self.assertTrue(joined(pieces) == joined(whole))

    @given(st.lists(st.sampled_from([VOICE, QUIET]), max_size=300))
    def test_begins_and_ends_alternate(self, frames: list[bytes]) -> None:
        events = kinds(list(endpointer().feed(b"".join(frames))))
        for at, kind in enumerate(events):
            self.assertEqual(kind, "SpeechEnded" if at % 2 else "SpeechBegan")


class CountingTests(SynchronousTestCase):
    """Exact counts in frames, and resets."""

    def test_durations_are_counted_in_frames(self) -> None:
        for seconds, voiced in ((0.1, 5), (0.2, 10), (0.0, 1), (0.29, 14), (0.31, 16)):
            endpoints = endpointer(start=seconds, start_window=0.4)
            list(endpoints.feed(VOICE * (voiced - 1)))
            self.assertFalse(endpoints.in_speech, seconds)
            list(endpoints.feed(VOICE))
            self.assertTrue(endpoints.in_speech, seconds)
        # Long ones, exact to the frame.
        endpoints = endpointer(max_utterance=30.0)
        self.assertEqual(kinds(list(endpoints.feed(VOICE * 1499))), ["SpeechBegan"])
        self.assertEqual(kinds(list(endpoints.feed(VOICE))), ["SpeechEnded"])

    def test_the_pre_roll_counts_for_the_longest_utterance(self) -> None:
        changes = {"start": 0.1, "start_window": 0.4, "pre_roll": 0.3, "max_utterance": 1.0}
        endpoints = endpointer(**changes)
        # 30 quiet frames of pre-roll and window, 5 of voice: 15 to go of 50.
        self.assertEqual(kinds(list(endpoints.feed(QUIET * 100 + VOICE * 5))), ["SpeechBegan"])
        self.assertEqual(kinds(list(endpoints.feed(VOICE * 14))), [])
        self.assertEqual(kinds(list(endpoints.feed(VOICE))), ["SpeechEnded"])

    def test_voiced_ms(self) -> None:
        endpoints = endpointer(start=0.1, end_silence=0.7)
        list(endpoints.feed(VOICE * 5))
        self.assertEqual(endpoints.voiced_ms, 100)
        list(endpoints.feed(VOICE * 3 + QUIET * 10))
        self.assertEqual(endpoints.voiced_ms, 160)
        list(endpoints.feed(QUIET * 25))
        self.assertEqual(endpoints.voiced_ms, 0)

    def test_just_long_enough_is_speech(self) -> None:
        for voiced, noise in ((10, False), (9, True)):
            endpoints = endpointer(start=0.1, min_speech=0.2)
            events = list(endpoints.feed(VOICE * voiced + QUIET * 60))
            self.assertEqual(events[-1], SpeechEnded(noise=noise), voiced)

    def test_silence_is_counted_from_the_last_voice(self) -> None:
        endpoints = endpointer(start=0.1, end_silence=0.7)
        list(endpoints.feed(VOICE * 10 + QUIET * 34 + VOICE))
        self.assertEqual(kinds(list(endpoints.feed(QUIET * 34))), [])
        self.assertEqual(kinds(list(endpoints.feed(QUIET))), ["SpeechEnded"])
        # The next utterance starts without counted silence.
        list(endpoints.feed(VOICE * 5))
        self.assertEqual(kinds(list(endpoints.feed(QUIET * 34))), [])

    def test_nothing_of_one_utterance_is_in_the_next(self) -> None:
        endpoints = endpointer(start=0.1, start_window=0.4, end_silence=0.3)
        list(endpoints.feed(VOICE * 20 + QUIET * 15))
        began = [e for e in endpoints.feed(QUIET + VOICE * 5) if isinstance(e, SpeechBegan)]
        self.assertEqual([len(event.pcm) // FRAME_BYTES for event in began], [6])
        self.assertEqual(endpoints.voiced_ms, 100)

    def test_reset_forgets_an_unstarted_utterance(self) -> None:
        endpoints = endpointer(start=0.1, start_window=0.4)
        list(endpoints.feed(VOICE * 4 + QUIET[:100]))
        endpoints.reset()
        self.assertEqual(list(endpoints.feed(VOICE * 4)), [])
        began = next(iter(endpoints.feed(VOICE)))
        assert isinstance(began, SpeechBegan)
        self.assertTrue(began.pcm == VOICE * 5)

    def test_the_turn_detector_hears_of_each_beginning(self) -> None:
        endpoints = endpointer(detector=Detector.TEXT, start=0.1, max_delay=2.0, end_silence=0.7)
        list(endpoints.feed(VOICE * 10))
        endpoints.understood("and")
        self.assertEqual(kinds(list(endpoints.feed(QUIET * 100))), ["SpeechEnded"])
        list(endpoints.feed(VOICE * 10))
        self.assertEqual(kinds(list(endpoints.feed(QUIET * 35))), ["SpeechEnded"])


class TurnDetectorContract:
    """The contract of every turn detector."""

    def make(self, **changes: Any) -> ITurnDetector:
        raise NotImplementedError

    def test_interface(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        self.assertTrue(verifyObject(ITurnDetector, self.make()))

    def test_without_words(self) -> None:
        """A recogniser without interim results: the configured silence."""
        assert isinstance(self, SynchronousTestCase)
        told = self.make(end_silence=0.7)
        for _ in range(2):
            told.begin()
            self.assertFalse(told.over(0.68))
            self.assertTrue(told.over(0.7))

    def test_longer_is_as_good(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        for text in ("", "and", "Yes."):
            told = self.make()
            told.begin()
            told.understood(text)
            over = [told.over(step / 50) for step in range(120)]
            self.assertEqual(over, sorted(over))
            self.assertTrue(over[-1])


class DelayDetectorTests(TurnDetectorContract, SynchronousTestCase):
    def make(self, **changes: Any) -> ITurnDetector:
        return DelayDetector(ListenSettings(**changes))

    def test_words_do_not_matter(self) -> None:
        told = self.make(end_silence=0.7)
        told.begin()
        told.understood("and then")
        self.assertTrue(told.over(0.7))


class TextDetectorTests(TurnDetectorContract, SynchronousTestCase):
    def make(self, **changes: Any) -> ITurnDetector:
        return TextDetector(ListenSettings(detector=Detector.TEXT, **changes))

    def test_finished_and_unfinished(self) -> None:
        told = self.make(min_delay=0.3, max_delay=2.0, end_silence=0.7)
        told.begin()
        told.understood("what is the")
        self.assertFalse(told.over(1.98))
        self.assertTrue(told.over(2.0))
        told.understood("what is the time")
        self.assertFalse(told.over(0.28))
        self.assertTrue(told.over(0.3))
        told.understood(" ")
        self.assertFalse(told.over(0.68))
        # The next utterance starts anew.
        told.understood("and")
        told.begin()
        self.assertTrue(told.over(0.7))

    def test_in_an_endpointer(self) -> None:
        changes = {"detector": Detector.TEXT, "min_delay": 0.2, "max_delay": 1.0}
        for text, silence in (("turn on the", 50), ("turn on the light", 10), ("", 35)):
            endpoints = endpointer(**changes)
            list(endpoints.feed(VOICE * 40))
            endpoints.understood(text)
            self.assertEqual(kinds(list(endpoints.feed(QUIET * (silence - 1)))), [], text)
            self.assertEqual(kinds(list(endpoints.feed(QUIET))), ["SpeechEnded"], text)


class UnfinishedTests(SynchronousTestCase):
    """Last words in five languages."""

    def test_unfinished(self) -> None:
        for text in (
            "and then I went to the",
            "Well,",
            "turn on the light and",
            "I'd like to…",
            "Ich möchte ein",
            "weil",
            "tôi muốn đi đến chợ và",
            "我想要",
            "帮我",
            "因为",
            "明日は",
            "えーと",
            "um",
        ):
            self.assertTrue(sounds_unfinished(text), text)

    def test_finished(self) -> None:
        for text in (
            "what time is it",
            "How are you",
            "yes",
            "no",
            "Turn it on.",
            "And?",
            "tell me a joke",
            "Wie spät ist es",
            "mấy giờ rồi",
            "告诉我",
            "现在几点",
            "你好吗？",
            "今何時ですか",
            "“Really.”",
        ):
            self.assertFalse(sounds_unfinished(text), text)

"""Speech output: read-ahead, order, stored phrases, cancellation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.agents.settings import SessionSettings, SpeechSettings, TurnSettings, WakeSettings
from xiaozhi.ai.speech.output import Speech
from xiaozhi.ai.speech.phrases import AREA, Phrases, PhraseStore
from xiaozhi.ai.speech.playback import PlaybackMap, Played
from xiaozhi.ai.speech.prewarming import USUAL, PhrasePrewarming, PrewarmingRuntime
from xiaozhi.ai.speech.readahead import ReadAhead, Sound
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError, StoreError
from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.interfaces import IFileStore, IFileWriter, ISynthesizer
from xiaozhi.languages.texts import CATALOGUES, SPOKEN, text
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.testing.files import MemoryFiles
from xiaozhi.testing.parts import inline_timed_offload, speech_output
from xiaozhi.wire import messages as m

# 0.1 s
PIECE = b"\x00\x10\x00\xf0" * 1200


@implementer(ISynthesizer)
class Vendor:
    """Speaks 1 s for a sentence, in real time, after a delay.

    :ivar asked: the requested sentences, with their times.
    :ivar closed: sentences whose generator has ended.
    :ivar told: the format announced before the sound.
    """

    sound = SoundFormat(Encoding.PCM, 24000)

    def __init__(self, clock: Clock, first: float = 0.4, pieces: int = 10) -> None:
        self.clock = clock
        self.first = first
        self.pieces = pieces
        self.asked: list[tuple[float, str]] = []
        self.closed: list[str] = []
        self.down = False
        self.name = ""
        self.failing: tuple[str, ...] = ()
        self.piece = PIECE
        self.pace = 0.1
        self.told: SoundFormat | None = None

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[Sound, None]:
        self.asked.append((self.clock.seconds(), text))
        usage.by("tts", self.name, "")
        try:
            await deferLater(self.clock, self.first)
            if self.down or text in self.failing:
                raise ProviderError("down", "is down", retryable=True)
            if self.told is not None:
                yield self.told
            for number in range(self.pieces):
                if number:
                    await deferLater(self.clock, self.pace)
                yield self.piece
        finally:
            self.closed.append(text)

    def close(self) -> Deferred[None]:
        return succeed(None)


class SpeechCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.vendor = Vendor(self.clock)
        self.files = MemoryFiles()
        self.phrases = self.kept_by("")
        self.sent: list[tuple[float, Any]] = []
        self.gate = Gate(is_open=True)
        self.output = speech_output(
            self.clock,
            self.vendor,
            lambda message: self.sent.append((self.clock.seconds(), message)),
            gate=self.gate,
            phrases=self.phrases,
        )
        self.speech = self.begin()

    def kept_by(self, speaker: str) -> Phrases:
        """Return the phrases of a process that has just started.

        :param speaker: the preferred synthesiser.
        """
        return Phrases(PhraseStore(self.files), "voice", speaker)

    def begin(self) -> Speech:
        speech = Speech(self.output, 1, "en", Timeline(AiCounts(), self.clock))
        # An open one would show up in another test.
        self.addCleanup(speech.cancel)
        return speech

    def say(self, *sentences: str) -> Deferred[None]:
        async def say() -> None:
            for sentence in sentences:
                await self.speech.say(sentence)
            await self.speech.finish()

        return Deferred.fromCoroutine(say())

    def pronounce(self, phrase: str, language: str = "en") -> Deferred[None]:
        async def pronounce() -> None:
            await self.speech.pronounce(phrase, language)
            await self.speech.finish()

        return Deferred.fromCoroutine(pronounce())

    def hold_after(self, packets: int) -> None:
        """Let the edge hold audio back after so many packets."""

        def send(message: m.Downlink) -> None:
            self.sent.append((self.clock.seconds(), message))
            if len(self.packets) == packets:
                self.gate.close()

        self.output = replace(self.output, send=send)
        self.speech = self.begin()

    def run_for(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))

    @property
    def packets(self) -> list[tuple[float, m.Audio]]:
        return [(at, each) for at, each in self.sent if isinstance(each, m.Audio)]


class AheadTests(SpeechCase):
    def test_no_gap_between_sentences(self) -> None:
        """The vendor's 0.4 s before the first sound occur once, not before each sentence, though it
        is no faster than real time.
        """
        done = self.say("One.", "Two.", "Three.")
        self.run_for(5)
        self.successResultOf(done)
        times = [at for at, _ in self.packets]
        self.assertLess(times[0], 0.41)
        played = times[0]
        for at in times:
            # The vendor's pieces are longer than a packet.
            self.assertLess(at - played, 0.11, f"silence at {at:.2f} s")
            played = max(at, played) + 0.06
        shown = [each.text for _, each in self.sent if isinstance(each, m.Tts)]
        self.assertEqual(shown, ["One.", "Two.", "Three."])

    def test_first_bytes_leave_at_once(self) -> None:
        done = self.say("One.")
        self.run_for(0.41)
        # The vendor has sent a tenth of a second of ten.
        self.assertEqual(len(self.packets), 1)
        self.run_for(5)
        self.successResultOf(done)

    def test_an_interruption_wastes_little(self) -> None:
        done = self.say("One.", "Two.", "Three.", "Four.", "Five.")
        self.run_for(0.6)
        self.speech.cancel()
        self.run_for(0.1)
        self.assertEqual([text for _, text in self.vendor.asked], ["One.", "Two."])
        self.assertEqual(sorted(self.vendor.closed), ["One.", "Two."])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        done.addErrback(lambda _: None)

    def test_paused_by_the_edge(self) -> None:
        """Then the synthesiser goes on with what is next, up to a bound."""
        self.output = replace(self.output, settings=SpeechSettings(ahead_bytes=3 * len(PIECE)))
        self.speech = self.begin()
        self.gate.close()
        done = self.say("One.", "Two.")
        self.run_for(5)
        self.assertEqual([text for _, text in self.vendor.asked], ["One.", "Two."])
        self.assertEqual(self.packets, [])
        self.assertEqual(self.vendor.closed, [])
        self.gate.open()
        self.run_for(5)
        self.successResultOf(done)
        self.assertEqual(len(self.packets), 2 * 19)

    def test_the_next_is_begun_while_one_is_held_back(self) -> None:
        self.hold_after(19 + 3)
        done = self.say("One.", "Two.", "Three.", "Four.")
        self.run_for(5)
        self.assertEqual([text for _, text in self.vendor.asked], ["One.", "Two.", "Three."])
        self.gate.open()
        self.run_for(5)
        self.successResultOf(done)

    def test_more_sentences_than_are_looked_ahead(self) -> None:
        words = [f"Number {number}." for number in range(12)]
        done = self.say(*words)
        self.run_for(20)
        self.successResultOf(done)
        self.assertEqual([text for _, text in self.vendor.asked], words)

    def test_a_sentence_is_shown_with_its_first_packet(self) -> None:
        """Not with its first bytes, which may be less than a packet."""
        self.vendor.piece = PIECE[: len(PIECE) // 4]
        done = self.say("One.")
        self.run_for(5)
        self.successResultOf(done)
        (shown,) = [at for at, each in self.sent if isinstance(each, m.Tts)]
        self.assertGreater(shown, 0.55)
        self.assertEqual(shown, self.packets[0][0])

    def test_sound_that_announces_its_format(self) -> None:
        """0.1 s at 24 kHz are 0.15 s at 16 kHz."""
        self.vendor.told = SoundFormat(Encoding.PCM, 16000)
        done = self.say("One.")
        self.run_for(5)
        self.successResultOf(done)
        # And the pause.
        self.assertEqual(len(self.packets), 27)

    def test_packets_have_no_time_of_their_own(self) -> None:
        done = self.say("One.")
        self.run_for(5)
        self.successResultOf(done)
        self.assertEqual({(each.timestamp, each.turn) for _, each in self.packets}, {(0, 1)})

    def test_a_failure_is_raised_after_earlier_items(self) -> None:
        self.vendor.failing = ("Two.",)
        done = self.say("One.", "Two.")
        self.run_for(5)
        self.failureResultOf(done, ProviderError)
        self.assertEqual(len(self.packets), 19)

    def test_a_waiting_writer_gets_the_failure(self) -> None:
        """A model writes more sentences than are read ahead, and the synthesiser fails."""
        for sentences in (1, 4, 5, 6, 12):
            for failing in (0, 1, 3):
                if failing < sentences:
                    words = [f"Number {number}." for number in range(sentences)]
                    self.vendor.failing = (words[failing],)
                    self.speech = self.begin()
                    done = self.say(*words)
                    self.run_for(8)
                    self.failureResultOf(done, ProviderError)

    def test_no_sound_for_words_is_a_failure(self) -> None:
        """Text without sound must be reported."""
        self.vendor.pieces = 0
        done = self.say("One.")
        self.run_for(1)
        self.assertEqual(self.failureResultOf(done, ProviderError).value.code, "no_sound")

    def test_sound_that_stops_coming(self) -> None:
        self.output = replace(self.output, limits=TurnSettings(next_audio=0.05))
        self.speech = self.begin()
        done = self.say("One.")
        self.run_for(0.44)
        self.assertNoResult(done)
        self.run_for(0.02)
        self.assertEqual(self.failureResultOf(done, ProviderError).value.code, "tts_timeout")

    def test_sound_that_does_not_begin(self) -> None:
        self.output = replace(self.output, limits=TurnSettings(first_audio=0.3))
        self.speech = self.begin()
        done = self.say("One.")
        self.run_for(0.29)
        self.assertNoResult(done)
        self.run_for(0.02)
        self.failureResultOf(done, ProviderError)
        self.assertEqual(self.vendor.closed, ["One."])


class ReadAheadTests(SynchronousTestCase):
    def test_cancelled_before_it_began(self) -> None:
        async def read(take: Callable[[Sound], Awaitable[None]]) -> None:
            await take(b"")

        ahead = ReadAhead(read, 1)
        ahead.cancel()
        ahead.cancel()


class PhraseTests(SpeechCase):
    def heard(self) -> list[bytes]:
        return [each.payload for _, each in self.packets]

    def test_spoken_once(self) -> None:
        done = self.pronounce("Sorry.")
        self.run_for(3)
        self.successResultOf(done)
        first = self.heard()
        self.assertGreater(len(first), 17)
        self.sent.clear()
        self.speech = self.begin()
        self.successResultOf(self.pronounce("Sorry."))
        self.assertEqual(self.heard(), first)
        self.assertEqual(len(self.vendor.asked), 1)

    def test_kept_over_a_restart(self) -> None:
        self.pronounce("Sorry.")
        self.run_for(3)
        first = self.heard()
        self.sent.clear()
        self.vendor.down = True
        self.output = replace(self.output, phrases=Phrases(PhraseStore(self.files), "voice"))
        self.speech = self.begin()
        self.successResultOf(self.pronounce("Sorry."))
        self.assertEqual(self.heard(), first)

    def test_another_voice_or_form_or_language(self) -> None:
        self.pronounce("Sorry.")
        self.run_for(3)
        other = m.AudioParams(sample_rate=16000)
        for another, language in (
            (replace(self.output, phrases=Phrases(PhraseStore(self.files), "another")), "en"),
            (replace(self.output, downlink=other), "en"),
            (self.output, "de"),
        ):
            self.output = another
            self.speech = self.begin()
            asked = len(self.vendor.asked)
            self.pronounce("Sorry.", language)
            self.run_for(3)
            self.assertEqual(len(self.vendor.asked), asked + 1)

    def test_a_substitute_s_voice_is_for_want_of_the_preferred_one(self) -> None:
        def speaks(name: str) -> None:
            self.sent.clear()
            self.vendor.name = name
            self.output = replace(self.output, phrases=self.kept_by("preferred"))
            self.speech = self.begin()
            self.pronounce("Sorry.").addErrback(lambda _: None)
            self.run_for(3)

        speaks("another")
        first = self.heard()
        self.vendor.down = True
        speaks("another")
        self.assertEqual(self.heard(), first, "nobody speaks, but the substitute has")
        self.vendor.down = False
        speaks("preferred")
        self.assertEqual(len(self.vendor.asked), 3)
        speaks("preferred")
        self.assertEqual(len(self.vendor.asked), 3)
        self.assertEqual(len(self.files.kept), 2)

    def test_half_a_phrase_is_not_kept(self) -> None:
        done = self.pronounce("Sorry.")
        self.run_for(0.6)
        self.speech.cancel()
        done.addErrback(lambda _: None)
        self.assertEqual(self.files.kept, {})

    def test_damaged_file(self) -> None:
        self.pronounce("Sorry.")
        self.run_for(3)
        ((area, key),) = self.files.kept
        self.assertEqual(area, AREA)
        self.files.kept[area, key] = b"\xc1"
        self.output = replace(self.output, phrases=Phrases(PhraseStore(self.files), "voice"))
        self.speech = self.begin()
        done = self.pronounce("Sorry.")
        self.run_for(3)
        self.successResultOf(done)
        self.assertNotEqual(self.files.kept[area, key], b"\xc1")

    def test_store_that_fails(self) -> None:
        @implementer(IFileStore)
        class Broken:
            def put(self, area: str, key: str, data: bytes) -> Deferred[str]:
                return fail(StoreError("files_unavailable", "no room"))

            def writer(self, area: str) -> IFileWriter:
                raise StoreError("files_unavailable", "no room")

            def get(self, area: str, key: str) -> Deferred[bytes | None]:
                return fail(StoreError("files_unavailable", "no room"))

        self.output = replace(self.output, phrases=Phrases(PhraseStore(Broken()), "voice"))
        for _ in range(2):
            self.speech = self.begin()
            done = self.pronounce("Sorry.")
            self.run_for(3)
            self.successResultOf(done)
        # It is still kept in memory.
        self.assertEqual(len(self.vendor.asked), 1)


class PrewarmingTests(SpeechCase):
    def prewarming(self, **settings: Any) -> PhrasePrewarming:
        runtime = PrewarmingRuntime(inline_timed_offload, self.clock, DeferredLock())
        self.done: set[tuple[int, int]] = set()
        return PhrasePrewarming(
            self.phrases, self.vendor, SessionSettings(**settings), runtime, self.done
        )

    def test_everything_once(self) -> None:
        prewarming = self.prewarming(wake=WakeSettings(greeting=("Yes?", "我在。")))
        prewarming.wanted(USUAL)
        self.run_for(120)
        asked = [text for _, text in self.vendor.asked]
        wanted = {text(key, language) for key in SPOKEN for language in CATALOGUES}
        self.assertEqual(len(asked), len(set(asked)))
        self.assertEqual(set(asked), wanted | {"Yes?", "我在。"})
        # The most frequent first.
        self.assertEqual(asked[0], text("apology", "en"))
        prewarming.wanted(m.AudioParams(sample_rate=24000, frame_duration=60))
        self.run_for(1)
        self.assertEqual(len(self.vendor.asked), len(asked))
        prewarming.wanted(m.AudioParams(sample_rate=16000, frame_duration=60))
        self.run_for(120)
        self.assertEqual(len(self.vendor.asked), 2 * len(asked))
        prewarming.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_then_an_apology_needs_no_synthesiser(self) -> None:
        prewarming = self.prewarming()
        prewarming.wanted(USUAL)
        self.run_for(120)
        self.vendor.down = True
        self.successResultOf(self.pronounce(text("apology", "zh"), "zh"))
        self.assertGreater(len(self.packets), 17)

    def test_tried_again_later(self) -> None:
        self.vendor.down = True
        prewarming = self.prewarming()
        prewarming.wanted(USUAL)
        self.run_for(1)
        self.assertEqual(len(self.vendor.asked), 1)
        self.vendor.down = False
        prewarming.wanted(USUAL)
        self.run_for(58)
        self.assertEqual(len(self.vendor.asked), 1)
        self.run_for(2)
        prewarming.wanted(USUAL)
        self.run_for(1)
        self.assertEqual(len(self.vendor.asked), 2)
        prewarming.stop()
        self.run_for(0.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_switched_off(self) -> None:
        prewarming = self.prewarming(speech=SpeechSettings(rehearse=False))
        prewarming.wanted(USUAL)
        self.run_for(1)
        self.assertEqual(self.vendor.asked, [])


class BridgingTests(SpeechCase):
    """A stored phrase bridges the wait for the first sound."""

    def setUp(self) -> None:
        super().setUp()
        self.pronounce("One moment.")
        self.run_for(3)
        self.kept = len(self.packets)
        self.sent.clear()
        self.script = PlaybackMap()
        self.counts = AiCounts()
        self.speech = Speech(self.output, 1, "en", Timeline(self.counts, self.clock), self.script)
        self.addCleanup(self.speech.cancel)

    def bridge(self, words: str = "One moment.") -> bool:
        said = self.successResultOf(self.speech.bridge(words, "en"))
        assert isinstance(said, bool)
        return said

    def texts(self) -> list[tuple[str, bool]]:
        return [(each.text, each.aside) for _, each in self.sent if isinstance(each, m.Tts)]

    def test_it_comes_before_the_first_sentence(self) -> None:
        done = self.say("One.")
        self.run_for(0.2)
        self.assertTrue(self.bridge())
        self.assertEqual(self.texts(), [("One moment.", True)])
        self.assertEqual(len(self.packets), self.kept)
        self.assertEqual(self.speech.sent_ms, 60 * self.kept)
        self.run_for(5)
        self.successResultOf(done)
        self.assertEqual(self.texts(), [("One moment.", True), ("One.", False)])
        self.assertEqual(len(self.packets), self.kept + 19)
        self.assertEqual(self.counts.characters[("spoken",)], len("One moment.One."))
        # One sentence of the answer was heard; the phrase does not count.
        self.assertEqual(self.script.heard(60 * self.kept), Played(0, ""))
        self.assertEqual(self.script.heard(self.speech.sent_ms), Played(1, ""))

    def test_not_if(self) -> None:
        self.assertFalse(self.bridge("Nobody keeps this."), "no such phrase")
        done = self.say("One.")
        self.run_for(0.6)
        self.assertFalse(self.bridge(), "there is sound already")
        self.run_for(5)
        self.successResultOf(done)
        self.speech = self.begin()
        done = self.say()
        self.successResultOf(done)
        sent = len(self.sent)
        self.assertFalse(self.bridge(), "it is over")
        self.assertEqual(len(self.sent), sent)

    def test_the_sentence_waits_for_its_end(self) -> None:
        """Even if the edge holds it back for long; nothing is sent in between."""
        done = self.say("One.")
        self.run_for(0.1)
        self.gate.close()
        bridging = self.speech.bridge("One moment.", "en")
        self.run_for(3)
        self.assertNoResult(bridging)
        self.assertEqual(self.texts(), [("One moment.", True)])
        self.assertEqual(self.packets, [])
        self.gate.open()
        self.run_for(3)
        self.assertTrue(self.successResultOf(bridging))
        self.successResultOf(done)
        shown = [at for at, (_, each) in enumerate(self.sent) if isinstance(each, m.Tts)]
        self.assertEqual(shown, [0, 1 + self.kept])

    def test_the_end_waits_for_it(self) -> None:
        done = self.say()
        self.speech = self.begin()
        self.gate.close()
        bridging = self.speech.bridge("One moment.", "en")
        done = Deferred.fromCoroutine(self.speech.finish())
        self.assertNoResult(done)
        self.gate.open()
        self.assertTrue(self.successResultOf(bridging))
        self.successResultOf(done)

    def test_cancelled_it_has_not_come_to_its_end(self) -> None:
        self.gate.close()
        bridging = self.speech.bridge("One moment.", "en")
        done = Deferred.fromCoroutine(self.speech.finish())
        self.speech.cancel()
        self.failureResultOf(bridging, CancelledError)
        self.assertNoResult(done)

    def test_cancelled_with_the_speech(self) -> None:
        done = self.say("One.")
        self.run_for(0.1)
        self.gate.close()
        bridging = self.speech.bridge("One moment.", "en")
        self.run_for(1)
        self.speech.cancel()
        self.failureResultOf(bridging, CancelledError)
        self.gate.open()
        self.run_for(1)
        done.addErrback(lambda _: None)
        self.assertEqual(self.packets, [])
        self.assertEqual(self.texts(), [("One moment.", True)])


class InHandTests(SpeechCase):
    """Packets that are played much later are marked, since they need not hurry."""

    def ahead(self) -> list[bool]:
        return [each.ahead for _, each in self.packets]

    def test_by_unplayed_sound(self) -> None:
        self.pronounce("Sorry.")
        self.run_for(3)
        self.sent.clear()
        self.speech = self.begin()
        for wait, urgent in ((0.0, 5), (0.3, 0), (1.0, 0), (9.0, 5), (0.1, 0)):
            self.sent.clear()
            self.run_for(wait)
            self.successResultOf(Deferred.fromCoroutine(self.speech.pronounce("Sorry.", "en")))
            flags = self.ahead()
            self.assertEqual(flags, [False] * urgent + [True] * (len(flags) - urgent), wait)

    def test_paused_by_the_edge(self) -> None:
        """While it is, the device plays what it has."""
        self.pronounce("Sorry.")
        self.run_for(3)
        self.sent.clear()
        self.hold_after(8)
        self.pronounce("Sorry.")
        self.assertEqual(self.ahead(), [False] * 5 + [True] * 3)
        self.run_for(2)
        self.gate.open()
        self.assertEqual(self.ahead()[8:14], [False] * 5 + [True])

    # Seconds between two pieces of 0.02 s; ms of sound in each call to a thread.
    CALLS: tuple[tuple[float, tuple[int, ...]], ...] = (
        # Half of the unplayed sound; the second sentence is complete when the first one has been
        # spoken.
        (0.0, (20, 20, 20, 40, 40, 60, 100, 160, 140, 240, 240, 120)),
        # In real time: each piece at once, and nothing is left for the end.
        (0.02, (*(20,) * 30, 0, 240, 240, 120)),
    )

    def test_few_calls_to_a_thread(self) -> None:
        """The more unplayed sound, the more sound in one call; the first packet leaves at once."""
        for pace, calls in self.CALLS:
            got: list[int] = []

            def offload(
                patience: float, function: Any, /, *args: Any, got: list[int] = got
            ) -> Deferred[Any]:
                if args:
                    got.append(len(args[0]) // 48)
                return inline_timed_offload(patience, function, *args)

            self.vendor.pieces, self.vendor.pace = 30, pace
            self.vendor.piece = PIECE[: len(PIECE) // 5]
            self.output = replace(self.output, offload=offload)
            self.speech = self.begin()
            done = self.say("One.", "Two.")
            self.run_for(6)
            self.successResultOf(done)
            self.assertEqual(tuple(got), calls, pace)


class PronounceTests(SpeechCase):
    def test_at_once_in_any_voice_that_is_kept(self) -> None:
        self.output = replace(self.output, phrases=self.kept_by("preferred"))
        self.vendor.name = "another"
        self.speech = self.begin()
        self.pronounce("Sorry.")
        self.run_for(3)
        self.speech = self.begin()
        self.sent.clear()

        async def sorry(at_once: bool) -> None:
            await self.speech.pronounce("Sorry.", "en", at_once=at_once)
            await self.speech.finish()

        self.successResultOf(Deferred.fromCoroutine(sorry(True)))
        self.assertEqual(len(self.vendor.asked), 1)
        self.speech = self.begin()
        Deferred.fromCoroutine(sorry(False))
        self.run_for(3)
        self.assertEqual(len(self.vendor.asked), 2)

    def test_a_phrase_of_the_answer_is_added_to_the_playback_map(self) -> None:
        for answer in (False, True):
            script = PlaybackMap()
            timeline = Timeline(AiCounts(), self.clock)
            self.speech = Speech(self.output, 1, "en", timeline, script)
            self.addCleanup(self.speech.cancel)

            async def say(answer: bool = answer) -> None:
                await self.speech.pronounce("Sorry.", "en", answer=answer)
                await self.speech.finish()

            done = Deferred.fromCoroutine(say())
            self.run_for(3)
            self.successResultOf(done)
            self.assertEqual(script.heard(9e9).whole, int(answer))

    def test_of_a_phrase_half_of_which_was_heard_no_other_voice_begins(self) -> None:
        self.vendor.name = "another"
        self.output = replace(self.output, phrases=self.kept_by("preferred"))
        self.speech = self.begin()
        self.pronounce("Sorry.")
        self.run_for(3)
        self.sent.clear()
        self.output = replace(self.output, limits=TurnSettings(next_audio=0.05))
        self.speech = self.begin()
        done = self.pronounce("Sorry.")
        self.run_for(3)
        self.failureResultOf(done, ProviderError)
        self.assertLess(len(self.packets), 5)

    def test_its_packets_depend_on_nothing_before(self) -> None:
        """Otherwise a stored phrase could not begin another turn."""
        self.pronounce("Sorry.")
        self.run_for(3)
        first = [each.payload for _, each in self.packets]
        self.sent.clear()
        self.output = replace(self.output, phrases=Phrases(PhraseStore(MemoryFiles()), "voice"))
        self.speech = self.begin()

        async def say() -> None:
            await self.speech.say("One.")
            await self.speech.pronounce("Hello.", "en")
            await self.speech.pronounce("Sorry.", "en")
            await self.speech.finish()

        done = Deferred.fromCoroutine(say())
        self.run_for(6)
        self.successResultOf(done)
        self.assertEqual([each.payload for _, each in self.packets][-len(first) :], first)

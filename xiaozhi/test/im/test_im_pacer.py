from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.counts import EdgeCounts
from xiaozhi.im.playout.pacer import Pacer
from xiaozhi.im.playout.timerwheel import TickWheel
from xiaozhi.im.settings import PacerSettings
from xiaozhi.wire.messages import Audio, Playback, Tts, TtsState

START, SENTENCE, STOP = TtsState.START, TtsState.SENTENCE_START, TtsState.STOP

# First bytes of packets of one frame: SILK 60 ms and 20 ms.
MS60, MS20 = 0b01011_000, 0b01001_000


def packet(number: int, turn: int = 1, first: int = MS60) -> Audio:
    return Audio(bytes([first]) + number.to_bytes(2, "big"), 0, turn)


class Device:
    """Records received items with their times."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.got: list[tuple[float, Tts | Audio]] = []
        self.reports: list[Playback] = []
        self.held = False
        self.rests = 0

    def send(self, message: Tts) -> None:
        self.got.append((round(self.clock.seconds(), 6), message))

    def play(self, audio: Audio) -> None:
        self.got.append((round(self.clock.seconds(), 6), audio))

    def report(self, playback: Playback) -> None:
        self.reports.append(playback)

    def hold(self) -> None:
        assert not self.held
        self.held = True

    def release(self) -> None:
        assert self.held
        self.held = False

    def rested(self) -> None:
        self.rests += 1

    def story(self) -> list[str]:
        """Items: ``start 1``, ``audio 1``, … in order."""
        return [
            f"{what.state.value if isinstance(what, Tts) else 'audio'} {what.turn}"
            for _, what in self.got
        ]

    def times(self) -> list[float]:
        """Return the times of packets."""
        return [at for at, what in self.got if isinstance(what, Audio)]

    def said(self) -> list[tuple[int, str, int]]:
        return [(p.turn, p.state.value, p.played_ms) for p in self.reports]


class PacerCase(SynchronousTestCase):
    settings = PacerSettings(high_water=20, low_water=10, max_frames=30)

    def setUp(self) -> None:
        self.clock = Clock()
        self.device = Device(self.clock)
        self.wheel = TickWheel(self.clock)
        self.counts = EdgeCounts()
        self.pacer = Pacer(self.device, self.wheel, self.clock, self.settings, 60, self.counts)

    def wait(self, seconds: float) -> None:
        # Relative to the start, so that rounding errors do not add up.
        start = self.clock.seconds()
        for step in range(1, round(seconds / 0.005) + 1):
            self.clock.advance(start + step * 0.005 - self.clock.seconds())

    def turn(self, frames: int, turn: int = 1, stop: bool = True) -> None:
        self.pacer.tts(Tts(START, turn=turn))
        for number in range(frames):
            self.pacer.audio(packet(number, turn))
        if stop:
            self.pacer.tts(Tts(STOP, turn=turn))


class TurnTests(PacerCase):
    def test_pace_of_a_turn(self) -> None:
        """§3.3; §9, 3 to 6: gap after start, three at once, then one every 60 ms,
        and stop when the last has been played."""
        self.turn(6)
        self.wait(2)
        self.assertEqual(self.device.got[0], (0.0, Tts(START, turn=1)))
        times = self.device.times()
        self.assertEqual(times[:3], [0.06, 0.06, 0.06])
        for late, due in zip(times[3:], (0.12, 0.18, 0.24), strict=True):
            self.assertTrue(due <= late <= due + 0.0101, times)
        # Six packets from 0.06 are played at 0.42; and the margin.
        stopped, last = self.device.got[-1]
        self.assertEqual(last, Tts(STOP, turn=1))
        self.assertTrue(0.54 <= stopped <= 0.551, stopped)
        self.assertEqual(self.device.said(), [(1, "started", 0), (1, "finished", 360)])
        self.assertFalse(self.pacer.busy)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_packets_say_their_own_length(self) -> None:
        """Three leave at once, whatever their duration: small boards count packets (§3.3)."""
        self.pacer.tts(Tts(START, turn=1))
        for number in range(9):
            self.pacer.audio(packet(number, 1, MS20))
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(1)
        times = self.device.times()
        self.assertEqual(times[:3], [0.06] * 3)
        self.assertGreater(times[3], 0.06)
        self.assertTrue(0.18 <= times[8] <= 0.2, times)
        self.assertEqual(self.device.said()[-1], (1, "finished", 180))

    def test_sentences_come_with_their_sound(self) -> None:
        self.pacer.tts(Tts(START, turn=1))
        self.pacer.tts(Tts(SENTENCE, "one", 1))
        for number in range(10):
            self.pacer.audio(packet(number))
        self.pacer.tts(Tts(SENTENCE, "two", 1))
        self.pacer.audio(packet(10))
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(2)
        story = self.device.story()
        self.assertEqual(story[1], "sentence_start 1")
        self.assertEqual(story[12:], ["sentence_start 1", "audio 1", "stop 1"])
        # The tenth packet's successor: 60 + 10*60 - 120.
        self.assertTrue(0.54 <= self.device.got[12][0] <= 0.551)

    def test_late_sound_is_not_sent_faster(self) -> None:
        self.turn(1, stop=False)
        self.wait(1)
        for number in range(5):
            self.pacer.audio(packet(number))
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(1)
        times = self.device.times()
        self.assertEqual(times[1:4], [1.0, 1.0, 1.0])
        self.assertGreaterEqual(times[4], 1.06)
        # The gap is not counted as played.
        self.assertEqual(self.device.said()[-1], (1, "finished", 360))

    def test_the_clock_is_absolute(self) -> None:
        """§9, 5: late ticks do not add up."""
        self.pacer = Pacer(
            self.device,
            self.wheel,
            self.clock,
            PacerSettings(high_water=900, low_water=1, max_frames=1000),
            60,
            self.counts,
        )
        self.turn(500)
        self.clock.pump([0.0137] * 2300)
        self.assertEqual(len(self.device.times()), 500)
        # t0 + n*60 - 120 ms
        t0 = self.device.times()[0]
        lateness = [at - (t0 + n * 0.06 - 0.12) for n, at in enumerate(self.device.times())][3:]
        self.assertLess(max(lateness), 0.025)
        # The clock starts with a tick, which may be nearly over when it is processed.
        self.assertGreaterEqual(min(lateness), -0.0101)

    def test_no_packet_is_late_because_the_first_was(self) -> None:
        """Packets keep 60 ms although every tick is a little late."""
        self.turn(20)
        self.clock.pump([0.0013] * 1200)
        times = self.device.times()
        gaps = [later - earlier for earlier, later in pairwise(times)][2:]
        self.assertEqual(len(gaps), 17)
        self.assertLess(max(gaps), 0.062)

    def test_an_empty_answer(self) -> None:
        """§9, 2."""
        self.turn(0)
        self.assertEqual(self.device.story(), ["start 1", "stop 1"])
        self.assertEqual(self.device.said(), [(1, "finished", 0)])

    def test_text_without_sound(self) -> None:
        self.pacer.tts(Tts(START, turn=1))
        self.pacer.tts(Tts(SENTENCE, "one", 1))
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(0.1)
        self.assertEqual(self.device.story(), ["start 1", "sentence_start 1", "stop 1"])

    def test_sentence_waits_for_its_sound(self) -> None:
        """It is not shown if the AI process is lost before the sound."""
        for comes in (True, False):
            self.setUp()
            self.pacer.tts(Tts(START, turn=1))
            self.pacer.tts(Tts(SENTENCE, "one", 1))
            self.wait(0.5)
            self.assertEqual(self.device.story(), ["start 1"])
            if comes:
                self.pacer.audio(packet(1))
                self.wait(0.1)
                self.assertIn("sentence_start 1", self.device.story())
            self.pacer.finish()
            self.wait(1)
            shown = ["sentence_start 1"] if comes else []
            texts = [each for each in self.device.story() if each.split()[0] != "audio"]
            self.assertEqual([t for t in texts if "sentence" in t], shown)
            self.assertEqual(texts[-1], "stop 1")

    def test_audio_without_a_turn(self) -> None:
        """§9, 3."""
        self.pacer.audio(packet(0))
        self.turn(1)
        self.wait(1)
        self.pacer.audio(packet(1))
        self.pacer.tts(Tts(SENTENCE, "late", 1))
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 1", "audio 1", "stop 1"])
        self.assertEqual(self.pacer.stale, 2)

    def test_start_twice(self) -> None:
        self.turn(1, stop=False)
        self.pacer.tts(Tts(START, turn=1))
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 1", "audio 1", "stop 1"])


class NextTurnTests(PacerCase):
    def test_a_finished_turn_is_played_out_before_the_next(self) -> None:
        """§9, 7."""
        self.turn(3, 1)
        self.turn(2, 2)
        self.wait(2)
        self.assertEqual(
            self.device.story(),
            ["start 1", *["audio 1"] * 3, "stop 1", "start 2", *["audio 2"] * 2, "stop 2"],
        )
        self.assertGreaterEqual(self.device.times()[3], 0.24 + 0.12 + 0.06)

    def test_an_unfinished_turn_is_given_up_for_the_next(self) -> None:
        """§9, 7: its stop is sent before the new start."""
        self.turn(20, 1, stop=False)
        self.wait(0.2)
        self.turn(1, 2)
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(2)
        story = self.device.story()
        self.assertEqual(story[-5:], ["audio 1", "stop 1", "start 2", "audio 2", "stop 2"])
        self.assertEqual(story.count("stop 1"), 1)
        self.assertEqual(self.device.said()[1][:2], (1, "flushed"))

    def test_an_older_turn_is_dropped(self) -> None:
        self.turn(1, 2)
        self.wait(1)
        self.turn(5, 1)
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 2", "audio 2", "stop 2"])
        self.assertEqual(self.pacer.stale, 5)

    def test_turn_numbers_restart_with_a_new_ai(self) -> None:
        self.turn(5, 7, stop=False)
        self.pacer.finish()
        self.turn(1, 1)
        self.wait(3)
        self.assertEqual(
            self.device.story(),
            ["start 7", *["audio 7"] * 5, "stop 7", "start 1", "audio 1", "stop 1"],
        )


class FlushTests(PacerCase):
    def test_flush(self) -> None:
        """§4.6: silence at once, one stop; the time really played is reported."""
        self.turn(20)
        self.wait(0.2)
        sent = len(self.device.times())
        self.pacer.flush(1)
        self.assertEqual(self.device.got[-1], (0.2, Tts(STOP, turn=1)))
        self.wait(2)
        self.assertEqual(len(self.device.times()), sent)
        self.assertEqual(self.device.story().count("stop 1"), 1)
        # Since 0.06 s, though more was sent.
        self.assertEqual(self.device.said()[-1], (1, "flushed", 140))
        self.assertGreater(sent * 60, 140)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_audio_after_a_flush_is_dropped(self) -> None:
        self.turn(3, stop=False)
        self.pacer.flush(1)
        self.pacer.audio(packet(9))
        self.pacer.tts(Tts(SENTENCE, "x", 1))
        self.pacer.tts(Tts(STOP, turn=1))
        self.pacer.tts(Tts(START, turn=1))
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 1", "stop 1"])
        self.assertEqual(self.pacer.stale, 1)

    def test_flush_before_the_start(self) -> None:
        self.pacer.flush(3)
        self.turn(1, 3)
        self.turn(1, 4)
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 4", "audio 4", "stop 4"])

    def test_flush_of_another_turn_changes_nothing(self) -> None:
        self.turn(1, 2, stop=False)
        self.pacer.flush(1)
        self.pacer.tts(Tts(STOP, turn=2))
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 2", "audio 2", "stop 2"])

    def test_flush_of_a_turn_that_waits(self) -> None:
        self.turn(2, 1)
        self.turn(2, 2)
        self.pacer.flush(2)
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 1", "audio 1", "audio 1", "stop 1"])
        self.assertIn((2, "flushed", 0), self.device.said())

    def test_the_next_turn_is_not_held_up_by_the_flushed_one(self) -> None:
        self.turn(20, 1)
        self.wait(0.07)
        self.pacer.flush(1)
        self.turn(1, 2)
        self.wait(0.07)
        self.assertEqual(self.device.story()[-2:], ["start 2", "audio 2"])

    def test_cut_ends_everything(self) -> None:
        self.turn(5, 1)
        self.turn(5, 2)
        self.pacer.cut()
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 1", "stop 1"])
        self.assertFalse(self.pacer.busy)

    def test_cut_of_a_turn_nothing_of_which_waits(self) -> None:
        for sent in (0, 1):
            self.setUp()
            self.turn(sent, stop=False)
            self.wait(1)
            self.pacer.cut()
            self.assertEqual(self.device.story()[-1], "stop 1")
            self.assertFalse(self.pacer.unfinished)

    def test_cut_with_nothing_open(self) -> None:
        self.pacer.cut()
        self.assertEqual(self.device.got, [])


class PressureTests(PacerCase):
    def test_water_marks(self) -> None:
        self.turn(19, stop=False)
        self.assertFalse(self.device.held)
        self.pacer.audio(packet(19))
        self.assertTrue(self.device.held)
        self.wait(0.4)
        self.assertTrue(self.device.held)
        self.wait(0.2)
        self.assertFalse(self.device.held)

    def test_a_flush_resumes_the_ai(self) -> None:
        self.turn(25)
        self.assertTrue(self.device.held)
        self.pacer.flush(1)
        self.assertFalse(self.device.held)

    def test_the_newest_is_dropped_when_full(self) -> None:
        """§9, 4."""
        self.turn(40)
        self.assertEqual(self.pacer.overflowed, 10)
        self.wait(3)
        played = [what.payload for _, what in self.device.got if isinstance(what, Audio)]
        self.assertEqual(played, [packet(n).payload for n in range(30)])

    def test_a_device_that_does_not_read(self) -> None:
        self.turn(20)
        self.wait(0.2)
        self.pacer.block()
        sent = len(self.device.got)
        self.wait(1)
        self.assertEqual(len(self.device.got), sent)
        self.pacer.unblock()
        # Three at once again, no more.
        self.assertEqual(len(self.device.got), sent + 3)
        self.wait(3)
        self.assertEqual(self.device.story()[-1], "stop 1")

    def test_pause(self) -> None:
        """Silence within a tick, then playback from the same packet, none twice."""
        self.turn(10)
        self.wait(0.2)
        sent = len(self.device.times())
        self.pacer.pause(1, paused=True)
        self.wait(1)
        self.assertEqual(len(self.device.times()), sent)
        self.assertTrue(self.pacer.busy)
        self.pacer.pause(1, paused=False)
        self.wait(2)
        numbers = [what.payload for _, what in self.device.got if isinstance(what, Audio)]
        self.assertEqual(numbers, [packet(number).payload for number in range(10)])
        self.assertEqual(self.device.story()[-1], "stop 1")
        self.assertEqual(self.device.said()[-1], (1, "finished", 600))
        self.assertEqual(self.counts.underruns, 0)

    def test_pause_of_another_turn(self) -> None:
        self.turn(10)
        self.wait(0.1)
        self.pacer.flush(1)
        self.turn(10, 2)
        self.pacer.pause(1, paused=True)
        self.wait(2)
        self.assertEqual(len(self.device.times()), 10 + 3)

    def test_pause_before_the_start(self) -> None:
        """A person speaks before the answer begins."""
        self.pacer.pause(1, paused=True)
        self.turn(3)
        self.wait(1)
        self.assertEqual(self.device.story(), ["start 1"])
        self.pacer.pause(1, paused=False)
        self.wait(1)
        self.assertEqual(self.device.story()[-1], "stop 1")

    def test_pause_of_a_turn_that_waits_for_another(self) -> None:
        """All of it has arrived, while the device still plays the previous turn."""
        self.turn(10)
        self.wait(0.1)
        self.turn(3, 2)
        self.pacer.pause(2, paused=True)
        self.wait(2)
        self.assertEqual(self.device.story()[-1], "start 2")
        self.pacer.pause(2, paused=False)
        self.wait(1)
        self.assertEqual(self.device.story()[-1], "stop 2")

    def test_flush_of_a_paused_turn(self) -> None:
        self.turn(10)
        self.wait(0.1)
        self.pacer.pause(1, paused=True)
        self.pacer.flush(1)
        self.assertEqual(self.device.story()[-1], "stop 1")
        self.turn(3, 2)
        self.wait(1)
        self.assertEqual(self.device.story()[-1], "stop 2")

    def test_a_lost_ai_pauses_nothing(self) -> None:
        self.turn(3, stop=False)
        self.pacer.pause(1, paused=True)
        self.pacer.finish()
        self.wait(1)
        self.assertEqual(self.device.story()[-1], "stop 1")

    def test_close(self) -> None:
        self.turn(20)
        self.wait(0.2)
        sent = len(self.device.got)
        self.assertEqual(self.pacer.close(), 140)
        self.wait(1)
        self.assertEqual(len(self.device.got), sent)
        self.assertEqual(self.clock.getDelayedCalls(), [])


# Actions of an AI service and a device, with the ms before each.
_ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.one_of(
            st.tuples(st.just("start"), st.integers(1, 4)),
            st.tuples(st.just("sentence"), st.integers(1, 4)),
            st.tuples(st.just("audio"), st.integers(1, 4), st.integers(1, 12)),
            st.tuples(st.just("stop"), st.integers(1, 4)),
            st.tuples(st.just("flush"), st.integers(1, 4)),
            st.tuples(st.sampled_from(["pause", "resume"]), st.integers(1, 4)),
            st.tuples(st.sampled_from(["cut", "finish", "block", "unblock"])),
        ),
    ),
    max_size=30,
)


class AnythingTests(PacerCase):
    def act(self, action: tuple[object, ...]) -> None:
        match action:
            case ("start", int(turn)):
                self.pacer.tts(Tts(START, turn=turn))
            case ("sentence", int(turn)):
                self.pacer.tts(Tts(SENTENCE, "x", turn))
            case ("stop", int(turn)):
                self.pacer.tts(Tts(STOP, turn=turn))
            case ("pause" | "resume" as what, int(turn)):
                self.pacer.pause(turn, paused=what == "pause")
            case ("flush", int(turn)):
                self.pacer.flush(turn)
            case ("audio", int(turn), int(many)):
                for _ in range(many):
                    self.number += 1
                    self.pacer.audio(packet(self.number, turn))
            case (str(name),):
                getattr(self.pacer, name)()
            case _:
                raise AssertionError(action)

    @settings(max_examples=150)
    @given(_ACTIONS)
    def test_random_events(self, actions: list[tuple[int, tuple[object, ...]]]) -> None:
        self.setUp()
        self.number = 0
        for ms, action in actions:
            self.clock.pump([0.01] * (ms // 10))
            self.act(action)
        self.pacer.unblock()
        self.pacer.finish()
        self.clock.pump([0.01] * 600)
        self.check()
        self.assertFalse(self.pacer.busy)
        self.assertFalse(self.device.held)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def check(self) -> None:
        """Check: one stop per start; sound only between; in order; never too far ahead."""
        turn: int | None = None
        started = ends = 0.0
        last = 0
        for at, what in self.device.got:
            if isinstance(what, Tts) and what.state is START:
                self.assertIsNone(turn)
                turn, started, ends = what.turn, at, 0.0
                continue
            self.assertEqual(turn, what.turn)
            if isinstance(what, Tts):
                turn = None if what.state is STOP else turn
                continue
            number = int.from_bytes(what.payload[1:], "big")
            self.assertGreater(number, last)
            last = number
            self.assertGreaterEqual(at, started + 0.06 - 1e-6)
            # Packets that the device has not played when this one arrives: at most two.
            self.assertLessEqual(ends - at, 0.12 + 1e-6)
            ends = max(ends, at) + 0.06
        self.assertIsNone(turn)

    @settings(max_examples=60)
    @given(st.lists(st.integers(0, 100), min_size=3, max_size=30))
    def test_nothing_that_was_there_in_time_is_late(self, gaps: list[int]) -> None:
        """With any arrival times, a device runs dry only if there was nothing to send."""
        self.setUp()
        self.pacer.tts(Tts(START, turn=1))
        self.clock.advance(0.06)
        arrived = []
        for number, ms in enumerate(gaps):
            self.clock.pump([0.01] * (ms // 10))
            arrived.append(self.clock.seconds())
            self.pacer.audio(packet(number))
        self.clock.pump([0.01] * 300)
        times = self.device.times()
        self.assertEqual(len(times), len(gaps))
        ends = 0.0
        for came, sent in zip(arrived, times, strict=True):
            # Sent before the device ran dry, or on arrival.
            self.assertTrue(sent <= ends + 1e-6 or sent <= came + 0.011, (came, sent, ends))
            ends = max(ends, sent) + 0.06


class WindUpTests(PacerCase):
    """A stopping process: the current sentence is the last one."""

    # Steps: a sentence's text, a number of packets, or an action of the pacer. ``/`` begins a new
    # turn; ``.`` ends one. Then the device's items.
    TABLE: tuple[tuple[str, tuple[str | int, ...], str], ...] = (
        ("nothing yet", ("wind up", "/", "a", 1, "b", 1, "."), "start a 1 stop"),
        ("nothing yet, sound without words", ("wind up", "/", 2, "."), "start 2 stop"),
        ("the first of each turn", ("wind up", "/", "a", 1, ".", "/", "b", 1, "c", 1, "."),
            "start a 1 stop start b 1 stop"),
        ("a turn without a sentence", ("/", "wind up", "a", 1, "b", 1, "."), "start a 1 stop"),
        ("as before, after another", ("/", "a", 1, ".", "wait", "/", "wind up", "b", 1, "c", 1),
            "start a 1 stop start b 1 stop"),
        ("in the first, all is here", ("/", "a", 4, "b", 1, ".", "wind up"), "start a 4 stop"),
        ("in the first, the next is to come", ("/", "a", 1, "wait", "wind up", "b", 1, "."),
            "start a 1 stop"),
        ("the next is announced, its sound is to come", ("/", "a", 1, "b", "wait", "wind up"),
            "start a 1 stop"),
        ("sound without words", ("/", 1, "wait", "wind up", "b", 1, "."), "start 1 stop"),
        ("words without sound", ("/", "a", "b", "wait", "wind up", 1, "."), "start a stop"),
        ("words and sound that have not left", ("/", "a", 1, "b", 1, "wind up"),
            "start a 1 stop"),
        ("a device that does not read", ("block", "/", "a", 1, "b", 1, ".", "wind up", "unblock"),
            "start a 1 stop"),
        ("the same, a start alone", ("block", "/", "wind up", "unblock", "a", 1, "b", 1, "."),
            "start a 1 stop"),
        ("one waits behind it", ("/", "a", 4, ".", "/", "b", 1, ".", "wind up"),
            "start a 4 stop"),
    )  # fmt: skip

    def test_which_sentence_is_the_last(self) -> None:
        for name, steps, story in self.TABLE:
            self.setUp()
            turn = 0
            for step in steps:
                match step:
                    case int(frames):
                        for number in range(frames):
                            self.pacer.audio(packet(number, turn))
                    case "/":
                        turn += 1
                        self.pacer.tts(Tts(START, turn=turn))
                    case ".":
                        self.pacer.tts(Tts(STOP, turn=turn))
                    case "wait":
                        self.wait(1)
                    case "wind up" | "block" | "unblock":
                        getattr(self.pacer, step.replace(" ", "_"))()
                    case _:
                        self.pacer.tts(Tts(SENTENCE, step, turn))
            self.wait(2)
            self.assertEqual(self.heard(), story, name)
            self.assertFalse(self.pacer.busy, name)
            self.assertEqual(self.clock.getDelayedCalls(), [], name)

    def heard(self) -> str:
        words: list[str] = []
        frames = 0
        for _, what in self.device.got:
            if isinstance(what, Audio):
                frames += 1
                continue
            if frames:
                words.append(str(frames))
                frames = 0
            words.append(what.text or what.state.value)
        return " ".join(words)

    def test_dropped_turns_do_not_wait(self) -> None:
        self.pacer.tts(Tts(START, turn=1))
        self.pacer.tts(Tts(SENTENCE, "a", 1))
        self.pacer.audio(packet(0))
        self.pacer.tts(Tts(SENTENCE, "b", 1))
        for number in range(20):
            self.pacer.audio(packet(number))
        self.assertTrue(self.device.held)
        self.pacer.wind_up()
        self.assertEqual(self.pacer.frames, 1)
        self.assertFalse(self.device.held)
        self.assertFalse(self.pacer.unfinished)


class KnownTests(PacerCase):
    """The pacer's reports."""

    def test_busy(self) -> None:
        self.assertFalse(self.pacer.busy)
        self.pacer.block()
        self.pacer.tts(Tts(START, turn=1))
        self.assertTrue(self.pacer.busy)  # a turn waits
        self.pacer.unblock()
        self.assertTrue(self.pacer.busy)  # a turn is open, nothing waits
        self.pacer.tts(Tts(STOP, turn=1))
        self.assertFalse(self.pacer.busy)

    def test_rest(self) -> None:
        """A waiting caller is notified when no turn is open and nothing waits."""
        self.turn(1, stop=False)
        self.wait(1)
        self.assertEqual(self.device.rests, 0)
        self.pacer.tts(Tts(STOP, turn=1))
        self.assertGreater(self.device.rests, 0)

    def test_since_when_a_turn_is_heard(self) -> None:
        self.wait(1)
        self.assertIsNone(self.pacer.heard_since)
        self.pacer.tts(Tts(START, turn=1))
        self.wait(1)
        self.assertIsNone(self.pacer.heard_since)
        self.pacer.audio(packet(0))
        self.wait(0.02)
        self.pacer.audio(packet(1))
        self.pacer.tts(Tts(STOP, turn=1))
        self.assertAlmostEqual(self.pacer.heard_since or 0, 2.0)
        self.wait(1)
        self.assertIsNone(self.pacer.heard_since)

    def test_a_packet_without_a_known_length(self) -> None:
        """It counts as long as announced to the device."""
        self.pacer.tts(Tts(START, turn=1))
        for _ in range(4):
            self.pacer.audio(Audio(b"\x03", 0, 1))
        self.pacer.tts(Tts(STOP, turn=1))
        self.wait(1)
        self.assertEqual(self.device.said()[-1], (1, "finished", 240))

    def test_dropped_packets_are_counted(self) -> None:
        self.pacer.audio(packet(0))
        self.turn(31)
        self.assertEqual(dict(self.counts.dropped), {("stale",): 1, ("overflow",): 1})

    def test_low_water_is_enough(self) -> None:
        self.turn(25, stop=False)
        while self.device.held:
            self.wait(0.005)
        self.assertEqual(self.pacer.frames, self.settings.low_water)

    # Name; seconds to each flush; ms that were played: of eleven packets sent at 0.06 s.
    PLAYED = (("none", 0.06, 0), ("one", 0.061, 1), ("some", 0.2, 140))

    def test_how_much_was_played(self) -> None:
        settings = PacerSettings(lead_frames=10)
        for name, after, played in self.PLAYED:
            self.setUp()
            self.pacer = Pacer(self.device, self.wheel, self.clock, settings, 60, self.counts)
            self.turn(20)
            self.clock.advance(0.06)
            self.clock.advance(after - 0.06)
            self.pacer.flush(1)
            self.assertEqual(self.device.said()[-1], (1, "flushed", played), name)


class UnderrunTests(PacerCase):
    """The next packet arrives when the device must have played all earlier ones."""

    def dry(self, turn: int = 1) -> None:
        """Send a turn of one packet, let it be played, and send another one later."""
        self.turn(1, turn, stop=False)
        self.wait(0.5)
        self.pacer.audio(packet(1, turn))

    def test_counted_once(self) -> None:
        self.dry()
        self.assertEqual(self.counts.underruns, 1)
        self.pacer.audio(packet(2))
        self.wait(0.05)
        self.pacer.audio(packet(3))
        self.assertEqual(self.counts.underruns, 1)

    def test_the_first_packet_may_come_late(self) -> None:
        self.pacer.tts(Tts(START, turn=1))
        self.wait(1)
        self.pacer.audio(packet(0))
        self.wait(1)
        self.pacer.tts(Tts(STOP, turn=1))
        self.turn(1, 2)
        self.assertEqual(self.counts.underruns, 0)

    def test_not_of_a_device_that_does_not_read(self) -> None:
        self.turn(1, stop=False)
        self.wait(0.1)
        self.pacer.block()
        self.wait(0.5)
        self.pacer.audio(packet(1))
        self.assertEqual(self.counts.underruns, 0)

    def test_not_of_a_turn_that_is_silent_on_purpose(self) -> None:
        self.turn(1, stop=False)
        self.wait(0.1)
        self.pacer.pause(1, paused=True)
        self.wait(0.5)
        self.pacer.audio(packet(1))
        self.assertEqual(self.counts.underruns, 0)
        self.assertEqual(len(self.device.times()), 1)

    def test_a_pause_ends_with_its_turn(self) -> None:
        """Otherwise nothing would be counted afterwards."""
        self.turn(5)
        self.pacer.pause(1, paused=True)
        self.pacer.flush(1)
        self.dry(2)
        self.assertEqual(self.counts.underruns, 1)

    def test_a_pause_of_a_turn_that_is_over_is_none(self) -> None:
        for waiting in (False, True):
            self.setUp()
            self.turn(1)
            self.wait(1)
            if waiting:
                self.turn(1, 2, stop=False)
            self.pacer.pause(1, paused=True)
            self.wait(0.5)
            if waiting:
                self.pacer.audio(packet(1, 2))
            else:
                self.dry(2)
            self.assertEqual(self.counts.underruns, 1, waiting)


class TimerTests(PacerCase):
    """Due and forgotten timers."""

    def test_a_flush_leaves_no_timer(self) -> None:
        self.turn(10)
        self.wait(0.1)
        self.pacer.flush(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_next_turn_does_not_wait_for_the_stop_of_the_flushed_one(self) -> None:
        """That stop is due later than the turn's first packet."""
        self.turn(3)
        self.wait(0.1)
        self.pacer.flush(1)
        self.turn(1, 2)
        self.wait(0.07)
        self.assertEqual(self.device.story()[-1], "audio 2")

    def test_a_flush_of_one_turn_does_not_resume_another(self) -> None:
        self.turn(10)
        self.wait(0.1)
        self.pacer.pause(2, paused=True)
        self.pacer.flush(1)
        self.turn(1, 2)
        self.wait(1)
        self.assertEqual(self.device.story()[-1], "start 2")

    def test_nothing_is_reported_of_a_turn_that_has_not_come(self) -> None:
        self.pacer.flush(3)
        self.assertEqual(self.device.reports, [])

    def test_a_disconnected_device_leaves_nothing(self) -> None:
        self.assertEqual(self.pacer.close(), 0)
        self.setUp()
        self.turn(20)
        self.wait(0.2)
        self.pacer.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.pacer.frames, self.pacer.busy), (0, False))
        told = len(self.device.got), len(self.device.reports), self.device.rests
        self.turn(2, 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pacer.flush(2)
        self.pacer.finish()
        self.assertEqual((len(self.device.got), len(self.device.reports), self.device.rests), told)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lateness(self) -> None:
        """Only of packets that waited here for their time, not of late arrivals."""
        self.pacer.tts(Tts(START, turn=1))
        self.clock.advance(1)
        self.pacer.audio(packet(0))
        self.assertEqual(self.counts.lateness.count, 0)
        for number in (1, 2, 3):
            self.pacer.audio(packet(number))
        self.assertEqual(self.counts.lateness.count, 0)
        self.clock.advance(0.06)
        self.assertEqual(self.counts.lateness.count, 1)
        self.assertAlmostEqual(self.counts.lateness.sum, 0.0)
        self.pacer.audio(packet(4))
        self.clock.advance(0.09)
        self.assertEqual(self.counts.lateness.count, 2)
        self.assertAlmostEqual(self.counts.lateness.sum, 0.03)

    def test_an_output_that_calls_back(self) -> None:
        """Its call runs after the current one."""
        story: list[str] = []

        class ReentrantDevice(Device):
            def play(self, audio: Audio) -> None:
                story.append("packet")
                meddled.unblock()

            def report(self, playback: Playback) -> None:
                story.append(playback.state.value)

        meddler = ReentrantDevice(self.clock)
        meddled = Pacer(meddler, self.wheel, self.clock, self.settings, 60, self.counts)
        self.pacer = meddled
        self.turn(3)
        self.wait(1)
        self.assertEqual(story, ["packet", "started", "packet", "packet", "finished"])

"""The play clock: :mod:`xiaozhi.device.sound.speaker`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device.sound.speaker import DECODED, UNDECODED, Speaker


class SpeakerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.drained: list[float] = []
        self.speaker = Speaker(self.clock, lambda: self.drained.append(self.clock.seconds()))

    def play(self, at: float, duration: float = 60) -> float | None:
        self.clock.advance(at - self.clock.seconds())
        return self.speaker.play(duration)

    def test_in_time_no_gap(self) -> None:
        # Three at once, then one every 60 ms.
        gaps = [self.play(t) for t in (1, 1, 1, 1.06, 1.12, 1.18)]
        self.assertEqual(gaps, [0.0] * 6)
        self.assertTrue(self.speaker.playing)
        self.clock.pump([0.01] * 60)
        self.assertEqual(len(self.drained), 1)
        self.assertAlmostEqual(self.drained[0], 1.36, places=1)
        self.assertFalse(self.speaker.playing)

    def test_a_gap_is_audible_silence(self) -> None:
        self.play(1)
        self.assertAlmostEqual(self.play(1.06) or 0.0, 0)
        gap = self.play(1.3)
        assert gap is not None
        self.assertAlmostEqual(gap, 180)

    def test_the_pause_before_an_answer_is_no_gap(self) -> None:
        self.play(1)
        self.speaker.begin()
        self.assertEqual(self.play(5), 0.0)

    def test_the_newest_is_dropped(self) -> None:
        # One plays, the others wait.
        room = 1 + DECODED + UNDECODED
        taken = [self.play(1) for _ in range(room + 3)]
        self.assertEqual(taken.count(None), 3)
        self.assertEqual(taken[-3:], [None] * 3)
        self.clock.advance(0.001)
        self.assertEqual(self.speaker.overflowed, 3)
        self.clock.advance(0.06)
        self.assertEqual(self.play(self.clock.seconds()), 0.0)

    def test_clear_keeps_the_playing_packet(self) -> None:
        for _ in range(5):
            self.play(1)
        self.clock.advance(0.07)
        self.assertEqual(self.speaker.waiting, 3)
        self.assertEqual(self.speaker.clear(), 3)
        self.clock.pump([0.01] * 30)
        self.assertEqual(len(self.drained), 1)
        self.assertFalse(self.speaker.playing)
        # The second packet was playing until 1.12.
        gap = self.play(1.5)
        assert gap is not None
        self.assertAlmostEqual(gap, 380)

    def test_stop_leaves_no_timer(self) -> None:
        self.play(1)
        self.speaker.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.speaker.playing)

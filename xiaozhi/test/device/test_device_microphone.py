"""Frames on an absolute clock: :mod:`xiaozhi.device.sound.microphone`."""

from __future__ import annotations

from array import array
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device.sound.microphone import AUDIBLE, MAX_BEHIND, Microphone, voiced_length

FRAME = 1920  # bytes of 60 ms


def loud(frames: float) -> bytes:
    return array("h", [1000]).tobytes() * int(960 * frames)


class MicrophoneTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.frames: list[tuple[float, bytes]] = []
        self.microphone = Microphone(self.clock, self.take, Random(1))

    def take(self, pcm: bytes) -> None:
        self.frames.append((round(self.clock.seconds(), 4), pcm))

    def test_a_frame_every_60_ms(self) -> None:
        self.microphone.start()
        self.clock.pump([0.001] * 301)
        self.assertEqual(len(self.frames), 5)
        for number, (at, _) in enumerate(self.frames, 1):
            self.assertApproximates(at, number * 0.06, 0.002)

    def test_the_clock_is_absolute(self) -> None:
        self.microphone.start()
        self.clock.pump([0.07] * 60)
        self.assertEqual(len(self.frames), int(0.07 * 60 / 0.06))

    def test_low_noise_never_silence(self) -> None:
        self.microphone.start()
        self.clock.pump([0.06] * 40)
        for _, pcm in self.frames:
            self.assertEqual(len(pcm), FRAME)
            samples = array("h", pcm)
            self.assertGreater(len(set(samples)), 3)
            self.assertLess(max(map(abs, samples)), AUDIBLE)
        self.assertGreater(len({pcm for _, pcm in self.frames}), 10)

    def test_speech_is_sent_and_its_end_reported(self) -> None:
        self.microphone.start()
        # 2.5 frames of speech and 1.5 of silence.
        done = self.microphone.say(loud(2.5) + bytes(FRAME + FRAME // 2))
        self.clock.pump([0.06] * 3)
        self.assertNoResult(done)
        self.clock.advance(0.06)
        self.assertAlmostEqual(self.successResultOf(done), 0.18)
        sent = b"".join(pcm for _, pcm in self.frames)
        self.assertEqual(sent[: len(loud(2.5))], loud(2.5))

    def test_one_after_the_other(self) -> None:
        self.microphone.start()
        first, second = self.microphone.say(loud(1.5)), self.microphone.say(loud(1))
        self.clock.pump([0.06] * 3)
        self.assertAlmostEqual(self.successResultOf(first), 0.12)
        self.assertAlmostEqual(self.successResultOf(second), 0.18)

    def test_late_frames_are_dropped(self) -> None:
        self.microphone.start()
        self.clock.advance(0.06 * (MAX_BEHIND + 5))
        self.assertEqual(len(self.frames), 1)
        self.assertEqual(self.microphone.skipped, MAX_BEHIND + 4)
        self.clock.advance(0.06)
        self.assertEqual(len(self.frames), 2)

    def test_stop(self) -> None:
        self.microphone.start()
        done = self.microphone.say(loud(5))
        self.clock.advance(0.06)
        self.microphone.stop()
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1)
        self.assertEqual(len(self.frames), 1)

    def test_stopped_by_a_frame(self) -> None:
        microphone = Microphone(self.clock, lambda pcm: microphone.stop(), Random(1))
        microphone.start()
        self.clock.advance(0.3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_voiced_length(self) -> None:
        self.assertEqual(voiced_length(b""), 0)
        self.assertEqual(voiced_length(bytes(100)), 0)
        self.assertEqual(voiced_length(loud(1) + bytes(501)), FRAME)

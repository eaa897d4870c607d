"""Tiny benchmarks, run as ``make bench`` runs them. Their measurements are not checked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.profile import table
from benchmarks.statistics import slope
from benchmarks.voice import quiet, voice
from benchmarks.watched import grown
from xiaozhi.providers.offline.webrtc_vad import WebrtcDetector, WebrtcSettings

ROOT = Path(__file__).resolve().parent.parent
_WATCHED = ("objects", "queues", "rss")
FAULTS = ("hang", "crawl", "fail")
PARTS = ("p50", "p99")
KEYS = {"bench", "figure", "unit", "floor", "ratio", "aim", "met"}


class BenchmarkTests(TestCase):
    timeout = 120

    def benchmarks(self, *arguments: str) -> Deferred[tuple[str, str, int]]:
        async def run() -> tuple[str, str, int]:
            out, err, status = await getProcessOutputAndValue(
                sys.executable,
                ["-m", "benchmarks", *arguments],
                env=os.environ,
                path=str(ROOT),
                reactor=reactor,
            )
            return out.decode(), err.decode(), status

        return Deferred.fromCoroutine(run())

    def lines(self, out: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    async def test_packets(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "frame_cpu_up")
        self.assertEqual((err, status), ("", 0))
        at_pace, in_bursts = self.lines(out)
        self.assertEqual(
            [at_pace["bench"], in_bursts["bench"]], ["frame_cpu_up", "frame_cpu_up_burst"]
        )
        for line in at_pace, in_bursts:
            self.assertLessEqual(KEYS, line.keys())
            self.assertTrue(line["frames"])
        self.assertEqual(at_pace["unit"], "us/frame")
        self.assertEqual(at_pace["aim"], "ratio <= 1.5")
        # The table for people follows.
        self.assertIn("\nframe_cpu_up ", out)

    async def test_a_turn(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "turn_overhead")
        self.assertEqual((err, status), ("", 0))
        lines = self.lines(out)
        names = [f"turn_overhead_{devices}_{part}" for devices in (1, 2, 3) for part in PARTS]
        self.assertEqual([line["bench"] for line in lines], names)
        for line, devices in zip(lines, (1, 1, 2, 2, 3, 3), strict=True):
            self.assertLessEqual(KEYS, line.keys())
            self.assertEqual((line["devices"], line["turns"]), (devices, devices))

    async def test_providers_in_trouble(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "provider_faults")
        self.assertEqual((err, status), ("", 0))
        lines = self.lines(out)
        self.assertEqual([line["bench"] for line in lines], [f"faults_{what}" for what in FAULTS])
        for line in lines:
            # One device in three rounds.
            self.assertEqual((line["turns"], line["unanswered"]), (3, 0))

    async def test_an_interruption(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "interruption")
        self.assertEqual((err, status), ("", 0))
        latency, wrong = self.lines(out)
        self.assertEqual((latency["bench"], latency["turns"]), ("interruption", 3))
        self.assertEqual((wrong["bench"], wrong["figure"]), ("interruption_wrong", 0))

    async def test_a_core(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "talking_per_core")
        self.assertEqual((err, status), ("", 0))
        lines = self.lines(out)
        names = ["speech_in", "speech_out", "speech", "talking_per_core", "speech_voip"]
        self.assertEqual([line["bench"] for line in lines], names)
        for line in lines[:3]:
            self.assertTrue(line["figure"] and line["floor"], line)
        self.assertEqual(lines[3]["turns"], 2)

    async def test_sessions_and_their_memory(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "sessions_memory")
        self.assertEqual((err, status), ("", 0))
        names = [
            f"growth_{what}_{who}_{of}"
            for what in ("turns", "sessions")
            for who in ("im", "ai")
            for of in ("objects", "rss")
        ]
        self.assertEqual([line["bench"] for line in self.lines(out)], names)

    async def test_a_soak(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "--soak", "2", "soak")
        self.assertEqual((err, status), ("", 0))
        names = [line["bench"] for line in self.lines(out)]
        expected = [f"soak_{who}_{what}" for who in ("im", "ai") for what in _WATCHED]
        self.assertEqual(names, ["soak_turns", *expected])
        for line in self.lines(out):
            self.assertTrue(line["figure"] or line["unit"] == "KB/min", line)

    async def test_idle_connections(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "idle")
        self.assertEqual((err, status), ("", 0))
        memory, hello, refused = self.lines(out)
        names = [line["bench"] for line in (memory, hello, refused)]
        self.assertEqual(names, ["idle_memory", "hello", "hello_refused"])
        self.assertEqual(refused["figure"], 0)
        # Including those that were connected before.
        self.assertEqual((memory["connections"], memory["sessions"]), (5, 55))

    async def test_an_unknown_name(self) -> None:
        _, err, status = await self.benchmarks("no_such")
        self.assertEqual(status, 2)
        self.assertIn("no benchmark 'no_such'; there are: frame_cpu_up", err)


class MeasurementTests(SynchronousTestCase):
    """Calculation of the measurements."""

    def test_slope(self) -> None:
        self.assertEqual(slope([(0, 1), (1, 3), (2, 5)]), 2.0)
        self.assertEqual(slope([(0, 1), (10, 0), (20, 2), (30, 1)]), 0.02)
        self.assertEqual(slope([(1, 1)]), 0.0)
        self.assertEqual(slope([(1, 1), (1, 2)]), 0.0)

    def test_a_voice(self) -> None:
        """The detector classifies it as speech, and the noise as silence."""
        detector = WebrtcDetector(WebrtcSettings())
        for sound, least, most in ((voice, 0.9, 1.0), (quiet, 0.0, 0.0)):
            activity = detector.detector()
            pcm = sound(2.0, 16000)
            heard = [activity.is_speech(pcm[at : at + 640]) for at in range(0, len(pcm), 640)]
            self.assertTrue(least <= sum(heard) / len(heard) <= most, sound)

    def test_growth(self) -> None:
        before, after = {"a": 3, "b": 1, "c": 5}, {"a": 4, "c": 5, "d": 7}
        self.assertEqual(grown(before, after), {"d": 7, "a": 1})

    def test_where_time_goes(self) -> None:
        """Own time of a function, and with its callees; recursion counts once."""
        stacks = (
            "t 1;main (a.py:1);send (b.py:7) 3\nt 1;main (a.py:2) 1\nt 1;f (c.py:1);f (c.py:2) 4\n"
        )
        self.assertEqual(
            list(table(stacks)),
            [
                "t 1: 8 samples",
                "    own    with",
                "  50.0%   50.0%  f (c.py)",
                "  37.5%   37.5%  send (b.py)",
                "  12.5%   50.0%  main (a.py)",
                "",
            ],
        )

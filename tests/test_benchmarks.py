"""A tiny benchmark, run as ``make bench`` runs them. Its figures are not looked at."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parent.parent
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
        self.assertEqual(at_pace["aim"], "ratio <= 2")
        # The table for people follows.
        self.assertIn("\nframe_cpu_up ", out)

    async def test_a_turn(self) -> None:
        out, err, status = await self.benchmarks("--tiny", "turn_overhead")
        self.assertEqual((err, status), ("", 0))
        for line, devices in zip(self.lines(out), (1, 2), strict=True):
            self.assertLessEqual(KEYS, line.keys())
            self.assertEqual((line["devices"], line["turns"]), (devices, devices))

    async def test_an_unknown_name(self) -> None:
        _, err, status = await self.benchmarks("no_such")
        self.assertEqual(status, 2)
        self.assertIn("no benchmark 'no_such'; there are: frame_cpu_up", err)

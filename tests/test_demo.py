"""The demonstration as a person runs it: both services and a speaking device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial import unittest

ROOT = Path(__file__).resolve().parent.parent


class DemoTests(unittest.TestCase):
    def setUp(self) -> None:
        self.var = Path(self.mktemp()).absolute()

    def demo(self, *arguments: str) -> tuple[int, str]:
        """Run the demonstration to its end; its state stays in trial's own directory."""
        ended = subprocess.run(
            [sys.executable, "-m", "xiaozhi.cli.run", "--var", str(self.var), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        return ended.returncode, ended.stdout

    def test_conversation(self) -> None:
        earlier = self.var / "demo" / "04.wav"
        earlier.parent.mkdir(parents=True)
        earlier.touch()
        status, out = self.demo("demo")
        self.assertEqual(status, 0, out)
        for expected in ("what time is it", "self.audio_speaker.set_volume", "the demo worked"):
            self.assertIn(expected, out)
        answers = sorted((self.var / "demo").glob("*.wav"))
        self.assertEqual(len(answers), 3, out)
        self.assertGreater(min(answer.stat().st_size for answer in answers), 10_000)
        left = sorted(path.name for path in self.var.iterdir())
        self.assertEqual(left, ["demo", "log"], "state is left behind")
        self.assert_gone()

    def test_a_spoken_confirmation(self) -> None:
        """All of it by voice: the question, and the yes that runs the tool."""
        confirm = "agents={default: {tools: {confirm: [self.audio_speaker.*]}}}"
        words = ("set the volume to forty", "no", "set the volume to thirty", "yes")
        status, out = self.demo("--ai-set", confirm, "demo", *words)
        self.assertEqual(status, 0, out)
        self.assertEqual(out.count("Shall I do this: audio speaker set volume?"), 2, out)
        self.assertEqual(out.count("  tool  "), 1, out)
        self.assertIn('self.audio_speaker.set_volume {"volume":30}', out)
        self.assertIn("30 percent", out)

    def test_bad_configuration_ends_it(self) -> None:
        status, out = self.demo("--ai-set", "selected.asr=telepathy", "demo", "hello")
        self.assertEqual(status, 1, out)
        self.assertIn("xiaozhi-ai did not start", out)
        self.assertIn("selected.asr", out)
        self.assertNotIn("Traceback", out)
        self.assert_gone()

    def evaluated(self, *arguments: str) -> tuple[int, str]:
        """Play scripted dialogues."""
        command = ["python", "-m", "tests.evaluate", "--ota", "{ota}", *arguments]
        return self.demo("with", "--", *command)

    def test_dialogues(self) -> None:
        """As ``make eval`` does."""
        status, out = self.evaluated("--only=typed")
        self.assertEqual(status, 0, out)
        self.assertRegex(out, r"passed +typed .*first sound after \d")
        self.assertIn("skipped  typed_over", out)
        self.assertIn("all passed", out)
        self.assert_gone()

    def test_dialogue_that_fails(self) -> None:
        path = self.var.with_suffix(".yaml")
        path.write_text("title: x\nsteps: [{type: hello, expect: {answer: Never.}}]")
        status, out = self.evaluated(str(path))
        self.assertEqual(status, 1, out)
        self.assertRegex(out, r"step 1, type 'hello': said .* instead of Never")
        path.write_text("title: x\nsteps: []")
        status, out = self.evaluated(str(path))
        self.assertEqual(status, 2, out)
        self.assertIn("$.steps", out)

    def assert_gone(self) -> None:
        """Check that no process of this run is left."""
        if not os.path.isdir("/proc/self"):
            return
        own = str(self.var).encode()
        left = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                command = (directory / "cmdline").read_bytes()
            except OSError:
                continue
            if own in command:
                left.append(command)
        self.assertEqual(left, [])

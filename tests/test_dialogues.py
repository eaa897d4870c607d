"""The scripted dialogues against the doubles, on virtual time; and their format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests import scripted
from tests.scripted import BadDialogue, Dialogue, Expected, Outcome, Step, failures
from xiaozhi.agents.settings import SessionSettings
from xiaozhi.device import events as e
from xiaozhi.device.answer import AnswerReport
from xiaozhi.testing.house import SPEECH, House, Visitor
from xiaozhi.wire.messages import ListenMode


class Play:
    """One dialogue in a house."""

    def __init__(self, dialogue: Dialogue) -> None:
        doubles: dict[str, Any] = {kind: dict(own) for kind, own in dialogue.doubles.items()}
        if dialogue.spoken:
            doubles.setdefault("asr", {}).setdefault("texts", dialogue.spoken)
        self.dialogue = dialogue
        settings = msgspec.convert(dialogue.session, SessionSettings)
        self.house = House(session=settings, **doubles)
        self.visitor: Visitor = self.house.connect(mode=dialogue.listen_mode)
        self.house.run(1)

    def problems(self) -> list[str]:
        """Play it to its end. :return: the unmet expectations."""
        found = []
        for number, step in enumerate(self.dialogue.steps, 1):
            found += [f"step {number}, {step.told}: {problem}" for problem in self._played(step)]
        return found

    def _played(self, step: Step) -> list[str]:
        house, visitor = self.house, self.visitor
        starts = len(visitor.seen(e.SpeechStarted))
        if step.wait or step.quiet:
            if step.wake:
                visitor.device.machine.wake(step.wake)
            house.run(step.wait or 3)
            spoke = len(visitor.seen(e.SpeechStarted)) > starts
            problems = ["something was said"] if step.quiet and spoke else []
        else:
            problems = self._answered(step)
        if step.closed:
            house.run(1)
        if step.closed != (visitor.cable.closed is not None):
            problems.append("the server did not hang up" if step.closed else "the server hung up")
        return problems

    def _answered(self, step: Step) -> list[str]:
        house, device = self.house, self.visitor.device
        alerts = len(self.visitor.seen(e.Alerted))
        known = len(house.shared.counts.recent)
        if step.say:
            doing = device.say(SPEECH)
        elif step.type:
            doing = device.text(step.type)
        else:
            doing, ended = device.answers.expect()
            device.machine.wake(step.wake)
            ended(house.clock.seconds())
        problems: list[str] = []
        if step.interrupt is not None:
            begun = len(self.visitor.seen(e.PacketPlayed))
            while len(self.visitor.seen(e.PacketPlayed)) == begun:
                house.run(0.01)
            house.run(step.interrupt.after)
            if step.interrupt.abort:
                device.abort()
            elif step.interrupt.say:
                answer = house.until(device.say(SPEECH))
                problems += self._compared(step.interrupt.expect, answer, alerts, None)
            else:
                answer = house.until(device.text(step.interrupt.type))
                problems += self._compared(step.interrupt.expect, answer, alerts, None)
        answer = house.until(doing, 120)
        house.run(0.5)
        recent = list(house.shared.counts.recent)[known:]
        tools = tuple(tool.name for record in recent for tool in record.tools)
        return problems + self._compared(step.expect, answer, alerts, tools)

    def _compared(
        self, expected: Expected, answer: AnswerReport, alerts: int, tools: tuple[str, ...] | None
    ) -> list[str]:
        new = len(self.visitor.seen(e.Alerted)) - alerts
        return list(failures(expected, Outcome(answer, tools, new)))


class DialogueTests(SynchronousTestCase):
    """A test for each file."""

    def check(self, path: Path) -> None:
        play = Play(scripted.read(path))
        problems = play.problems()
        self.flushLoggedErrors()
        left = play.house.close()
        self.assertEqual("\n".join(problems), "")
        self.assertEqual(left, [], "timers left behind")


def _test_of(path: Path) -> Any:
    def test(self: DialogueTests) -> None:
        self.check(path)

    test.__doc__ = scripted.read(path).title
    return test


for _path in scripted.files():
    setattr(DialogueTests, f"test_{_path.stem}", _test_of(_path))


class FormatTests(SynchronousTestCase):
    """A malformed file is reported with the position; a valid one can fail."""

    def written(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text, encoding="utf-8")
        return path

    def test_bad_files(self) -> None:
        for text, told in (
            ("title: x\nsteps: [", "is not YAML"),
            ("title: x\nsteps: []", r"length >= 1 - at `\$\.steps`"),
            ("title: x\nsteps: [{say: a, type: b}]", r"one of say, type.* - at `\$\.steps\[0\]`"),
            ("title: x\nsteps: [{say: a, expect: {answr: b}}]", r"answr.*\$\.steps\[0\]\.expect"),
            ("title: x\nsteps: [{say: a, interrupt: {after: 1}}]", "one of abort, say and type"),
            ("steps: [{say: a}]", "title"),
        ):
            path = self.written(text)
            with self.assertRaisesRegex(BadDialogue, told) as raised:
                scripted.read(path)
            self.assertIn(str(path), str(raised.exception))
        with self.assertRaisesRegex(BadDialogue, "No such file"):
            scripted.read(Path("nowhere.yaml"))

    def test_there_are_some(self) -> None:
        self.assertGreaterEqual(len(scripted.files()), 12)

    def played(self, text: str) -> list[str]:
        play = Play(scripted.read(self.written(text)))
        problems = play.problems()
        self.assertEqual(play.house.close(), [])
        return problems

    def test_unmet_expectations(self) -> None:
        """Each expectation can fail."""
        for expect, told in (
            ("heard: bye", "heard 'hello' instead of bye"),
            ("answer: No.", "said 'All right.' instead of No."),
            ("answer: [right, All]", "All is not in"),
            ("never: [right]", "right was said"),
            ("tools: [get_time]", "instead of ['get_time']"),
            ("emotion: sad", "shows neutral instead of sad"),
            ("sound: false", "there was sound"),
            ("interrupted: true", "it was not cut off"),
            ("alert: true", "there was no alert"),
            ("latency: 0.01", "first sound after"),
        ):
            text = f"title: x\nsteps: [{{say: hello, expect: {{{expect}}}}}]"
            (problem,) = self.played(text)
            self.assertIn(told, problem)
        for step, told in (
            ("{say: hello, closed: true}", "the server did not hang up"),
            ("{wake: hey jarvis, quiet: true}", "something was said"),
        ):
            session = 'session: {wake: {greeting: "Yes?"}}'
            (problem,) = self.played(f"title: x\n{session}\nsteps: [{step}]")
            self.assertIn(told, problem)

    def test_modes(self) -> None:
        for mode in ListenMode:
            text = (
                f"title: x\nmode: {mode.value}\nsteps: [{{say: hello, expect: {{heard: hello}}}}]"
            )
            self.assertEqual(self.played(text), [])

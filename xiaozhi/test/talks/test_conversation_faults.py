"""Conversations while streams break and processes die: no device is left waiting."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device import events as e
from xiaozhi.device.errors import DeviceError
from xiaozhi.im.settings import EdgeSettings, LinkSettings
from xiaozhi.testing.house import AI, SPEECH, House, Visitor
from xiaozhi.wire.messages import Features, ListenMode

MODES = (ListenMode.MANUAL, ListenMode.AUTO, ListenMode.REALTIME)
QUESTIONS = 40
# Actions of the devices in one story, and faults of the bridge.
ACTS = 16
# Seconds after which a retracted question must have no further output.
SOON = 0.3
# Seconds to speak, and to detect the end of speech.
UTTERANCE = 2.0


@dataclass
class Asked:
    """A typed question.

    :ivar over: the device moved on and may get no answer.
    :ivar hushed: when the device retracted the question by an abort or another one.
    """

    visitor: Visitor
    number: int
    at: float
    over: bool = False
    hushed: float | None = None


class Story:
    """Three devices, one in each listening mode, and a faulty bridge.

    :param seed: determines everything.
    """

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        replies = {f"question {n}": f"This is answer {n}." for n in range(QUESTIONS)}
        self.house = House(
            edge=EdgeSettings(link=LinkSettings(idle_timeout=3600)),
            llm={"replies": replies, "delay": random.choice((0.2, 1.0))},
            asr={"delay": random.choice((0.0, 0.7))},
            tts={"delay": random.choice((0.0, 0.3)), "pace": random.choice((0.0, 1.5))},
        )
        self.visitors = [
            self.house.connect(number, mode=mode, features=Features(mcp=random.random() < 0.5))
            for number, mode in enumerate(MODES)
        ]
        self.asked: list[Asked] = []
        self.spoke: dict[str, float] = {}
        self.log: list[str] = []

    def tell(self) -> None:
        """Run all events, then let everything finish."""
        for _ in range(ACTS):
            self.house.run(self.random.choice((0.05, 0.2, 0.5, 1.5)))
            act = self.random.choice(
                (
                    self.types,
                    self.types,
                    self.speaks,
                    self.aborts,
                    self.cut,
                    self.cut,
                    self.crash,
                    self.drain,
                    self.partition,
                )
            )
            self.log.append(f"{self.house.clock.seconds():.2f} {act.__name__}")
            act()
        self.house.run(45)

    # --- the devices

    def types(self) -> None:
        visitor = self.someone()
        self.goes_on(visitor, hush=True)
        asked = Asked(visitor, len(self.asked), self.house.clock.seconds())
        self.asked.append(asked)
        # Its voice may still be audible.
        spoke = self.spoke.get(visitor.device.identity.device_id)
        asked.over = spoke is not None and asked.at < spoke + UTTERANCE
        self.expect(visitor.device.text(f"question {asked.number}"))

    def speaks(self) -> None:
        visitor = self.someone()
        self.goes_on(visitor, hush=False)
        self.spoke[visitor.device.identity.device_id] = self.house.clock.seconds()
        self.expect(visitor.device.say(SPEECH))

    def aborts(self) -> None:
        visitor = self.someone()
        if visitor.device.machine.state is e.TalkState.SPEAKING:
            self.goes_on(visitor, hush=True)
            visitor.device.abort()

    def someone(self) -> Visitor:
        visitor = self.random.choice(self.visitors)
        self.log.append(f"device {self.visitors.index(visitor)}")
        return visitor

    def goes_on(self, visitor: Visitor, *, hush: bool) -> None:
        for asked in self.asked:
            if asked.visitor is visitor:
                asked.over = True
                if hush and asked.hushed is None:
                    asked.hushed = self.house.clock.seconds()

    def expect(self, answer: Any) -> None:
        answer.addErrback(lambda failure: failure.trap(DeviceError))

    # --- the bridge

    def cut(self) -> None:
        self.house.network.cut(AI, count=self.random.choice((1, 2)))

    def crash(self) -> None:
        self.house.kill_ai()
        self.house.run(self.random.choice((0, 0.5, 5)))
        self.house.start_ai()

    def drain(self) -> None:
        self.house.ai.drain(self.random.choice((0.5, 3)))
        self.house.run(3.5)
        self.house.ai.stop()
        self.house.run(self.random.choice((0, 4)))
        self.house.start_ai()

    def partition(self) -> None:
        port = self.house.network.port(AI)
        acceptor, port.acceptor = port.acceptor, None
        for stream in self.house.network.streams(AI):
            stream.peer.stall()
        self.house.run(self.random.choice((0.1, 0.5)))
        self.house.network.cut(AI)
        self.house.run(self.random.choice((1, 3, 12)))
        port.acceptor = acceptor


def times(visitor: Visitor, kind: type[e.Event], since: float) -> list[tuple[float, Any]]:
    return [(at, event) for at, event in visitor.events if isinstance(event, kind) and at >= since]


class StoryTests(SynchronousTestCase):
    def check(self, story: Story) -> None:
        for visitor in story.visitors:
            starts, stops = visitor.seen(e.SpeechStarted), visitor.seen(e.SpeechStopped)
            self.assertEqual(len(stops), len(starts))
            self.assertIsNot(visitor.device.machine.state, e.TalkState.SPEAKING)
            self.assertIsNone(visitor.cable.closed)
        for asked in story.asked:
            self.check_answered(asked)
        for visitor in story.visitors:
            answer = story.house.until(visitor.device.text("question 39"))
            self.assertEqual(answer.text, "This is answer 39.")

    def check_answered(self, asked: Asked) -> None:
        answer = f"This is answer {asked.number}."
        said = [
            at for at, event in times(asked.visitor, e.Sentence, asked.at) if event.text == answer
        ]
        played = times(asked.visitor, e.PacketPlayed, asked.at)
        self.assertLessEqual(len(said), 3)
        for earlier, later in itertools.pairwise(said):
            self.assertFalse(
                [at for at, _ in played if earlier < at < later], f"{answer} began to sound twice"
            )
        if not asked.over:
            alerts = times(asked.visitor, e.Alerted, asked.at)
            self.assertTrue(said or alerts, f"{answer} never came")
        elif said and asked.hushed is not None:
            self.assertLess(said[-1], asked.hushed + SOON, f"{answer} came too late")

    @settings(max_examples=8, phases=[Phase.generate])
    @given(st.integers(0, 1 << 32))
    def test_stories(self, seed: int) -> None:
        """Every turn ends; a typed question gets one answer or one alert; a retracted one has no
        further output; and in the end everything is idle.
        """
        story = Story(seed)
        try:
            story.tell()
            self.check(story)
        except BaseException:
            note(f"{seed}: {story.log}")
            raise
        finally:
            left = story.house.close()
        self.assertEqual(left, [])

"""The record of a turn, by hand and from whole conversations."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.timeline.record import ToolUse, TurnRecord
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, Utterance
from xiaozhi.device.events import PacketPlayed
from xiaozhi.runtime.logs import as_json
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.house import SPEECH, House
from xiaozhi.testing.logs import LogLines
from xiaozhi.wire.messages import ListenMode, Playback, PlaybackState


class TimelineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counts = AiCounts({"asr": "sphinx", "llm": "openai", "tts": "espeak"})
        self.timeline = Timeline(self.counts, self.clock, "s1", 7)

    def run_through(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    async def after(self, seconds: float) -> str:
        self.clock.advance(seconds)
        return "text"

    def test_nothing_happened(self) -> None:
        self.clock.advance(1.5)
        record = self.timeline.ended("empty")
        self.assertEqual(
            record,
            TurnRecord(session_id="s1", turn=7, begun="typed", result="empty", seconds=1.5),
        )
        self.assertEqual(list(self.counts.recent), [record])

    def test_in_its_order(self) -> None:
        timeline, clock = self.timeline, self.clock
        timeline.begin("spoken")
        self.run_through(timeline.awaited("asr", "recognise", self.after(0.5)))
        timeline.heard("What time is it?")

        async def reply() -> Any:
            clock.advance(0.25)
            yield "It is "
            clock.advance(0.25)
            yield "noon."

        async def think() -> None:
            timeline.asked()
            async for _ in timeline.streamed("llm", "first_token", reply()):
                pass
            timeline.sentence()
            timeline.sentence()
            timeline.replied([Utterance(Role.USER, "What time is it?")], "It is noon.")

        self.run_through(think())
        timeline.speaks("It is noon.")
        clock.advance(0.5)
        timeline.packet(60)
        timeline.packet(60)
        clock.advance(0.25)
        timeline.playback(Playback(7, PlaybackState.STARTED))
        clock.advance(0.25)
        timeline.playback(Playback(7, PlaybackState.FINISHED, 120))
        record = timeline.ended("answered")
        self.assertEqual(
            (record.recognised, record.first_token, record.first_sentence, record.first_frame),
            (0.5, 0.75, 1.0, 1.5),
        )
        self.assertEqual((record.first_played, record.last_played), (1.75, 2.0))
        self.assertEqual((record.interrupted, record.seconds, record.played_ms), (None, 2.0, 120))
        self.assertEqual((record.heard, record.said, record.spoken), (16, 11, 11))
        self.assertEqual((record.tokens_in, record.tokens_out), (4, 3))
        self.assertTrue(record.tokens_estimated)
        ((labels, played),) = self.counts.played
        self.assertEqual((labels, played.sum, played.count), (("spoken",), 1.75, 1))
        stages = {labels: histogram.sum for labels, histogram in self.counts.stages}
        self.assertEqual(
            stages,
            {
                ("recognise", "sphinx"): 0.5,
                ("first_token", "openai"): 0.25,
                ("first_sentence", "openai"): 0.5,
            },
        )

    def test_answering_providers(self) -> None:
        with usage.noting(self.timeline):
            usage.by("asr", "sphinx", "")
            usage.by("llm", "openai", "large")
            usage.by("llm", "openai/second", "small")
        self.timeline.asked()
        self.timeline.sentence()
        record = self.timeline.ended("answered")
        self.assertEqual(record.providers, {"asr": "sphinx", "llm": "openai/second"})
        self.assertEqual(next(labels for labels, _ in self.counts.stages)[1], "openai/second")
        line = record.logged()
        self.assertEqual((line["llm"], line["llm_model"]), ("openai/second", "small"))
        self.assertNotIn("asr_model", line)

    def test_failing_providers(self) -> None:
        async def fail() -> str:
            usage.by("asr", "second", "")
            raise ProviderError("timeout", "late", retryable=True)

        with usage.noting(self.timeline):
            failing = Deferred.fromCoroutine(self.timeline.awaited("asr", "recognise", fail()))
        self.failureResultOf(failing, ProviderError)
        self.assertEqual(self.counts.errors["asr", "second", "timeout"], 1)

    def test_late_providers(self) -> None:
        self.timeline.by("tts", "edge", "")
        self.assertEqual(self.timeline.late("tts")().code, "tts_timeout")
        self.assertEqual(dict(self.counts.errors), {("tts", "edge", "tts_timeout"): 1})

    def test_reported_tokens(self) -> None:
        timeline = self.timeline
        timeline.asked()
        timeline.used(100, 20)
        timeline.replied([], "x" * 400)
        record = timeline.ended("answered")
        self.assertEqual((record.tokens_in, record.tokens_out), (100, 20))
        self.assertFalse(record.tokens_estimated)
        self.assertEqual(self.counts.tokens["openai", "in", "told"], 100)
        self.assertEqual(self.counts.tokens["openai", "out", "told"], 20)

    def test_tokens_reported_in_one_round_of_two(self) -> None:
        timeline = self.timeline
        timeline.asked()
        timeline.used(100, 20)
        timeline.replied([], "x" * 400)
        timeline.asked()
        timeline.replied([Utterance(Role.USER, "x" * 40)], "x" * 400)
        record = timeline.ended("answered")
        self.assertEqual((record.tokens_in, record.tokens_out), (110, 120))
        self.assertTrue(record.tokens_estimated)
        self.assertEqual(self.counts.tokens["openai", "out", "estimated"], 100)

    def test_rounds_of_tools(self) -> None:
        timeline = self.timeline
        for tools in (2, 1, 0):
            timeline.asked()
            for _ in range(tools):
                since = self.clock.seconds()
                self.clock.advance(0.5)
                timeline.tool("done" if tools > 1 else "tool_timeout", "lamp", since)
        record = timeline.ended("answered")
        self.assertEqual(record.rounds, 2)
        self.assertEqual(record.tools[0], ToolUse("lamp", 0.5, "done"))
        self.assertEqual(
            record.logged()["tools"], "lamp 0.5 done, lamp 0.5 done, lamp 0.5 tool_timeout"
        )

    def test_interrupted_and_how_much_was_played(self) -> None:
        for _ in range(10):
            self.timeline.packet(60)
        self.clock.advance(1)
        self.timeline.playback(Playback(7, PlaybackState.STARTED))
        self.clock.advance(0.25)
        record = self.timeline.ended("interrupted")
        self.assertEqual((record.interrupted, record.played_ms), (1.25, 250), "by the clock")
        self.clock.advance(5)
        self.assertEqual(self.timeline.ended("interrupted").played_ms, 600, "no more was sent")
        # The edge's report counts, and dropping the rest is an interruption.
        self.timeline.playback(Playback(7, PlaybackState.FLUSHED, 180))
        record = self.timeline.ended("answered")
        self.assertEqual((record.result, record.played_ms), ("interrupted", 180))

    def test_a_pause_plays_nothing(self) -> None:
        for _ in range(100):
            self.timeline.packet(60)
        self.timeline.playback(Playback(7, PlaybackState.STARTED))
        for _ in range(2):
            self.clock.advance(0.5)
            self.timeline.pauses()
            self.clock.advance(2)
            self.timeline.resumes()
        self.clock.advance(0.25)
        self.timeline.pauses()
        self.clock.advance(2)
        self.assertEqual(self.timeline.ended("interrupted").played_ms, 1250)

    def test_no_more_is_remembered_than_a_few(self) -> None:
        for _ in range(200):
            Timeline(self.counts, self.clock).ended("empty")
        self.assertEqual(len(self.counts.recent), 64)


class RecordTests(ConversationCase):
    """From whole conversations."""

    def record(self, house: House) -> TurnRecord:
        return house.shared.counts.recent[-1]

    def test_a_spoken_turn(self) -> None:
        house = self.house(
            asr={"delay": 0.4, "texts": ("what time is it",)},
            llm={"delay": 0.3, "answers": ("It is noon. Enjoy.",), "token_delay": 0.05},
            tts={"delay": 0.2, "pace": 4},
        )
        visitor = house.connect(mode=ListenMode.MANUAL)
        answer = house.until(visitor.device.say(SPEECH))
        house.run(0.5)
        record = self.record(house)
        self.assertEqual((record.begun, record.result, record.turn), ("spoken", "answered", 1))
        for name, at in (("recognised", 0.4), ("first_token", 0.7)):
            self.assertApproximates(getattr(record, name), at, 0.05, msg=name)
        times = [
            record.recognised,
            record.first_token,
            record.first_sentence,
            record.first_audio,
            record.first_frame,
            record.first_played,
            record.last_played,
            record.seconds,
        ]
        self.assertNotIn(None, times)
        self.assertEqual(times, sorted(times))
        self.assertIsNone(record.interrupted)
        self.assertEqual((record.heard, record.said), (len("what time is it"), 18))
        self.assertEqual(record.spoken, len("It is noon.") + len("Enjoy."))
        self.assertEqual(record.frames, len(visitor.seen(PacketPlayed)))
        self.assertApproximates(record.played_ms, answer.audio_ms, 60)
        self.assertTrue(record.tokens_in > record.tokens_out > 0)

    def test_tools(self) -> None:
        house = self.house(llm={"calls": ({"name": "get_time"},)})
        visitor = house.connect()
        house.until(visitor.device.text("what time is it"))
        record = self.record(house)
        self.assertEqual((record.begun, record.rounds), ("typed", 1))
        self.assertEqual([(use.name, use.result) for use in record.tools], [("get_time", "done")])

    def test_interrupted(self) -> None:
        house = self.house(llm={"answers": (LONG,)})
        browser = house.browse()
        browser.say(type="hello", version=1)
        browser.say(type="listen", state="detect", text="a story")
        house.run(2)
        browser.say(type="abort")
        house.run(0.1)
        record = self.record(house)
        self.assertEqual(record.result, "interrupted")
        assert record.interrupted is not None and record.first_played is not None
        self.assertApproximates(record.interrupted, 2.0, 0.1)
        played = (record.interrupted - record.first_played) * 1000
        self.assertApproximates(record.played_ms, played, 200)

    def test_talked_over(self) -> None:
        """The played time does not grow during a pause for a speaking person."""
        replies = {"go": LONG * 3, "stop": "Okay."}
        asr = [{"fail": "unreachable"}, {"texts": ("go", "stop"), "delay": 1.0}]
        house = self.house(asr=asr, llm={"replies": replies})
        visitor = house.connect(mode=ListenMode.REALTIME)
        first = visitor.device.say(SPEECH)
        house.run(6)
        house.until(visitor.device.say(SPEECH))
        played = house.until(first).audio_ms
        house.run(0.5)
        interrupted, answered = house.shared.counts.recent
        self.assertEqual((interrupted.result, answered.result), ("interrupted", "answered"))
        self.assertApproximates(interrupted.played_ms, played, 300)
        # Its speech ended a second before the turn could begin.
        self.assertEqual(answered.begun, "spoken")
        assert answered.recognised is not None
        self.assertApproximates(answered.recognised, 1.0, 0.05)
        self.assertEqual(answered.providers["asr"], "b")
        recognised = dict(house.shared.counts.stages)["recognise", "b"]
        self.assertEqual(recognised.count, 2)

    def test_the_line_of_the_log(self) -> None:
        """One line for each turn, at info, without any words of the conversation."""
        log = LogLines(self)
        house = self.house(
            llm=[{"fail": "unreachable"}, {"answers": ("A secret.",)}],
        )
        visitor = house.connect()
        house.until(visitor.device.text("a question"))
        (event,) = (event for event in log.events if "begun" in event)
        line = json.loads(as_json(event))
        self.assertEqual(line["level"], "info")
        self.assertEqual((line["llm"], line["result"], line["rounds"]), ("b", "answered", 0))
        self.assertEqual((line["heard"], line["said"], line["spoken"]), (10, 9, 9))
        self.assertEqual(line["turn"], 1)
        self.assertNotIn("interrupted", line)
        for words in ("secret", "question"):
            self.assertNotIn(words, json.dumps(line))

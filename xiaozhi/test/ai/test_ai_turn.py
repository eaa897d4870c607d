"""A turn alone: failing tools, and the resulting dialogue."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.agents.settings import TurnSettings
from xiaozhi.ai.speech.output import Speech
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.ai.turn.turn import Turn
from xiaozhi.base.errors import ProviderError, ToolError
from xiaozhi.base.values import Delta, Role, TextDelta, ToolCall, ToolSpec, Transcript, Utterance
from xiaozhi.interfaces import ILanguageModel, ITool
from xiaozhi.languages.texts import text
from xiaozhi.testing.parts import scripted, turn_parts
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire import messages as m


@implementer(ILanguageModel)
class UnfinishedModel:
    """A model that begins an answer and does not end it."""

    def __init__(self, *deltas: Delta, ends: bool = False) -> None:
        self._deltas = deltas
        self._ends = ends

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        for delta in self._deltas:
            yield delta
        if not self._ends:
            await Deferred()

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(ITool)
class Tool:
    """A tool with scripted behaviour.

    :ivar ended: ``done``, or its exception.
    """

    limit: float | None = None
    interruptible: bool = True

    def __init__(self, name: str, result: Deferred[str], lane: str = "") -> None:
        self.lane = lane
        self.started = False
        self.ended = ""
        self.spec = ToolSpec(name, name, {"type": "object", "properties": {}})
        self._result = result

    async def call(self, arguments: dict[str, Any]) -> str:
        self.started = True
        try:
            result = await self._result
        except BaseException as error:
            self.ended = type(error).__name__
            raise
        self.ended = "done"
        return result


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[Any] = []
        self.first: Deferred[str] = Deferred()
        self.second: Deferred[str] = Deferred()
        calls = ({"name": "first"}, {"name": "second"})
        tools = Tool("first", self.first), Tool("second", self.second)
        self.context, self.output = turn_parts(
            self.clock, self.sent.append, *tools, llm={"calls": calls}
        )
        self.dialogue = self.context.dialogue
        self.turn = Turn(1, self.context, self.output)

    def ask(self) -> Deferred[bool]:
        async def heard() -> Transcript:
            return Transcript("do both")

        return Deferred.fromCoroutine(self.turn.answer(heard()))

    def test_waits_a_moment_for_the_dialogue(self) -> None:
        self.dialogue.recalled.close()
        self.turn = Turn(1, replace(self.context, recall_wait=1.0), self.output)
        self.ask()
        self.first.callback("done")
        self.second.callback("done")
        self.clock.advance(0.99)
        self.assertEqual([each.text for each in self.dialogue.entries()][1:], ["do both"])
        self.clock.advance(0.02)
        self.assertGreater(len(self.dialogue.entries()), 2, "the model was asked without it")
        self.turn.playback(m.Playback(turn=1, state=m.PlaybackState.FINISHED))

    def test_a_model_that_says_nothing(self) -> None:
        providers = scripted(self.clock, llm={"answers": [" "]})
        self.turn = Turn(1, replace(self.context, model=providers.llm), self.output)
        self.ask()
        self.clock.pump([0.1] * 10)
        shown = [each.text for each in self.sent if isinstance(each, m.Tts) and each.text]
        self.assertEqual(shown, ["I have no answer to that."])
        self.turn.playback(m.Playback(1, m.PlaybackState.FINISHED, 1000))
        self.assertEqual(self.told(), ["do both", "I have no answer to that."])

    def insistent(self, last: Delta) -> None:
        """Make a turn with a model that calls a tool while tools are offered, and then answers."""

        class ToolCaller(UnfinishedModel):
            async def reply(
                self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
            ) -> AsyncGenerator[Delta, None]:
                yield ToolCall(f"call-{len(dialogue)}", "first", "{}") if tools else last

        limits = TurnSettings(tool_rounds=2)
        self.turn = Turn(1, replace(self.context, limits=limits, model=ToolCaller()), self.output)
        self.ask()
        self.first.callback("one")
        self.played()

    def test_a_model_that_wants_one_tool_after_the_other(self) -> None:
        self.insistent(TextDelta("It is one."))
        self.assertEqual(self.told(), ["do both", "", "one", "", "one", "It is one."])
        self.assertEqual(self.shown(), ["It is one."])

    def test_a_model_that_does_not_come_to_an_end(self) -> None:
        """Calls of tools that were not offered are neither run nor recorded."""
        self.insistent(ToolCall("more", "first", "{}"))
        self.assertEqual(self.told()[-2:], ["one", "I could not finish that."])
        self.assertEqual(len(self.told()), 6)

    def test_a_model_that_says_nothing_after_its_tools(self) -> None:
        """Many models refuse a dialogue in which a question follows a result."""

        class Mute(UnfinishedModel):
            async def reply(
                self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
            ) -> AsyncGenerator[Delta, None]:
                if dialogue[-1].role is Role.USER:
                    yield ToolCall("1", "first", "{}")

        self.turn = Turn(1, replace(self.context, model=Mute()), self.output)
        self.ask()
        self.first.callback("one")
        self.played()
        self.assertEqual(self.told(), ["do both", "", "one", "…"])
        self.assertEqual(self.shown(), [])

    def test_interrupted_before_its_tools(self) -> None:
        """A call that was not run is not in the dialogue, because models refuse one without a
        result. Unheard words are not in it either.
        """
        model = UnfinishedModel(TextDelta("I will. "), ToolCall("1", "first", "{}"))
        self.turn = Turn(1, replace(self.context, model=model), self.output)
        answer = self.ask()
        answer.cancel()
        self.failureResultOf(answer)
        self.clock.advance(0.3)
        said = [(entry.role, entry.text, entry.calls) for entry in self.dialogue.entries()[1:]]
        unheard = "[interrupted before anything was heard]"
        self.assertEqual(said, [(Role.USER, "do both", ()), (Role.ASSISTANT, unheard, ())])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def results(self) -> list[str]:
        return [entry.text for entry in self.dialogue.entries() if entry.role is Role.TOOL]

    def played(self) -> None:
        self.clock.pump([0.05] * 20)
        self.turn.playback(m.Playback(1, m.PlaybackState.FINISHED, 1000))

    def test_results_in_order(self) -> None:
        answer = self.ask()
        self.second.callback("two")
        self.first.callback("one")
        self.played()
        self.assertTrue(self.successResultOf(answer))
        self.assertEqual(self.results(), ["one", "two"])
        self.assertNotIn(m.Flush(1), self.sent)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failures_reach_the_model(self) -> None:
        answer = self.ask()
        self.first.errback(ToolError("no", "it is raining"))
        self.second.errback(ZeroDivisionError("bug"))
        self.played()
        self.assertTrue(self.successResultOf(answer))
        self.assertEqual(self.results(), ["Error: it is raining", "Error: the tool is broken"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_tool_that_hangs_is_given_up(self) -> None:
        self.ask()
        self.second.callback("two")
        self.clock.advance(30)
        self.assertEqual(self.results(), ["Error: first took longer than 30 s", "two"])

    def test_results_too_large_are_cut(self) -> None:
        self.ask()
        self.first.callback("x" * 20_000)
        self.second.callback("two")
        self.assertEqual(len(self.results()[0]), 8000 + len(" … (cut)"))

    def test_media_is_not_remembered(self) -> None:
        """Neither of a result, nor of an error."""
        picture = "data:image/jpeg;base64," + "/9j/4AAQ" * 3000
        self.ask()
        self.first.callback(f'{{"photo_data": "{picture}", "response": "A cup."}}')
        self.second.errback(ToolError("device_tool_failed", f"no room for {picture}"))
        self.assertEqual(
            self.results(),
            ['{"photo_data": "[image]", "response": "A cup."}', "Error: no room for [image]"],
        )

    def started(self) -> list[str]:
        return [tool.spec.name for tool in self.tools if tool.started]

    def with_tools(self, *tools: Tool, **limits: Any) -> None:
        self.tools = tools
        calls = tuple({"name": tool.spec.name} for tool in tools)
        self.context = replace(
            self.context,
            model=scripted(self.clock, llm={"calls": calls}).llm,
            toolbox=Toolbox(tools),
            limits=TurnSettings(**limits),
        )
        self.turn = Turn(1, self.context, self.output)

    def test_tools_run_beside_each_other(self) -> None:
        self.with_tools(Tool("a", self.first), Tool("b", self.second), Tool("c", Deferred()))
        answer = self.ask()
        self.assertEqual(self.started(), ["a", "b", "c"])
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual(self.results(), ["Error: interrupted"] * 3)

    def test_calls_of_one_device_are_sequential(self) -> None:
        """A device runs one call at a time (§5.2)."""
        third: Deferred[str] = Deferred()
        self.with_tools(
            Tool("a", self.first, "device"),
            Tool("b", self.second, "device"),
            Tool("c", third),
        )
        self.ask()
        self.assertEqual(self.started(), ["a", "c"])
        self.first.callback("one")
        self.assertEqual(self.started(), ["a", "b", "c"])
        third.callback("three")
        self.second.callback("two")
        self.assertEqual(self.results(), ["one", "two", "three"])
        self.played()

    def test_no_more_than_so_many_at_once(self) -> None:
        self.with_tools(Tool("a", self.first), Tool("b", self.second), tools_at_once=1)
        self.ask()
        self.assertEqual(self.started(), ["a"])
        self.first.callback("one")
        self.assertEqual(self.started(), ["a", "b"])
        self.second.callback("two")
        self.played()

    def test_an_interruption_does_not_start_waiting_tools(self) -> None:
        """Neither the next tool, nor one behind it in its lane."""
        waiting = Tool("b", self.second), Tool("c", Deferred(), "device")
        for tool in waiting:
            tool.interruptible = False
        self.with_tools(Tool("a", self.first, "device"), *waiting, tools_at_once=1)
        answer = self.ask()
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual(self.started(), ["a"])
        self.assertEqual(self.results(), ["Error: interrupted"] * 3)

    def test_a_lasting_tool_is_not_cut_off(self) -> None:
        """It runs to its end, and its result is dropped."""
        tool = Tool("a", self.first)
        tool.interruptible = False
        self.with_tools(tool)
        answer = self.ask()
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual((self.results(), tool.ended), (["Error: interrupted"], ""))
        self.first.callback("one")
        self.assertEqual((self.results(), tool.ended), (["Error: interrupted"], "done"))
        self.clock.advance(0.3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_any_other_tool_is_cut_off(self) -> None:
        tool = Tool("a", self.first)
        self.with_tools(tool)
        answer = self.ask()
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual(tool.ended, "CancelledError")

    def shown(self) -> list[str]:
        return [each.text for each in self.sent if isinstance(each, m.Tts) and each.text]

    def test_a_slow_tool_is_bridged_once(self) -> None:
        self.with_tools(Tool("a", self.first))
        self.ask()
        self.clock.advance(1.99)
        self.assertEqual(self.shown(), [])
        self.clock.advance(0.02)
        self.assertEqual(self.shown(), ["One moment, let me look."])
        self.clock.advance(5)
        self.first.callback("Done.")
        self.played()
        self.assertEqual(self.shown(), ["One moment, let me look.", "Done."])

    def test_a_quick_tool_is_not_bridged(self) -> None:
        self.with_tools(Tool("a", self.first))
        self.ask()
        self.first.callback("Done.")
        self.clock.advance(3)
        self.assertEqual(self.shown(), ["Done."])
        self.played()

    def test_an_announced_tool_is_not_bridged(self) -> None:
        self.with_tools(Tool("a", self.first))
        model = UnfinishedModel(TextDelta("Let me see. "), ToolCall("1", "a", "{}"), ends=True)
        self.turn = Turn(1, replace(self.context, model=model), self.output)
        self.ask()
        self.clock.advance(5)
        self.assertEqual(self.shown(), ["Let me see."])

    def test_bridging_can_be_switched_off(self) -> None:
        self.with_tools(Tool("a", self.first), slow_tool=0)
        self.ask()
        self.clock.advance(10)
        self.assertEqual(self.shown(), [])

    def test_apology_from_a_stored_phrase(self) -> None:
        """With model and synthesiser down there is still a voice, and no alert, whose sound the
        microphone would pick up (§4.2).
        """
        self.speak("apology")
        down = scripted(self.clock, llm={"fail": "down"}, tts={"fail": "down"})
        self.turn = Turn(
            1, replace(self.context, model=down.llm), replace(self.output, synthesizer=down.tts)
        )
        answer = self.ask()
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.shown(), ["Sorry, something went wrong. Please try again."])
        self.assertTrue(any(isinstance(each, m.Audio) for each in self.sent))
        self.assertIsInstance(self.sent[-1], m.Tts)
        self.played()
        self.assertTrue(self.successResultOf(answer))
        self.assertNotIn(m.Alert, [type(each) for each in self.sent])

    def speak(self, key: str) -> None:
        """Speak a phrase, so that it is stored."""
        speech = Speech(self.output, 1, "en", Timeline(AiCounts(), self.clock))
        Deferred.fromCoroutine(speech.pronounce(text(key, "en"), "en"))
        self.successResultOf(Deferred.fromCoroutine(speech.finish()))
        self.sent.clear()

    def test_no_voice_at_all(self) -> None:
        down = scripted(self.clock, llm={"fail": "down"}, tts={"fail": "down"})
        self.turn = Turn(
            1, replace(self.context, model=down.llm), replace(self.output, synthesizer=down.tts)
        )
        answer = self.ask()
        self.clock.pump([0.05] * 20)
        self.assertTrue(self.successResultOf(answer))
        self.assertIsInstance(self.sent[-1], (m.Alert, m.Flush))
        self.assertEqual([type(each) for each in self.sent].count(m.Alert), 1)

    def told(self) -> list[str]:
        return [entry.text for entry in self.dialogue.entries()[1:]]

    def test_heard_words_of_a_failed_turn(self) -> None:
        """The apology, if there was nothing else; otherwise the words before it."""
        apology = text("apology", "en")
        down = scripted(self.clock, llm={"fail": "down"}).llm
        self.turn = Turn(1, replace(self.context, model=down), self.output)
        answer = self.ask()
        self.played()
        self.successResultOf(answer)
        self.clock.advance(0.3)
        self.assertEqual(self.told(), ["do both", apology])

        class Breaks(UnfinishedModel):
            async def reply(
                self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
            ) -> AsyncGenerator[Delta, None]:
                yield TextDelta("It is noon. The sun ")
                raise ProviderError("down", "down", retryable=False)

        self.turn = Turn(2, replace(self.context, model=Breaks()), self.output)
        answer = self.ask()
        self.clock.pump([0.05] * 20)
        self.dialogue.played(2, 9000)
        self.turn.playback(m.Playback(2, m.PlaybackState.FINISHED, 9000))
        self.successResultOf(answer)
        self.assertEqual(self.told()[2:], ["do both", "It is noon. … [interrupted]"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_sentence_that_could_not_be_spoken_was_not_heard(self) -> None:
        self.speak("apology")
        mute = scripted(self.clock, tts={"fail": "down"}).tts
        model = UnfinishedModel(TextDelta("It is noon. "), ends=True)
        self.turn = Turn(
            1, replace(self.context, model=model), replace(self.output, synthesizer=mute)
        )
        answer = self.ask()
        self.clock.pump([0.05] * 20)
        # Words of the apology.
        self.dialogue.played(1, 9000)
        self.turn.playback(m.Playback(1, m.PlaybackState.FINISHED, 9000))
        self.successResultOf(answer)
        self.assertEqual(self.told(), ["do both", text("apology", "en")])

    def test_by_our_own_clock_a_pause_is_not_heard(self) -> None:
        model = UnfinishedModel(TextDelta("It is noon. "), ends=False)
        self.turn = Turn(1, replace(self.context, model=model), self.output)
        answer = self.ask()
        self.turn.playback(m.Playback(1, m.PlaybackState.STARTED))
        self.clock.advance(3.5)
        self.turn.was_paused(3.0)
        answer.cancel()
        self.failureResultOf(answer)
        self.clock.advance(0.3)
        # 780 ms of sound.
        self.assertEqual(self.told(), ["do both", "It is … [interrupted]"])

    def test_a_greeting_that_was_cut(self) -> None:
        answer = Deferred.fromCoroutine(self.turn.greet("hi", "Hello, here I am."))
        self.turn.playback(m.Playback(1, m.PlaybackState.STARTED))
        self.clock.advance(0.5)
        answer.cancel()
        self.failureResultOf(answer)
        self.dialogue.played(1, 500)
        self.assertEqual(self.told(), ["hi", "Hello, … [interrupted]"])

    def test_interrupted_between_two_tools(self) -> None:
        """Every call has a result, and the edge is flushed."""
        answer = self.ask()
        self.first.callback("one")
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual(self.results(), ["one", "Error: interrupted"])
        self.assertEqual(self.sent[-1], m.Flush(1))
        self.clock.advance(0.3)
        self.assertEqual(self.results(), ["one", "Error: interrupted"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

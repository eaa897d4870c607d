"""Handling of tool results beyond text for the model."""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from msgspec.structs import replace as replace_setting
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.agents.settings import TurnSettings
from xiaozhi.ai.turn.turn import Turn
from xiaozhi.base.errors import ProtocolError, ProviderError, ToolError
from xiaozhi.base.toolresult import SILENCE, ToolResult, ToolSound, said
from xiaozhi.base.values import (
    Delta,
    Encoding,
    Role,
    SoundFormat,
    TextDelta,
    ToolCall,
    ToolSpec,
    Transcript,
    Utterance,
)
from xiaozhi.interfaces import ILanguageModel, ITool
from xiaozhi.providers.offline.intents import IntentModel, IntentSettings
from xiaozhi.testing.parts import turn_parts
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire import messages as m

PCM = SoundFormat(Encoding.PCM, 16000)


def tone(seconds: float) -> bytes:
    """Make a 250 Hz square wave at 16 kHz."""
    period = array("h", [8000] * 32 + [-8000] * 32)
    return (period * int(16000 * seconds / 64 + 1)).tobytes()[: int(16000 * seconds) * 2]


@implementer(ITool)
class ScriptedTool:
    """A tool that returns the given results, one for each call; an error is raised."""

    limit: float | None = None
    lane = ""
    interruptible = True

    def __init__(self, name: str, *results: str | ToolResult | Exception) -> None:
        self.spec = ToolSpec(name, name, {"type": "object", "properties": {}})
        self._results = list(results)

    async def call(self, arguments: dict[str, Any]) -> str | ToolResult:
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


@implementer(ILanguageModel)
class CallingModel:
    """A model that first calls all tools and then answers ``Well.``.

    :ivar asked: the dialogue of each call.
    """

    def __init__(self) -> None:
        self.asked: list[list[Utterance]] = []

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append(list(dialogue))
        if dialogue[-1].role is Role.USER:
            for number, tool in enumerate(tools):
                yield ToolCall(f"call-{number}", tool.name, "{}")
        else:
            yield TextDelta("Well.")

    def close(self) -> Deferred[None]:
        return succeed(None)


class ResultCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[Any] = []
        self.model = CallingModel()
        # Packets after which the edge holds audio back.
        self.credit = 1_000_000

    def asked(self, *results: str | ToolResult | Exception, **changes: Any) -> None:
        """Have the model call as many tools as there are results, and play the answer.

        :param changes: of the turn's context.
        """
        tools = [ScriptedTool(f"tool{number}", each) for number, each in enumerate(results)]
        self.context, self.output = turn_parts(self.clock, self.send)
        self.context = replace(self.context, model=self.model, toolbox=Toolbox(tools), **changes)
        self.turn = Turn(1, self.context, self.output)

        async def heard() -> Transcript:
            return Transcript("do it")

        self.done = Deferred.fromCoroutine(self.turn.answer(heard()))
        self.clock.pump([0.1] * 20)

    def send(self, message: m.Downlink) -> None:
        self.sent.append(message)
        if self.packets >= self.credit:
            self.output.gate.close()

    def played(self) -> None:
        """Report that the device has played everything."""
        self.turn.playback(m.Playback(1, m.PlaybackState.FINISHED, 60_000))
        self.clock.pump([0.1] * 5)
        self.assertTrue(self.successResultOf(self.done))

    @property
    def shown(self) -> list[str]:
        return [each.text for each in self.sent if isinstance(each, m.Tts) and each.text]

    @property
    def packets(self) -> int:
        return sum(isinstance(each, m.Audio) for each in self.sent)

    @property
    def told(self) -> list[tuple[str, str]]:
        """The dialogue after the question: roles and texts."""
        entries = self.context.dialogue.entries()
        at = max(i for i, each in enumerate(entries) if each.role is Role.USER)
        return [(each.role.value, each.text) for each in entries[at + 1 :]]


class SayTests(ResultCase):
    def test_words_are_spoken_without_the_model(self) -> None:
        self.asked(said("It is noon. Time to eat!"))
        self.assertEqual(self.shown, ["It is noon.", "Time to eat!"])
        self.played()
        self.assertEqual(len(self.model.asked), 1)
        self.assertEqual(
            self.told,
            [
                ("assistant", ""),
                ("tool", "[said to the person: It is noon. Time to eat!]"),
                ("assistant", "It is noon. Time to eat!"),
            ],
        )

    def test_interrupted_words_are_cut_in_the_dialogue(self) -> None:
        self.asked(said("First sentence here. Second sentence here."))
        self.turn.playback(m.Playback(1, m.PlaybackState.STARTED))
        self.done.cancel()
        self.clock.pump([0.1] * 5)
        self.assertNotIn("Second", self.told[-1][1])
        self.failureResultOf(self.done)

    def test_too_many_words_are_cut(self) -> None:
        limits = TurnSettings(tool_result=30)
        self.asked(said("It is noon. " * 1000), limits=limits)
        self.played()
        self.assertEqual(self.shown, ["It is noon.", "It is noon.", "It is"])

    def test_words_beside_a_text_for_the_dialogue(self) -> None:
        self.asked(ToolResult("id 7", say="Your reminder is set."))
        self.played()
        self.assertEqual(self.shown, ["Your reminder is set."])
        self.assertEqual(
            self.told[1], ("tool", "id 7\n[said to the person: Your reminder is set.]")
        )


class SilenceTests(ResultCase):
    def test_nothing_is_said_and_the_model_not_asked(self) -> None:
        self.asked(SILENCE)
        self.played()
        self.assertEqual((self.shown, self.packets, len(self.model.asked)), ([], 0, 1))
        states = [each.state for each in self.sent if isinstance(each, m.Tts)]
        self.assertEqual(states, [m.TtsState.START, m.TtsState.STOP])
        # Many models refuse a question directly after a result.
        self.assertEqual(self.told[1:], [("tool", "[done; nothing to say]"), ("assistant", "…")])


class MixedTests(ResultCase):
    def test_all_final_in_the_order_of_the_calls(self) -> None:
        self.asked(said("One."), SILENCE, said("Two."))
        self.played()
        self.assertEqual((self.shown, len(self.model.asked)), (["One.", "Two."], 1))
        self.assertEqual(self.told[-1], ("assistant", "One. Two."))

    def test_one_for_the_model_has_it_asked(self) -> None:
        self.asked(said("One."), "it rains")
        self.played()
        self.assertEqual(self.shown, ["One.", "Well."])
        self.assertEqual(
            [each.text for each in self.model.asked[1][-2:]],
            ["[said to the person: One.]", "it rains"],
        )
        self.assertEqual(self.told[-1], ("assistant", "Well."))

    def test_an_error_has_the_model_asked(self) -> None:
        self.asked(SILENCE, ToolError("no", "it is broken"))
        self.played()
        self.assertEqual(self.shown, ["Well."])
        self.assertEqual(self.model.asked[1][-1].text, "Error: it is broken")

    def test_cut_before_the_model_was_asked(self) -> None:
        """The spoken words are in the dialogue all the same."""
        self.credit = 50
        self.asked(said("One and two and three. " * 20), "it rains")
        self.assertEqual(len(self.model.asked), 1)
        self.turn.playback(m.Playback(1, m.PlaybackState.STARTED))
        self.clock.pump([0.1] * 30)
        self.done.cancel()
        self.turn.playback(m.Playback(1, m.PlaybackState.FLUSHED, 3000))
        self.clock.pump([0.1] * 5)
        who, words = self.told[-1]
        self.assertEqual(who, "assistant")
        self.assertIn("One and two", words)
        self.failureResultOf(self.done)


class SoundTests(ResultCase):
    def test_a_sound_is_the_answer(self) -> None:
        self.asked(ToolResult(sounds=(ToolSound.of(tone(1.2), PCM, "A song"),)))
        self.assertEqual(self.shown, ["A song"])
        self.assertGreaterEqual(self.packets, 20)
        self.played()
        self.assertEqual(len(self.model.asked), 1)
        self.assertEqual(self.told[1], ("tool", "[played a sound: A song]"))

    def test_it_comes_behind_the_words(self) -> None:
        self.asked(ToolResult(say="Here it is.", sounds=(ToolSound.of(tone(0.3), PCM),)))
        self.played()
        self.assertEqual(self.shown, ["Here it is.", "♪"])

    def test_a_sound_with_a_text_is_for_the_model(self) -> None:
        self.asked(ToolResult("by Bach", sounds=(ToolSound.of(tone(0.3), PCM),)))
        self.played()
        self.assertEqual(self.shown, ["♪", "Well."])
        self.assertEqual(self.model.asked[1][-1].text, "by Bach\n[played a sound]")

    def test_no_longer_than_the_limit(self) -> None:
        self.asked(ToolResult(sounds=(ToolSound.of(tone(30), PCM),)))
        whole = self.packets
        self.sent.clear()
        self.model = CallingModel()
        limits = replace_setting(self.output.limits, tool_sound=3.0)
        context, output = turn_parts(self.clock, self.sent.append)
        closed: list[bool] = []

        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    yield tone(0.5)
            finally:
                closed.append(True)

        tools = [ScriptedTool("tool", ToolResult(sounds=(ToolSound(PCM, pieces),)))]
        context = replace(context, model=self.model, toolbox=Toolbox(tools))
        self.turn = Turn(1, context, replace(output, limits=limits))
        self.done = Deferred.fromCoroutine(self.turn.answer(succeed(Transcript("do it"))))
        self.clock.pump([0.1] * 20)
        # A second slice may be in progress when time is up.
        self.assertLess(self.packets, whole / 5)
        self.assertGreaterEqual(self.packets, 3000 // 60)
        self.assertEqual(closed, [True])
        self.played()

    def test_a_source_that_hangs(self) -> None:
        closed: list[bool] = []

        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                await Deferred()
                yield b""
            finally:
                closed.append(True)

        self.asked(ToolResult(sounds=(ToolSound(PCM, pieces),)))
        self.clock.pump([1.0] * 8)
        self.assertEqual(closed, [True])
        self.assertIn("Sorry", " ".join(self.shown))

    def test_bytes_that_are_no_sound(self) -> None:
        mp3 = SoundFormat(Encoding.MP3)
        self.asked(ToolResult(sounds=(ToolSound.of(b"<html>" * 1000, mp3),)))
        self.assertIn("Sorry", " ".join(self.shown))


class OfflineModelTests(ResultCase):
    """The offline model, which words results with its phrase books."""

    def ask(self, words: str, name: str, *results: str | ToolResult) -> None:
        context, self.output = turn_parts(self.clock, self.send)
        model = IntentModel(IntentSettings(), Random(1))
        tool = ScriptedTool(name, *results)
        self.context = replace(context, model=model, toolbox=Toolbox([tool]))
        self.turn = Turn(1, self.context, self.output)
        self.done = Deferred.fromCoroutine(self.turn.answer(succeed(Transcript(words))))
        self.clock.pump([0.1] * 20)

    def test_words_to_say(self) -> None:
        self.ask("what time is it", "get_time", said("High noon, partner."))
        self.assertEqual(self.shown, ["High noon, partner."])
        self.played()

    def test_silence(self) -> None:
        self.ask("what time is it", "get_time", SILENCE)
        self.played()
        self.assertEqual(self.shown, [])

    def test_a_sound_with_a_text(self) -> None:
        sound = ToolSound.of(tone(0.3), PCM, "A bell")
        self.ask("what time is it", "get_time", ToolResult('{"time": "12:00"}', sounds=(sound,)))
        self.played()
        first, second = self.shown
        self.assertEqual(first, "A bell")
        self.assertIn("12 PM", second)


class PictureTests(ResultCase):
    def test_pictures_are_described_for_the_question(self) -> None:
        asked: list[tuple[bytes, str]] = []

        def describe(picture: bytes, question: str) -> Deferred[str]:
            asked.append((picture, question))
            return succeed(f"a cat, {len(asked)}")

        self.asked(ToolResult("from the garden", pictures=(b"x",) * 6), describe=describe)
        self.played()
        self.assertEqual(asked, [(b"x", "do it")] * 4)
        self.assertEqual(
            self.model.asked[1][-1].text,
            "from the garden\n[a picture: a cat, 1]\n[a picture: a cat, 2]\n"
            "[a picture: a cat, 3]\n[a picture: a cat, 4]\n[2 more pictures]",
        )
        self.assertEqual(self.shown, ["Well."])

    def test_one_that_cannot_be_described(self) -> None:
        errors: list[Exception] = [
            ProtocolError("not_a_picture", "it is none"),
            ProviderError("down", "no model", retryable=True),
            RuntimeError("a fault of ours"),
        ]
        for error in errors:
            self.model = CallingModel()
            self.asked(ToolResult(pictures=(b"x",)), describe=lambda *_, error=error: fail(error))
            self.assertEqual(
                self.model.asked[1][-1].text, "[a picture that could not be described]"
            )
            self.played()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_model_that_takes_too_long(self) -> None:
        self.asked(ToolResult(pictures=(b"x",)), describe=lambda *_: Deferred())
        self.clock.pump([1.0] * 30)
        self.assertEqual(self.model.asked[1][-1].text, "[a picture that could not be described]")
        self.played()

    def test_no_vision_model(self) -> None:
        self.asked(ToolResult(pictures=(b"x",)))
        self.assertEqual(self.model.asked[1][-1].text, "[a picture]")
        self.played()

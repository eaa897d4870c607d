"""Tool calls that a model wrote into its text, in a whole turn."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.ai.turn.turn import Turn
from xiaozhi.base.values import Delta, Role, TextDelta, ToolCall, ToolSpec, Transcript, Utterance
from xiaozhi.interfaces import ILanguageModel, ITool
from xiaozhi.testing.parts import turn_parts
from xiaozhi.wire import messages as m

Made = list[dict[str, Any]]

CALL = '<tool_call>{"name": "set_volume", "arguments": {"volume": 30}}</tool_call>'
NATIVE = ToolCall("1", "set_volume", '{"volume":30}')

# The model's output; the arguments of the calls; the displayed sentences.
TURNS: tuple[tuple[tuple[Delta, ...], Made, list[str]], ...] = (
    ((TextDelta(CALL),), [{"volume": 30}], ["Done."]),
    ((TextDelta("One moment."), TextDelta(CALL)), [{"volume": 30}], ["One moment.", "Done."]),
    (tuple(map(TextDelta, CALL)), [{"volume": 30}], ["Done."]),
    # A server that returns the call, and leaves it in the text, too.
    ((TextDelta(CALL), NATIVE), [{"volume": 30}], ["Done."]),
    ((TextDelta(CALL.replace("30", "40")), NATIVE), [{"volume": 30}, {"volume": 40}], ["Done."]),
    ((TextDelta("[TOOL_CALLS]set_volume[ARGS]{}"),), [{}], ["Done."]),
    # Of an unknown tool: dropped; something has to be spoken.
    ((TextDelta(CALL.replace("set_", "get_")),), [], ["I have no answer to that."]),
    ((TextDelta("Yes." + CALL.replace("set_", "get_")),), [], ["Yes."]),
    # Notation is neither spoken nor displayed.
    ((TextDelta("⏰ **7点**  ↗[1]<br>$x^2$"),), [], ["7点", "x²"]),
    ((TextDelta("Press ▶ to play ⏰ now."),), [], ["Press to play now."]),
    ((TextDelta('{"name": "Bob"} is my friend.'),), [], ['{"name": "Bob"} is my friend.']),
)


@implementer(ILanguageModel)
class Model:
    """Answers the person with these deltas, and every result with an end."""

    def __init__(self, deltas: Sequence[Delta]) -> None:
        self._deltas = deltas

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        asked = dialogue[-1].role is Role.USER
        for delta in self._deltas if asked else (TextDelta("Done."),):
            yield delta

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(ITool)
class Volume:
    """Records the arguments of its calls."""

    limit: float | None = None
    interruptible = True
    lane = "device"
    spec = ToolSpec("set_volume", "", {"type": "object", "properties": {"volume": {}}})

    def __init__(self) -> None:
        self.made: Made = []

    async def call(self, arguments: dict[str, Any]) -> str:
        self.made.append(arguments)
        return "true"


class WrittenCallTests(SynchronousTestCase):
    def answered(self, deltas: Sequence[Delta]) -> tuple[Made, list[str], list[Utterance]]:
        """Run a turn. :return: the calls, the displayed text, and the dialogue."""
        clock, sent, tool = Clock(), list[Any](), Volume()
        context, output = turn_parts(clock, sent.append, tool)
        turn = Turn(1, replace(context, model=Model(deltas)), output)

        async def heard() -> Transcript:
            return Transcript("set it")

        Deferred.fromCoroutine(turn.answer(heard()))
        clock.pump([0.05] * 40)
        turn.playback(m.Playback(1, m.PlaybackState.FINISHED, 1000))
        shown = [each.text for each in sent if isinstance(each, m.Tts) and each.text]
        return tool.made, shown, context.dialogue.entries()

    def test_turns(self) -> None:
        for deltas, made, shown in TURNS:
            got = self.answered(deltas)
            self.assertEqual((got[0], got[1]), (made, shown), deltas)

    def test_in_the_dialogue_it_is_a_call(self) -> None:
        """The model gets it as one of the vendor's own, with its result."""
        _, _, dialogue = self.answered([TextDelta("One moment. " + CALL)])
        asked, result, last = dialogue[2:]
        (call,) = asked.calls
        self.assertEqual((asked.text, call.name), ("One moment.", "set_volume"))
        self.assertEqual(json.loads(call.arguments), {"volume": 30})
        self.assertEqual((result.call_id, result.text), (call.call_id, "true"))
        self.assertEqual(last.text, "Done.")

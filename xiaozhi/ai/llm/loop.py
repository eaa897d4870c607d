"""LLM loop: model replies and tool calls, from a question to the sentences of its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xiaozhi.ai.llm.calls import CallsOutcome, ToolCalls
from xiaozhi.ai.llm.confirmation import WaitingCall, essence
from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.llm.mood import mood_line
from xiaozhi.ai.llm.writtencalls import read
from xiaozhi.ai.memory.pending import PendingAnswer
from xiaozhi.ai.speech.spoken import SpokenText, pieces
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.ids import new_id
from xiaozhi.base.modeltext.answerfilter import AnswerFilter, WrittenCall
from xiaozhi.base.toolresult import ToolSound
from xiaozhi.base.values import Delta, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.runtime.cancelling import Gate, each_within, late, within

# Maximum number of calls written into the text of one reply.
_WRITTEN_LIMIT = 16


class AnswerSpeaker(Protocol):
    """Speaks the answer of a turn; each method waits while enough speech is queued."""

    async def say(self, sentence: str) -> None:
        """Speak a sentence as the model wrote it."""

    async def remark(self, key: str) -> None:
        """Speak a phrase of the catalogue."""

    async def conclude(self, key: str) -> None:
        """Speak a phrase of the catalogue as the answer, instead of the model's."""

    async def play(self, sound: ToolSound) -> None:
        """Play a tool's sound."""

    async def ask(self, tool: str) -> None:
        """Ask the person whether a tool may run.

        :param tool: its name in plain words.
        """


class LlmLoop:
    """Asks the model and runs its tools, for one turn.

    :param turn: its number, for log lines.
    :param speaker: speaks the answer.
    :param mood: of the person's voice, see :func:`~xiaozhi.ai.llm.mood.mood_of`.
    """

    _log = Logger()

    def __init__(
        self,
        context: TurnContext,
        turn: int,
        timeline: Timeline,
        speaker: AnswerSpeaker,
        mood: str = "",
    ) -> None:
        self._context = context
        self._turn = turn
        self._timeline = timeline
        self._speaker = speaker
        self._calls = ToolCalls(context, turn, timeline)
        self._mood = mood
        self._worded = False

    async def about(self, pending: PendingAnswer, agreed: WaitingCall | None = None) -> None:
        """Answer a question.

        :param pending: receives the answer.
        :param agreed: the call that the person confirms with these words.
        """
        context = self._context
        await self._ready(context.tools_ready, context.tools_wait, "the device's tools")
        await self._ready(context.dialogue.recalled, context.recall_wait, "the dialogue so far")
        dialogue = context.dialogue
        await self._ready(dialogue.settled, dialogue.heard_timeout, "what was heard")
        call = None if agreed is None else self._calls.agreed(agreed)
        if call is None or not await self._carry_out(call, pending):
            await self._answer(pending, needed=call is None)
        if self._calls.question:
            await self._speaker.ask(self._calls.question)

    async def _carry_out(self, call: ToolCall, pending: PendingAnswer) -> bool:
        """Run a call that the person has confirmed, as if the model had asked for it now.

        :return: whether its result is the whole answer.
        """
        self._log.info(
            "{session_id}: turn {turn}: the person agreed to the tool {tool}",
            session_id=self._context.session_id,
            turn=self._turn,
            tool=call.name,
        )
        pending.said("", (call,))
        return await self._run((call,), pending)

    async def _answer(self, pending: PendingAnswer, *, needed: bool) -> None:
        """Ask the model and run its tools until it answers without a call.

        :param needed: whether something must be said even if the model says nothing.
        """
        context = self._context
        for rounds in range(context.limits.tool_rounds):
            calls = await self._reply(pending, context.toolbox.specs)
            if not calls:
                # The effect of a tool may be the answer. Without a tool, silence is a failure.
                if needed and not rounds and not self._worded:
                    await self._speaker.conclude("no_answer")
                return
            if await self._run(calls, pending):
                return
        # Without tools, the model must answer from the results so far.
        self._worded = False
        await self._reply(pending, ())
        if not self._worded:
            await self._speaker.conclude("too_many_tools")

    async def _run(self, calls: tuple[ToolCall, ...], pending: PendingAnswer) -> bool:
        """Run the calls of one reply and perform their output.

        :return: whether their results are the whole answer.
        """
        async with self._patience():
            outcome = await self._calls.run(calls, pending)
        await self._perform(outcome, pending)
        return outcome.final

    async def _perform(self, outcome: CallsOutcome, pending: PendingAnswer) -> None:
        """Speak the words and play the sounds that tools returned.

        The words become an entry of the dialogue if the answer ends with them. Otherwise the
        tools' results contain them, because many models reject two answers in a row.
        """
        complete = False
        try:
            for item in outcome.output:
                self._worded = True
                if isinstance(item, ToolSound):
                    await self._speaker.play(item)
                    continue
                spoken = SpokenText()
                for piece in pieces(item):
                    for sentence in spoken.feed(piece):
                        await self._speaker.say(sentence)
                for sentence in spoken.finish():
                    await self._speaker.say(sentence)
            complete = True
        finally:
            if outcome.final or not complete:
                words = " ".join(each for each in outcome.output if isinstance(each, str))
                pending.said(words, complete=complete)

    @asynccontextmanager
    async def _patience(self) -> AsyncGenerator[None, None]:
        """Speak a phrase during a slow tool if the answer has no words yet."""
        context = self._context
        remarking: list[Deferred[None]] = []

        def bridge() -> None:
            if not self._worded:
                self._worded = True
                # If speech fails, the next sentence raises it.
                remark = Deferred.fromCoroutine(self._bridge()).addErrback(lambda _: None)
                remarking.append(remark)

        seconds = context.limits.slow_tool
        bridging = context.clock.callLater(seconds, bridge) if seconds else None
        try:
            yield
        finally:
            if bridging is not None and bridging.active():
                bridging.cancel()
            for remark in remarking:
                remark.cancel()

    async def _bridge(self) -> None:
        await self._speaker.remark("checking")

    async def _ready(self, gate: Gate, seconds: float, what: str) -> None:
        """Wait for a gate, up to a limit; the turn continues without it."""
        if gate.is_open:
            return
        try:
            await within(seconds, self._context.clock, gate.passed(), late("ready"))
        except ProviderError:
            self._log.debug(
                "{session_id}: answers without {what}",
                session_id=self._context.session_id,
                what=what,
            )

    async def _reply(
        self, pending: PendingAnswer, tools: Sequence[ToolSpec]
    ) -> tuple[ToolCall, ...]:
        """Speak one reply of the model while it arrives.

        :param tools: tools that the model may call.
        :return: its calls.
        """
        context, limits = self._context, self._context.limits
        calls: list[ToolCall] = []
        written: list[ToolCall] = []
        # Not every provider removes reasoning itself.
        answer, spoken = AnswerFilter(), SpokenText()
        said, complete = "", False

        async def hear(parts: list[str | WrittenCall]) -> None:
            nonlocal said
            for part in parts:
                words = part if isinstance(part, str) else self._written(part, tools, written)
                said += words
                await self._say_all(spoken.feed(words))

        async def take(delta: Delta) -> None:
            if isinstance(delta, TextDelta):
                for piece in pieces(delta.text):
                    await hear(answer.feed(piece))
            elif tools:
                calls.append(replace(delta, name=context.toolbox.resolve(delta.name)))

        dialogue = self._with_mood(context.dialogue.entries(), pending.language)
        self._timeline.asked()
        reply = context.model.reply(dialogue, tools)
        try:
            await each_within(
                limits.first_token,
                limits.next_token,
                context.clock,
                self._timeline.streamed("llm", "first_token", reply),
                take,
                self._timeline.late("llm"),
            )
            await hear(answer.finish())
            await self._say_all(spoken.finish())
            # Some servers return a call and also leave it in the text.
            known = {essence(call) for call in calls}
            calls += [call for call in written if essence(call) not in known]
            complete = True
        except BaseException:
            # They will not run, and models reject a call without a result.
            calls.clear()
            raise
        finally:
            self._timeline.replied(dialogue, said)
            # Also after an interruption: the dialogue contains the beginning of the reply.
            pending.said(said.strip(), tuple(calls), complete=complete)
        return tuple(calls)

    def _with_mood(self, dialogue: list[Utterance], language: str) -> list[Utterance]:
        """Append the mood to the system prompt, as many models accept no later system message.

        The dialogue does not keep it.
        """
        if line := mood_line(self._mood, language):
            prompt = dialogue[0]
            dialogue[0] = replace(prompt, text=f"{prompt.text}\n\n{line}".strip())
        return dialogue

    def _written(
        self, part: WrittenCall, tools: Sequence[ToolSpec], written: list[ToolCall]
    ) -> str:
        """Read the calls that a model has written into its text, and add them to ``written``.

        :return: the text to speak.
        """
        toolbox = self._context.toolbox
        reading = read(part, toolbox.parameters if tools else lambda _: None)
        room = max(0, _WRITTEN_LIMIT - len(written))
        written += [
            ToolCall(f"call_{new_id().hex}", toolbox.resolve(name), arguments)
            for name, arguments in reading.calls[:room]
        ]
        if reading.calls:
            return reading.rest
        if not part.marked and not reading.refused:
            return part.raw
        self._log.info(
            "{session_id}: turn {turn}: dropped a tool call in the model's text: unknown tool or"
            " unreadable arguments",
            session_id=self._context.session_id,
            turn=self._turn,
        )
        return reading.rest

    async def _say_all(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._timeline.sentence()
            self._worded = True
            await self._speaker.say(sentence)

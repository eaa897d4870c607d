"""From a question to sentences: the model and its tools, until nothing more is to be said."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xiaozhi.ai.remembering.draft import Draft
from xiaozhi.ai.speaking.spoken import SpokenText, pieces
from xiaozhi.ai.thinking.calls import ToolCalls
from xiaozhi.ai.thinking.mind import Mind
from xiaozhi.ai.timeline import Timeline
from xiaozhi.ai.waiting import Gate, each_within, late, within
from xiaozhi.errors import ProviderError
from xiaozhi.thoughts import ThoughtFilter
from xiaozhi.values import Delta, TextDelta, ToolCall, ToolSpec


class Thought:
    """The thinking of one turn.

    :param turn: its number, for the log.
    :param say: is given each sentence as the model wrote it, and may take its time.
    :param remark: says a text of the catalogue.
    :param conclude: likewise, in place of the model's answer.
    """

    _log = Logger()

    def __init__(
        self,
        mind: Mind,
        turn: int,
        timeline: Timeline,
        say: Callable[[str], Awaitable[None]],
        remark: Callable[[str], Awaitable[None]],
        conclude: Callable[[str], Awaitable[None]],
    ) -> None:
        self._mind = mind
        self._timeline = timeline
        self._say = say
        self._remark = remark
        self._conclude = conclude
        self._calls = ToolCalls(mind, turn, timeline)
        self._worded = False

    async def about(self, draft: Draft) -> None:
        """Answer what the person said."""
        mind = self._mind
        await self._ready(mind.tools_ready, mind.tools_wait, "the device's tools")
        await self._ready(mind.dialogue.recalled, mind.recall_wait, "the dialogue so far")
        dialogue = mind.dialogue
        await self._ready(dialogue.settled, dialogue.heard_timeout, "what was heard")
        for rounds in range(mind.limits.tool_rounds):
            calls = await self._reply(draft, mind.toolbox.specs)
            if not calls:
                # After a tool nothing more need be said; instead of an answer it must.
                if not rounds and not self._worded:
                    await self._conclude("no_answer")
                return
            async with self._patience():
                await self._calls.run(calls, draft)
        # Enough of tools: now it must answer with what it knows.
        self._worded = False
        await self._reply(draft, ())
        if not self._worded:
            await self._conclude("too_many_tools")

    @asynccontextmanager
    async def _patience(self) -> AsyncGenerator[None, None]:
        """Meanwhile, what takes long is bridged by a phrase, if nothing has been said."""
        mind = self._mind
        remarking: list[Deferred[None]] = []

        def bridge() -> None:
            if not self._worded:
                self._worded = True
                # That there is no sound to be had is told by whatever is said next.
                remark = Deferred.fromCoroutine(self._bridge()).addErrback(lambda _: None)
                remarking.append(remark)

        seconds = mind.limits.slow_tool
        bridging = mind.clock.callLater(seconds, bridge) if seconds else None
        try:
            yield
        finally:
            if bridging is not None and bridging.active():
                bridging.cancel()
            for remark in remarking:
                remark.cancel()

    async def _bridge(self) -> None:
        await self._remark("checking")

    async def _ready(self, gate: Gate, seconds: float, what: str) -> None:
        """Wait for something a turn can do without if it takes too long."""
        if gate.is_open:
            return
        try:
            await within(seconds, self._mind.clock, gate.passed(), late("ready"))
        except ProviderError:
            self._log.debug(
                "{session_id}: answers without {what}", session_id=self._mind.session_id, what=what
            )

    async def _reply(self, draft: Draft, tools: Sequence[ToolSpec]) -> tuple[ToolCall, ...]:
        """Speak one reply of the model while it comes.

        :param tools: those it may call.
        :return: the calls it wants.
        """
        mind, limits = self._mind, self._mind.limits
        calls: list[ToolCall] = []
        # A provider may have dropped thoughts already; not all do.
        thoughts, spoken = ThoughtFilter(), SpokenText()
        said, complete = "", False

        async def take(delta: Delta) -> None:
            nonlocal said
            if isinstance(delta, TextDelta):
                for piece in pieces(delta.text):
                    words = thoughts.feed(piece)
                    said += words
                    await self._say_all(spoken.feed(words))
            elif tools:
                calls.append(delta)

        dialogue = mind.dialogue.entries()
        self._timeline.asked()
        reply = mind.model.reply(dialogue, tools)
        try:
            await each_within(
                limits.first_token,
                limits.next_token,
                mind.clock,
                self._timeline.streamed("llm", "first_token", reply),
                take,
                self._timeline.late("llm"),
            )
            words = thoughts.finish()
            said += words
            await self._say_all(spoken.feed(words) + spoken.finish())
            complete = True
        except BaseException:
            # Nobody will run them, and models refuse a call without its result.
            calls.clear()
            raise
        finally:
            self._timeline.replied(dialogue, said)
            # Also when interrupted: the model must know what it has begun to say.
            draft.said(said.strip(), tuple(calls), complete=complete)
        return tuple(calls)

    async def _say_all(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._timeline.sentence()
            self._worded = True
            await self._say(sentence)

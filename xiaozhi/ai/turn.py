"""One answer, as one straight coroutine: recognise → think → tools → speak → played.

Cancelling it reaches the call that is pending, runs every ``finally`` and ends
with the edge told to be silent: whatever happens, a ``tts start`` gets its one
``tts stop`` (§4.5).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.ai.counts import AiCounts
from xiaozhi.ai.dialogue import Dialogue
from xiaozhi.ai.emotion import emoji_of, take_emotion
from xiaozhi.ai.sentences import SentenceSplitter
from xiaozhi.ai.settings import TurnSettings
from xiaozhi.ai.speech import Mouth, Speech
from xiaozhi.ai.texts import language_of, text
from xiaozhi.ai.timeline import Timeline
from xiaozhi.ai.tools import Toolbox
from xiaozhi.ai.waiting import Gate, Limit, each_within, within
from xiaozhi.errors import ProviderError, ToolError, XiaozhiError
from xiaozhi.interfaces import ILanguageModel
from xiaozhi.values import TextDelta, ToolCall, Transcript
from xiaozhi.wire.messages import Alert, Flush, Llm, Playback, PlaybackState, Stt, Tts, TtsState


@dataclass(frozen=True, slots=True)
class Mind:
    """What answering needs of a session, the same for all its turns.

    :ivar tools_ready: open once the device has said what it can do.
    :ivar tools_wait: seconds a turn waits for that.
    :ivar recall_wait: seconds a turn waits for what was said in earlier sessions.
    :ivar language: for what is said before the person has said anything.
    :ivar counts: of all sessions together.
    """

    model: ILanguageModel
    dialogue: Dialogue
    toolbox: Toolbox
    tools_ready: Gate
    tools_wait: float
    recall_wait: float
    language: str
    clock: IReactorTime
    limits: TurnSettings
    counts: AiCounts = field(default_factory=AiCounts)


class Turn:
    """One answer.

    :ivar number: counts up within the session; every message of the turn has it.
    :ivar playing: whether the device has begun to play it.
    """

    _log = Logger()

    def __init__(self, number: int, session_id: str, mind: Mind, mouth: Mouth) -> None:
        self.number = number
        self.playing = False
        self._session_id = session_id
        self._mind = mind
        self._mouth = mouth
        self._language = mind.language
        self._speech: Speech | None = None
        self._open = False
        self._felt = False
        self._played: Deferred[Playback] = Deferred()
        self._limit = Limit(mind.limits.whole, mind.clock, self._late("turn"))
        self._began = 0.0
        self._timeline = Timeline(mind.counts, mind.clock)

    async def answer(self, heard: Awaitable[Transcript], *, spoken: bool = False) -> bool:
        """Answer what was said.

        :param spoken: it is being recognised; otherwise it was typed.
        :return: False if nothing was said after all; the device was sent nothing.
        """

        if spoken:
            self._timeline.begun = "spoken"

        async def converse() -> bool:
            transcript = await self._recognized(heard)
            if not transcript.text.strip():
                return False
            self._language = transcript.language or language_of(
                transcript.text, self._mind.language
            )
            self._start(transcript.text)
            await self._converse(transcript.text)
            return True

        return await self._carried_out(converse)

    async def recite(self, shown: str, words: Awaitable[str]) -> bool:
        """Say something that needs no thinking: a greeting, what a picture shows.

        :param shown: what the person said, for the display; may be empty.
        """

        self._timeline.begun = "recited"

        async def recite() -> bool:
            if shown:
                self._language = language_of(shown, self._mind.language)
            self._start(shown)
            said = await self._timeline.awaited(
                "vlllm",
                "",
                within(self._mind.limits.tool, self._mind.clock, words, self._late("picture")),
            )
            self._mind.dialogue.heard(shown or "…")
            self._mind.dialogue.said(said)
            splitter = SentenceSplitter()
            for sentence in splitter.feed(said) + splitter.flush():
                await self._say(sentence)
            return True

        return await self._carried_out(recite)

    async def announce(self, words: str) -> bool:
        """Say what nobody has asked for, in the language of its script."""
        self._language = language_of(words, self._mind.language)

        async def ready() -> str:
            return words

        return await self.recite("", ready())

    def playback(self, report: Playback) -> None:
        """The edge says how far the device is with this turn."""
        if report.state is PlaybackState.STARTED:
            self.playing = True
        elif not self._played.called:
            self._open = False
            self._timeline.cut = report.state is PlaybackState.FLUSHED
            self._played.callback(report)

    # --- the frame around every kind of answer -----------------------------------

    async def _carried_out(self, body: Callable[[], Awaitable[bool]]) -> bool:
        result = "interrupted"
        try:
            try:
                spoke = await self._limit.run(body())
                if spoke:
                    await self._spoken()
                result = "answered" if spoke else "empty"
            except CancelledError:
                raise
            except Exception as error:
                result = "failed"
                self._report(error)
                await self._apologize()
                spoke = True
            return spoke
        finally:
            self._silence()
            self._log.info(
                "{session_id}: turn {turn}, {begun}: {result} after {seconds} s",
                session_id=self._session_id,
                turn=self.number,
                **self._timeline.ended(result),
            )

    def _report(self, error: Exception) -> None:
        where: dict[str, Any] = {"session_id": self._session_id, "turn": self.number}
        if isinstance(error, XiaozhiError):
            self._log.error("{session_id}: turn {turn} failed: {error}", error=error, **where)
        else:
            self._log.failure("{session_id}: turn {turn} broke", Failure(error), **where)

    def _silence(self) -> None:
        if self._speech is not None:
            self._speech.cancel()
        if self._open:
            self._open = False
            self._mouth.send(Flush(self.number))

    def _start(self, shown: str) -> None:
        """``tts start`` goes out as early as can be: audio right after it is lost (§3.3)."""
        if shown:
            self._mouth.send(Stt(shown, self.number))
        if not self._open:
            self._open = True
            self._began = self._mind.clock.seconds()
            self._mouth.send(Tts(TtsState.START, turn=self.number))
        if self._speech is not None:
            self._speech.cancel()
        self._speech = Speech(self._mouth, self.number, self._language, self._timeline)

    async def _spoken(self) -> None:
        """Send the stop behind the sound and wait until the device has played it."""
        speech = self._speech
        assert speech is not None
        await speech.finish()
        self._mouth.send(Tts(TtsState.STOP, turn=self.number))
        elapsed = self._mind.clock.seconds() - self._began
        # The sound may not have begun long ago: allow for all of it.
        limit = max(0.0, speech.sent_ms / 1000 - elapsed) + speech.sent_ms / 1000
        limit += self._mind.limits.playback
        try:
            await within(limit, self._mind.clock, self._played, self._late("playback"))
        except ProviderError:
            # The edge owns the stop; it is not ours to doubt that it was sent.
            self._log.warn(
                "{session_id}: the edge did not report the end of turn {turn}",
                session_id=self._session_id,
                turn=self.number,
            )
        self._open = False

    async def _apologize(self) -> None:
        words = text("apology", self._language)
        try:
            self._start("")
            await self._say(words)
            await self._spoken()
        except XiaozhiError:
            # No sound to be had: the display says it.
            self._mouth.send(Alert(text("apology_title", self._language), words, "sad"))

    def _late(self, stage: str) -> Callable[[], Exception]:
        return lambda: ProviderError(f"{stage}_timeout", f"{stage}: time is up", retryable=True)

    # --- thinking -------------------------------------------------------------------

    async def _recognized(self, heard: Awaitable[Transcript]) -> Transcript:
        stage = "recognise" if self._timeline.begun == "spoken" else ""
        limited = within(self._mind.limits.recognize, self._mind.clock, heard, self._late("asr"))
        return await self._timeline.awaited("asr", stage, limited)

    async def _converse(self, words: str) -> None:
        mind = self._mind
        mind.dialogue.heard(words)
        await self._ready(mind.tools_ready, mind.tools_wait, "the device's tools")
        await self._ready(mind.dialogue.recalled, mind.recall_wait, "the dialogue so far")
        for rounds in range(mind.limits.tool_rounds):
            calls = await self._reply()
            if not calls:
                # After a tool nothing more need be said; instead of an answer it must.
                if not rounds and not self._felt:
                    await self._say(text("no_answer", self._language))
                return
            await self._run_tools(calls)
        await self._say(text("too_many_tools", self._language))

    async def _ready(self, gate: Gate, seconds: float, what: str) -> None:
        """Wait for something a turn can do without if it takes too long."""
        try:
            await within(seconds, self._mind.clock, gate.passed(), self._late("ready"))
        except ProviderError:
            self._log.debug(
                "{session_id}: answers without {what}", session_id=self._session_id, what=what
            )

    async def _reply(self) -> tuple[ToolCall, ...]:
        """Speak one reply of the model while it comes. :return: the tools it wants."""
        mind, limits = self._mind, self._mind.limits
        calls: list[ToolCall] = []
        splitter = SentenceSplitter()
        said = ""
        self._timeline.asked()
        limited = each_within(
            limits.first_token,
            limits.next_token,
            mind.clock,
            mind.model.reply(mind.dialogue.entries(), mind.toolbox.specs),
            self._late("llm"),
        )
        deltas = self._timeline.streamed("llm", "first_token", limited)
        try:
            async with aclosing(deltas):
                async for delta in deltas:
                    if isinstance(delta, TextDelta):
                        said += delta.text
                        for sentence in splitter.feed(delta.text):
                            self._timeline.sentence()
                            await self._say(sentence)
                    else:
                        calls.append(delta)
            for sentence in splitter.flush():
                self._timeline.sentence()
                await self._say(sentence)
        except BaseException:
            # Nobody will run them, and models refuse a call without its result.
            calls.clear()
            raise
        finally:
            # Also when interrupted: the model must know what it has begun to say.
            mind.dialogue.said(said.strip(), tuple(calls))
        return tuple(calls)

    async def _run_tools(self, calls: tuple[ToolCall, ...]) -> None:
        """Run them one after the other; every call gets its result in the dialogue,
        also when interrupted: models refuse a dialogue where one is missing."""
        waiting = list(calls)
        try:
            while waiting:
                result = await self._run_tool(waiting[0])
                self._mind.dialogue.tool_said(waiting.pop(0), result)
        finally:
            for call in waiting:
                self._mind.dialogue.tool_said(call, "Error: interrupted")

    async def _run_tool(self, call: ToolCall) -> str:
        mind, limits = self._mind, self._mind.limits
        limit = mind.toolbox.limit(call.name, limits.tool)

        def late() -> Exception:
            return ToolError("tool_timeout", f"{call.name} took longer than {limit:g} s")

        try:
            running = mind.toolbox.call(call.name, call.arguments)
            result = await within(limit, mind.clock, running, late)
        except ToolError as error:
            self._tool_failed(call, error.code)
            return f"Error: {error.message}"
        except CancelledError:
            raise
        except Exception as error:
            self._tool_failed(call, "internal_error")
            self._report(error)
            return "Error: the tool is broken"
        self._timeline.tool("done")
        if len(result) > limits.tool_result:
            return result[: limits.tool_result] + " … (cut)"
        return result

    def _tool_failed(self, call: ToolCall, code: str) -> None:
        self._timeline.tool(code)
        self._log.info(
            "{session_id}: tool {tool} failed: {code}",
            session_id=self._session_id,
            tool=call.name,
            code=code,
        )

    async def _say(self, sentence: str) -> None:
        words, emotion = take_emotion(sentence)
        if emotion or not self._felt:
            self._felt = True
            emotion = emotion or "neutral"
            self._mouth.send(Llm(emotion, emoji_of(emotion), self.number))
        # Nothing to say in punctuation alone.
        if self._speech is not None and any(char.isalnum() for char in words):
            # A long answer waits here until enough of it has been played.
            await self._limit.held_up(self._speech.say(words.strip()))

"""One turn as one coroutine: recognise → model → tools → speech → playback.

Cancellation reaches the pending call, runs every ``finally`` and sends the edge a flush,
so every ``tts start`` gets exactly one ``tts stop`` (§4.5).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.ai.listening.echo import NEVER
from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.llm.loop import LlmLoop
from xiaozhi.ai.llm.mood import mood_of
from xiaozhi.ai.memory.pending import Cut, PendingAnswer
from xiaozhi.ai.speech.emotion import emoji_of, take_emotion
from xiaozhi.ai.speech.output import Speech, SpeechOutput
from xiaozhi.ai.speech.playback import PlaybackMap
from xiaozhi.ai.speech.spoken import SpokenText, pieces
from xiaozhi.ai.timeline.timeline import Overheard, Timeline
from xiaozhi.ai.turn.bridging import WaitBridge
from xiaozhi.base.errors import ProviderError, XiaozhiError
from xiaozhi.base.toolresult import ToolSound
from xiaozhi.base.values import Transcript
from xiaozhi.languages.scripts import language_of
from xiaozhi.languages.texts import catalogue_of, text
from xiaozhi.runtime.cancelling import Limit, late, within
from xiaozhi.wire.messages import Alert, Flush, Llm, Playback, PlaybackState, Stt, Tts, TtsState


class Turn:
    """One input of the person, or an event, and its answer.

    :ivar number: increases within the session; every message of the turn carries it.
    :ivar playing: whether the device has started to play the answer.
    """

    _log = Logger()

    def __init__(self, number: int, context: TurnContext, output: SpeechOutput) -> None:
        self.number = number
        self.playing = False
        self._context = context
        self._output = output
        self._language = context.talk.current
        self._speech: Speech | None = None
        self._open = False
        self._felt = False
        self._played: Deferred[Playback] = Deferred()
        self._limit = Limit(context.limits.whole, context.clock, late("turn"))
        self._began = 0.0
        self._created = context.clock.seconds()
        self._waits = 0.0
        self._playing_out: Limit | None = None
        self._timeline = Timeline(context.counts, context.clock, context.session_id, number)
        self._since: float | None = None  # when playback started, by our clock
        self._script = PlaybackMap()
        self._pending: PendingAnswer | None = None
        self._bridging = WaitBridge(context, self._bridge)
        self._hushed = False  # a failure is shown but not spoken

    @property
    def timeline(self) -> Timeline:
        """The timeline of the turn."""
        return self._timeline

    @property
    def started(self) -> bool:
        """Whether ``tts start`` has been sent to the device."""
        return self._speech is not None

    async def answer(
        self, heard: Awaitable[Transcript], *, spoken: bool = False, after: float = NEVER
    ) -> bool:
        """Answer an utterance or a typed text.

        :param heard: the transcript.
        :param spoken: the input is speech, not typed text.
        :param after: see :meth:`EchoGuard.after`.
        :return: False if there was nothing to answer.
        """
        if spoken:
            self._timeline.begin("spoken")

        async def converse() -> bool:
            echo = self._context.echo
            try:
                transcript = await self._recognized(heard)
            except ProviderError:
                self._hushed = not echo.failed(after)
                raise
            if not echo.understood(transcript.text, after):
                return False
            return await self._converse(transcript, after)

        return await self._carried_out(converse, asked=True)

    async def answer_overheard(self, over: Overheard) -> bool:
        """Answer an utterance over the previous answer."""
        self._timeline.overheard(over)

        async def converse() -> bool:
            self._context.echo.understood(over.said.text, NEVER)
            return await self._converse(over.said, -NEVER)

        return await self._carried_out(converse, asked=True)

    async def recite(self, shown: str, words: Awaitable[str]) -> bool:
        """Speak a given text without the language model: a picture's description, an
        announcement.

        :param shown: the person's words, for the display; may be empty.
        """

        self._timeline.begin("recited")

        async def recite() -> bool:
            if shown:
                self._speak_in(language_of(shown, self._context.language))
            self._start(shown)
            said = await self._timeline.awaited(
                "vlllm",
                "",
                within(self._context.limits.tool, self._context.clock, words, late("picture")),
            )
            pending, complete = self._asked(shown or "…"), False
            spoken = SpokenText()
            try:
                for piece in pieces(said):
                    for sentence in spoken.feed(piece):
                        await self.say(sentence)
                for sentence in spoken.finish():
                    await self.say(sentence)
                complete = True
            finally:
                pending.said(said, complete=complete)
            return True

        return await self._carried_out(recite, asked=bool(shown))

    async def greet(self, shown: str, greeting: str) -> bool:
        """Speak a greeting; its sound is cached.

        :param shown: as with :meth:`recite`.
        """
        self._timeline.begin("recited")

        async def greet() -> bool:
            language = language_of(greeting, self._context.language)
            self._speak_in(language)
            self._start(shown)
            pending = self._asked(shown)
            pending.spoke(greeting)
            pending.said(greeting)
            await self._pronounce(greeting, language, answer=True)
            return True

        return await self._carried_out(greet)

    async def bid_farewell(self) -> bool:
        """Say goodbye on the service's own initiative."""
        self._timeline.begin("recited")

        async def farewell() -> bool:
            self._start("")
            await self.remark("farewell")
            return True

        return await self._carried_out(farewell)

    async def announce(self, words: str) -> bool:
        """Speak an announcement in the language that its script suggests."""
        self._speak_in(language_of(words, self._context.language))

        async def ready() -> str:
            return words

        return await self.recite("", ready())

    def wait(self, seconds: float) -> None:
        """Extend the playback timeout: the turn is paused for up to ``seconds``."""
        self._waits += seconds
        if self._playing_out is not None:
            self._playing_out.extend(seconds)

    def was_paused(self, seconds: float) -> None:
        """Note that the turn was paused for ``seconds``."""
        if self._since is not None:
            self._since += seconds

    def playback(self, report: Playback) -> None:
        """Handle the edge's report of how far the device has played this turn."""
        self._timeline.playback(report)
        if report.state is PlaybackState.STARTED:
            self.playing = True
            self._since = self._context.clock.seconds()
        elif not self._played.called:
            self._open = False
            self._played.callback(report)

    # --- common to all kinds of turns ---------------------------------------------

    async def _carried_out(
        self, body: Callable[[], Awaitable[bool]], *, asked: bool = False
    ) -> bool:
        """Run a turn to its end, including the apology for a failure and the records.

        :param asked: a person waits for the answer.
        """
        result = "interrupted"
        if asked:
            self._bridging.start()
        try:
            try:
                spoke = await self._limit.run(body())
                if spoke or self._open:
                    await self._spoken()
                result = "answered" if spoke else "empty"
            except CancelledError:
                raise
            except Exception as error:
                result = "failed"
                self._report(error)
                spoke = not self._hushed
                if spoke:
                    await self._apologize()
                else:
                    self._show("confused")
            return spoke
        finally:
            self._bridging.stop()
            self._silence()
            self._note(result)
            self._confirm(result)
            self._log.info(
                "{session_id}: turn {turn}, {begun}: {result} after {seconds} s",
                **self._timeline.ended(result).logged(),
            )

    def _asked(self, words: str) -> PendingAnswer:
        pending = self._pending = self._context.dialogue.asked(words, self.number, self._language)
        return pending

    def _note(self, result: str) -> None:
        """Record the played part of the answer in the dialogue."""
        pending, dialogue = self._pending, self._context.dialogue
        if pending is None:
            return
        if result == "answered" and not self._timeline.cut:
            dialogue.answered(pending)
            return
        missing = "apology" if result == "failed" else "unheard"
        playing = 0.0 if self._since is None else self._context.clock.seconds() - self._since
        played = min(playing * 1000, self._script.sent_ms)
        dialogue.cut(pending, Cut(self._script, played, text(missing, self._language)))

    def _confirm(self, result: str) -> None:
        """Start or end the wait for a spoken confirmation; an empty turn does not change it."""
        context = self._context
        if result != "empty":
            heard = result == "answered" and not self._timeline.cut
            until = context.clock.seconds() + context.limits.confirm
            context.confirmation.turn_ended(self.number, until, heard=heard)

    def _report(self, error: Exception) -> None:
        where: dict[str, Any] = {"session_id": self._context.session_id, "turn": self.number}
        if isinstance(error, XiaozhiError):
            self._log.error("{session_id}: turn {turn} failed: {error}", error=error, **where)
        else:
            self._log.failure(
                "{session_id}: turn {turn} raised an exception", Failure(error), **where
            )

    def _speak_in(self, language: str) -> None:
        self._language = language
        self._context.talk.adopt(language)

    def _bridge(self) -> tuple[str, Deferred[bool]]:
        """Start to speak the bridging phrase."""
        language = catalogue_of(self._language)
        words = text("waiting", language)
        if not self._open:
            self._start("")
        assert self._speech is not None
        return words, self._speech.bridge(words, language)

    def _silence(self) -> None:
        if self._speech is not None:
            self._speech.cancel()
        if self._open:
            self._open = False
            self._output.send(Flush(self.number))

    def _start(self, shown: str, *, anew: bool = False) -> None:
        """Send ``tts start`` as early as possible: the device loses audio right after it (§3.3).

        :param anew: cancel the speech so far and start new speech.
        """
        if shown:
            self._output.send(Stt(shown, self.number))
        if not self._open:
            self._open = True
            self._began = self._context.clock.seconds()
            self._output.send(Tts(TtsState.START, turn=self.number))
        if self._speech is not None and not anew:
            # The bridging phrase may be playing.
            self._speech.language = self._language
            return
        if self._speech is not None:
            self._speech.cancel()
        self._speech = Speech(
            self._output, self.number, self._language, self._timeline, self._script
        )

    async def _spoken(self) -> None:
        """Send ``tts stop`` after the sound and wait until the device has played it."""
        speech = self._speech
        assert speech is not None
        await speech.finish()
        self._output.send(Tts(TtsState.STOP, turn=self.number))
        elapsed = self._context.clock.seconds() - self._began
        # Playback may have started late: also allow for the whole sound.
        limit = max(0.0, speech.sent_ms / 1000 - elapsed) + speech.sent_ms / 1000
        limit += self._context.limits.playback + self._waits
        self._playing_out = Limit(limit, self._context.clock, late("playback"))
        try:
            await self._playing_out.run(self._played)
        except ProviderError:
            # The edge sends the device its stop.
            self._log.warn(
                "{session_id}: the edge did not report the end of turn {turn}",
                session_id=self._context.session_id,
                turn=self.number,
            )
        self._open = False

    async def _apologize(self) -> None:
        limit, clock = self._context.limits.bridge, self._context.clock
        waited = self._bridging.said or (limit and clock.seconds() - self._created >= limit)
        with suppress(XiaozhiError):
            self._start("", anew=True)
            # The person has waited, or synthesis failed: do not wait for the synthesiser.
            await self.remark("apology", at_once=waited or "tts" in self._timeline.failed)
            await self._spoken()
            if self._speech is not None and self._speech.sent_ms:
                return
        # Without synthesis, an alert shows the apology, and the device plays its own sound.
        title, words = (text(key, self._language) for key in ("apology_title", "apology"))
        self._output.send(Alert(title, words, "sad"))
        self._context.echo.sounded()

    # --- recognition, model, speech ---------------------------------------------------

    async def _converse(self, transcript: Transcript, after: float) -> bool:
        """:param after: see :meth:`EchoGuard.after`."""
        if not transcript.text.strip():
            return False
        agreed = self._context.confirmation.answered(transcript.text, self._created)
        if after < 0:
            # The utterance began before the question ended, so it is no answer to it.
            agreed = None
        mood = mood_of(transcript.emotion)
        self._timeline.heard(transcript.text, mood)
        self._speak_in(transcript.language or language_of(transcript.text, self._context.language))
        self._start(transcript.text)
        loop = LlmLoop(self._context, self.number, self._timeline, self, mood)
        await loop.about(self._asked(transcript.text), agreed)
        return True

    async def _recognized(self, heard: Awaitable[Transcript]) -> Transcript:
        stage = "recognise" if self._timeline.begun == "spoken" else ""
        limited = within(self._context.limits.recognize, self._context.clock, heard, late("asr"))
        return await self._timeline.awaited("asr", stage, limited)

    async def remark(self, key: str, *, at_once: bool = False) -> None:
        """Speak a phrase of the catalogue.

        :param at_once: see :meth:`Speech.pronounce`.
        """
        if key == "checking" and self._bridging.said:
            return
        language = catalogue_of(self._language)
        words = text(key, language)
        self._context.echo.said(words)
        await self._pronounce(words, language, at_once=at_once)

    async def conclude(self, key: str) -> None:
        """Speak a phrase of the catalogue as the answer, instead of the model's."""
        language = catalogue_of(self._language)
        words = text(key, language)
        if self._pending is not None:
            self._pending.spoke(words)
            self._pending.said(words)
        await self._pronounce(words, language, answer=True)

    async def _pronounce(
        self, phrase: str, language: str, *, answer: bool = False, at_once: bool = False
    ) -> None:
        """Speak a phrase whose sound is cached."""
        self._show("")
        if self._speech is not None:
            await self._limit.held_up(
                self._speech.pronounce(phrase, language, answer=answer, at_once=at_once)
            )

    def _show(self, emotion: str) -> None:
        """Show an emotion; without one, show ``neutral`` before the turn's first sentence."""
        if emotion or not self._felt:
            self._felt = True
            emotion = emotion or "neutral"
            self._output.send(Llm(emotion, emoji_of(emotion), self.number))

    async def say(self, sentence: str) -> None:
        words, emotion = take_emotion(sentence)
        words = " ".join(words.split())
        self._show(emotion)
        # Punctuation alone is not spoken.
        if self._speech is not None and any(char.isalnum() for char in words):
            if self._pending is not None:
                self._pending.spoke(words)
            # A long answer waits here until enough of it has been played.
            await self._limit.held_up(self._speech.say(words))

    async def play(self, sound: ToolSound) -> None:
        """Play a tool's sound after the sentences so far."""
        self._show("")
        if self._speech is not None:
            await self._limit.held_up(self._speech.play(sound))

    async def ask(self, tool: str) -> None:
        """Ask whether a tool may run.

        The sound is not cached: the question contains a name that a third party chose.
        """
        language = catalogue_of(self._language)
        words = text("confirm", language).format(title=tool)
        self._show("")
        if self._pending is not None:
            self._pending.asked(words)
        if self._speech is not None:
            await self._limit.held_up(self._speech.say(words, language))

"""Speech output: turns the sentences of an answer into packets for the edge, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from xiaozhi.agents.settings import SpeechSettings, TurnSettings
from xiaozhi.ai.speech.phrases import Phrase, Phrases
from xiaozhi.ai.speech.playback import PlaybackMap
from xiaozhi.ai.speech.readahead import Read, ReadAhead, Sound
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.audio import SLICE_SECONDS, OpusForm, PacketMaker, size_of
from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.toolresult import ToolSound
from xiaozhi.base.values import SoundFormat
from xiaozhi.interfaces import ISynthesizer, TimedOffload
from xiaozhi.runtime.cancelling import Gate, each_within, late
from xiaozhi.wire.messages import Audio, AudioParams, Downlink, Tts, TtsState

# Displayed while a sound without a title plays.
_NOTE = "♪"

# With at least this much sound ahead of playback, in seconds, packets are not urgent.
_AHEAD = 0.3


@dataclass(frozen=True, slots=True)
class SpeechOutput:
    """Parts and settings for speech that all turns of a session share.

    :ivar gate: closed while the edge has paused audio.
    """

    synthesizer: ISynthesizer
    send: Callable[[Downlink], None]
    gate: Gate
    downlink: AudioParams
    offload: TimedOffload
    clock: IReactorTime
    settings: SpeechSettings
    limits: TurnSettings
    phrases: Phrases

    @property
    def form(self) -> OpusForm:
        """The format of the device's packets."""
        downlink, settings = self.downlink, self.settings
        return OpusForm(
            downlink.sample_rate,
            downlink.frame_duration,
            settings.complexity,
            settings.bitrate,
            settings.application,
        )


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A queued sentence or a tool's sound.

    :ivar sound: its source; started up to ``speech.ahead`` sentences early.
    :ivar phrase: the phrase to cache it as; None: it is not cached.
    :ivar answer: see :meth:`PlaybackMap.begins`.
    :ivar at_once: prefer a cached phrase in any voice to a wait for the synthesiser.
    :ivar own: the format of a tool's sound; None: the synthesiser speaks.
    """

    words: str
    sound: ReadAhead
    phrase: Phrase | None
    answer: bool
    at_once: bool
    own: SoundFormat | None = None


class Speech:
    """Speaks sentences one after the other.

    While a sentence is sent, the next ``speech.ahead`` sentences are synthesised; an
    interruption wastes no more than those.

    The device shows a sentence with its first packet. Until its sound arrives, a cached phrase
    can be spoken before it: see :meth:`bridge`.

    :param script: playback map of the turn; records the sound sent.
    :ivar language: BCP 47, default for further sentences.
    :ivar sent_ms: milliseconds of sound sent so far.
    """

    def __init__(
        self,
        output: SpeechOutput,
        turn: int,
        language: str,
        timeline: Timeline,
        script: PlaybackMap | None = None,
    ) -> None:
        self._output = output
        self._turn = turn
        self.language = language
        self._timeline = timeline
        self._script = script or PlaybackMap()
        self._form = output.form
        self._encoder = self._form.encoder()
        # Bound: the current sentence and `look_ahead` more; beyond that, say() waits.
        self._sentences: deque[_Sentence] = deque()
        self._room = DeferredSemaphore(output.limits.look_ahead)
        self._more = Gate(is_open=False)
        self._complete = False
        self._failure: BaseException | None = None
        # The current sentence while none of its sound has been sent.
        self._silent: _Sentence | None = None
        self._bridging: Deferred[bool] | None = None
        self._bridged = Gate(is_open=True)
        self._cancelled = False
        self.sent_ms = 0
        self._played_from: float | None = None  # estimated start of playback
        self._run = Deferred.fromCoroutine(self._speak_all())
        self._run.addErrback(self._failed)

    async def say(self, words: str, language: str = "") -> None:
        """Queue a sentence; waits while the queue is full.

        :param language: BCP 47; empty: :attr:`language`.
        :raises ProviderError: synthesis of an earlier sentence failed.
        """
        await self._queue(words, language or self.language, None, answer=True)

    async def pronounce(
        self, words: str, language: str, *, answer: bool = False, at_once: bool = False
    ) -> None:
        """Queue a phrase whose sound is cached; waits and raises as :meth:`say`.

        :param answer: see :meth:`PlaybackMap.begins`.
        :param at_once: prefer cached sound in any voice to a wait for the synthesiser.
        """
        phrase = Phrase(words, language, self._form)
        await self._queue(words, language, phrase, answer=answer, at_once=at_once)

    async def play(self, sound: ToolSound) -> None:
        """Queue a tool's sound after the sentences; waits and raises as :meth:`say`."""
        output = self._output

        def read(take: Callable[[Sound], Awaitable[None]]) -> Awaitable[None]:
            limits = output.limits
            wait = limits.first_audio, limits.next_audio
            return each_within(*wait, output.clock, sound.pieces(), take, late("tool_sound"))

        await self._room.acquire()
        self._raise_failure()
        source = ReadAhead(read, output.settings.ahead_bytes)
        self._add(_Sentence(sound.title or _NOTE, source, None, False, False, sound.format))

    def bridge(self, words: str, language: str) -> Deferred[bool]:
        """Speak a cached phrase now, before the sentence that has no sound yet.

        :return: fires with whether the phrase was sent: not if sound has been sent already, or
            if the phrase is not cached. :meth:`cancel` cancels it.
        """

        async def interject() -> bool:
            packets = await self._output.phrases.any(Phrase(words, language, self._form))
            if packets is None or self.sent_ms or self._run.called:
                return False
            self._bridged.close()
            self._timeline.speaks(words)
            self._output.send(Tts(TtsState.SENTENCE_START, words, self._turn, aside=True))
            self._script.begins(words, answer=False)
            await self._put(packets, self._timeline.bridge)
            self._script.ended()
            return True

        def over(result: bool | Failure) -> bool | Failure:
            # After cancel(), a coroutine that waits for the gate is being cancelled itself.
            if not self._cancelled:
                self._bridged.open()
            return result

        self._bridging = bridging = Deferred.fromCoroutine(interject()).addBoth(over)
        return bridging

    async def _queue(
        self,
        words: str,
        language: str,
        phrase: Phrase | None,
        *,
        answer: bool,
        at_once: bool = False,
    ) -> None:
        await self._room.acquire()
        self._raise_failure()
        sound = ReadAhead(self._synthesized(words, language), self._output.settings.ahead_bytes)
        self._add(_Sentence(words, sound, phrase, answer, at_once))

    def _add(self, sentence: _Sentence) -> None:
        self._sentences.append(sentence)
        self._more.open()
        self._start_ahead()

    async def finish(self) -> None:
        """Wait until everything has been sent; raises as :meth:`say`.

        Cancelling the wait stops the speech.
        """
        self._complete = True
        self._more.open()
        await self._run
        if not self._bridged.is_open:
            await self._bridged.passed()
        self._raise_failure()

    def cancel(self) -> None:
        """Stop speaking. Idempotent."""
        self._cancelled = True
        self._run.cancel()
        if self._bridging is not None:
            self._bridging.cancel()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _failed(self, failure: Failure) -> None:
        self._failure = failure.value
        # Wake the callers that wait for room; they raise the error.
        for _ in range(self._output.limits.look_ahead - self._room.tokens):
            self._room.release()

    async def _speak_all(self) -> None:
        sentences = self._sentences
        try:
            while sentences or not self._complete:
                if not sentences:
                    self._more.close()
                    await self._more.passed()
                    continue
                self._room.release()
                await self._speak(sentences[0])
                sentences.popleft()
                self._start_ahead()
        finally:
            for sentence in sentences:
                sentence.sound.cancel()

    def _start_ahead(self) -> None:
        for at, sentence in enumerate(self._sentences):
            if at > self._output.settings.ahead:
                return
            # A phrase may be cached, so it does not start the synthesiser early.
            if sentence.phrase is None:
                sentence.sound.start()

    def _synthesized(self, words: str, language: str) -> Read:
        output, timeline = self._output, self._timeline

        def read(take: Callable[[Sound], Awaitable[None]]) -> Awaitable[None]:
            sound = output.synthesizer.synthesize(words, language)
            return each_within(
                output.limits.first_audio,
                output.limits.next_audio,
                output.clock,
                timeline.streamed("tts", "first_audio", sound),
                take,
                timeline.late("tts"),
            )

        return read

    async def _speak(self, sentence: _Sentence) -> None:
        self._silent = sentence
        await self._give(sentence)
        self._script.ended()

    def _show(self, sentence: _Sentence) -> None:
        """Announce a sentence to the device, the timeline and the playback map."""
        self._silent = None
        self._timeline.speaks(sentence.words)
        self._output.send(Tts(TtsState.SENTENCE_START, sentence.words, self._turn))
        self._script.begins(sentence.words, answer=sentence.answer)

    async def _give(self, sentence: _Sentence) -> None:
        if sentence.phrase is None:
            await self._synthesize(sentence)
            return
        output = self._output
        phrase, phrases = sentence.phrase, output.phrases
        packets = await (phrases.any(phrase) if sentence.at_once else phrases.find(phrase))
        if packets is None:
            who = usage.Who()
            with usage.noting(who):
                sentence.sound.start()
            try:
                spoken = await self._synthesize(sentence, alone=True)
            except ProviderError:
                # Another voice is better than silence.
                packets = await phrases.any(phrase)
                if packets is None or self._silent is not sentence:
                    raise
            else:
                await phrases.keep(phrase, spoken, who.provider)
                return
        await self._send(packets)

    async def _synthesize(self, sentence: _Sentence, *, alone: bool = False) -> tuple[bytes, ...]:
        """Encode and send a sentence while its sound arrives.

        :param alone: use an encoder of its own, so that the packets can be cached.
        :return: with ``alone``, the packets.
        """
        output = self._output
        encoder = self._form.encoder() if alone else self._encoder
        sound: SoundFormat = sentence.own or output.synthesizer.sound
        longest = self.sent_ms + output.limits.tool_sound * 1000
        maker = PacketMaker(sound, self._form, encoder)
        kept: list[bytes] = []
        waiting = bytearray()
        heard = False

        async def send(packets: list[bytes]) -> None:
            if alone:
                kept.extend(packets)
            await self._send(packets)

        async def encode() -> None:
            data = bytes(waiting)
            waiting.clear()
            await send(await output.offload(self._in_hand(), maker.feed, data))
            while maker.waiting:
                await send(await output.offload(self._in_hand(), maker.more))

        async with aclosing(sentence.sound.pieces()) as pieces:
            async for piece in pieces:
                if isinstance(piece, SoundFormat):
                    sound = piece
                    maker = PacketMaker(sound, self._form, encoder)
                    continue
                heard = heard or bool(piece)
                waiting += piece
                if len(waiting) >= size_of(self._patience(sentence.sound), sound):
                    await encode()
                    if sentence.own is not None and self.sent_ms >= longest:
                        sentence.sound.cancel()
                        break
        if not heard:
            # Without an error the failure would go unnoticed.
            source = "the synthesiser" if sentence.own is None else "a tool"
            raise ProviderError("no_sound", f"{source} gave no sound", retryable=True)
        pause = output.settings.pause
        await send(await output.offload(self._in_hand(), maker.finish, bytes(waiting), pause))
        return tuple(kept)

    def _patience(self, source: ReadAhead) -> float:
        """Return how many seconds of sound to collect for one call to a thread.

        Few calls are cheaper than many.
        """
        in_hand = self._in_hand()
        if in_hand and source.ready:
            return SLICE_SECONDS
        # A vendor may be no faster than real time: keep half of the sound in hand.
        return min(SLICE_SECONDS, in_hand / 2)

    async def _send(self, packets: list[bytes] | tuple[bytes, ...]) -> None:
        if not packets:
            return
        if not self._bridged.is_open:
            await self._bridged.passed()
        if self._silent is not None:
            self._show(self._silent)
        await self._put(packets, self._timeline.packet)

    async def _put(
        self, packets: list[bytes] | tuple[bytes, ...], count: Callable[[int], None]
    ) -> None:
        output, duration = self._output, self._output.downlink.frame_duration
        in_hand = self._in_hand()
        for packet in packets:
            if not output.gate.is_open:
                await output.gate.passed()
                in_hand = self._in_hand()
            output.send(Audio(packet, 0, self._turn, ahead=in_hand >= _AHEAD))
            count(duration)
            self.sent_ms += duration
            self._script.sent(duration)
            in_hand += duration / 1000

    def _in_hand(self) -> float:
        """Estimate how many seconds of sent sound are not played yet."""
        now = self._output.clock.seconds()
        if self._played_from is None:
            self._played_from = now
        # If all sound has been played, further sound plays from now on.
        over = self._played_from + self.sent_ms / 1000
        self._played_from += max(0.0, now - over)
        return max(0.0, over - now)

"""Sentences of one answer → sound at the edge, in order, while more are thought of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from twisted.internet.defer import Deferred, DeferredQueue, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from xiaozhi.ai.settings import SpeechSettings, TurnSettings
from xiaozhi.ai.timeline import Timeline
from xiaozhi.ai.waiting import Gate, each_within
from xiaozhi.audio import OpusEncoder, SoundReader
from xiaozhi.errors import ProviderError
from xiaozhi.interfaces import ISynthesizer, Offload
from xiaozhi.wire.messages import Audio, AudioParams, Downlink, Tts, TtsState

# Seconds by which sound is so much earlier than it is played that it need not hurry.
_AHEAD = 0.5

# Sound encoded at one go in a worker thread: short, so that the first of it
# leaves soon and others get their turn.
_SLICE_SECONDS = 0.24


@dataclass(frozen=True, slots=True)
class Mouth:
    """What speaking needs of a session, the same for all its turns.

    :ivar gate: closed while the edge asks to hold audio back.
    """

    synthesizer: ISynthesizer
    send: Callable[[Downlink], None]
    gate: Gate
    downlink: AudioParams
    offload: Offload
    clock: IReactorTime
    settings: SpeechSettings
    limits: TurnSettings


class Speech:
    """Speaks the sentences it is given, one after the other.

    :ivar sent_ms: sound sent so far.
    """

    def __init__(self, mouth: Mouth, turn: int, language: str, timeline: Timeline) -> None:
        self._mouth = mouth
        self._turn = turn
        self._language = language
        self._timeline = timeline
        downlink, settings = mouth.downlink, mouth.settings
        self._encoder = OpusEncoder(
            downlink.sample_rate, downlink.frame_duration, settings.complexity, settings.bitrate
        )
        # Bound: `look_ahead` sentences; say() waits beyond.
        self._queue: DeferredQueue[str | None] = DeferredQueue()
        self._room = DeferredSemaphore(mouth.limits.look_ahead)
        self._failure: BaseException | None = None
        self.sent_ms = 0
        self._played_from: float | None = None  # when what is sent was played, about
        self._run = Deferred.fromCoroutine(self._speak_all())
        self._run.addErrback(self._failed)

    async def say(self, sentence: str) -> None:
        """Queue a sentence; waits while enough are queued.

        :raises ProviderError: an earlier sentence could not be spoken.
        """
        await self._room.acquire()
        self._raise_failure()
        self._queue.put(sentence)

    async def finish(self) -> None:
        """Wait until everything has been sent. Errors as :meth:`say`.

        Cancelling the wait is :meth:`cancel`.
        """
        self._queue.put(None)
        await self._run
        self._raise_failure()

    def cancel(self) -> None:
        """Be silent. Idempotent."""
        self._run.cancel()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _failed(self, failure: Failure) -> None:
        self._failure = failure.value
        # Whoever waits for room learns of it.
        for _ in range(self._mouth.limits.look_ahead - self._room.tokens):
            self._room.release()

    async def _speak_all(self) -> None:
        while (sentence := await self._queue.get()) is not None:
            self._room.release()
            await self._speak(sentence)

    async def _speak(self, sentence: str) -> None:
        mouth = self._mouth
        rate = mouth.downlink.sample_rate
        synthesizer = mouth.synthesizer
        reader = SoundReader(synthesizer.sound, rate)
        limit = mouth.limits.first_audio

        def late() -> Exception:
            return ProviderError(
                "tts_timeout", f"no sound from the synthesiser in {limit:g} s", retryable=True
            )

        mouth.send(Tts(TtsState.SENTENCE_START, sentence, self._turn))
        pieces = synthesizer.synthesize(sentence, self._language)
        limited = each_within(limit, limit, mouth.clock, pieces, late)
        async with aclosing(self._timeline.streamed("tts", "first_audio", limited)) as timed:
            async for piece in timed:
                await self._encode_and_send(await mouth.offload(reader.feed, piece))
        rest = await mouth.offload(reader.finish)
        await self._encode_and_send(rest + bytes(int(rate * mouth.settings.pause) * 2))
        await self._send(await mouth.offload(self._encoder.flush))

    async def _encode_and_send(self, pcm: bytes) -> None:
        slice_bytes = int(self._mouth.downlink.sample_rate * _SLICE_SECONDS) * 2
        for at in range(0, len(pcm), slice_bytes):
            part = pcm[at : at + slice_bytes]
            await self._send(await self._mouth.offload(self._encoder.encode, part))

    async def _send(self, packets: list[bytes]) -> None:
        for packet in packets:
            await self._mouth.gate.passed()
            self._mouth.send(Audio(packet, 0, self._turn, ahead=self._ahead()))
            self._timeline.packet()
            self.sent_ms += self._mouth.downlink.frame_duration

    def _ahead(self) -> bool:
        """Whether the edge has sound for a while."""
        now = self._mouth.clock.seconds()
        if self._played_from is None:
            self._played_from = now
        # After a pause it is played from then on, and nothing is ahead.
        over = self._played_from + self.sent_ms / 1000
        self._played_from += max(0.0, now - over)
        return over - now >= _AHEAD

"""Collection of answers: the device's events, sorted by the input they belong to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xiaozhi.device import events as e

# Packets kept of one answer: ten minutes at 60 ms. Further packets are only counted.
MAX_PACKETS = 10_000


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """The answer to one input, spoken or typed.

    :ivar heard: text of the last ``stt``; None if the server sent none.
    :ivar packets: Opus packets in playing order, at most :data:`MAX_PACKETS`.
    :ivar audio_ms: duration of all packets.
    :ivar first_audio_latency: seconds from the end of speech to the first packet;
        negative if the server spoke first, None if no packet arrived.
    :ivar gaps: silences in ms inside the answer that are longer than a packet.
    :ivar dropped: packets that the device could not use (queue full, outside speaking, …).
    :ivar tts_starts: ``tts start`` messages, as ``tts_stops``; one of each is correct.
    :ivar interrupted: whether the device sent ``abort`` during the answer.
    :ivar moments: times in seconds after the end of speech or the typed text: ``heard``,
        ``speech_start`` (``tts start``), ``first_sentence``, ``first_packet``,
        ``last_packet``, ``interrupted``, ``speech_stop``. A moment that did not occur
        is absent.
    """

    heard: str | None
    sentences: tuple[str, ...]
    emotion: str | None
    packets: tuple[bytes, ...]
    audio_ms: float
    first_audio_latency: float | None
    gaps: tuple[float, ...]
    dropped: int
    tts_starts: int
    tts_stops: int
    tools: tuple[e.ToolCalled, ...]
    errors: tuple[str, ...]
    sample_rate: int
    interrupted: bool = False
    moments: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Return the sentences as one text."""
        return " ".join(self.sentences)


# Events of which the first one is a moment of the answer.
_MOMENTS = {
    e.Heard: "heard",
    e.SpeechStarted: "speech_start",
    e.Sentence: "first_sentence",
    e.PacketPlayed: "first_packet",
    e.SpeechStopped: "speech_stop",
}
_LOST = frozenset({"audio_dropped", "queue_full", "undecodable", "bad_frame"})


@dataclass
class _PartialAnswer:
    """An answer that is not complete yet."""

    done: Deferred[AnswerReport]
    ended_at: float | None = None
    first_audio_at: float | None = None
    heard: str | None = None
    emotion: str | None = None
    sentences: list[str] = field(default_factory=list)
    packets: list[bytes] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    tools: list[e.ToolCalled] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    audio_ms: float = 0.0
    dropped: int = 0
    starts: int = 0
    stops: int = 0
    interrupted: bool = False
    over: bool = False
    at: dict[str, float] = field(default_factory=dict)

    def report(self, sample_rate: int) -> AnswerReport:
        latency = None
        if self.first_audio_at is not None and self.ended_at is not None:
            latency = self.first_audio_at - self.ended_at
        return AnswerReport(
            self.heard,
            tuple(self.sentences),
            self.emotion,
            tuple(self.packets),
            self.audio_ms,
            latency,
            tuple(self.gaps),
            self.dropped,
            self.starts,
            self.stops,
            tuple(self.tools),
            tuple(self.errors),
            sample_rate,
            self.interrupted,
            {name: at - (self.ended_at or at) for name, at in self.at.items()},
        )


class AnswerCollector:
    """Assigns events to inputs, oldest first.

    An answer is complete when its input has ended, ``tts stop`` has arrived and the
    queued packets have been played.

    :param playing: whether the loudspeaker still has something to play.
    :ivar strays: number of ``tts stop`` messages received outside speaking.
    """

    def __init__(self, clock: IReactorTime, playing: Callable[[], bool]) -> None:
        self._clock = clock
        self._playing = playing
        self._open: deque[_PartialAnswer] = deque()
        self._sample_rate = 24000
        self.strays = 0

    def expect(self) -> tuple[Deferred[AnswerReport], Callable[[float], None]]:
        """Register an input that begins now.

        :return: the future answer, and a function to call with the time the input ended.
        """
        partial = _PartialAnswer(Deferred(lambda _: self._forget(partial)))
        self._open.append(partial)

        def ended(at: float) -> None:
            partial.ended_at = at
            self._settle()

        return partial.done, ended

    def fail_unanswered(self, answer: Deferred[AnswerReport], error: Exception) -> None:
        """Fail an answer for which the server has sent nothing yet."""
        for partial in list(self._open):
            if partial.done is answer and partial.heard is None and not partial.starts:
                self._forget(partial)
                answer.errback(error)

    def interrupted(self, left: bool) -> None:
        """Mark the current answer as interrupted by the device.

        :param left: the device listens at once instead of waiting for ``tts stop``.
        """
        for partial in self._open:
            if partial.starts and not partial.over:
                partial.interrupted = True
                partial.at.setdefault("interrupted", self._clock.seconds())
                partial.over = left
        self._settle()

    def disconnected(self, error: Exception) -> None:
        """End all answers. One that had begun is complete; the others fail with ``error``."""
        unanswered, self._open = self._open, deque()
        for partial in unanswered:
            if partial.starts:
                partial.done.callback(partial.report(self._sample_rate))
            else:
                partial.done.errback(error)

    def watch(self, event: e.Event) -> None:
        """Process an event of the device."""
        if isinstance(event, e.Connected):
            self._sample_rate = event.sample_rate
        elif isinstance(event, e.SpeechStopped) and event.stray:
            self.strays += 1
        current = self._current(event)
        if current is not None:
            self._note(current, event)
        if isinstance(event, e.SpeechStopped | e.Drained):
            self._settle()

    def _current(self, event: e.Event) -> _PartialAnswer | None:
        """Return the answer that an event belongs to: the oldest that is not over."""
        waiting = [g for g in self._open if not g.over]
        if isinstance(event, e.Heard) and len(waiting) > 1 and waiting[0].starts:
            return waiting[1]
        return waiting[0] if waiting else None

    def _note(self, current: _PartialAnswer, event: e.Event) -> None:
        if (moment := _MOMENTS.get(type(event))) is not None:
            current.at.setdefault(moment, self._clock.seconds())
        match event:
            case e.Heard(text):
                current.heard = text
            case e.Face(emotion):
                current.emotion = emotion
            case e.SpeechStarted():
                current.starts += 1
            case e.Sentence(text):
                current.sentences.append(text)
            case e.SpeechStopped(False):
                current.stops += 1
                current.over = True
            case e.ToolCalled():
                current.tools.append(event)
            case e.ServerError(code, _):
                current.errors.append(code)
            case e.PacketPlayed(payload, duration_ms, gap_ms):
                if current.first_audio_at is None:
                    current.first_audio_at = self._clock.seconds()
                elif gap_ms > duration_ms:
                    current.gaps.append(gap_ms)
                current.at["last_packet"] = self._clock.seconds()
                current.audio_ms += duration_ms
                if len(current.packets) < MAX_PACKETS:
                    current.packets.append(payload)
            case e.Trouble(code, _) if code in _LOST:
                current.dropped += 1

    def _settle(self) -> None:
        while self._open:
            first = self._open[0]
            if not first.over or first.ended_at is None:
                return
            # If a later answer is playing already, this one has been played.
            if self._playing() and not any(g.starts for g in list(self._open)[1:]):
                return
            self._open.popleft()
            first.done.callback(first.report(self._sample_rate))

    def _forget(self, partial: _PartialAnswer) -> None:
        if partial in self._open:
            self._open.remove(partial)

"""The answer to one input, collected from the device's events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xiaozhi.device import events as e

# Packets kept of one answer: ten minutes at 60 ms; more are counted only.
MAX_PACKETS = 10_000


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """The answer to one thing said.

    :ivar heard: what the server understood, its last ``stt``; None if it sent none.
    :ivar packets: the Opus packets in the order they were played.
    :ivar audio_ms: how long they sound.
    :ivar first_audio_latency: seconds from the end of speech to the first packet;
        negative if the server spoke first, None if no sound came.
    :ivar gaps: silences in ms inside the answer, longer than a frame.
    :ivar dropped: packets the device could not use (queue full, outside speaking, …).
    :ivar tts_starts: ``tts start`` seen, as ``tts_stops``; one of each is right.
    :ivar interrupted: the device sent ``abort`` while it was being spoken.
    :ivar moments: when what of it happened, in seconds after the end of speech (or the
        text that was typed): ``heard``, ``speech_start`` (``tts start``),
        ``first_sentence``, ``first_packet``, ``last_packet``, ``interrupted``,
        ``speech_stop``; what did not happen is not in it.
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
        """Return the text of the answer."""
        return " ".join(self.sentences)


# What each is called the first time it happens.
_MOMENTS = {
    e.Heard: "heard",
    e.SpeechStarted: "speech_start",
    e.Sentence: "first_sentence",
    e.PacketPlayed: "first_packet",
    e.SpeechStopped: "speech_stop",
}
_LOST = frozenset({"audio_dropped", "queue_full", "undecodable", "bad_frame"})


@dataclass
class _Gathering:
    """An answer while it comes."""

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

    def answer(self, sample_rate: int) -> AnswerReport:
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


class AnswerBook:
    """Sorts events to the things said, oldest first.

    An answer is complete when the speech it answers is over, ``tts stop`` came
    and what was there to play has been played.

    :param playing: whether the loudspeaker is still at work.
    :ivar strays: ``tts stop`` that came outside speaking, ever.
    """

    def __init__(self, clock: IReactorTime, playing: Callable[[], bool]) -> None:
        self._clock = clock
        self._playing = playing
        self._open: deque[_Gathering] = deque()
        self._sample_rate = 24000
        self.strays = 0

    def expect(self) -> tuple[Deferred[AnswerReport], Callable[[float], None]]:
        """Something is being said.

        :return: the answer to come, and what to call with the time its speech ended.
        """
        gathering = _Gathering(Deferred(lambda _: self._forget(gathering)))
        self._open.append(gathering)

        def ended(at: float) -> None:
            gathering.ended_at = at
            self._settle()

        return gathering.done, ended

    def unheard(self, answer: Deferred[AnswerReport], error: Exception) -> None:
        """Fail an answer of which there is no sign yet."""
        for gathering in list(self._open):
            if gathering.done is answer and gathering.heard is None and not gathering.starts:
                self._forget(gathering)
                answer.errback(error)

    def interrupted(self, left: bool) -> None:
        """The device aborts what is being spoken.

        :param left: it does not wait for ``tts stop`` but listens at once.
        """
        for gathering in self._open:
            if gathering.starts and not gathering.over:
                gathering.interrupted = True
                gathering.at.setdefault("interrupted", self._clock.seconds())
                gathering.over = left
        self._settle()

    def disconnected(self, error: Exception) -> None:
        """The connection is gone. What was being spoken counts as answered."""
        unanswered, self._open = self._open, deque()
        for gathering in unanswered:
            if gathering.starts:
                gathering.done.callback(gathering.answer(self._sample_rate))
            else:
                gathering.done.errback(error)

    def watch(self, event: e.Event) -> None:
        if isinstance(event, e.Connected):
            self._sample_rate = event.sample_rate
        elif isinstance(event, e.SpeechStopped) and event.stray:
            self.strays += 1
        current = self._current(event)
        if current is not None:
            self._note(current, event)
        if isinstance(event, e.SpeechStopped | e.Drained):
            self._settle()

    def _current(self, event: e.Event) -> _Gathering | None:
        """Return the answer an event belongs to: the oldest whose speech has not ended."""
        waiting = [g for g in self._open if not g.over]
        if isinstance(event, e.Heard) and len(waiting) > 1 and waiting[0].starts:
            return waiting[1]
        return waiting[0] if waiting else None

    def _note(self, current: _Gathering, event: e.Event) -> None:
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
            # A later answer may be playing already; then this one is long over.
            if self._playing() and not any(g.starts for g in list(self._open)[1:]):
                return
            self._open.popleft()
            first.done.callback(first.answer(self._sample_rate))

    def _forget(self, gathering: _Gathering) -> None:
        if gathering in self._open:
            self._open.remove(gathering)

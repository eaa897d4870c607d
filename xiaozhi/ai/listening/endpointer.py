"""Endpointer: finds the beginnings and ends of utterances in a stream of sound.

Time is counted in sound, not by the clock: a late packet is still 60 ms of silence or
speech, and 1-byte DTX packets keep time (§3.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from xiaozhi.agents.settings import ListenSettings
from xiaozhi.interfaces import ITurnDetector, IVoiceActivity

SAMPLE_RATE = 16000
FRAME_MS = 20
FRAME_BYTES = SAMPLE_RATE * 2 * FRAME_MS // 1000


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """An utterance has begun.

    :ivar pcm: its sound so far, including the pre-roll.
    """

    pcm: bytes


@dataclass(frozen=True, slots=True)
class SpeechWent:
    """More sound of the open utterance, including its pauses."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The utterance has ended.

    :ivar noise: whether it was too short to be speech; drop it.
    """

    noise: bool


Event = SpeechBegan | SpeechWent | SpeechEnded


def _frames(seconds: float) -> int:
    return max(1, round(seconds * 1000 / FRAME_MS))


class Endpointer:
    """Cuts utterances out of sound.

    :ivar in_speech: whether an utterance is open.
    :ivar voiced_ms: milliseconds of voice in the open utterance.
    """

    def __init__(
        self, activity: IVoiceActivity, detector: ITurnDetector, settings: ListenSettings
    ) -> None:
        self._activity = activity
        self._detector = detector
        self._start = _frames(settings.start)
        self._min_speech = _frames(settings.min_speech)
        self._max_utterance = _frames(settings.max_utterance)
        self._window: deque[bool] = deque(maxlen=_frames(settings.start_window))
        # Bound: the pre-roll, and the window in which speech is detected.
        self._recent: deque[bytes] = deque(
            maxlen=_frames(settings.pre_roll) + _frames(settings.start_window)
        )
        self._rest = b""
        self.reset()

    def reset(self) -> None:
        """Drop all state."""
        self.in_speech = False
        self.voiced_ms = self._silent = self._length = 0
        self._window.clear()
        self._recent.clear()
        self._rest = b""

    def understood(self, text: str) -> None:
        """Pass the interim text of the open utterance to the turn detector."""
        if self.in_speech:
            self._detector.understood(text)

    def feed(self, pcm: bytes) -> Iterator[Event]:
        """Process sound and yield the beginnings, continuations and ends of utterances.

        :param pcm: s16le mono at 16 kHz, any length.
        """
        data = self._rest + pcm
        whole = len(data) - len(data) % FRAME_BYTES
        self._rest = data[whole:]
        went = bytearray()
        for at in range(0, whole, FRAME_BYTES):
            frame = data[at : at + FRAME_BYTES]
            event = self._frame(frame)
            if event is None:
                if self.in_speech:
                    went += frame
                continue
            if went:
                yield SpeechWent(bytes(went))
                went.clear()
            yield event
        if went:
            yield SpeechWent(bytes(went))

    def _frame(self, frame: bytes) -> Event | None:
        """:return: the beginning or end of an utterance at this frame, else None."""
        voiced = self._activity.is_speech(frame)
        if not self.in_speech:
            return self._before(frame, voiced)
        self._length += 1
        if voiced:
            self.voiced_ms += FRAME_MS
            self._silent = 0
        else:
            self._silent += 1
        over = self._silent and self._detector.over(self._silent * FRAME_MS / 1000)
        if over or self._length >= self._max_utterance:
            noise = self.voiced_ms < self._min_speech * FRAME_MS
            self.reset_utterance()
            return SpeechEnded(noise)
        return None

    def _before(self, frame: bytes, voiced: bool) -> Event | None:
        self._recent.append(frame)
        self._window.append(voiced)
        if sum(self._window) < self._start:
            return None
        self.in_speech = True
        self._detector.begin()
        self.voiced_ms = sum(self._window) * FRAME_MS
        self._silent = 0
        self._length = len(self._recent)
        pcm = b"".join(self._recent)
        self._recent.clear()
        self._window.clear()
        return SpeechBegan(pcm)

    def reset_utterance(self) -> None:
        """Close the open utterance; the next frame may begin another."""
        self.in_speech = False
        self.voiced_ms = self._silent = self._length = 0

"""The microphone: PCM frames on an absolute clock.

It is never silent: between utterances it produces low noise, as a real microphone
does. The caller decides whether a frame is encoded and sent.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

SAMPLE_RATE = 16000

# Frames that the clock may be late; more are skipped instead of delivered late.
MAX_BEHIND = 10
# Samples above this level count as speech: 1 % of full scale.
AUDIBLE = 328
_NOISE_LEVEL = 6
_NOISE_FRAMES = 16


def voiced_length(pcm: bytes) -> int:
    """Return the length of s16le PCM in bytes up to its last audible sample."""
    samples = array("h", pcm[: len(pcm) // 2 * 2])
    end = len(samples)
    while end and abs(samples[end - 1]) <= AUDIBLE:
        end -= 1
    return 2 * end


class Microphone:
    """Delivers one frame every ``frame_ms``.

    :param deliver: receives each frame: s16le mono at 16 kHz.
    :param random: source of the noise.
    :ivar skipped: frames not delivered because the process was too late.
    """

    def __init__(
        self,
        clock: IReactorTime,
        deliver: Callable[[bytes], None],
        random: Random,
        frame_ms: int = 60,
    ) -> None:
        self._clock = clock
        self._deliver = deliver
        self._frame = frame_ms / 1000
        self._size = SAMPLE_RATE * frame_ms // 1000 * 2
        self._noise = _noise(random, self._size)
        self._count = 0
        self._began = 0.0
        self._timer: IDelayedCall | None = None
        self._on = False
        self._speech: deque[_Utterance] = deque()
        self.skipped = 0

    @property
    def on(self) -> bool:
        return self._on

    def start(self) -> None:
        """Switch on; the first frame is delivered after one frame duration."""
        if not self._on:
            self._on = True
            self._began = self._clock.seconds()
            self._count = 0
            self._arm()

    def stop(self) -> None:
        """Switch off and end all utterances: their Deferreds fire."""
        self._on = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        queued, self._speech = self._speech, deque()
        for utterance in queued:
            utterance.end()

    def say(self, pcm: bytes) -> Deferred[float]:
        """Queue an utterance after those already queued.

        :param pcm: s16le mono at 16 kHz.
        :return: fires when the utterance was captured completely, with the time of its
            last audible frame: the end of speech as a listener hears it. Cancel it to
            end the utterance.
        """
        utterance = _Utterance(pcm, self._clock, self._forget)
        self._speech.append(utterance)
        return utterance.done

    @property
    def speaking(self) -> bool:
        """Whether an utterance is queued or being captured."""
        return bool(self._speech)

    def _forget(self, utterance: _Utterance) -> None:
        if utterance in self._speech:
            self._speech.remove(utterance)

    def _arm(self) -> None:
        due = self._began + (self._count + 1) * self._frame
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        late = int((self._clock.seconds() - self._began) / self._frame + 1e-6) - self._count
        if late > MAX_BEHIND:
            self.skipped += late - 1
            self._began += (late - 1) * self._frame
            late = 1
        for _ in range(late):
            self._count += 1
            self._capture()
            if not self._on or self._timer is not None:
                return  # delivering a frame switched it off, or off and on again
        self._arm()

    def _capture(self) -> None:
        pcm = b""
        if self._speech:
            pcm = self._speech[0].take(self._size)
        noise = self._noise[self._count % _NOISE_FRAMES]
        self._deliver(pcm + noise[len(pcm) :])
        if self._speech:
            self._speech[0].frame_sent()
            if self._speech[0].finished:
                self._speech.popleft().end()


class _Utterance:
    """PCM that is being captured."""

    def __init__(
        self, pcm: bytes, clock: IReactorTime, cancelled: Callable[[_Utterance], None]
    ) -> None:
        self._pcm = pcm[: len(pcm) // 2 * 2]
        self._voiced = voiced_length(pcm)
        self._clock = clock
        self._at = 0
        self._ended_at: float | None = None
        self.done: Deferred[float] = Deferred(lambda _: cancelled(self))

    @property
    def finished(self) -> bool:
        return self._at >= len(self._pcm)

    def take(self, size: int) -> bytes:
        piece = self._pcm[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def frame_sent(self) -> None:
        if self._ended_at is None and self._at >= self._voiced:
            self._ended_at = self._clock.seconds()

    def end(self) -> None:
        if not self.done.called:
            ended_at = self._clock.seconds() if self._ended_at is None else self._ended_at
            self.done.callback(ended_at)


def _noise(random: Random, size: int) -> list[bytes]:
    """Make frames of faint noise. After digital silence a voice activity detector would
    take any sound for speech."""
    levels = range(-_NOISE_LEVEL, _NOISE_LEVEL + 1)
    return [array("h", random.choices(levels, k=size // 2)).tobytes() for _ in range(_NOISE_FRAMES)]

"""What a session could not send yet."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from xiaozhi.wire.messages import Audio, SessionClose


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait per session.

    :ivar messages: control messages; a newer one is refused.
    :ivar audio: packets; the oldest is dropped.
    :ivar audio_age: seconds; audio that waited longer is dropped.
    """

    messages: int
    audio: int
    audio_age: float


class Waiting:
    """A bounded queue of messages with their places in the session's order.

    :param drops: counts what was dropped, by reason.
    """

    __slots__ = ("_audio", "_bounds", "_control", "_drops")

    def __init__(self, bounds: Bounds, drops: Counter[str]) -> None:
        self._bounds = bounds
        self._drops = drops
        self._control: deque[tuple[int, Any]] = deque()
        self._audio: deque[tuple[int, Audio, float]] = deque()

    def __len__(self) -> int:
        return len(self._control) + len(self._audio)

    def add(self, sequence: int, message: Any, now: float) -> bool:
        """:return: False if the message is refused because too many wait."""
        if type(message) is Audio:
            self._audio.append((sequence, message, now))
            self._expire(now)
            if len(self._audio) > self._bounds.audio:
                self._audio.popleft()
                self._drops["audio_overflow"] += 1
            return True
        full = len(self._control) >= self._bounds.messages
        if full and type(message) is not SessionClose:  # the last; nothing follows it
            self._drops["control_overflow"] += 1
            return False
        self._control.append((sequence, message))
        return True

    def pop(self, now: float) -> tuple[int, Any] | None:
        """The next message that is still worth sending, with its place."""
        self._expire(now)
        if self._audio and not (self._control and self._control[0][0] < self._audio[0][0]):
            sequence, message, _ = self._audio.popleft()
            return sequence, message
        return self._control.popleft() if self._control else None

    def _expire(self, now: float) -> None:
        oldest = now - self._bounds.audio_age
        while self._audio and self._audio[0][2] < oldest:
            self._audio.popleft()
            self._drops["audio_stale"] += 1

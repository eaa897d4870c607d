"""What a session could not send yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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
    """A bounded queue of messages in the order they came.

    :param dropped: called with a reason for every message that is dropped.
    """

    __slots__ = ("_audio", "_bounds", "_control", "_dropped", "_ticket")

    def __init__(self, bounds: Bounds, dropped: Callable[[str], None]) -> None:
        self._bounds = bounds
        self._dropped = dropped
        self._ticket = 0
        self._control: deque[tuple[int, Any]] = deque()
        self._audio: deque[tuple[int, Audio, float]] = deque()

    def __len__(self) -> int:
        return len(self._control) + len(self._audio)

    def add(self, message: Any, now: float) -> bool:
        """:return: False if the message is refused because too many wait."""
        self._ticket += 1
        if type(message) is Audio:
            self._audio.append((self._ticket, message, now))
            self._expire(now)
            if len(self._audio) > self._bounds.audio:
                self._audio.popleft()
                self._dropped("audio_overflow")
            return True
        full = len(self._control) >= self._bounds.messages
        if full and type(message) is not SessionClose:  # the last; nothing follows it
            self._dropped("control_overflow")
            return False
        self._control.append((self._ticket, message))
        return True

    def next(self, now: float) -> Any:
        """The message to send next, if it is still worth it; None: there is none."""
        self._expire(now)
        control, audio = self._control, self._audio
        if audio and not (control and control[0][0] < audio[0][0]):
            return audio[0][1]
        return control[0][1] if control else None

    def take(self, message: Any) -> None:
        """Remove what :meth:`next` has just given."""
        (self._audio if type(message) is Audio else self._control).popleft()

    def remove(self, unwanted: Callable[[Any], bool]) -> int:
        """:return: how many messages were removed."""
        before = len(self)
        self._control = deque(each for each in self._control if not unwanted(each[1]))
        self._audio = deque(each for each in self._audio if not unwanted(each[1]))
        return before - len(self)

    def _expire(self, now: float) -> None:
        oldest = now - self._bounds.audio_age
        while self._audio and self._audio[0][2] < oldest:
            self._audio.popleft()
            self._dropped("audio_stale")

"""Messages that a session could not send yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xiaozhi.wire.messages import Audio, SessionClose

# Bytes for which a session always has room, and those of a message beside its words.
_SMALL, _MESSAGE = 65_536, 200


def octets_of(message: Any) -> int:
    """How much memory a control message takes, about."""
    words = (getattr(message, name, "") for name in ("data", "payload", "text"))
    return _MESSAGE + sum(map(len, words))


@dataclass(slots=True)
class Room:
    """Bytes of control messages that wait, of all sessions together.

    :ivar most: how many there may be; beyond, a session that has more than 64 KiB
        waiting is refused more.
    """

    most: int = 1 << 60
    octets: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait per session.

    :ivar messages: control messages; a newer one is refused.
    :ivar audio: packets; the oldest is dropped.
    :ivar audio_age: seconds; audio that waited longer is dropped.
    :ivar room: for the control messages of all sessions.
    """

    messages: int
    audio: int
    audio_age: float
    room: Room = field(default_factory=Room)


class Waiting:
    """A bounded queue of messages in the order they came.

    :param dropped: called with a reason for every message that is dropped.
    """

    __slots__ = ("_audio", "_bounds", "_control", "_dropped", "_octets", "_ticket")

    def __init__(self, bounds: Bounds, dropped: Callable[[str], None]) -> None:
        self._bounds = bounds
        self._dropped = dropped
        self._ticket = 0
        self._octets = 0
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
        size, room = octets_of(message), self._bounds.room
        full = len(self._control) >= self._bounds.messages or (
            room.octets + size > room.most and self._octets + size > _SMALL
        )
        if full and type(message) is not SessionClose:  # the last; nothing follows it
            self._dropped("control_overflow")
            return False
        self._control.append((self._ticket, message))
        self._count(size)
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
        if type(message) is Audio:
            self._audio.popleft()
        else:
            self._control.popleft()
            self._count(-octets_of(message))

    def remove(self, unwanted: Callable[[Any], bool]) -> int:
        """:return: how many messages were removed."""
        before = len(self)
        self._control = deque(each for each in self._control if not unwanted(each[1]))
        self._count(sum(octets_of(each[1]) for each in self._control) - self._octets)
        self._audio = deque(each for each in self._audio if not unwanted(each[1]))
        return before - len(self)

    def clear(self) -> None:
        """Nothing that waits is to be sent any more."""
        self._control.clear()
        self._audio.clear()
        self._count(-self._octets)

    def _count(self, octets: int) -> None:
        self._octets += octets
        self._bounds.room.octets += octets

    def _expire(self, now: float) -> None:
        oldest = now - self._bounds.audio_age
        while self._audio and self._audio[0][2] < oldest:
            self._audio.popleft()
            self._dropped("audio_stale")

"""Messages that a session could not send yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from xiaozhi.wire.messages import Audio, SessionClose

M = TypeVar("M")

# Bytes that a session may always queue; the overhead of a message beside its text.
_SMALL, _MESSAGE = 65_536, 200


def octets_of(message: object) -> int:
    """Estimate the memory of a control message, in bytes."""
    words = (getattr(message, name, "") for name in ("data", "payload", "text"))
    return _MESSAGE + sum(map(len, words))


@dataclass(slots=True)
class ByteBudget:
    """Bytes of pending control messages, shared by all sessions.

    :ivar limit: above it, a session with more than 64 KiB pending may not add more.
    :ivar used: bytes pending now.
    """

    limit: int = 1 << 60
    used: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one session's pending messages.

    :ivar messages: control messages; a newer one is refused.
    :ivar audio: packets; the oldest is dropped.
    :ivar audio_age: seconds; audio that waited longer is dropped.
    :ivar budget: for the control messages of all sessions.
    """

    messages: int
    audio: int
    audio_age: float
    budget: ByteBudget = field(default_factory=ByteBudget)


class PendingQueue(Generic[M]):
    """A bounded queue of messages in the order they came.

    :param dropped: called with a reason for every message that is dropped.
    """

    __slots__ = ("_audio", "_bounds", "_control", "_dropped", "_octets", "_ticket")

    def __init__(self, bounds: Bounds, dropped: Callable[[str], None]) -> None:
        self._bounds = bounds
        self._dropped = dropped
        self._ticket = 0
        self._octets = 0
        self._control: deque[tuple[int, M]] = deque()
        self._audio: deque[tuple[int, M, float]] = deque()

    def __len__(self) -> int:
        return len(self._control) + len(self._audio)

    def add(self, message: M, now: float) -> bool:
        """Append a message.

        :return: False: refused, because the queue is full.
        """
        self._ticket += 1
        if type(message) is Audio:
            self._audio.append((self._ticket, message, now))
            self._expire(now)
            if len(self._audio) > self._bounds.audio:
                self._audio.popleft()
                self._dropped("audio_overflow")
            return True
        size, budget = octets_of(message), self._bounds.budget
        full = len(self._control) >= self._bounds.messages or (
            budget.used + size > budget.limit and self._octets + size > _SMALL
        )
        if full and type(message) is not SessionClose:  # the last; nothing follows it
            self._dropped("control_overflow")
            return False
        self._control.append((self._ticket, message))
        self._count(size)
        return True

    def next(self, now: float) -> M | None:
        """Return the oldest message, after dropping stale audio; None if the queue is empty."""
        self._expire(now)
        control, audio = self._control, self._audio
        if audio and not (control and control[0][0] < audio[0][0]):
            return audio[0][1]
        return control[0][1] if control else None

    def take(self, message: M) -> None:
        """Remove the message that :meth:`next` returned."""
        if type(message) is Audio:
            self._audio.popleft()
        else:
            self._control.popleft()
            self._count(-octets_of(message))

    def remove(self, unwanted: Callable[[object], bool]) -> int:
        """Remove messages.

        :return: their number.
        """
        before = len(self)
        self._control = deque(each for each in self._control if not unwanted(each[1]))
        self._count(sum(octets_of(each[1]) for each in self._control) - self._octets)
        self._audio = deque(each for each in self._audio if not unwanted(each[1]))
        return before - len(self)

    def clear(self) -> None:
        """Drop all pending messages."""
        self._control.clear()
        self._audio.clear()
        self._count(-self._octets)

    def _count(self, octets: int) -> None:
        self._octets += octets
        self._bounds.budget.used += octets

    def _expire(self, now: float) -> None:
        oldest = now - self._bounds.audio_age
        while self._audio and self._audio[0][2] < oldest:
            self._audio.popleft()
            self._dropped("audio_stale")

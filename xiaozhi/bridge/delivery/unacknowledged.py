"""Sent and unacknowledged messages of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from xiaozhi.wire.messages import Audio

M = TypeVar("M")


class UnacknowledgedMessages(Generic[M]):
    """Messages in the order of their sequences, which have no gaps.

    The caller bounds it, see ``outgoing.Outgoing.send``.

    :ivar acknowledged: the highest sequence that the other side acknowledged.
    """

    __slots__ = ("_entries", "acknowledged")

    def __init__(self) -> None:
        self.acknowledged = 0
        # Most sessions keep nothing, and an empty list is smallest.
        self._entries: list[tuple[M | None, float]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, message: M, now: float) -> None:
        """Append a sent message; it has the next sequence."""
        self._entries.append((message, now))

    def acknowledge(self, sequence: int) -> None:
        """Remove everything up to ``sequence``. An older acknowledgement is ignored."""
        count = sequence - self.acknowledged
        if count > 0:
            del self._entries[:count]
            self.acknowledged = sequence

    def expire(self, oldest: float) -> int:
        """Forget the content of audio sent before ``oldest``; its place is kept.

        :return: number of packets forgotten now.
        """
        entries, count = self._entries, 0
        for at, (message, sent_at) in enumerate(entries):
            if type(message) is Audio and sent_at < oldest:
                entries[at] = (None, sent_at)
                count += 1
        return count

    def void(self, unwanted: Callable[[object], bool]) -> int:
        """Forget the content of messages; their places are kept.

        :return: number of messages forgotten.
        """
        count = 0
        for at, (message, sent_at) in enumerate(self._entries):
            if message is not None and unwanted(message):
                self._entries[at] = (None, sent_at)
                count += 1
        return count

    def __iter__(self) -> Iterator[tuple[int, M | None]]:
        """Sequences and messages; None where the content was forgotten."""
        for sequence, (message, _) in enumerate(self._entries, self.acknowledged + 1):
            yield sequence, message

    @property
    def audio(self) -> int:
        """Number of audio packets, including those whose content was forgotten."""
        return sum(message is None or type(message) is Audio for message, _ in self._entries)

    def clear(self) -> None:
        """Remove everything: the session is over."""
        self._entries.clear()

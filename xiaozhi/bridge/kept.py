"""Sent and unacknowledged messages of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from xiaozhi.wire.messages import Audio


class Kept:
    """Messages in the order of their sequences, which have no gaps.

    Bounded by whoever adds: see ``outgoing.Outgoing.send``.

    :ivar acknowledged: the highest sequence the other side has said it received.
    """

    __slots__ = ("_entries", "acknowledged")

    def __init__(self) -> None:
        self.acknowledged = 0
        # A list is the smallest thing there is for the many that keep nothing.
        self._entries: list[tuple[Any, float]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, message: Any, now: float) -> None:
        """It was sent; its sequence is the next."""
        self._entries.append((message, now))

    def acknowledge(self, sequence: int) -> None:
        """Let go of everything up to ``sequence``. Older news is ignored."""
        count = sequence - self.acknowledged
        if count > 0:
            del self._entries[:count]
            self.acknowledged = sequence

    def expire(self, oldest: float) -> int:
        """Forget the content of audio sent before ``oldest``; its place is kept.

        :return: how much was forgotten now.
        """
        entries, count = self._entries, 0
        for at, (message, sent_at) in enumerate(entries):
            if type(message) is Audio and sent_at < oldest:
                entries[at] = (None, sent_at)
                count += 1
        return count

    def void(self, unwanted: Callable[[Any], bool]) -> int:
        """Forget the content of messages; their places are kept.

        :return: how many were forgotten.
        """
        count = 0
        for at, (message, sent_at) in enumerate(self._entries):
            if message is not None and unwanted(message):
                self._entries[at] = (None, sent_at)
                count += 1
        return count

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Sequences and messages; None where the content was forgotten."""
        for sequence, (message, _) in enumerate(self._entries, self.acknowledged + 1):
            yield sequence, message

    @property
    def audio(self) -> int:
        """Audio packets, those whose content was forgotten included."""
        return sum(message is None or type(message) is Audio for message, _ in self._entries)

    def clear(self) -> None:
        """The session is over."""
        self._entries.clear()

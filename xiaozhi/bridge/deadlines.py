"""A set of keys that expire."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Set whose members expire after a fixed time; uses one timer.

    :param seconds: lifetime of a member, from its :meth:`add`.
    :param expired: called with the expired members, after their removal.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, expired: Callable[[list[K]], None]
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._until: dict[K, float] = {}  # the first is the first to expire
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._until)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._until))

    def add(self, key: K) -> None:
        """Add a key, or restart its time."""
        self.discard(key)
        self._until[key] = self._clock.seconds() + self._seconds
        self._watch()

    def discard(self, key: K) -> None:
        """Forget a key and its deadline."""
        self._until.pop(key, None)

    def stop(self) -> None:
        """Remove all keys; call nothing."""
        self._until.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        if self._timer is None and self._until:
            first = next(iter(self._until.values()))
            wait = max(0.0, first - self._clock.seconds())
            self._timer = self._clock.callLater(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        over = []
        for key, until in self._until.items():
            if until > now:
                break
            over.append(key)
        for key in over:
            del self._until[key]
        self._watch()
        if over:
            self._expired(over)

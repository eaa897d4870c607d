"""Exponential backoff with jitter."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Exponential backoff: the wait's ceiling doubles from ``base`` to ``cap``.

    Jitter keeps edges that lost the same server from reconnecting at the same time.

    :param jitter: the random part of a wait, 0 to 1; with 1 a wait is anything from 0 to
        the ceiling.
    :param reset: seconds; a connection that lasted this long resets the ceiling.
    :param random: returns a number in [0, 1).
    """

    def __init__(
        self, base: float, cap: float, reset: float, jitter: float, random: Callable[[], float]
    ) -> None:
        self._base = self._ceiling = base
        self._cap = cap
        self._reset = reset
        self._jitter = jitter
        self._random = random

    def delay(self, up_for: float = 0.0) -> float:
        """Return the seconds to wait before the next attempt.

        :param up_for: seconds that the last connection lasted; 0: it failed.
        """
        if up_for >= self._reset:
            self._ceiling = self._base
        ceiling = min(self._ceiling, self._cap)
        self._ceiling = min(ceiling * 2, self._cap)
        return ceiling * (1 - self._jitter * (1 - self._random()))

"""When to try again."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Exponential backoff: the wait's ceiling doubles from ``base`` to ``cap``.

    With jitter, so that many edges that lost one server do not come back in step.

    :param jitter: the part of a wait that is left to chance, 0 to 1; 1 is full
        jitter: anything between nothing and the ceiling.
    :param reset: a connection that stood this long starts the count anew, in seconds.
    :param random: a number in [0, 1).
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
        """Seconds to wait before the next try.

        :param up_for: how long the last try's connection stood; 0 if it never did.
        """
        if up_for >= self._reset:
            self._ceiling = self._base
        ceiling = min(self._ceiling, self._cap)
        self._ceiling = min(ceiling * 2, self._cap)
        return ceiling * (1 - self._jitter * (1 - self._random()))

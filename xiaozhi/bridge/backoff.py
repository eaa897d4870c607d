"""When to try again."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Exponential backoff with full jitter: each wait is anywhere between nothing
    and a ceiling that doubles from ``base`` to ``cap``, so that many edges that lost
    one server do not come back in step.

    :param reset: a connection that stood this long starts the count anew, in seconds.
    :param random: a number in [0, 1).
    """

    def __init__(self, base: float, cap: float, reset: float, random: Callable[[], float]) -> None:
        self._base = self._ceiling = base
        self._cap = cap
        self._reset = reset
        self._random = random

    def delay(self, up_for: float = 0.0) -> float:
        """Seconds to wait before the next try.

        :param up_for: how long the last try's connection stood; 0 if it never did.
        """
        if up_for >= self._reset:
            self._ceiling = self._base
        ceiling = min(self._ceiling, self._cap)
        self._ceiling = min(ceiling * 2, self._cap)
        return ceiling * self._random()

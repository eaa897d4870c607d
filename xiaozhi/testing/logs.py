"""What was logged during a test."""

from __future__ import annotations

from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase


class LogLines:
    """Listens from now to the end of the test.

    :ivar lines: the messages, without time and place.
    """

    def __init__(self, case: SynchronousTestCase) -> None:
        self.lines: list[str] = []
        observer: Any = self._observe
        globalLogPublisher.addObserver(observer)
        case.addCleanup(globalLogPublisher.removeObserver, observer)

    def _observe(self, event: dict[str, Any]) -> None:
        self.lines.append(formatEvent(event))

    def count(self, words: str) -> int:
        """How many lines have these words."""
        return sum(words in line for line in self.lines)

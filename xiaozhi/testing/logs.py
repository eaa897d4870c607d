"""Capture of log events during a test."""

from __future__ import annotations

from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase


class LogLines:
    """Records log events until the end of the test.

    :ivar lines: the formatted messages, without time and source.
    :ivar events: the events.
    """

    def __init__(self, case: SynchronousTestCase) -> None:
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        observer: Any = self._observe
        globalLogPublisher.addObserver(observer)
        case.addCleanup(globalLogPublisher.removeObserver, observer)

    def _observe(self, event: dict[str, Any]) -> None:
        self.lines.append(formatEvent(event))
        self.events.append(event)

    def count(self, words: str) -> int:
        """Return the number of lines that contain the words."""
        return sum(words in line for line in self.lines)

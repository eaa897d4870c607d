"""The device's main loop: it runs one task at a time, and a long task blocks the rest.

Tools run on it: meanwhile messages wait and no microphone packet is sent (§5.2).
Connecting blocks it, too (§1.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

# Queued tasks; further messages to a blocked device are dropped.
MAX_WAITING = 256

Task = Callable[[], "Deferred[Any] | None"]


class MainLoop:
    """Runs tasks in the order they are posted, immediately unless blocked.

    :param free: called when the loop is idle again after having been blocked.
    :param failed: receives the failure of a task's Deferred; no task should fail.
    """

    def __init__(self, free: Callable[[], None], failed: Callable[[Failure], None]) -> None:
        self._free = free
        self._failed = failed
        self._waiting: deque[Task] = deque()
        self._blocked = 0
        self._running: Deferred[Any] | None = None
        self._draining = False

    @property
    def busy(self) -> bool:
        return self._blocked > 0

    def post(self, task: Task) -> bool:
        """Queue a task. :return: False if the queue is full and the task was dropped."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(task)
        self._drain()
        return True

    def block(self) -> None:
        """Run no task until :meth:`unblock`; calls nest."""
        self._blocked += 1

    def unblock(self) -> None:
        self._blocked -= 1
        if not self._blocked:
            self._drain()
            if not self._blocked:
                self._free()

    def stop(self) -> None:
        """Clear the queue and cancel the running task."""
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        try:
            while self._waiting and not self._blocked:
                running = self._waiting.popleft()()
                if running is not None and not running.called:
                    self.block()
                    self._running = running
                    running.addErrback(self._failed)
                    running.addBoth(self._done)
                elif running is not None:
                    running.addErrback(self._failed)
        finally:
            self._draining = False

    def _done(self, _: Any) -> None:
        self._running = None
        self.unblock()

"""What a session has been asked to say by somebody outside the talk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.logger import Logger


class Announcements:
    """Words that wait until nobody is speaking; each is then a turn of its own."""

    _log = Logger()

    def __init__(
        self, session_id: str, most: int, free: Callable[[], bool], begin: Callable[[str], None]
    ) -> None:
        """
        :param most: that may wait.
        :param free: whether a turn may begin now.
        :param begin: begins it.
        """
        self._session_id = session_id
        self._most = most
        self._free = free
        self._begin = begin
        self._waiting: deque[str] = deque()

    def ask(self, words: str) -> None:
        """Say this, now or when there is a moment for it."""
        if len(self._waiting) >= self._most:
            self._log.warn(
                "{session_id}: not announced: {most} announcements are waiting already",
                session_id=self._session_id,
                most=self._most,
            )
            return
        self._waiting.append(words)
        self.offer()

    def offer(self) -> None:
        """There may be a moment."""
        if self._waiting and self._free():
            self._begin(self._waiting.popleft())

    def forget(self) -> None:
        """The session is over."""
        self._waiting.clear()

"""What a session has been asked to say by somebody outside the talk."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.agents.settings import AnnounceSettings
from xiaozhi.ai.turn.turn import Turn


class _Waiting(NamedTuple):
    words: str
    begun: int  # how often


class Announcements:
    """Words that wait until nobody is speaking; each is then a turn of its own.

    One that is cut short is said again: after the next answer, or when nobody has said
    anything for a while.
    """

    _log = Logger()

    def __init__(
        self,
        session_id: str,
        most: int,
        settings: AnnounceSettings,
        clock: IReactorTime,
        free: Callable[[], bool],
        begin: Callable[[Callable[[Turn], Awaitable[bool]]], None],
    ) -> None:
        """
        :param most: that may wait.
        :param free: whether a turn may begin now.
        :param begin: begins one.
        """
        self._session_id = session_id
        self._most = most
        self._settings = settings
        self._clock = clock
        self._free = free
        self._begin = begin
        self._waiting: deque[_Waiting] = deque()
        self._not_before = 0.0
        self._until_start = False
        self._timer: IDelayedCall | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is anything to say."""
        return bool(self._waiting)

    def ask(self, words: str) -> None:
        """Say this, now or when there is a moment for it."""
        if len(self._waiting) >= self._most:
            self._log.warn(
                "{session_id}: not announced: {most} announcements are waiting already",
                session_id=self._session_id,
                most=self._most,
            )
            return
        self._waiting.append(_Waiting(words, 0))
        self.offer()

    def offer(self) -> None:
        """There may be a moment."""
        if not self._waiting or not self._free():
            return
        now = self._clock.seconds()
        if now < self._not_before:
            if self._timer is None:
                self._timer = self._clock.callLater(self._not_before - now, self._due)
            return
        waiting = self._waiting.popleft()
        self._begin(lambda turn: self._said(waiting, turn))

    def answered(self, *, starts: bool) -> None:
        """An answer is over.

        :param starts: the device says by a ``listen start`` when it is ready for the next
            one (§4.4); this is waited for, but not for ever.
        """
        self._hold(self._settings.ready if starts else 0.0)
        self._until_start = starts

    def interrupted(self) -> None:
        """The person wanted silence: it is their turn now."""
        self._hold(self._settings.again)
        self._until_start = False

    def started(self) -> None:
        """The device listens."""
        if self._until_start:
            self.answered(starts=False)
            self.offer()

    def forget(self) -> None:
        """The session is over."""
        self._waiting.clear()
        self._hold(0.0)

    def _hold(self, seconds: float) -> None:
        self._not_before = self._clock.seconds() + seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.offer()

    async def _said(self, waiting: _Waiting, turn: Turn) -> bool:
        whole = False
        try:
            spoke = await turn.announce(waiting.words)
            whole = not turn.timeline.cut
            return spoke
        finally:
            if not whole:
                self._again(_Waiting(waiting.words, waiting.begun + 1))

    def _again(self, waiting: _Waiting) -> None:
        if waiting.begun < self._settings.tries:
            self._waiting.appendleft(waiting)
        else:
            self._log.info(
                "{session_id}: an announcement was cut short {tries} times and is given up",
                session_id=self._session_id,
                tries=waiting.begun,
            )

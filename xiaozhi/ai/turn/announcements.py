"""Announcements: text posted from outside the conversation, spoken in a pause."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.agents.settings import AnnounceSettings
from xiaozhi.ai.turn.turn import Turn
from xiaozhi.ai.turn.turncontrol import Answer


class _Waiting(NamedTuple):
    words: str
    begun: int  # number of turns that started to speak it


class AnnouncementTurns(Protocol):
    """Starts the turns that speak announcements."""

    def may_announce(self) -> bool:
        """Return whether a turn may start now."""

    def announce(self, answer: Answer) -> None:
        """Start a turn that runs ``answer``."""


class Announcements:
    """Queue of announcements; each is spoken in its own turn while nobody else speaks.

    An announcement that was cut short is repeated, after the next answer or after a silence.

    :param turns: must call :meth:`offer` whenever :meth:`~AnnouncementTurns.may_announce`
        has become true.
    """

    _log = Logger()

    def __init__(
        self,
        session_id: str,
        most: int,
        settings: AnnounceSettings,
        clock: IReactorTime,
        turns: AnnouncementTurns,
    ) -> None:
        """:param most: maximum number of queued announcements."""
        self._session_id = session_id
        self._most = most
        self._settings = settings
        self._clock = clock
        self._turns = turns
        self._waiting: deque[_Waiting] = deque()
        self._not_before = 0.0
        self._until_start = False
        self._timer: IDelayedCall | None = None

    @property
    def waiting(self) -> bool:
        """Whether announcements are queued."""
        return bool(self._waiting)

    def ask(self, words: str) -> None:
        """Speak an announcement now, or queue it until nobody speaks."""
        if len(self._waiting) >= self._most:
            self._log.warn(
                "{session_id}: announcement dropped: {most} are already queued",
                session_id=self._session_id,
                most=self._most,
            )
            return
        self._waiting.append(_Waiting(words, 0))
        self.offer()

    def offer(self) -> None:
        """Speak the next announcement if a turn may start now."""
        if not self._waiting or not self._turns.may_announce():
            return
        now = self._clock.seconds()
        if now < self._not_before:
            if self._timer is None:
                self._timer = self._clock.callLater(self._not_before - now, self._due)
            return
        waiting = self._waiting.popleft()
        self._turns.announce(lambda turn: self._said(waiting, turn))

    def answered(self, *, starts: bool) -> None:
        """Note the end of an answer.

        :param starts: the device will send ``listen start`` when it is ready for the next
            answer (§4.4). The next announcement waits for it, up to ``ready`` seconds.
        """
        self._hold(self._settings.ready if starts else 0.0)
        self._until_start = starts

    def interrupted(self) -> None:
        """Delay announcements: the person has just interrupted an answer."""
        self._hold(self._settings.again)
        self._until_start = False

    def started(self) -> None:
        """Note that the device has started to listen."""
        if self._until_start:
            self.answered(starts=False)
            self.offer()

    def adopt(self, most: int, settings: AnnounceSettings) -> None:
        """Switch to other settings."""
        self._most, self._settings = most, settings

    def forget(self) -> None:
        """Drop all announcements: the session is over."""
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
                "{session_id}: announcement dropped after it was cut short {tries} times",
                session_id=self._session_id,
                tries=waiting.begun,
            )

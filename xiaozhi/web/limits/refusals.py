"""Refusals: counted each time, logged once a burst."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.logburst import LogBurst


@dataclass(frozen=True, slots=True)
class Refused:
    """One connection that is not served.

    :ivar reason: stable, one of a few; what is counted by.
    :ivar status: the HTTP status it was answered; 0: it was dropped without an answer.
    :ivar device: as it named itself; empty: unknown.
    """

    reason: str
    status: int
    peer: str
    device: str = ""


class Refusals:
    """All refusals of one process.

    :ivar counts: by reason.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, window: float) -> None:
        """:param window: seconds that one log line covers, for each reason."""
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._window = window
        self._bursts: dict[str, LogBurst[Refused]] = {}

    def add(self, refused: Refused) -> None:
        """One more."""
        self.counts[refused.reason] += 1
        burst = self._bursts.get(refused.reason)
        if burst is None:
            burst = LogBurst[Refused](self._clock, self._tell, self._window)
            self._bursts[refused.reason] = burst
        burst.add(refused)

    def stop(self) -> None:
        """Tell what was not told yet. Idempotent."""
        for burst in self._bursts.values():
            burst.stop()

    def _tell(self, count: int, latest: Refused) -> None:
        self._log.info(
            "refused{times}: {status} {reason}, {last}device {device}, peer {peer}",
            times=f" {count} times" if count > 1 else "",
            status=latest.status or "dropped",
            reason=latest.reason,
            last="the last of them " if count > 1 else "",
            device=latest.device or "unknown",
            peer=latest.peer,
        )

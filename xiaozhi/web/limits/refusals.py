"""Refusals: each is counted, a burst of them is logged once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.logburst import LogBurst


@dataclass(frozen=True, slots=True)
class Refused:
    """One refused connection or request.

    :ivar reason: stable code, one of a few; the label of the counter.
    :ivar status: HTTP status of the reply; 0: dropped without a reply.
    :ivar device: device id by its own account; empty: unknown.
    """

    reason: str
    status: int
    peer: str
    device: str = ""


class Refusals:
    """All refusals of one process.

    :ivar counts: number of refusals by reason.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, window: float) -> None:
        """:param window: seconds that one log line covers, per reason."""
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._window = window
        self._bursts: dict[str, LogBurst[Refused]] = {}

    def add(self, refused: Refused) -> None:
        """Count a refusal, and log it once per burst."""
        self.counts[refused.reason] += 1
        burst = self._bursts.get(refused.reason)
        if burst is None:
            burst = LogBurst[Refused](self._clock, self._report, self._window)
            self._bursts[refused.reason] = burst
        burst.add(refused)

    def stop(self) -> None:
        """Log the counts that are not logged yet. Idempotent."""
        for burst in self._bursts.values():
            burst.stop()

    def _report(self, count: int, latest: Refused) -> None:
        self._log.info(
            "refused{times}: {status} {reason}, {last}device {device}, peer {peer}",
            times=f" {count} times" if count > 1 else "",
            status=latest.status or "dropped",
            reason=latest.reason,
            last="the last of them " if count > 1 else "",
            device=latest.device or "unknown",
            peer=latest.peer,
        )

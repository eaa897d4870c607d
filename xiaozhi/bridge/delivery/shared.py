"""State that all sessions of one bridge share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.logburst import LogBurst
from xiaozhi.bridge.delivery.pending import Bounds
from xiaozhi.bridge.items import ItemDirection
from xiaozhi.runtime.clocks import wall_time

_log = Logger()

Sent = TypeVar("Sent")
Received = TypeVar("Received")


@dataclass(frozen=True, slots=True)
class SharedState(Generic[Sent, Received]):
    """State that all sessions of one bridge share.

    :ivar outgoing: and ``incoming``: make and read items, by direction.
    :ivar credit: audio packets that the other side may send ahead of those received.
    :ivar drops: messages dropped since the start, by reason.
    :ivar unreadable: logs received messages that could not be read.
    """

    outgoing: ItemDirection[Sent]
    incoming: ItemDirection[Received]
    bounds: Bounds
    credit: int
    clock: IReactorTime
    drops: Counter[str]
    unreadable: LogBurst[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        told = LogBurst[tuple[str, str]](self.clock, _tell_unreadable)
        object.__setattr__(self, "unreadable", told)

    @property
    def wall_ms(self) -> int:
        """Wall-clock time in ms since the epoch."""
        return int(wall_time(self.clock)() * 1000)


def _tell_unreadable(count: int, latest: tuple[str, str]) -> None:
    session_id, why = latest
    _log.warn(
        "session {session_id}: {count} message(s) skipped: {why}",
        session_id=session_id,
        count=count,
        why=why,
    )

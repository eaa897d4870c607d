"""Sources of metrics that both services have: write queues and thread crossings."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.metrics.instruments import Histogram


class CrossingTimes(Protocol):
    """Seconds that items wait between the reactor and gRPC."""

    @property
    def outward(self) -> Histogram:
        """From the reactor to gRPC."""

    @property
    def inward(self) -> Histogram:
        """From gRPC to the reactor."""


class WriteQueue(Protocol):
    """A queue of records for a database."""

    @property
    def pending(self) -> int:
        """Records in memory, not written yet."""

    def trouble(self) -> str:
        """Return why the database accepts no records at present; empty while it does."""

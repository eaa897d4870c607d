"""Interfaces of what both services' collectors read: log writers and thread crossings."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.metrics.instruments import Histogram


class CrossingTimes(Protocol):
    """Time that items take between the reactor and gRPC, in seconds."""

    @property
    def outward(self) -> Histogram:
        """From the reactor to gRPC."""

    @property
    def inward(self) -> Histogram:
        """From gRPC to the reactor."""


class WriteQueue(Protocol):
    """A queue of records that a database takes later."""

    @property
    def pending(self) -> int:
        """Records in memory, not written yet."""

    def trouble(self) -> str:
        """Why the database takes no records at present; empty while it does."""

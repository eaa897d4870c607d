"""Metrics of any process, and the lag of its reactor."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xiaozhi.metrics.families import Family, counter, gauge, gauges, histogram
from xiaozhi.metrics.instruments import LATENESS, Histogram

_STARTED = time.time()
_STATM = "/proc/self/statm"
_TASKS = "/proc/self/task"


class ReactorLag:
    """How late the reactor comes to what is due: everything waits at least so long.

    :ivar seconds: each lateness that was seen.
    """

    def __init__(self, clock: IReactorTime, interval: float = 0.1) -> None:
        """:param interval: seconds between two looks."""
        self.seconds = Histogram(LATENESS)
        self._clock = clock
        self._interval = interval
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Look from now on."""
        self._next = self._clock.callLater(self._interval, self._look)

    def stop(self) -> None:
        """Look no longer. Idempotent."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        assert self._next is not None
        self.seconds.observe(max(0.0, self._clock.seconds() - self._next.getTime()))
        self.start()


class ProcessMetrics:
    """The process itself.

    Open files are not counted: with ten thousand of them the list alone would take
    the reactor longer than all the rest.
    """

    def __init__(self, service: str, version: str, lag: ReactorLag) -> None:
        """:param service: ``im`` or ``ai``."""
        self._prefix = f"xiaozhi_{service}"
        self._version = version
        self._lag = lag

    def collect(self) -> Iterator[Family]:
        """See :class:`~xiaozhi.metrics.families.Collector`."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield gauges(
            f"{self._prefix}_build_info",
            "Always 1; says the version.",
            ["version"],
            [([self._version], 1)],
        )
        yield histogram(
            f"{self._prefix}_reactor_lag_seconds",
            "How late the reactor came to what was due.",
            self._lag.seconds,
        )
        yield counter(
            "process_cpu_seconds",
            "CPU time of the process, all its threads.",
            used.ru_utime + used.ru_stime,
        )
        yield gauge("process_resident_memory_bytes", "Memory in use.", _resident(used.ru_maxrss))
        yield gauge("process_threads", "Threads, gRPC's own included.", _threads())
        yield gauge("process_start_time_seconds", "When it started, since the epoch.", _STARTED)


def _threads() -> int:
    """Native ones, of which Python knows only its own; those where there is no /proc."""
    try:
        return len(os.listdir(_TASKS))
    except OSError:
        return threading.active_count()


def _resident(most: int) -> int:
    """Bytes; where there is no /proc, the most there ever were."""
    try:
        with open(_STATM, "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return most if sys.platform == "darwin" else most * 1024

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
    """Measures how late the reactor runs due calls; all other work waits at least as long.

    :ivar seconds: histogram of the lateness.
    """

    def __init__(self, clock: IReactorTime, interval: float = 0.1) -> None:
        """:param interval: seconds between two measurements."""
        self.seconds = Histogram(LATENESS)
        self._clock = clock
        self._interval = interval
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Start to measure."""
        self._next = self._clock.callLater(self._interval, self._look)

    def stop(self) -> None:
        """Stop to measure. Idempotent."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        assert self._next is not None
        self.seconds.observe(max(0.0, self._clock.seconds() - self._next.getTime()))
        self.start()


class ProcessMetrics:
    """Metrics of the process itself.

    Open files are not counted: with ten thousand, listing them alone would take longer than all
    other metrics.
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
            "Always 1; the label has the version.",
            ["version"],
            [([self._version], 1)],
        )
        yield histogram(
            f"{self._prefix}_reactor_lag_seconds",
            "Lateness of the reactor's due calls.",
            self._lag.seconds,
        )
        yield counter(
            "process_cpu_seconds",
            "CPU time of the process, all its threads.",
            used.ru_utime + used.ru_stime,
        )
        yield gauge("process_resident_memory_bytes", "Memory in use.", _resident(used.ru_maxrss))
        yield gauge("process_threads", "Threads, including gRPC's own.", _threads())
        yield gauge(
            "process_start_time_seconds",
            "Start of the process, seconds since the epoch.",
            _STARTED,
        )


def _threads() -> int:
    """Return the number of native threads; without /proc, of Python's own threads."""
    try:
        return len(os.listdir(_TASKS))
    except OSError:
        return threading.active_count()


def _resident(most: int) -> int:
    """Return resident memory in bytes; without /proc, its maximum so far."""
    try:
        with open(_STATM, "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return most if sys.platform == "darwin" else most * 1024

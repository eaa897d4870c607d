"""Worker threads for work that would block the reactor."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from xiaozhi.base.errors import XiaozhiError

T = TypeVar("T")


class _Job:
    """One call: made in the reactor's thread, run in a worker, and completed in the reactor's."""

    __slots__ = ("_call", "_context", "_result", "done")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.done: Deferred[Any] = Deferred()
        self._call = call
        # The thread inherits the context: trace and call context.
        self._context = copy_context()
        self._result: Any = None

    def run(self) -> None:
        if self.done.called:  # cancelled
            return
        try:
            self._result = self._context.run(self._call)
        except BaseException:
            self._result = Failure()

    def deliver(self) -> None:
        if not self.done.called:
            self.done.callback(self._result)


class ThreadOffload(Service):
    """Worker threads for work that would block the reactor; an ``interfaces.Offload``.

    While all threads are busy, at most ``waiting_limit`` calls wait; another one fails at
    once with the code ``busy``. The call with the earliest deadline runs first. A call that is
    cancelled while it waits does not run; a running one ends, and its result is dropped.
    Hanging work does not keep the process alive.

    :param threads: maximum number of threads.
    """

    def __init__(self, reactor: Any, threads: int, *, waiting_limit: int = 1000) -> None:
        self.name = "worker threads"
        self._reactor = reactor
        self._waiting_limit = threads + waiting_limit
        self._unfinished = 0
        self._count = threads
        self._threads: Sequence[threading.Thread] = ()
        # A heap by deadline, then by arrival; None: the thread ends. Threads wait for a
        # token per entry: a `PriorityQueue`, written in Python, would cost more. Bounded by
        # `waiting_limit`.
        self._jobs: list[tuple[float, int, _Job | None]] = []
        self._numbers = count()
        self._lock = threading.Lock()
        self._tokens: SimpleQueue[None] = SimpleQueue()
        # Results that end together are delivered together, waking the reactor once.
        self._done: deque[_Job] = deque()
        self._waking = False

    @property
    def unfinished(self) -> int:
        """Number of calls that wait or run."""
        return self._unfinished

    def startService(self) -> None:
        super().startService()
        self._threads = [
            threading.Thread(target=self._serve, name=f"offload-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def stopService(self) -> Deferred[None]:
        """:return: fires when all calls have ended; later calls fail."""
        super().stopService()
        threads, self._threads = self._threads, ()
        if not threads:
            return succeed(None)
        for _ in threads:
            self._put(inf, None)
        done: Deferred[None] = Deferred()

        def join() -> None:
            for thread in threads:
                thread.join()
            self._reactor.callFromThread(ended)

        def ended() -> None:
            if not done.called:
                done.callback(None)

        # Joining blocks, so it runs in its own thread.
        threading.Thread(target=join, name="offload-join", daemon=True).start()
        return done

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Deferred[T]:
        return self.within(0.0, function, *args)

    def within(self, seconds: float, function: Callable[..., T], /, *args: Any) -> Deferred[T]:
        """See ``interfaces.TimedOffload``."""
        if not self._threads:
            return _refused("stopped", "the worker threads are not running")
        if self._unfinished >= self._waiting_limit:
            return _refused("busy", "too much work waits for the worker threads")
        self._unfinished += 1
        job = _Job(partial(function, *args))
        self._put(self._reactor.seconds() + seconds, job)
        return job.done

    def _put(self, due: float, job: _Job | None) -> None:
        with self._lock:
            heappush(self._jobs, (due, next(self._numbers), job))
        self._tokens.put(None)

    def _get(self) -> _Job | None:
        self._tokens.get()
        with self._lock:
            return heappop(self._jobs)[2]

    def _serve(self) -> None:
        """Run calls until the pool stops; the body of each thread."""
        while (job := self._get()) is not None:
            job.run()
            self._done.append(job)
            if not self._waking:
                self._waking = True
                self._reactor.callFromThread(self._deliver)
            del job  # do not keep the result until the next call

    def _deliver(self) -> None:
        # First, so that a later result is either delivered below or announced again.
        self._waking = False
        while self._done:
            self._unfinished -= 1
            self._done.popleft().deliver()


def _refused(code: str, message: str) -> Deferred[Any]:
    refused: Deferred[Any] = Deferred()
    refused.errback(XiaozhiError(code, message))
    return refused

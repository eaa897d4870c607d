"""Threads for what would hold up the reactor."""

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
    """One call, made on the reactor's thread, run on another, told on the first."""

    __slots__ = ("_call", "_context", "_result", "done")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.done: Deferred[Any] = Deferred()
        self._call = call
        # For whom it works is known in the thread, too.
        self._context = copy_context()
        self._result: Any = None

    def run(self) -> None:
        if self.done.called:  # cancelled
            return
        try:
            self._result = self._context.run(self._call)
        except BaseException:
            self._result = Failure()

    def tell(self) -> None:
        if not self.done.called:
            self.done.callback(self._result)


class ThreadOffload(Service):
    """Threads for work that would hold up the reactor: an ``interfaces.Offload``.

    While all threads are busy calls wait, at most ``waiting_limit`` of them: a call beyond
    fails at once with the code ``busy``. What is wanted first has its turn first. A call
    cancelled before its turn does not run; one that runs is left to end, its result
    unused. Work that hangs does not keep the process alive.

    :param threads: at most so many run at a time.
    """

    def __init__(self, reactor: Any, threads: int, *, waiting_limit: int = 1000) -> None:
        self.name = "worker threads"
        self._reactor = reactor
        self._waiting_limit = threads + waiting_limit
        self._unfinished = 0
        self._count = threads
        self._threads: Sequence[threading.Thread] = ()
        # A heap, by when they are wanted, then in the order they came; None: the thread is
        # to end. A token for each is what threads wait for: with a `PriorityQueue`, which is
        # written in Python, a call costs more. Bound of these: `waiting_limit`.
        self._jobs: list[tuple[float, int, _Job | None]] = []
        self._numbers = count()
        self._lock = threading.Lock()
        self._tokens: SimpleQueue[None] = SimpleQueue()
        # Results that end together are delivered together: the reactor is woken once.
        self._done: deque[_Job] = deque()
        self._telling = False

    @property
    def unfinished(self) -> int:
        """Calls that wait or run."""
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
        """:return: fires when what was asked for has ended; later calls fail."""
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

        # Joining them blocks, so it gets a thread of its own.
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
            if not self._telling:
                self._telling = True
                self._reactor.callFromThread(self._tell)
            del job  # what it gave is not kept until the next one comes

    def _tell(self) -> None:
        # First: what is done from now on is either seen below or told anew.
        self._telling = False
        while self._done:
            self._unfinished -= 1
            self._done.popleft().tell()


def _refused(code: str, message: str) -> Deferred[Any]:
    refused: Deferred[Any] = Deferred()
    refused.errback(XiaozhiError(code, message))
    return refused

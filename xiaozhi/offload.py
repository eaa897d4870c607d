"""Threads for what would hold up the reactor."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from xiaozhi.errors import XiaozhiError

T = TypeVar("T")


class _Job:
    """One call, made on the reactor's thread, run on another, told on the first."""

    __slots__ = ("_args", "_context", "_function", "_result", "done")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.done: Deferred[Any] = Deferred()
        self._function = function
        self._args = args
        # For whom it works is known in the thread, too.
        self._context: Context = copy_context()
        self._result: Any = None

    def run(self) -> None:
        if self.done.called:  # cancelled
            return
        try:
            self._result = self._context.run(self._function, *self._args)
        except BaseException:
            self._result = Failure()

    def tell(self) -> None:
        if not self.done.called:
            self.done.callback(self._result)


class ThreadOffload(Service):
    """Threads for work that would hold up the reactor: an ``interfaces.Offload``.

    Calls wait in order while all threads are busy, at most ``waiting_limit`` of
    them: a call beyond fails at once with the code ``busy``. A call cancelled
    before its turn does not run; one that runs is left to end, its result unused.
    Work that hangs does not keep the process alive.

    Not Twisted's pool: sound makes many short calls, and where twenty are under way one
    costs 17 µs of CPU on its way there and back instead of 34.

    :param threads: so many run at a time.
    """

    def __init__(self, reactor: Any, threads: int, *, waiting_limit: int = 1000) -> None:
        self.name = "worker threads"
        self._reactor = reactor
        self._waiting_limit = threads + waiting_limit
        self._unfinished = 0
        self._count = threads
        self._threads: list[threading.Thread] = []
        # Bound of both: `waiting_limit`; what is run is still unfinished until it is told.
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ended: deque[_Job] = deque()
        self._telling = False

    @property
    def unfinished(self) -> int:
        """Calls that wait or run."""
        return self._unfinished

    def startService(self) -> None:
        super().startService()
        self._threads = [
            threading.Thread(target=self._work, name=f"offload-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def stopService(self) -> Deferred[None]:
        """:return: fires when what was asked for has ended; later calls fail."""
        super().stopService()
        threads, self._threads = self._threads, []
        if not threads:
            return succeed(None)
        for _ in threads:
            self._jobs.put(None)
        done: Deferred[None] = Deferred()

        def join() -> None:
            for thread in threads:
                thread.join()
            self._reactor.callFromThread(ended)

        def ended() -> None:
            if not done.called:
                done.callback(None)

        # Joining the workers blocks, so it gets a thread of its own.
        threading.Thread(target=join, name="offload-join", daemon=True).start()
        return done

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Deferred[T]:
        if not self._threads:
            return _refused("stopped", "the worker threads are not running")
        if self._unfinished >= self._waiting_limit:
            return _refused("busy", "too much work waits for the worker threads")
        self._unfinished += 1
        job = _Job(function, args)
        self._jobs.put(job)
        return job.done

    def _tell(self) -> None:
        # First: what ends from now on is told of anew.
        self._telling = False
        while self._ended:
            self._unfinished -= 1
            self._ended.popleft().tell()

    # --- in the threads

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            self._ended.append(job)
            # Waking the reactor costs a system call: once for all that end meanwhile.
            if not self._telling:
                self._telling = True
                self._reactor.callFromThread(self._tell)


def _refused(code: str, message: str) -> Deferred[Any]:
    refused: Deferred[Any] = Deferred()
    refused.errback(XiaozhiError(code, message))
    return refused

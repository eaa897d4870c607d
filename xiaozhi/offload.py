"""Threads for what would hold up the reactor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.threadpool import ThreadPool

from xiaozhi.errors import XiaozhiError

T = TypeVar("T")


class ThreadOffload(Service):
    """Threads for work that would hold up the reactor: an ``interfaces.Offload``.

    Calls wait in order while all threads are busy, at most ``waiting_limit`` of
    them: a call beyond fails at once with the code ``busy``. A call cancelled
    before its turn does not run; one that runs is left to end, its result unused.
    Work that hangs does not keep the process alive.

    :param threads: at most so many run at a time.
    """

    def __init__(self, reactor: Any, threads: int, *, waiting_limit: int = 1000) -> None:
        self.name = "worker threads"
        self._reactor = reactor
        self._waiting_limit = threads + waiting_limit
        self._unfinished = 0
        self._threads = threads
        self._pool: ThreadPool | None = None

    @property
    def unfinished(self) -> int:
        """Calls that wait or run."""
        return self._unfinished

    def startService(self) -> None:
        super().startService()
        pool = self._pool = ThreadPool(0, self._threads, "offload")
        pool.threadFactory = partial(threading.Thread, daemon=True)  # type: ignore[assignment]
        pool.start()

    def stopService(self) -> Deferred[None]:
        """:return: fires when what was running has ended; later calls fail."""
        super().stopService()
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        done: Deferred[None] = Deferred()

        def join() -> None:
            pool.stop()
            self._reactor.callFromThread(ended)

        def ended() -> None:
            if not done.called:
                done.callback(None)

        # Joining the workers blocks, so it gets a thread of its own.
        threading.Thread(target=join, name="offload-join", daemon=True).start()
        return done

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        if self._pool is None:
            done.errback(XiaozhiError("stopped", "the worker threads are not running"))
            return done
        if self._unfinished >= self._waiting_limit:
            done.errback(XiaozhiError("busy", "too much work waits for the worker threads"))
            return done
        self._unfinished += 1
        # For whom it works is known in the thread, too.
        context = copy_context()

        def work() -> T | None:
            return None if done.called else context.run(function, *args)

        def finished(success: bool, result: Any) -> None:
            self._reactor.callFromThread(deliver, success, result)

        def deliver(success: bool, result: Any) -> None:
            self._unfinished -= 1
            if done.called:
                return
            if success:
                done.callback(result)
            else:
                done.errback(result)

        self._pool.callInThreadWithCallback(finished, work)
        return done

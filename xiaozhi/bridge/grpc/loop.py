"""An asyncio loop on its own thread, used from the reactor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads

from xiaozhi.metrics.instruments import LATENESS, Histogram

T = TypeVar("T")


class Crossings:
    """Measures the delay from one thread to the other, in seconds.

    :ivar outward: from the reactor's write of a batch's oldest item until gRPC gets it.
    :ivar inward: from gRPC's read until the reactor processes it.
    """

    def __init__(self) -> None:
        self.outward = Histogram(LATENESS)
        self.inward = Histogram(LATENESS)


class AsyncioThread:
    """Runs coroutines beside the reactor. Call its methods on the reactor's thread.

    Start it in ``startService``, after twistd has forked, never earlier.

    :ivar reactor: results are delivered on its thread.
    :ivar crossings: measured by the streams.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str = "bridge") -> None:
        self.reactor = reactor
        self.crossings = Crossings()
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped: Deferred[None] = Deferred()

    @property
    def running(self) -> bool:
        """Between :meth:`start` and :meth:`stop`."""
        return self._loop is not None

    def start(self) -> Deferred[None]:
        """Start the thread; fires when the loop runs.

        :raises RuntimeError: it runs already.
        """
        if self._loop is not None:
            raise RuntimeError(f"the thread {self._name} runs already")
        running: Deferred[None] = Deferred()
        loop = self._loop = asyncio.new_event_loop()
        loop.call_soon(self.reactor.callFromThread, running.callback, None)
        self._stopped = Deferred()
        # A daemon, so that it cannot keep a failed process from exiting.
        self._thread = threading.Thread(
            target=self._run, args=(loop, self._stopped), name=self._name, daemon=True
        )
        self._thread.start()
        return running

    def stop(self) -> Deferred[None]:
        """Cancel all tasks; fires when the thread has ended. Idempotent."""
        loop, self._loop = self._loop, None
        if loop is None:
            return succeed(None)
        asyncio.run_coroutine_threadsafe(self._wind_up(loop), loop)
        return self._stopped

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> Deferred[T]:
        """Run a coroutine; cancelling the Deferred cancels it."""
        if self._loop is None:
            raise RuntimeError(f"the thread {self._name} does not run")
        future = asyncio.run_coroutine_threadsafe(function(*args), self._loop)

        def cancel(_: Deferred[T]) -> None:
            future.cancel()

        result: Deferred[T] = Deferred(cancel)
        future.add_done_callback(
            lambda done: self.reactor.callFromThread(self._settle, done, result)
        )
        return result

    def post(self, function: Callable[..., object], /, *args: Any) -> None:
        """Call a function on the thread, in order. Does nothing once stopped."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function, *args)

    @staticmethod
    def _settle(done: Future[T], result: Deferred[T]) -> None:
        if result.called:  # cancelled
            return
        if done.cancelled():
            result.errback(CancelledError())
        elif (error := done.exception()) is not None:
            result.errback(error)
        else:
            result.callback(done.result())

    # --- on the thread

    def _run(self, loop: asyncio.AbstractEventLoop, stopped: Deferred[None]) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()
            self.reactor.callFromThread(self._joined, stopped)

    def _joined(self, stopped: Deferred[None]) -> None:
        if self._thread is not None:
            self._thread.join()  # it has nothing left to do but return
            self._thread = None
        stopped.callback(None)

    async def _wind_up(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()
        loop.call_soon(loop.stop)

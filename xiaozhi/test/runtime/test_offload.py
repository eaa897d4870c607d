"""Work in threads: its bound and its end."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial import unittest

from xiaozhi.base import trace
from xiaozhi.base.errors import XiaozhiError
from xiaozhi.runtime.offload import ThreadOffload


class ThreadOffloadTests(unittest.TestCase):
    """Real threads: the tests check that they exist and end."""

    timeout = 10

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.release = threading.Event()
        self.offload = ThreadOffload(reactor, 1, waiting_limit=1)
        self.offload.startService()
        self.addCleanup(self.offload.stopService)
        self.addCleanup(self.release.set)

    def hold(self) -> str:
        self.release.wait(10)
        return threading.current_thread().name

    def test_runs_elsewhere(self) -> Deferred[None]:
        self.release.set()

        def check(name: str) -> None:
            self.assertNotEqual(name, threading.current_thread().name)

        return self.offload(self.hold).addCallback(check)

    def test_errors_come_back(self) -> Deferred[None]:
        wrong = self.assertFailure(self.offload(divmod, 1, 0), ZeroDivisionError)
        return wrong.addCallback(lambda _: None)

    def test_the_context_is_kept(self) -> Deferred[None]:
        self.assertEqual(self.offload.unfinished, 0)
        request = trace.TracedMessage("s", 3)
        with trace.working_for(request):
            seen = self.offload(trace.current)
        self.assertEqual(self.offload.unfinished, 1)
        return seen.addCallback(self.assertEqual, request).addCallback(lambda _: None)

    def test_bound(self) -> Deferred[str]:
        running, waiting = self.offload(self.hold), self.offload(self.hold)
        error = self.failureResultOf(self.offload(self.hold), XiaozhiError).value
        self.assertEqual(error.code, "busy")
        self.release.set()
        return running.addCallback(lambda _: waiting)

    def test_urgent_work_runs_first(self) -> Deferred[None]:
        from twisted.internet import reactor

        offload = ThreadOffload(reactor, 1)
        offload.startService()
        self.addCleanup(offload.stopService)
        order: list[str] = []
        calls: list[Deferred[Any]] = [offload(self.hold)]
        for seconds, name in ((9, "later"), (0, "now"), (0, "then"), (3, "soon")):
            calls.append(offload.within(seconds, order.append, name))
        self.release.set()
        expected = ["now", "then", "soon", "later"]
        return gatherResults(calls).addCallback(lambda _: self.assertEqual(order, expected))

    def test_cancelled_before_its_turn_does_not_run(self) -> Deferred[None]:
        ran: list[int] = []
        running, waiting = self.offload(self.hold), self.offload(ran.append, 1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.release.set()
        running.addCallback(lambda _: self.offload(ran.append, 2))
        return running.addCallback(lambda _: self.assertEqual(ran, [2]))

    def test_stop_waits_for_running_work(self) -> Deferred[None]:
        order: list[str] = []
        running = self.offload(self.hold).addCallback(lambda _: order.append("work"))
        stopped = self.offload.stopService().addCallback(lambda _: order.append("stopped"))
        self.release.set()
        both = running.addCallback(lambda _: stopped)
        return both.addCallback(lambda _: self.assertEqual(order, ["work", "stopped"]))

    def test_refuses_once_stopped(self) -> Deferred[None]:
        def check(_: None) -> None:
            error = self.failureResultOf(self.offload(int), XiaozhiError).value
            self.assertEqual(error.code, "stopped")

        return self.offload.stopService().addCallback(check)

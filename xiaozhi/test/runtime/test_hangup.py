"""SIGHUP: reload, or end with the terminal."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.runtime import hangup
from xiaozhi.runtime.hangup import HangupHandler


class Reactor(Clock):
    """A reactor that runs calls at once, and records that it was stopped."""

    stopped = False

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)

    def stop(self) -> None:
        self.stopped = True


class HangupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.reloads = 0
        self.terminal = False
        self.patch(hangup, "_has_terminal", lambda: self.terminal)
        self.handler = HangupHandler(self.reactor, self.reload)
        former = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, former)

    def reload(self) -> None:
        self.reloads += 1

    def test_each_signal_reads_again(self) -> None:
        self.handler.start()
        for count in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            self.assertEqual((self.reloads, self.reactor.stopped), (count, False))

    def test_it_is_given_back(self) -> None:
        former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, former)
        self.handler.start()
        self.handler.stop()
        self.handler.stop()
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)

    def test_with_its_terminal_the_process_ends(self) -> None:
        self.terminal = True
        self.handler.start()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((self.reloads, self.reactor.stopped), (1, False))
        self.terminal = False
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((self.reloads, self.reactor.stopped), (1, True))

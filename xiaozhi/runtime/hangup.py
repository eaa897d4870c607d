"""SIGHUP: reload the configuration, or stop after the terminal closed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.logger import Logger


class HangupHandler:
    """Calls ``reload`` at each SIGHUP.

    A foreground process also receives the signal when its terminal closes: then it stops,
    as without a handler, but cleanly.
    """

    _log = Logger()

    def __init__(self, reactor: Any, reload: Callable[[], object]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._former: Any = None
        self._terminal = False

    def start(self) -> None:
        """Install the handler; does nothing outside the main thread."""
        self._terminal = _has_terminal()
        with suppress(ValueError):
            self._former = signal.signal(signal.SIGHUP, self._received)

    def stop(self) -> None:
        """Restore the former handler."""
        if self._former is not None:
            with suppress(ValueError):
                signal.signal(signal.SIGHUP, self._former)
            self._former = None

    def _received(self, *_: object) -> None:
        self._reactor.callFromThread(self.hung_up)

    def hung_up(self) -> None:
        """Act on the signal, on the reactor's thread."""
        if self._terminal and not _has_terminal():
            self._log.info("the terminal is gone")
            self._reactor.stop()
            return
        self._reload()


def _has_terminal() -> bool:
    """Whether standard input is a terminal that still exists."""
    try:
        os.tcgetpgrp(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return True

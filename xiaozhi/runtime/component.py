"""Parts with a start and a stop, as services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service


class Component(Service):
    """Lets an :class:`~xiaozhi.runtime.service.OrderedService` start and stop something.

    :param name: for the log.
    :param start: may return a Deferred.
    :param stop: may return a Deferred.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Any] = lambda: None,
        stop: Callable[[], Any] = lambda: None,
    ) -> None:
        self.setName(name)
        self._start = start
        self._stop = stop

    def startService(self) -> Any:
        super().startService()
        return self._start()

    def stopService(self) -> Any:
        super().stopService()
        return self._stop()

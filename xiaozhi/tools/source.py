"""Common parts of tool sources: status and watchers."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from xiaozhi.interfaces.toolsource import SourceState, SourceStatus


class SourceBase:
    """Status and watchers of a tool source.

    :ivar name: see :class:`~xiaozhi.interfaces.IToolSource`.
    """

    _log = Logger()

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = SourceStatus(SourceState.STARTING)
        # Bound: one per open session, and the service.
        self._watchers: dict[object, Callable[[], None]] = {}

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See :class:`~xiaozhi.interfaces.IToolSource`."""
        key = object()
        self._watchers[key] = changed

        def end() -> None:
            self._watchers.pop(key, None)

        return end

    def changed(self, state: SourceState | None = None, reason: str = "") -> None:
        """Notify watchers that tools or status have changed.

        :param state: the new state; None: unchanged.
        """
        if state is not None:
            self.status = SourceStatus(state, reason)
        for watcher in tuple(self._watchers.values()):
            try:
                watcher()
            except Exception:
                self._log.failure(
                    "tools: a watcher of {source} raised an exception", source=self.name
                )

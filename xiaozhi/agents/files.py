"""Agents of a configuration file, which can be reloaded during conversations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.agents.agent import Agent
from xiaozhi.agents.book import AgentBook
from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import IAgents, Offload
from xiaozhi.wire.messages import Device


@dataclass(frozen=True, slots=True)
class FileReading:
    """The current contents of a configuration file.

    :ivar apply: applies the providers' new settings; raises ConfigError without a change.
    :ivar restart: keys that differ from the running process and need a restart.
    """

    book: AgentBook
    apply: Callable[[], None]
    restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """The result of a reload.

    :ivar changed: ids of agents that are new, removed or different.
    :ivar restart: keys that changed and need a restart.
    :ivar error: why nothing was changed; empty: the reload succeeded.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    error: str = ""


@implementer(IAgents)
class FileAgents:
    """Provides the agents of a file, from memory and without a wait."""

    _log = Logger()

    def __init__(self, book: AgentBook, read: Callable[[], FileReading], offload: Offload) -> None:
        """:param read: reloads the file; blocks, raises ConfigError."""
        self._book = book
        self._read = read
        self._offload = offload
        self._one_at_a_time = DeferredLock()
        # Bound: one per session.
        self._watching: list[Callable[[], None]] = []

    @property
    def default(self) -> Agent:
        return self._book.default

    @property
    def book(self) -> AgentBook:
        """All agents and the assignment of devices."""
        return self._book

    def for_device(self, device: Device) -> Deferred[Agent]:
        return succeed(self._book.of(device.device_id))

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        self._watching.append(changed)

        def stop() -> None:
            if changed in self._watching:
                self._watching.remove(changed)

        return stop

    def reload(self) -> Deferred[ReloadReport]:
        """Reload the file. A file with an error changes nothing.

        :return: never fails.
        """
        return self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> ReloadReport:
        try:
            reading = await self._offload(self._read)
            reading.apply()
        except ConfigError as error:
            self._log.error("agents were not reloaded: {error}", error=error.message)
            return ReloadReport(error=error.message)
        former, self._book = self._book, reading.book
        changed = former.changed(reading.book)
        moved = former.assigned != reading.book.assigned
        self._log.info(
            "agents were reloaded: {changed}",
            changed=", ".join(changed) or ("other devices" if moved else "no change"),
        )
        if reading.restart:
            self._log.warn(
                "changed in the file, but needs a restart: {keys}",
                keys=", ".join(reading.restart),
            )
        if changed or moved:
            for each in list(self._watching):
                try:
                    each()
                except Exception:
                    self._log.failure("a watcher of agents raised an exception")
        return ReloadReport(changed, reading.restart)

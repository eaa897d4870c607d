"""Agents of a configuration file, which can be read again while devices talk."""

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
    """The present contents of a configuration file.

    :ivar apply: takes the providers' new settings over; raises ConfigError, and then has
        changed nothing.
    :ivar restart: keys that differ from the running process and need a restart.
    """

    book: AgentBook
    apply: Callable[[], None]
    restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """The outcome of reading the file again.

    :ivar changed: ids of agents that are new, gone or different.
    :ivar restart: keys that changed and need a restart.
    :ivar error: why nothing was changed; empty: it worked.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    error: str = ""


@implementer(IAgents)
class FileAgents:
    """The agents of a file, at once: nothing is waited for."""

    _log = Logger()

    def __init__(self, book: AgentBook, read: Callable[[], FileReading], offload: Offload) -> None:
        """:param read: reads the file again; blocks, raises ConfigError."""
        self._book = book
        self._read = read
        self._offload = offload
        self._one_at_a_time = DeferredLock()
        # Bound: one for each session table.
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
        """Read the file again. A file with an error changes nothing.

        :return: never fails.
        """
        return self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> ReloadReport:
        try:
            reading = await self._offload(self._read)
            reading.apply()
        except ConfigError as error:
            self._log.error("agents are as before: {error}", error=error.message)
            return ReloadReport(error=error.message)
        former, self._book = self._book, reading.book
        changed = former.changed(reading.book)
        moved = former.assigned != reading.book.assigned
        self._log.info(
            "agents were read again: {changed}",
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
                    self._log.failure("a watcher of agents failed")
        return ReloadReport(changed, reading.restart)

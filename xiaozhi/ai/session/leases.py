"""Find the agent of each session, lease its services, and replace it when it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.ai.session.services import AgentServices, AgentServicesTable
from xiaozhi.interfaces import IAgents
from xiaozhi.wire.messages import Device


class Leases(Protocol):
    """Leases the services of agents."""

    @property
    def default(self) -> AgentServices:
        """A new lease of the default agent's services."""

    def lease(self, device: Device) -> Deferred[AgentServices]:
        """Find a device's agent and lease its services."""

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` when an agent or the assignment of devices has changed.

        :return: a function that ends the watch.
        """


class AgentLeases:
    """Leases services from a table, for the agents that ``agents`` finds."""

    def __init__(self, agents: IAgents, table: AgentServicesTable) -> None:
        self._agents = agents
        self._table = table

    @property
    def default(self) -> AgentServices:
        """A new lease of the default agent's services."""
        return self._table.lease(self._table.default)

    def lease(self, device: Device) -> Deferred[AgentServices]:
        """See :meth:`Leases.lease`. After a cancellation nothing is leased."""
        return self._agents.for_device(device).addCallback(self._table.lease)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`Leases.watch`."""
        end: Callable[[], None] = self._agents.watch(changed)
        return end


class OneAgent:
    """Gives all sessions the same services."""

    def __init__(self, services: AgentServices) -> None:
        self.default = replace(services, _release=lambda: None)

    def lease(self, device: Device) -> Deferred[AgentServices]:
        """Return the services."""
        return succeed(self.default)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Return a function that does nothing: the agent never changes."""
        return lambda: None


class AgentEvents(Protocol):
    """Receives the services of an agent, and must release them."""

    def serve(self, services: AgentServices) -> None:
        """Open the session with its first agent."""

    def adopt(self, services: AgentServices) -> None:
        """Switch to another agent, or another version of it, at the next turn."""


class AgentSearch:
    """Finds the agent of one session, first at its start and again after each change.

    If the first search fails or exceeds its time limit, the default agent serves. If it then
    succeeds later, the session adopts the agent it found. A new search replaces a running one.
    """

    _log = Logger()

    def __init__(
        self,
        session_id: str,
        device: Device,
        leases: Leases,
        clock: IReactorTime,
        events: AgentEvents,
    ) -> None:
        self._session_id = session_id
        self._device = device
        self._leases = leases
        self._clock = clock
        # None: the session is over.
        self._events: AgentEvents | None = events
        self._search: Deferred[AgentServices] | None = None
        self._limit: IDelayedCall | None = None
        self._unwatch: Callable[[], None] | None = None
        # Id and version of the agent that serves, or is about to be adopted.
        self._serving: tuple[str, str] | None = None

    def start(self, wait: float) -> None:
        """Search for the agent.

        :param wait: time limit in seconds, after which the default agent serves.
        """
        self._unwatch = self._leases.watch(self._changed)
        self._find()
        if self._serving is None and self._events is not None:
            self._limit = self._clock.callLater(wait, self._late, wait)

    def hurry(self) -> None:
        """Use the default agent now if none was found yet."""
        if self._serving is None and self._events is not None:
            self._log.warn(
                "{session_id}: too many messages wait for the agent, the default agent serves",
                session_id=self._session_id,
            )
            self._use(self._leases.default)

    def close(self) -> None:
        """Stop searching. Idempotent."""
        self._events = None
        self._stop_limit()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        self._cancel()

    def _changed(self) -> None:
        self._cancel()
        self._find()

    def _cancel(self) -> None:
        search, self._search = self._search, None
        if search is not None:
            search.cancel()

    def _find(self) -> None:
        search = self._search = self._leases.lease(self._device)
        search.addCallbacks(self._found, self._failed, (search,), {}, (search,))
        search.addErrback(self._broken)

    def _found(self, services: AgentServices, search: Deferred[AgentServices]) -> None:
        if search is not self._search:
            # A new search has replaced this one, too late to cancel it.
            services.release()
            return
        self._search = None
        self._use(services)

    def _failed(self, failure: Failure, search: Deferred[AgentServices]) -> None:
        if search is not self._search:
            return  # cancelled
        self._search = None
        outcome = "the default agent serves" if self._serving is None else "the agent is kept"
        if failure.check(CancelledError):
            reason = "cancelled"
        else:
            reason = failure.getErrorMessage()
        self._log.error(
            "{session_id}: no agent found for device {device}, {outcome}: {reason}",
            session_id=self._session_id,
            device=self._device.device_id,
            outcome=outcome,
            reason=reason,
        )
        if self._serving is None:
            self._use(self._leases.default)

    def _broken(self, failure: Failure) -> None:
        self._log.failure(
            "{session_id}: the agent's services raised an exception",
            failure,
            session_id=self._session_id,
        )

    def _late(self, wait: float) -> None:
        self._limit = None
        self._log.warn(
            "{session_id}: no agent within {wait} s for device {device}, the default agent serves",
            session_id=self._session_id,
            wait=wait,
            device=self._device.device_id,
        )
        self._use(self._leases.default)

    def _use(self, services: AgentServices) -> None:
        self._stop_limit()
        version = services.agent.id, services.agent.version
        if self._events is None or version == self._serving:
            services.release()
            return
        first, self._serving = self._serving is None, version
        if first:
            self._events.serve(services)
        else:
            self._log.info(
                "{session_id}: agent {agent}, version {version}, serves from the next turn on",
                session_id=self._session_id,
                agent=services.agent.id,
                version=services.agent.version,
            )
            self._events.adopt(services)

    def _stop_limit(self) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = None


class Succession:
    """The services of a conversation's current, next and former agent.

    :ivar current: the services in use.
    """

    def __init__(self, first: AgentServices) -> None:
        self.current = first
        self._next: AgentServices | None = None
        # In use until the first turn with the current agent has ended.
        self._former: AgentServices | None = None

    @property
    def pending(self) -> bool:
        """Whether services wait to be adopted."""
        return self._next is not None

    def put(self, services: AgentServices) -> None:
        """Set the services to adopt at the next turn; release those they replace."""
        waiting, self._next = self._next, services
        if waiting is not None:
            waiting.release()

    def advance(self) -> AgentServices:
        """Adopt the next services, if any; no turn may be running.

        :return: the current services.
        """
        self.settle()
        if self._next is not None:
            self._former, self.current, self._next = self.current, self._next, None
        return self.current

    def settle(self) -> None:
        """Release the former services, which nothing uses any more."""
        former, self._former = self._former, None
        if former is not None:
            former.release()

    def close(self) -> None:
        """Release all services."""
        for services in (self._next, self._former, self.current):
            if services is not None:
                services.release()
        self._next = self._former = None

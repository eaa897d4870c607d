"""Services of a session: shared by all sessions, or its agent's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from twisted.internet.interfaces import IReactorTime

from xiaozhi.agents.settings import SessionSettings
from xiaozhi.ai.memory.history import Forgetful, History
from xiaozhi.ai.session.scheduler import Scheduler
from xiaozhi.ai.session.services import AgentServices
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.interfaces import TimedOffload
from xiaozhi.tools.sources import ToolSources
from xiaozhi.wire.messages import Device


@dataclass(frozen=True, slots=True)
class SessionRuntime:
    """Clocks, threads and scheduling.

    :ivar clock: monotonic clock for timers.
    :ivar seconds: wall clock: seconds since the epoch.
    :ivar scheduler: shares the reactor's time between sessions.
    :ivar agent_wait: maximum seconds that a new session waits for its agent.
    """

    clock: IReactorTime
    seconds: Callable[[], float]
    offload: TimedOffload
    scheduler: Scheduler
    agent_wait: float = 3.0


@dataclass(frozen=True, slots=True)
class SharedServices:
    """Services that all sessions of the process share.

    :ivar tools: the tool sources of the process.
    :ivar history: dialogues of earlier sessions.
    :ivar vision: returns the URL at which a device uploads photos, and its token for that. The
        arguments are the device and the host name by which it reached the edge. An empty URL:
        it cannot upload photos.
    :ivar counts: counters of all sessions.
    """

    tools: ToolSources
    runtime: SessionRuntime
    history: History | Forgetful
    vision: Callable[[Device, str], tuple[str, str]]
    counts: AiCounts = field(default_factory=AiCounts)

    @property
    def clock(self) -> IReactorTime:
        """The clock for timers."""
        return self.runtime.clock

    def serving(self, agent: AgentServices) -> SessionServices:
        """Return these services together with those of a session's agent."""
        shared = {each.name: getattr(self, each.name) for each in fields(SharedServices)}
        return SessionServices(agent=agent, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionServices(SharedServices):
    """Services of one session.

    :ivar agent: the services of its agent.
    """

    agent: AgentServices

    @property
    def settings(self) -> SessionSettings:
        """The agent's session settings."""
        return self.agent.settings

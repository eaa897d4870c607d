"""Services of a session: those that all sessions share, and those of its agent."""

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

    :ivar clock: timers; monotonic.
    :ivar seconds: wall clock: seconds since the epoch.
    :ivar scheduler: shares the reactor's time between sessions.
    :ivar agent_wait: seconds that a new session waits for its agent.
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
    :ivar vision: returns, for a device and the host by which it knows us, the URL to which
        it uploads photos and its token for that; an empty URL: it cannot.
    :ivar counts: metrics of all sessions together.
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
        """Add the services of a session's agent."""
        shared = {each.name: getattr(self, each.name) for each in fields(SharedServices)}
        return SessionServices(agent=agent, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionServices(SharedServices):
    """Services that one session uses.

    :ivar agent: services of the agent that serves it.
    """

    agent: AgentServices

    @property
    def settings(self) -> SessionSettings:
        """The agent's settings of sessions."""
        return self.agent.settings

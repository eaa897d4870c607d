"""Services that all sessions of the process share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
    """Everything a session uses; shared by all but for the agent.

    :ivar agent: services of the agent that serves the session.
    :ivar tools: the tool sources of the process.
    :ivar history: dialogues of earlier sessions.
    :ivar vision: returns, for a device and the host by which it knows us, the URL to which
        it uploads photos and its token for that; an empty URL: it cannot.
    :ivar counts: metrics of all sessions together.
    """

    agent: AgentServices
    tools: ToolSources
    runtime: SessionRuntime
    history: History | Forgetful
    vision: Callable[[Device, str], tuple[str, str]]
    counts: AiCounts = field(default_factory=AiCounts)

    @property
    def settings(self) -> SessionSettings:
        """The agent's settings of sessions."""
        return self.agent.settings

    @property
    def clock(self) -> IReactorTime:
        """The clock for timers."""
        return self.runtime.clock

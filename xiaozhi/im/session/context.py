"""State that all device links of one edge process share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from xiaozhi.im.counts import EdgeCounts
from xiaozhi.im.language.languages import Languages
from xiaozhi.im.playout.timerwheel import TickWheel
from xiaozhi.im.session.ratelimit import Allowances
from xiaozhi.im.sessionlog.log import SessionLog
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.interfaces import IBridge
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.wire.messages import AudioParams


@dataclass(frozen=True, slots=True)
class EdgeTimers:
    """Clocks and shared timers.

    :ivar clock: monotonic clock for delays; ``wall``: wall clock, seconds since the epoch.
    :ivar pacing: wheel with ticks of about 10 ms, for speech.
    :ivar timeouts: wheel with ticks of about 250 ms, for everything else.
    """

    clock: IReactorTime
    pacing: TickWheel
    timeouts: TickWheel
    wall: Callable[[], float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wall", wall_time(self.clock))

    @classmethod
    def on(cls, clock: IReactorTime) -> EdgeTimers:
        """Make the wheels of a process."""
        return cls(clock, TickWheel(clock), TickWheel(clock, _TIMEOUT_TICK))

    def stop(self) -> None:
        """Release both wheels; call when they are no longer in use."""
        self.pacing.stop()
        self.timeouts.stop()


_TIMEOUT_TICK = 0.25


@dataclass(frozen=True, slots=True)
class LinkContext:
    """The services that links share.

    :ivar new_session_id: returns ``[A-Za-z0-9_-]+``, because devices insert it into JSON
        unescaped (§2.2).
    :ivar downlink: audio format of packets to devices.
    :ivar languages: languages of devices' conversations.
    :ivar allowances: rate limits of disconnected devices.
    """

    bridge: IBridge
    log: SessionLog
    timers: EdgeTimers
    settings: EdgeSettings
    new_session_id: Callable[[], str]
    counts: EdgeCounts = field(default_factory=EdgeCounts)
    downlink: AudioParams = field(init=False)
    languages: Languages = field(init=False)
    allowances: Allowances = field(init=False)

    def __post_init__(self) -> None:
        link = self.settings.link
        downlink = AudioParams(
            sample_rate=link.downlink_sample_rate, frame_duration=link.downlink_frame_duration
        )
        object.__setattr__(self, "downlink", downlink)
        object.__setattr__(self, "languages", Languages(link.language))
        object.__setattr__(self, "allowances", Allowances(self.settings.limits))

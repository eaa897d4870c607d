"""What all device links of one edge process share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from xiaozhi.base.values import LogDirection, SessionStatus
from xiaozhi.im.counts import EdgeCounts
from xiaozhi.im.session.languages import Languages
from xiaozhi.im.session.ratelimit import Allowances
from xiaozhi.im.session.timerwheel import TickWheel
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.interfaces import IBridge
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.web.peers import Peers
from xiaozhi.web.refusals import Refusals
from xiaozhi.wire.messages import AudioParams, Device


class SessionLog(Protocol):
    """The session, message and event log as links write it.

    Nothing here waits or raises; whether ``content`` of words is kept is the
    log's own setting.
    """

    def session_started(
        self, session_id: str, device: Device, metadata: Mapping[str, Any]
    ) -> None: ...

    def session_changed(self, session_id: str, status: SessionStatus) -> None: ...

    def message(
        self, session_id: str, message_type: str, direction: LogDirection, content: str | None
    ) -> None: ...

    def event(self, session_id: str, event_type: str, data: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class LinkContext:
    """The surroundings of a link.

    :ivar wall: the time, in seconds since the epoch; ``clock`` is for delays.
    :ivar pacing: wheel of some 10 ms for speech.
    :ivar timeouts: wheel of some 250 ms for everything else.
    :ivar new_session_id: makes ``[A-Za-z0-9_-]+``: devices paste it into JSON
        unescaped (§2.2).
    :ivar peers: connections by where they come from.
    :ivar refusals: those that were not let in.
    :ivar languages: of devices' talks.
    :ivar counts: what links count together.
    :ivar allowances: what devices that are gone had left to send.
    """

    bridge: IBridge
    journal: SessionLog
    clock: IReactorTime
    settings: EdgeSettings
    pacing: TickWheel
    timeouts: TickWheel
    new_session_id: Callable[[], str]
    counts: EdgeCounts = field(default_factory=EdgeCounts)
    wall: Callable[[], float] = field(init=False)
    downlink: AudioParams = field(init=False)
    languages: Languages = field(init=False)
    peers: Peers = field(init=False)
    refusals: Refusals = field(init=False)
    allowances: Allowances = field(init=False)

    def __post_init__(self) -> None:
        link = self.settings.link
        downlink = AudioParams(
            sample_rate=link.downlink_sample_rate, frame_duration=link.downlink_frame_duration
        )
        object.__setattr__(self, "downlink", downlink)
        object.__setattr__(self, "languages", Languages(link.language))
        object.__setattr__(self, "wall", wall_time(self.clock))
        object.__setattr__(self, "allowances", Allowances(self.settings.limits))
        gateway = self.settings.gateway
        object.__setattr__(self, "peers", Peers(gateway, self.clock))
        object.__setattr__(self, "refusals", Refusals(self.clock, gateway.log_interval))

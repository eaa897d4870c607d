"""The lanes to one AI address."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger

from xiaozhi.base.values import TargetStatus
from xiaozhi.bridge.slot import EdgeEnd, SlotState, StreamSlot


class TargetOwner(Protocol):
    """Is told when sessions need a place or can have one."""

    def lane_up(self, target: Target, lane: StreamSlot) -> None:
        """``lane`` can carry sessions."""

    def lane_lost(self, target: Target, lane: StreamSlot) -> None:
        """The sessions on ``lane`` need another."""

    def target_silent(self, target: Target) -> None:
        """A try to reach it failed, and it has no lane."""


class Target:
    """Keeps ``streams_per_target`` lanes to one address and says so when it changes.

    :ivar address: ``host:port``.
    :ivar retired: the address is not wanted any more.
    """

    _log = Logger()

    def __init__(self, edge: EdgeEnd, address: str, owner: TargetOwner) -> None:
        self.address = address
        self.retired = False
        self._owner = owner
        self._reported = ""  # the state the log last spoke of
        self._leaving = ""  # the process of which it said that it stops
        self._last_error = ""
        self._full = edge.settings.sessions_per_stream
        self._lanes = [
            StreamSlot(edge, address, self) for _ in range(edge.settings.streams_per_target)
        ]

    def start(self) -> None:
        """Dial all lanes."""
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """Hang up. Idempotent."""
        for lane in self._lanes:
            lane.stop()

    @property
    def lanes(self) -> list[StreamSlot]:
        """Those that are up."""
        return [lane for lane in self._lanes if lane.state is SlotState.UP]

    @property
    def complete(self) -> bool:
        """Every lane is up."""
        return all(lane.state is SlotState.UP for lane in self._lanes)

    @property
    def draining(self) -> bool:
        """It is up, but takes no new sessions: its process stops soon."""
        lanes = self.lanes
        return bool(lanes) and all(lane.draining for lane in lanes)

    @property
    def sessions(self) -> int:
        return sum(len(lane.sessions) for lane in self._lanes)

    @property
    def state(self) -> str:
        """``connected``, ``connecting`` or ``disconnected``."""
        if self.lanes:
            return "connected"
        opening = any(lane.state is SlotState.OPENING for lane in self._lanes)
        return "connecting" if opening else "disconnected"

    def lane_for_new(self) -> StreamSlot | None:
        """The least loaded healthy lane; None: no new sessions for this target."""
        if self.retired:
            return None
        lanes = (lane for lane in self.lanes if not lane.draining)
        return min(lanes, key=self._load, default=None)

    def lane_to(self, process: str) -> StreamSlot | None:
        """The least loaded lane to this very process."""
        lanes = (lane for lane in self.lanes if lane.peer.process == process)
        return min(lanes, key=self._load, default=None)

    def _load(self, lane: StreamSlot) -> tuple[bool, int]:
        return lane.suspect, len(lane.sessions) // self._full

    def status(self) -> TargetStatus:
        """How each lane is."""
        streams = tuple(lane.status() for lane in self._lanes)
        return TargetStatus(self.address, streams, self.draining)

    def detail(self) -> dict[str, Any]:
        """For ``/health``. ``rtt_ms`` is that of the slowest lane."""
        up = self.lanes
        rtts = [lane.rtt for lane in up if lane.rtt is not None]
        node, process = (up[0].peer.node, up[0].peer.process) if up else ("", "")
        return {
            "state": self.state,
            "draining": self.draining,
            "node": node,
            "boot_id": process,
            "streams": len(up),
            "sessions": self.sessions,
            "rtt_ms": round(max(rtts) * 1000, 3) if rtts else None,
            "reconnects": sum(max(0, lane.reconnects) for lane in self._lanes),
            "last_error": self._last_error,
            "lanes": [lane.detail() for lane in self._lanes],
        }

    # --- LaneOwner

    def lane_up(self, lane: StreamSlot) -> None:
        if self._reported != "up":
            self._reported = "up"
            self._log.info(
                "connected to the AI service at {target} ({node})",
                target=self.address,
                node=lane.peer.node,
            )
        self._owner.lane_up(self, lane)

    def lane_draining(self, lane: StreamSlot) -> None:
        if lane.peer.process != self._leaving:
            self._leaving = lane.peer.process
            self._log.info(
                "the AI service at {target} ({node}) is about to stop; new sessions go elsewhere",
                target=self.address,
                node=lane.peer.node,
            )

    def lane_down(self, lane: StreamSlot, reason: str, retry_in: float, *, was_up: bool) -> None:
        self._last_error = reason
        silent = not self.lanes
        if silent and self._reported != "down":
            self._log.warn(
                "{what} the AI service at {target}: {reason}; next try in {retry_in:.1f} s",
                what="lost" if self._reported else "cannot reach",
                target=self.address,
                reason=reason,
                retry_in=retry_in,
            )
            self._reported = "down"
        if was_up:
            self._owner.lane_lost(self, lane)
        elif silent:
            self._owner.target_silent(self)

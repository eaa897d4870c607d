"""The lanes to one AI process."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger

from xiaozhi.bridge.lane import Edge, Lane, LaneState


class TargetOwner(Protocol):
    """Is told when sessions need a place or can have one."""

    def lane_up(self, target: Target, lane: Lane) -> None:
        """``lane`` can carry sessions."""

    def lane_lost(self, target: Target, lane: Lane) -> None:
        """The sessions on ``lane`` need another."""


class Target:
    """Keeps ``streams_per_target`` lanes to one address and says so when it changes.

    :ivar address: ``host:port``.
    """

    _log = Logger()

    def __init__(self, edge: Edge, address: str, owner: TargetOwner) -> None:
        self.address = address
        self._owner = owner
        self._reported = ""  # the state the log last spoke of
        self._last_error = ""
        self._lanes = [Lane(edge, address, self) for _ in range(edge.settings.streams_per_target)]

    def start(self) -> None:
        """Dial all lanes."""
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """Hang up. Idempotent."""
        for lane in self._lanes:
            lane.stop()

    @property
    def streams(self) -> int:
        """Lanes that are up."""
        return sum(lane.state is LaneState.UP for lane in self._lanes)

    @property
    def sessions(self) -> int:
        return sum(len(lane.sessions) for lane in self._lanes)

    @property
    def state(self) -> str:
        """``connected``, ``connecting`` or ``disconnected``."""
        if self.streams:
            return "connected"
        opening = any(lane.state is LaneState.OPENING for lane in self._lanes)
        return "connecting" if opening else "disconnected"

    def best_lane(self) -> Lane | None:
        """The least loaded that is up."""
        up = [lane for lane in self._lanes if lane.state is LaneState.UP]
        return min(up, key=lambda lane: len(lane.sessions), default=None)

    def detail(self) -> dict[str, Any]:
        """For ``/health``. ``rtt_ms`` is that of the slowest lane."""
        rtts = [lane.rtt for lane in self._lanes if lane.rtt is not None and lane.outbox]
        node, boot_id = next((lane.peer for lane in self._lanes if lane.outbox), ("", ""))
        return {
            "state": self.state,
            "node": node,
            "boot_id": boot_id,
            "streams": self.streams,
            "sessions": self.sessions,
            "rtt_ms": round(max(rtts) * 1000, 3) if rtts else None,
            "reconnects": sum(max(0, lane.reconnects) for lane in self._lanes),
            "last_error": self._last_error,
        }

    # --- LaneOwner

    def lane_up(self, lane: Lane) -> None:
        if self._reported != "up":
            self._reported = "up"
            self._log.info(
                "connected to the AI service at {target} ({node})",
                target=self.address,
                node=lane.peer[0],
            )
        self._owner.lane_up(self, lane)

    def lane_down(self, lane: Lane, reason: str, retry_in: float) -> None:
        self._last_error = reason
        if not self.streams and self._reported != "down":
            self._log.warn(
                "{what} the AI service at {target}: {reason}; start it there or set"
                " bridge.targets; next try in {retry_in:.1f} s",
                what="lost" if self._reported else "cannot reach",
                target=self.address,
                reason=reason,
                retry_in=retry_in,
            )
            self._reported = "down"
        self._owner.lane_lost(self, lane)

"""The slots to one AI address."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger

from xiaozhi.base.values import TargetStatus
from xiaozhi.bridge.edge.slot import EdgeEnd, SlotState, StreamSlot


class TargetOwner(Protocol):
    """Is notified when sessions need a slot or can have one."""

    def slot_up(self, target: Target, slot: StreamSlot) -> None:
        """``slot`` can carry sessions."""

    def slot_lost(self, target: Target, slot: StreamSlot) -> None:
        """The sessions on ``slot`` need another."""

    def target_silent(self, target: Target) -> None:
        """A try to reach it failed, and it has no slot."""


class Target:
    """Keeps ``streams_per_target`` slots to one address and says so when it changes.

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
        self._slots = [
            StreamSlot(edge, address, self) for _ in range(edge.settings.streams_per_target)
        ]

    def start(self) -> None:
        """Dial all slots."""
        for slot in self._slots:
            slot.start()

    def stop(self) -> None:
        """Hang up. Idempotent."""
        for slot in self._slots:
            slot.stop()

    @property
    def slots(self) -> list[StreamSlot]:
        """Those that are up."""
        return [slot for slot in self._slots if slot.state is SlotState.UP]

    @property
    def complete(self) -> bool:
        """Every slot is up."""
        return all(slot.state is SlotState.UP for slot in self._slots)

    @property
    def draining(self) -> bool:
        """It is up, but takes no new sessions: its process stops soon."""
        slots = self.slots
        return bool(slots) and all(slot.draining for slot in slots)

    @property
    def sessions(self) -> int:
        return sum(len(slot.sessions) for slot in self._slots)

    @property
    def state(self) -> str:
        """``connected``, ``connecting`` or ``disconnected``."""
        if self.slots:
            return "connected"
        opening = any(slot.state is SlotState.OPENING for slot in self._slots)
        return "connecting" if opening else "disconnected"

    def slot_for_new(self) -> StreamSlot | None:
        """The least loaded healthy slot; None: no new sessions for this target."""
        if self.retired:
            return None
        slots = (slot for slot in self.slots if not slot.draining)
        return min(slots, key=self._load, default=None)

    def slot_to(self, process: str) -> StreamSlot | None:
        """The least loaded slot to this very process."""
        slots = (slot for slot in self.slots if slot.peer.process == process)
        return min(slots, key=self._load, default=None)

    def _load(self, slot: StreamSlot) -> tuple[bool, int]:
        return slot.suspect, len(slot.sessions) // self._full

    def status(self) -> TargetStatus:
        """How each slot is."""
        streams = tuple(slot.status() for slot in self._slots)
        return TargetStatus(self.address, streams, self.draining)

    def detail(self) -> dict[str, Any]:
        """For ``/health``. ``rtt_ms`` is that of the slowest slot."""
        up = self.slots
        rtts = [slot.rtt for slot in up if slot.rtt is not None]
        node, process = (up[0].peer.node, up[0].peer.process) if up else ("", "")
        return {
            "state": self.state,
            "draining": self.draining,
            "node": node,
            "boot_id": process,
            "streams": len(up),
            "sessions": self.sessions,
            "rtt_ms": round(max(rtts) * 1000, 3) if rtts else None,
            "reconnects": sum(max(0, slot.reconnects) for slot in self._slots),
            "last_error": self._last_error,
            "slots": [slot.detail() for slot in self._slots],
        }

    # --- LaneOwner

    def slot_up(self, slot: StreamSlot) -> None:
        if self._reported != "up":
            self._reported = "up"
            self._log.info(
                "connected to the AI service at {target} ({node})",
                target=self.address,
                node=slot.peer.node,
            )
        self._owner.slot_up(self, slot)

    def slot_draining(self, slot: StreamSlot) -> None:
        if slot.peer.process != self._leaving:
            self._leaving = slot.peer.process
            self._log.info(
                "the AI service at {target} ({node}) is about to stop; new sessions go elsewhere",
                target=self.address,
                node=slot.peer.node,
            )

    def slot_down(self, slot: StreamSlot, reason: str, retry_in: float, *, was_up: bool) -> None:
        self._last_error = reason
        silent = not self.slots
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
            self._owner.slot_lost(self, slot)
        elif silent:
            self._owner.target_silent(self)

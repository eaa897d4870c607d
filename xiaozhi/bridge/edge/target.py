"""The slots to one AI address."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger

from xiaozhi.base.values import TargetStatus
from xiaozhi.bridge.edge.slot import EdgeEnd, SlotState, StreamSlot


class TargetOwner(Protocol):
    """Receives the changes of a target's slots."""

    def slot_up(self, target: Target, slot: StreamSlot) -> None:
        """``slot`` can carry sessions."""

    def slot_lost(self, target: Target, slot: StreamSlot) -> None:
        """``slot`` broke; its sessions need another."""

    def target_silent(self, target: Target) -> None:
        """An attempt to connect failed, and no slot is up."""


class Target:
    """Keeps ``streams_per_target`` slots to one address and reports their changes.

    :ivar address: ``host:port``.
    :ivar retired: the address was removed from the targets.
    """

    _log = Logger()

    def __init__(self, edge: EdgeEnd, address: str, owner: TargetOwner) -> None:
        self.address = address
        self.retired = False
        self._owner = owner
        self._reported = ""  # the last state logged
        self._leaving = ""  # the last process logged as stopping
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
        """Close all slots. Idempotent."""
        for slot in self._slots:
            slot.stop()

    @property
    def slots(self) -> list[StreamSlot]:
        """The slots that are up."""
        return [slot for slot in self._slots if slot.state is SlotState.UP]

    @property
    def complete(self) -> bool:
        """Whether every slot is up."""
        return all(slot.state is SlotState.UP for slot in self._slots)

    @property
    def draining(self) -> bool:
        """Whether it is up but takes no new sessions, because its process stops soon."""
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
        """Return the least loaded healthy slot; None: no new sessions here."""
        if self.retired:
            return None
        slots = (slot for slot in self.slots if not slot.draining)
        return min(slots, key=self._load, default=None)

    def slot_to(self, process: str) -> StreamSlot | None:
        """Return the least loaded slot to this process, by boot id."""
        slots = (slot for slot in self.slots if slot.peer.process == process)
        return min(slots, key=self._load, default=None)

    def _load(self, slot: StreamSlot) -> tuple[bool, int]:
        return slot.suspect, len(slot.sessions) // self._full

    def status(self) -> TargetStatus:
        """Return the state of each slot."""
        streams = tuple(slot.status() for slot in self._slots)
        return TargetStatus(self.address, streams, self.draining)

    def detail(self) -> dict[str, Any]:
        """Return the state for ``/health``. ``rtt_ms`` is that of the slowest slot."""
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

    # --- SlotOwner

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

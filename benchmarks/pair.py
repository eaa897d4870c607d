"""The edge and the floor side by side, each with its own load generator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.process import Broken, Helper, Process
from benchmarks.stage import Stage

T = TypeVar("T")

# Seconds for packets on their way, and for the accounting of their CPU.
_SETTLE = 0.3


@dataclass(frozen=True, slots=True)
class Side:
    """The edge or the floor.

    :ivar server: the process whose CPU and memory are measured.
    :ivar others: servers that share its port.
    :ivar peer: the process that counts packets, echoes and speaks: the far side of the
        bridge, or the bare server itself.
    """

    server: Process
    peer: Helper
    load: Helper
    port: int
    others: tuple[Process, ...] = ()

    def connect(self, devices: int) -> None:
        self.load.ask("connect", port=self.port, count=devices)

    def cpu_of(self, play: Callable[[], T]) -> tuple[float, T]:
        """Return the server's CPU seconds while ``play`` runs, and its result."""
        before = self.server.cpu()
        result = play()
        time.sleep(_SETTLE)
        return self.server.cpu() - before, result


@dataclass(frozen=True, slots=True)
class Pair:
    """Edge and floor. Measure them in turns within a minute, since machines are noisy."""

    edge: Side
    floor: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.edge, self.floor

    def connect(self, devices: int) -> None:
        """Connect devices to each side."""
        for side in self.sides:
            side.load.begin("connect", port=side.port, count=devices)
        for side in self.sides:
            side.load.answer()
        # The server's hello can precede the session's arrival at the far side.
        time.sleep(_SETTLE)


def pair(stage: Stage, edges: int = 1) -> Pair:
    """Start all processes.

    :param edges: number of edges that share the port.
    """
    # First: they take longest to start and need no port of another process.
    edge_load, bare_load = stage.load(), stage.load()
    far, far_port = stage.far_side()
    edge, edge_port = stage.edge(far_port)
    others = tuple(stage.edge(far_port, edge_port)[0] for _ in range(edges - 1))
    bare, bare_port = stage.bare()
    return Pair(
        Side(edge, far, edge_load, edge_port, others), Side(bare, bare, bare_load, bare_port)
    )


def lost(what: str, sent: int, came: int) -> None:
    """Check that no packet was lost.

    :raises Broken: packets were lost, so results per packet would be wrong.
    """
    if came != sent:
        raise Broken(f"{what}: {came} of {sent} packets came through")

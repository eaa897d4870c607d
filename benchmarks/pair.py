"""The edge and the floor side by side, each with a load generator of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.process import Broken, Helper, Process
from benchmarks.stage import Stage

T = TypeVar("T")

# What is still on its way, and the accounting of what it costs.
_SETTLE = 0.3


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two.

    :ivar server: whose CPU and memory are measured.
    :ivar others: servers that share its port.
    :ivar peer: who counts packets, echoes and speaks: the far side of the bridge,
        or the bare server itself.
    """

    server: Process
    peer: Helper
    load: Helper
    port: int
    others: tuple[Process, ...] = ()

    def connect(self, devices: int) -> None:
        self.load.ask("connect", port=self.port, count=devices)

    def cpu_of(self, play: Callable[[], T]) -> tuple[float, T]:
        """Seconds of the server's CPU while ``play`` runs, and its result."""
        before = self.server.cpu()
        result = play()
        time.sleep(_SETTLE)
        return self.server.cpu() - before, result


@dataclass(frozen=True, slots=True)
class Pair:
    """Both. The machine is noisy: measure them in turns, in the same minute."""

    edge: Side
    floor: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.edge, self.floor

    def connect(self, devices: int) -> None:
        """Connect so many devices to each."""
        for side in self.sides:
            side.load.begin("connect", port=side.port, count=devices)
        for side in self.sides:
            side.load.answer()
        # A device is greeted before its session has reached the far side.
        time.sleep(_SETTLE)


def pair(stage: Stage, edges: int = 1) -> Pair:
    """Start everything.

    :param edges: that share the port.
    """
    # First, for they need the longest to be ready and nobody's port to begin.
    edge_load, bare_load = stage.load(), stage.load()
    far, far_port = stage.far_side()
    edge, edge_port = stage.edge(far_port)
    others = tuple(stage.edge(far_port, edge_port)[0] for _ in range(edges - 1))
    bare, bare_port = stage.bare()
    return Pair(
        Side(edge, far, edge_load, edge_port, others), Side(bare, bare, bare_load, bare_port)
    )


def lost(what: str, sent: int, came: int) -> None:
    """Complain unless everything came.

    :raises Broken: a figure per packet would be wrong.
    """
    if came != sent:
        raise Broken(f"{what}: {came} of {sent} packets came through")

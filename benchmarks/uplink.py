"""CPU per packet from a device, through xiaozhi-im to the far side of its bridge.

The floor receives the same packets and counts them. In real time each packet is a read
of its own; in bursts sixteen arrive in one read. No device does that, but it shows the
cost without most of the system calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.pair import Side, lost, pair
from benchmarks.result import Aim, Result, per_core
from benchmarks.stage import Stage

_BURST = 16


@dataclass
class _Spent:
    cpu: float = 0.0
    frames: int = 0
    late_ms: float = 0.0

    @property
    def each(self) -> float:
        """Return µs per packet."""
        return round(self.cpu / self.frames * 1e6, 1)


def _stream(side: Side, seconds: float, burst: int, spent: _Spent) -> None:
    before = side.peer.ask("frames")
    cpu, streamed = side.cpu_of(lambda: side.load.ask("stream", seconds=seconds, burst=burst))
    lost("uplink", streamed["sent"], side.peer.ask("frames") - before)
    spent.cpu += cpu
    spent.frames += streamed["sent"]
    spent.late_ms = max(spent.late_ms, streamed["late_ms"])


def run(devices: int, seconds: float, rounds: int) -> Iterator[Result]:
    """Run the benchmark.

    :param seconds: of one round on one side.
    """
    with Stage() as stage:
        both = pair(stage)
        both.connect(devices)
        for side in both.sides:
            side.load.ask("listen")
            side.load.ask("stream", seconds=0.5)
        for name, burst, aim in (
            ("frame_cpu_up", 1, Aim("ratio", 1.5)),
            ("frame_cpu_up_burst", _BURST, None),
        ):
            edge, floor = _Spent(), _Spent()
            for _ in range(rounds):
                _stream(both.edge, seconds, burst, edge)
                _stream(both.floor, seconds, burst, floor)
            more = {
                "devices": devices,
                "frames": edge.frames,
                "frames_per_second_per_core": per_core(edge.each),
                "floor_frames_per_second_per_core": per_core(floor.each),
                "burst": burst,
                "load_late_ms": max(edge.late_ms, floor.late_ms),
            }
            yield Result(name, edge.each, "us/frame", floor.each, aim, more)

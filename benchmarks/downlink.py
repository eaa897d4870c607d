"""CPU per packet to a device, and the accuracy of pacing.

The far side of the bridge pushes turns of speech as the AI service does, faster
than real time; xiaozhi-im paces them. The floor sends the same packets from memory,
with the edge's timing. A gap is late when two packets of a turn reach the load
generator more than 65 ms apart. This includes delays of the load generator and the
machine, which the floor shows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.frames import FRAME_SECONDS
from benchmarks.pair import Side, lost, pair
from benchmarks.process import Broken
from benchmarks.result import Aim, Result, per_core
from benchmarks.stage import Stage

_LATE = 0.065
_AIMED_AT = 300


@dataclass
class _Heard:
    cpu: float = 0.0
    frames: int = 0
    gaps: int = 0
    late: int = 0
    worst_ms: float = 0.0

    @property
    def each(self) -> float:
        """Return µs per packet."""
        return round(self.cpu / self.frames * 1e6, 1)

    @property
    def share(self) -> float:
        """Return the percentage of late gaps."""
        return round(self.late / self.gaps * 100, 3) if self.gaps else 0.0


def _speak(side: Side, devices: int, seconds: float, heard: _Heard) -> None:
    frames = max(4, round(seconds / FRAME_SECONDS))

    def play() -> dict[str, Any]:
        side.peer.ask("speak", frames=frames)
        until = time.monotonic() + seconds + 10.0
        # The edge is still playing what was pushed.
        while (came := side.load.ask("heard", late=_LATE))["turns"] < devices:
            if time.monotonic() > until:
                raise Broken(f"downlink: {came['turns']} of {devices} turns ended")
            time.sleep(0.3)
        return dict(came)

    side.load.ask("expect_speech")
    cpu, came = side.cpu_of(play)
    lost("downlink", frames * devices, came["frames"])
    heard.cpu += cpu
    heard.frames += came["frames"]
    heard.gaps += came["gaps"]
    heard.late += came["late"]
    heard.worst_ms = max(heard.worst_ms, came["spread"]["max"])


def _measure(devices: int, seconds: float, rounds: int) -> tuple[_Heard, _Heard]:
    with Stage() as stage:
        both = pair(stage)
        both.connect(devices)
        edge, floor = _Heard(), _Heard()
        for side in both.sides:
            _speak(side, devices, 0.5, _Heard())
        for _ in range(rounds):
            _speak(both.edge, devices, seconds, edge)
            _speak(both.floor, devices, seconds, floor)
        return edge, floor


def _pacing(devices: int, edge: _Heard, floor: _Heard) -> Result:
    more = {
        "devices": devices,
        "gaps": edge.gaps,
        "late": edge.late,
        "floor_late": floor.late,
        "worst_gap_ms": edge.worst_ms,
        "floor_worst_gap_ms": floor.worst_ms,
    }
    aim = Aim("figure", 0.1) if devices == _AIMED_AT else None
    return Result(f"pacing_{devices}", edge.share, "% gaps > 65 ms", floor.share, aim, more)


def run_cpu(devices: int, seconds: float, rounds: int) -> Iterator[Result]:
    """Measure CPU, and the pacing of the same packets.

    :param seconds: of sound in one turn.
    """
    edge, floor = _measure(devices, seconds, rounds)
    more = {
        "devices": devices,
        "frames": edge.frames,
        "frames_per_second_per_core": per_core(edge.each),
        "floor_frames_per_second_per_core": per_core(floor.each),
    }
    yield Result("frame_cpu_down", edge.each, "us/frame", floor.each, Aim("ratio", 1.5), more)
    yield _pacing(devices, edge, floor)


def run_pacing(devices: int, seconds: float, rounds: int) -> Iterator[Result]:
    """Measure pacing alone."""
    yield _pacing(devices, *_measure(devices, seconds, rounds))

"""Leaks of objects, queued items and memory over many sessions.

Both services run. In each leg devices connect, ask by button without a pause, hear the
answers and leave. After each leg, when the services are idle, the benchmark counts the
objects of both processes and the items in their queues. The first two legs are a
warm-up; the counts after them are the floor of those after the last leg.

Resident memory is read every second; its slope is that of the line of least squares
through the second half of the time, in KB per minute. It is noisy in a short soak.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process import Helper, Process
from benchmarks.result import Aim, Result
from benchmarks.stage import Stage
from benchmarks.statistics import slope
from benchmarks.watched import ask, grown

_LEGS = 6
_WARM = 2
_SPEAK = 0.3
# Seconds for sessions to end, the log to be written and the allocator to settle, at most
# those of a leg.
_SETTLE = 3.0
# A turn that has begun runs to its end.
_LAST_TURN = 30.0
# Tolerance above the floor: caches that fill, and objects that a thread holds.
_MOST = 1.02


@dataclass
class Watched:
    """Measurements of one service.

    :ivar memory: seconds and KB.
    :ivar counts: a census after each leg.
    """

    name: str
    process: Process
    socket: Path
    memory: list[tuple[float, float]] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)

    def results(self, devices: int) -> Iterator[Result]:
        first, last = self.counts[_WARM - 1], self.counts[-1]
        more = {
            "devices": devices,
            "legs": [count["objects"] for count in self.counts],
            "grown": grown(first["types"], last["types"]),
        }
        objects = float(last["objects"])
        aim = Aim("ratio", _MOST)
        yield Result(f"soak_{self.name}_objects", objects, "objects", first["objects"], aim, more)
        more = {"legs": [count["queued"] for count in self.counts], "longest": last["longest"]}
        aim = Aim("figure", first["queued"] + 10.0)
        yield Result(
            f"soak_{self.name}_queues", last["queued"], "items", first["queued"] or None, aim, more
        )
        half = self.memory[len(self.memory) // 2 :]
        more = {
            "first_kb": self.memory[0][1],
            "last_kb": self.memory[-1][1],
            "most_kb": max(kb for _, kb in self.memory),
            "samples": len(half),
        }
        yield Result(f"soak_{self.name}_rss", round(slope(half) * 60, 1), "KB/min", more=more)


def talkative() -> dict[str, Any]:
    """Return settings of an AI service that answers at once and briefly."""
    return {
        "selected": {
            "asr": "scripted",
            "llm": "scripted",
            "tts": "tone",
            "vlllm": "scripted",
            "vad": "energy",
        },
        "providers": {
            "asr": {"scripted": {"texts": ["is it so"]}},
            "llm": {"scripted": {"answers": ["Yes."]}},
        },
        # A dialogue's memory is bounded; let it reach the bound in the first leg.
        "session": {"dialogue": {"entries": 4}},
    }


def _leg(load: Helper, port: int, devices: int, seconds: float, services: list[Watched]) -> int:
    load.ask("connect", port=port, count=devices)
    load.begin("chat", speak=_SPEAK, seconds=seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for service in services:
            service.memory.append((time.monotonic(), float(service.process.memory())))
        time.sleep(1.0)
    turns = int(load.answer(_LAST_TURN)["count"])
    load.ask("close")
    time.sleep(min(_SETTLE, max(0.5, seconds)))
    for service in services:
        service.counts.append(ask(service.socket))
    return turns


def run(devices: int, seconds: float) -> Iterator[Result]:
    """Run the benchmark.

    :param seconds: of conversation in total.
    """
    with Stage(watched=True) as stage:
        load = stage.load()
        brain, grpc = stage.brain(talkative())
        edge, port = stage.edge(grpc)
        services = [
            Watched("im", edge, stage.socket_of(edge)),
            Watched("ai", brain, stage.socket_of(brain)),
        ]
        turns = sum(_leg(load, port, devices, seconds / _LEGS, services) for _ in range(_LEGS))
        more = {"devices": devices, "legs": _LEGS, "sessions": devices * _LEGS}
        yield Result("soak_turns", turns, "turns", more=more)
        for service in services:
            yield from service.results(devices)

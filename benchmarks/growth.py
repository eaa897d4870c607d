"""Memory growth of a session with its turns, and of a service with its past sessions.

One device asks by button thousands of times in one session. Then devices connect, ask
once and leave. After every part, when the services are idle, the benchmark counts the
objects of both services and reads their resident memory. Growth is relative to the
state after a warm-up of the same kind.

To keep it short, nothing is played in real time: a question is two packets at once, an
answer one packet, and the edge's pacer does not wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process import Process
from benchmarks.result import Aim, Result
from benchmarks.soak import talkative
from benchmarks.stage import Stage
from benchmarks.watched import ask, grown

_QUESTION = 0.12
_PARTS = 4
# Seconds for sessions to end, the log to be written and the allocator to settle.
_SETTLE = 2.0
_TOGETHER = 20
_EDGE = {
    "link": {"downlink_frame_duration": 20},
    "pacer": {"start_gap": 0.0, "stop_margin": 0.0},
}
# Tolerance: the reactor keeps cancelled timers, and the objects they refer to, until they
# are more than half of all timers. It equals a leak of one object in ten turns.
_OBJECTS = 200.0
_KILOBYTES = 1024.0
# Warm-ups, as parts of the measurement. Each turn adds 0.6 KB to SQLite's page cache up to
# 2 MB, which takes thousands of turns.
_FILL, _BEGIN = 2.0, 0.5


@dataclass
class _Service:
    """Measurements of one service.

    :ivar seen: objects and KB after each part.
    :ivar garbage: objects that only a full collection found, after each part.
    """

    name: str
    process: Process
    socket: Path
    seen: list[tuple[int, int]] = field(default_factory=list)
    types: list[dict[str, int]] = field(default_factory=list)
    garbage: list[int] = field(default_factory=list)

    def look(self) -> None:
        counted = ask(self.socket)
        self.seen.append((counted["objects"], self.process.memory()))
        self.types.append(counted["types"])
        self.garbage.append(counted["garbage"])

    def results(self, what: str, more: dict[str, Any]) -> Iterator[Result]:
        """Return the growth from the first measurement to the last."""
        objects, memory = zip(*self.seen, strict=True)
        name = f"growth_{what}_{self.name}"
        yield Result(
            f"{name}_objects",
            float(objects[-1] - objects[0]),
            "objects",
            None,
            Aim("figure", _OBJECTS),
            more
            | {"seen": list(objects), "garbage": list(self.garbage)}
            | {"grown": grown(self.types[0], self.types[-1])},
        )
        yield Result(
            f"{name}_rss",
            float(memory[-1] - memory[0]),
            "KB",
            None,
            Aim("figure", _KILOBYTES),
            more | {"seen_kb": list(memory)},
        )
        self.seen.clear()
        self.types.clear()
        self.garbage.clear()


def run(turns: int, sessions: int) -> Iterator[Result]:
    """Run the benchmark.

    :param turns: on one session.
    :param sessions: of one turn each.
    """
    settings = talkative()
    settings["providers"]["tts"] = {"tone": {"milliseconds": 1}}
    settings["session"]["speech"] = {"pause": 0.01}
    # A question is shorter than the default minimum of speech.
    settings["session"]["listen"] = {"min_speech": 0.02}
    with Stage(watched=True) as stage:
        load = stage.load()
        brain, grpc = stage.brain(settings)
        edge, port = stage.edge(grpc, settings=_EDGE)
        services = [
            _Service("im", edge, stage.socket_of(edge)),
            _Service("ai", brain, stage.socket_of(brain)),
        ]

        def turns_of_one(count: int) -> None:
            load.ask("chat", speak=_QUESTION, turns=count, apart=0, wait=60.0 + count)

        def come_and_go(count: int) -> None:
            for begun in range(0, count, _TOGETHER):
                load.ask("connect", port=port, count=min(_TOGETHER, count - begun))
                turns_of_one(1)
                load.ask("close")

        load.ask("connect", port=port, count=1)
        _grow(services, turns_of_one, turns, _FILL)
        more = {"turns": turns}
        for service in services:
            yield from service.results("turns", more)
        load.ask("close")
        _grow(services, come_and_go, sessions, _BEGIN)
        more = {"sessions": sessions}
        for service in services:
            yield from service.results("sessions", more)


def _grow(services: list[_Service], do: Callable[[int], None], count: int, before: float) -> None:
    """Repeat an action in parts, and measure after each.

    :param before: part of the repetitions that is the warm-up.
    """
    for part in range(_PARTS + 1):
        do(max(1, count // _PARTS if part else round(count * before)))
        time.sleep(_SETTLE)
        for service in services:
            service.look()

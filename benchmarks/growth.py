"""Whether a session grows with its turns, or a service with the sessions it has had.

One device asks by button thousands of times in one session. Then devices come, ask once,
and go. After every part, when all is quiet, the objects of both services are counted and
their resident memory is read; what is there after a warm-up of the same kind is where
growth begins.

So that it does not take an hour nothing is played at its time here: a question is two
packets at once, an answer one packet, and the edge's pacer waits for nothing.
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
# For sessions to end, the log to be written and the allocator to rest.
_SETTLE = 2.0
_TOGETHER = 20
_EDGE = {
    "link": {"downlink_frame_duration": 20},
    "pacer": {"start_gap": 0.0, "stop_margin": 0.0},
}
# What may be there or not: the reactor keeps timers that were cancelled, and what they
# hold, until they are more than half of all. It is a leak of one object in ten turns.
_OBJECTS = 200.0
_KILOBYTES = 1024.0
# Warm-ups, in parts of what follows. Each turn adds 0.6 KB to SQLite's page cache until
# that has its 2 MB: it takes thousands.
_FILL, _BEGIN = 2.0, 0.5


@dataclass
class _Service:
    """:ivar seen: objects and KB after each part.
    :ivar garbage: what only a full collection found, likewise.
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
        """What has grown from the first look to the last."""
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
    """:param turns: on one session.
    :param sessions: that come and go.
    """
    settings = talkative()
    settings["providers"]["tts"] = {"tone": {"milliseconds": 1}}
    settings["session"]["speech"] = {"pause": 0.01}
    # A question is shorter than what is taken for speech elsewhere.
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
    """Do it so many times, in parts.

    :param before: how much of that is done before, as a warm-up.
    """
    for part in range(_PARTS + 1):
        do(max(1, count // _PARTS if part else round(count * before)))
        time.sleep(_SETTLE)
        for service in services:
            service.look()

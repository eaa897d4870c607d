"""How long a device that said ``abort`` goes on hearing.

Devices ask for a long answer, listen to it for a while, and interrupt it. The figure is
the time from sending ``abort`` until the last packet of sound that still came after it,
0 where none did. Each turn must end with one ``tts stop``, and nothing may follow it.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.result import Aim, Result
from benchmarks.soak import talkative
from benchmarks.stage import Stage

_WORDS = 100


def run(devices: int, turns: int) -> Iterator[Result]:
    """:param turns: of each device."""
    settings = talkative()
    settings["providers"]["llm"]["scripted"]["answers"] = ["word " * _WORDS + "end."]
    with Stage() as stage:
        load = stage.load()
        _, grpc = stage.brain(settings)
        _, port = stage.edge(grpc)
        load.ask("connect", port=port, count=devices)
        told = load.ask("interrupt", turns=turns, wait=60.0 + 5 * turns)
    more = {"devices": devices, "turns": told["count"]}
    more |= {key: told[key] for key in ("p50", "max", "silent")}
    yield Result("interruption", told["p99"], "ms p99", None, Aim("figure", 60.0), more)
    more = {"wrong_stops": told["wrong_stops"], "stale": told["stale"]}
    wrong = told["wrong_stops"] + told["stale"]
    yield Result("interruption_wrong", wrong, "turns", None, Aim("figure", 0.0), more)

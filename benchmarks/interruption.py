"""Time until a device that sent ``abort`` receives no more sound.

Devices ask for a long answer, listen to it for a while, and interrupt it. The result is
the time from sending ``abort`` to the last packet of sound after it, 0 without one. Each
turn must end with one ``tts stop``, and nothing may follow it.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.result import Aim, Result
from benchmarks.soak import talkative
from benchmarks.stage import Stage

_WORDS = 100


def run(devices: int, turns: int) -> Iterator[Result]:
    """Run the benchmark.

    :param turns: of each device.
    """
    settings = talkative()
    settings["providers"]["llm"]["scripted"]["answers"] = ["word " * _WORDS + "end."]
    with Stage() as stage:
        load = stage.load()
        _, grpc = stage.brain(settings)
        _, port = stage.edge(grpc)
        load.ask("connect", port=port, count=devices)
        measured = load.ask("interrupt", turns=turns, wait=60.0 + 5 * turns)
    more = {"devices": devices, "turns": measured["count"]}
    more |= {key: measured[key] for key in ("p50", "max", "silent")}
    yield Result("interruption", measured["p99"], "ms p99", None, Aim("figure", 60.0), more)
    more = {"wrong_stops": measured["wrong_stops"], "stale": measured["stale"]}
    wrong = measured["wrong_stops"] + measured["stale"]
    yield Result("interruption_wrong", wrong, "turns", None, Aim("figure", 0.0), more)

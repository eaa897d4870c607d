"""Round-trip time of a packet from a device through xiaozhi-im to the AI side and back.

Every device sends a numbered packet each 60 ms and, with every sixty-fourth, a text;
the far side of the bridge returns both. Results:

* ``echo_N``: packets. They come back within one endless turn (the edge passes
  audio only in a turn) and so through the pacer as it is configured by default.
  It delays only early packets: one that arrives every 60 ms may leave at once, with
  a lead of 120 ms, so the result is transport: two bridge crossings with their
  coalescing of 2 ms, twice the edge, once the far side. The first second, with
  ``start_gap``, is not counted.
* ``echo_text_N``: texts of a type that the edge does not know and forwards. They
  bypass the pacer, and the bridge does not coalesce them.

With 1000 devices two edges share the port, because one core is too little.

The floor is a bare Autobahn server that echoes. All results include the load
generator's own delay. ``others_cores`` is the CPU use of other processes: if all
cores are busy, the p99 includes waiting for a core.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.pair import Side, pair
from benchmarks.process import Broken, busy
from benchmarks.result import Aim, Result
from benchmarks.stage import Stage

# By the number of devices, ms.
_P50 = {300: 3.0}
_P99 = {300: 10.0, 1000: 50.0}

# One edge process cannot serve this many devices that all speak at once: two share the
# port (``listen.reuse_port``).
_TOO_MANY = 800

_SETTLE = 2.0


def _echo(side: Side, seconds: float) -> dict[str, Any]:
    mine = {side.server, side.load, side.peer, *side.others}
    before = busy() - sum(one.cpu() for one in mine)
    began = time.monotonic()
    echoed = side.load.ask("echo", seconds=seconds, warm_up=1.0)
    others = busy() - sum(one.cpu() for one in mine) - before
    if not echoed["packets"]["count"]:
        raise Broken("echo: no packet came back")
    return {**echoed, "others_cores": round(others / (time.monotonic() - began), 2)}


def _middle(echoes: list[dict[str, Any]], kind: str, name: str) -> float:
    return round(median(float(one[kind][name] or 0) for one in echoes), 2)


def run(devices: int, seconds: float, rounds: int) -> Iterator[Result]:
    """Measure several rounds and report the median one, since a shared machine has
    outliers. ``rounds`` has them all.

    :param seconds: of one round on one side.
    """
    with Stage() as stage:
        both = pair(stage, edges=1 + devices // _TOO_MANY)
        for side in both.sides:
            side.peer.ask("echo", on=True)
        both.connect(devices)
        for side in both.sides:
            side.load.ask("listen")
        # All devices start at once, and a delay at the start would persist (see above).
        time.sleep(_SETTLE)
        edge: list[dict[str, Any]] = []
        floor: list[dict[str, Any]] = []
        for _ in range(rounds):
            edge.append(_echo(both.edge, seconds))
            floor.append(_echo(both.floor, seconds))
    for kind, name in (("packets", "echo"), ("texts", "echo_text")):
        p50, p99 = (_P50.get(devices), _P99.get(devices)) if kind == "packets" else (None, None)
        more = {
            "devices": devices,
            "rounds": [one[kind]["p99"] for one in edge],
            "max": max(float(one[kind]["max"] or 0) for one in edge),
            "others_cores": [one["others_cores"] for one in edge],
            "echoed": sum(one[kind]["count"] for one in edge),
            "sent": sum(one["sent"] for one in edge) if kind == "packets" else None,
            "load_late_ms": max(one["late_ms"] for one in edge),
        }
        for middle, most in (("p50", p50), ("p99", p99)):
            figure, floor_figure = _middle(edge, kind, middle), _middle(floor, kind, middle)
            aim = Aim("figure", most) if most else None
            bench = f"{name}_{devices}_{middle}"
            yield Result(bench, figure, "ms", floor_figure, aim, more)

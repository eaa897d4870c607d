"""Idle connections: memory of each, and the time to the server's hello.

Connections arrive at an even rate and stay. Memory is the growth of resident memory
over all of them, after hello and with open sessions; some connect before, so that
one-time allocations do not count. The hello time runs from the start of the TCP
connection to the server's answer and includes upgrade and token. The floor is a bare
Autobahn server, which checks no token and opens no session.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.pair import Side, pair
from benchmarks.process import Broken
from benchmarks.result import Aim, Result
from benchmarks.stage import Stage

_BEFORE = 50
# Seconds for the log to be written and the allocator to settle.
_SETTLE = 1.5


def _arrive(side: Side, connections: int, per_second: int) -> tuple[float, dict[str, Any]]:
    """Connect devices. :return: KB per connection, and the hello times."""
    side.connect(_BEFORE)
    time.sleep(_SETTLE)
    before = side.server.memory()
    wait = connections / per_second + 60.0
    hellos = side.load.ask("arrive", wait, port=side.port, count=connections, per_second=per_second)
    time.sleep(_SETTLE)
    if not hellos["count"]:
        raise Broken("idle: nobody was let in")
    each = (side.server.memory() - before) / hellos["count"]
    return round(each, 2), hellos


def run(connections: int, per_second: int) -> Iterator[Result]:
    """Run the benchmark.

    :param per_second: connections per second.
    """
    with Stage() as stage:
        both = pair(stage)
        edge, hellos = _arrive(both.edge, connections, per_second)
        sessions = both.edge.peer.ask("sessions")
        both.edge.load.ask("close")
        floor, floor_hellos = _arrive(both.floor, connections, per_second)
    more = {"connections": connections, "sessions": sessions}
    yield Result("idle_memory", edge, "KB/connection", floor, Aim("figure", 15.0), more)
    more = {
        "connections": connections,
        "per_second": per_second,
        "p50": hellos["p50"],
        "floor_p50": floor_hellos["p50"],
        "max": hellos["max"],
        "load_late_ms": hellos["late_ms"],
    }
    figure, floor = hellos["p99"], floor_hellos["p99"]
    yield Result("hello", figure, "ms p99", floor, Aim("figure", 250.0), more)
    more = {"floor_refused": floor_hellos["refused"]}
    yield Result("hello_refused", hellos["refused"], "devices", None, Aim("figure", 0.0), more)

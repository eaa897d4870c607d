"""Memory of a connection that does nothing: after the hello, its session open.

The growth of resident memory over so many connections; some were there before, so
that what is loaded and made once does not count. The floor is a bare Autobahn
connection.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.pair import Side, pair
from benchmarks.result import Aim, Result
from benchmarks.stage import Stage

_BEFORE = 50
# For the log to be written and the allocator to rest.
_SETTLE = 1.5


def _each(side: Side, connections: int) -> float:
    side.connect(_BEFORE)
    time.sleep(_SETTLE)
    before = side.server.memory()
    side.connect(connections)
    time.sleep(_SETTLE)
    return round((side.server.memory() - before) / connections, 2)


def run(connections: int) -> Iterator[Result]:
    with Stage() as stage:
        both = pair(stage)
        edge, floor = _each(both.edge, connections), _each(both.floor, connections)
        more = {"connections": connections, "sessions": both.edge.peer.ask("sessions")}
        yield Result("idle_memory", edge, "KB/connection", floor, Aim("figure", 20.0), more)

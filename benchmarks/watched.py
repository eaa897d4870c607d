"""``twistd`` whose objects can be counted from outside.

``python -m benchmarks.watched SOCKET ARGUMENTS…`` runs ``twistd ARGUMENTS…``. Whoever
connects to the Unix socket is sent one JSON object: what the garbage collector knows of,
by type, and how much lies in queues. Counting stops the process for a moment.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SHOWN = 12


def census() -> dict[str, Any]:
    """
    :return: ``objects``, those that the collector tracks; ``garbage``, how many it has just
        found to be in the way; ``queued``, items in all deques; ``longest``, those in the
        longest one; ``types``, how many of each.
    """
    # A running service has frozen what was there at its start.
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    garbage = gc.collect()
    everything = gc.get_objects()
    if frozen:
        gc.freeze()
    # By type, for isinstance() would wake up what imports modules when it is looked at.
    queues = [len(one) for one in everything if type(one) is deque]
    kinds = Counter(type(one).__qualname__ for one in everything)
    return {
        "objects": len(everything),
        "garbage": garbage,
        "queued": sum(queues),
        "longest": max(queues, default=0),
        "types": dict(kinds),
    }


def ask(path: Path) -> dict[str, Any]:
    """The census of the process behind a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30.0)
        connection.connect(str(path))
        told = b""
        while piece := connection.recv(65536):
            told += piece
    counted: dict[str, Any] = json.loads(told)
    return counted


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """The types of which there are more than before, those that grew most first."""
    more = Counter(after)
    more.subtract(before)
    return {kind: count for kind, count in more.most_common(_SHOWN) if count > 0}


def _serve(listening: socket.socket) -> None:
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(json.dumps(census()).encode())


def main() -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[1])
    listening.listen()
    threading.Thread(target=_serve, args=(listening,), daemon=True).start()
    sys.argv[:] = ["twistd", *sys.argv[2:]]
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()

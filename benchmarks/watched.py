"""``twistd`` whose objects can be counted from another process.

``python -m benchmarks.watched SOCKET ARGUMENTS…`` runs ``twistd ARGUMENTS…``. Each
connection to the Unix socket receives one JSON object: the garbage collector's objects by
type, and the number of queued items. Counting stops the process for a moment.
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
    :return: ``objects``, the number that the collector tracks; ``garbage``, the number that it
        has just collected; ``queued``, items in all deques; ``longest``, items in the
        longest one; ``types``, the number of each type.
    """
    # A running service has frozen the objects of its start.
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    garbage = gc.collect()
    everything = gc.get_objects()
    if frozen:
        gc.freeze()
    # By type: isinstance() would make lazy modules import.
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
    """Return the census of the process behind a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30.0)
        connection.connect(str(path))
        received = b""
        while piece := connection.recv(65536):
            received += piece
    counted: dict[str, Any] = json.loads(received)
    return counted


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return the types with more objects than before, largest growth first."""
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

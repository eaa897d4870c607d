"""One SQLite file for the log and the dialogues: two processes begin, write and purge at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.task import react
from twisted.trial.unittest import TestCase

from xiaozhi.storage import dialogues_from_url, store_from_url
from xiaozhi.testing.contracts.dialogues import AT as TALKED
from xiaozhi.testing.contracts.dialogues import entry
from xiaozhi.testing.contracts.store import AT as LOGGED
from xiaozhi.testing.contracts.store import event, message, started

ROUNDS = 10
_ROOT = Path(__file__).parents[1]


class SharedFileTests(TestCase):
    def test_neither_finds_it_locked(self) -> None:
        """Neither process fails because of the other, from the creation of the file on."""
        for _ in range(ROUNDS):
            path = os.path.abspath(self.mktemp())
            children = [_child("log", path), _child("talk", path)]
            for child in children:
                assert child.stdout is not None
                self.assertEqual(child.stdout.readline(), "ready\n")
            for child in children:
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            said = [child.communicate(timeout=60)[0] for child in children]
            self.assertEqual(said, ["done\n", "done\n"])


def _child(what: str, path: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.test_sqlite_shared", what, path],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def log(reactor: Any, url: str) -> None:
    """Write as the edge does."""
    store = store_from_url(url, reactor)
    await store.start()
    for number in range(40):
        session = f"s{number}"
        await store.append([started(session), message(number, session), event(number, session)])
        await store.close_left("edge", LOGGED, LOGGED, 100)
        await store.purge(LOGGED, 100)
        await store.session(session)
    await store.stop()


async def talk(reactor: Any, url: str) -> None:
    """Write as the AI service does."""
    store = dialogues_from_url(url, reactor)
    await store.start()
    for number in range(40):
        await store.append([entry(number)])
        await store.latest("d1", 100, TALKED)
        await store.notes("d1")
        await store.purge(TALKED, 100)
    await store.stop()


async def main(reactor: Any, what: str, path: str) -> None:
    """Run one process: prints ``done``, or the error."""
    print("ready", flush=True)
    sys.stdin.readline()
    await {"log": log, "talk": talk}[what](reactor, f"sqlite:///{path}")
    print("done")


if __name__ == "__main__":
    react(main, sys.argv[1:])

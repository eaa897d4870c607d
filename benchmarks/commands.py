"""Commands for helper processes: one JSON object per line, and one reply to each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

Commands = Mapping[str, Callable[..., Any]]


class CommandLine(LineReceiver):
    """Reads ``{"do": NAME, ARGUMENT: …}``, answers ``{"result": …}`` or ``{"error": …}``."""

    delimiter = b"\n"

    def __init__(self, reactor: Any, commands: Commands) -> None:
        self._reactor = reactor
        self._commands = commands

    def lineReceived(self, line: bytes) -> None:
        arguments = json.loads(line)
        command = self._commands[arguments.pop("do")]
        maybeDeferred(command, **arguments).addCallbacks(self._done, self._failed)

    def _done(self, result: Any) -> None:
        self.sendLine(json.dumps({"result": result}).encode())

    def _failed(self, failure: Failure) -> None:
        failure.printTraceback(sys.stderr)
        self.sendLine(json.dumps({"error": failure.getErrorMessage()}).encode())

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        """Stop: the benchmark has ended."""
        if self._reactor.running:
            self._reactor.stop()


def obey(reactor: Any, commands: Commands) -> None:
    """Run the reactor until standard input ends."""
    reactor.callWhenRunning(StandardIO, CommandLine(reactor, commands))
    reactor.run()

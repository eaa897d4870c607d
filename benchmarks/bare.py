"""The floor: a bare Autobahn server that only counts, echoes or plays packets."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred

from benchmarks.commands import obey
from benchmarks.frames import FRAME_SECONDS, packet

_HELLO = b'{"type":"hello","transport":"websocket","session_id":"0123456789abcdef01234567"}'
_START = b'{"type":"tts","state":"start","session_id":"0123456789abcdef01234567"}'
_STOP = b'{"type":"tts","state":"stop","session_id":"0123456789abcdef01234567"}'

# As in the edge's pacer.
_TICK = 0.01


class BareProtocol(WebSocketServerProtocol):
    """One connection, with Autobahn's default options."""

    factory: BareFactory

    def onOpen(self) -> None:
        self.factory.connections[self] = None

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.connections.pop(self, None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        factory = self.factory
        if isBinary:
            factory.frames += 1
            if factory.echoing:
                self.sendMessage(payload, isBinary=True)
        elif b'"hello"' in payload:
            self.sendMessage(_HELLO)
        elif factory.echoing and b'"listen"' not in payload:
            self.sendMessage(payload)


class BareFactory(WebSocketServerFactory):
    """Counts packets, and echoes or plays them on command.

    :ivar frames: packets received so far.
    """

    noisy = False
    protocol: Any = BareProtocol

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor=reactor)
        self._reactor = reactor
        self.connections: dict[BareProtocol, None] = {}
        self.frames = 0
        self.echoing = False

    def echo(self, on: bool) -> None:
        """Switch the echo on or off."""
        self.echoing = on

    def speak(self, frames: int) -> Deferred[None]:
        """Send packets to every device with the edge's timing: three at once, then one
        every 60 ms, on ticks of 10 ms."""
        connections = list(self.connections)
        # By tick: the device that gets a packet, and its number of packets afterwards.
        slots = round(FRAME_SECONDS / _TICK)
        due: list[list[BareProtocol]] = [[] for _ in range(slots)]
        for number, connection in enumerate(connections):
            due[number * slots // len(connections)].append(connection)
        done: Deferred[None] = Deferred()
        began = self._reactor.seconds()
        last = (frames - 2) * slots

        def tick(number: int) -> None:
            turn, slot = divmod(number, slots)
            for connection in due[slot]:
                if turn == 0:
                    connection.sendMessage(_START)
                for index in range(3) if turn == 0 else (turn + 2,):
                    connection.sendMessage(packet(index), isBinary=True)
                if turn + 3 == frames:
                    connection.sendMessage(_STOP)
            if number + 1 == last:
                done.callback(None)
                return
            wait = max(0.0, began + (number + 1) * _TICK - self._reactor.seconds())
            self._reactor.callLater(wait, tick, number + 1)

        tick(0)
        return done


def main() -> None:
    from twisted.internet import reactor

    factory = BareFactory(reactor)
    port: Any = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
    obey(
        reactor,
        {
            "port": lambda: port.getHost().port,
            "frames": lambda: factory.frames,
            "echo": factory.echo,
            "speak": factory.speak,
        },
    )


if __name__ == "__main__":
    main()

"""A TCP proxy that injects network faults."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

# Bytes queued in one direction of a connection; above this its sender is not read.
_MOST = 1 << 18


class Proxy:
    """Forwards each connection to a port of 127.0.0.1, at first without faults.

    :ivar port: the listening port, once started.
    :ivar connections: open connections.
    :ivar accepted: connections accepted in total.
    :ivar delay: seconds that each piece is held, each way.
    :ivar rate: bytes per second, for each connection and direction; 0: unlimited.
    :ivar stalled: nothing passes; data waits, finally at its sender.
    :ivar refusing: new connections are reset.
    """

    def __init__(self, reactor: Any, target: int) -> None:
        self.reactor = reactor
        self.target = target
        self.port = 0
        self.connections: dict[_End, None] = {}
        self.accepted = 0
        self.delay = 0.0
        self.rate = 0
        self.stalled = False
        self.refusing = False
        self._listening: Any = None

    def start(self) -> None:
        """Listen."""
        factory = Factory.forProtocol(_Near)
        factory.noisy = False
        factory.proxy = self  # type: ignore[attr-defined]
        self._listening = self.reactor.listenTCP(self.port, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    def stop(self) -> Deferred[Any]:
        """Stop listening and cut open connections."""
        self.cut()
        return maybeDeferred(self._listening.stopListening)

    def cut(self) -> None:
        """Reset open connections; accept new ones."""
        for end in list(self.connections):
            end.transport.abortConnection()

    def refuse(self) -> None:
        """Reset open and new connections."""
        self.refusing = True
        self.cut()

    def heal(self) -> None:
        """Remove all faults; open connections continue."""
        self.delay, self.rate, self.stalled, self.refusing = 0.0, 0, False, False
        for end in list(self.connections):
            end.lane.pump()


@implementer(IPushProducer)
class _Direction:
    """One direction of a connection, from one socket to the other."""

    def __init__(self, proxy: Proxy, source: _End) -> None:
        self._proxy = proxy
        self._source = source
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._waiting = 0
        self._blocked = False
        self._ending = False
        self._call: IDelayedCall | None = None
        self._free_at = 0.0
        self.target: _End | None = None

    def lead_to(self, target: _End) -> None:
        """Connect the other side."""
        self.target = target
        target.transport.registerProducer(self, True)
        self.pump()

    def put(self, data: bytes) -> None:
        """Queue data of the source."""
        self._pieces.append((self._proxy.reactor.seconds() + self._proxy.delay, data))
        self._waiting += len(data)
        if self._waiting > _MOST:
            self._source.transport.pauseProducing()
        self.pump()

    def end(self) -> None:
        """Note the end of the source's data."""
        self._ending = True
        self.pump()

    def drop(self) -> None:
        """Forward nothing any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._pieces.clear()
        self.target = None

    def pump(self) -> None:
        """Forward the data that may pass now."""
        proxy, target = self._proxy, self.target
        if target is None or proxy.stalled or self._blocked or self._call is not None:
            return
        now = proxy.reactor.seconds()
        while self._pieces and not self._blocked:
            due, data = self._pieces[0]
            wait = max(due if proxy.delay else now, self._free_at if proxy.rate else now) - now
            if wait > 0:
                self._call = proxy.reactor.callLater(wait, self._again)
                return
            self._pieces.popleft()
            if proxy.rate:
                # Send the data of 10 ms at a time.
                size = max(1, proxy.rate // 100)
                if len(data) > size:
                    self._pieces.appendleft((due, data[size:]))
                    data = data[:size]
                self._free_at = now + len(data) / proxy.rate
            self._pass(target, data)
        if self._ending and not self._pieces:
            target.transport.loseConnection()

    def _pass(self, target: _End, data: bytes) -> None:
        was_full = self._waiting > _MOST
        self._waiting -= len(data)
        if was_full and self._waiting <= _MOST and not self._ending:
            self._source.transport.resumeProducing()
        target.transport.write(data)

    def _again(self) -> None:
        self._call = None
        self.pump()

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self.pump()

    def stopProducing(self) -> None:
        self.drop()


class _End(Protocol):
    """One side of a connection."""

    transport: Any
    factory: Any
    other: _End | None = None

    def connectionMade(self) -> None:
        self.proxy: Proxy = self.factory.proxy
        self.transport.setTcpNoDelay(True)
        self.lane = _Direction(self.proxy, self)
        self.proxy.connections[self] = None

    def dataReceived(self, data: bytes) -> None:
        self.lane.put(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.proxy.connections.pop(self, None)
        other = self.other
        if other is None:
            self.lane.drop()
            return
        other.other = None
        other.lane.drop()
        if reason.check(type(connectionDone.value)):
            self.lane.end()
        else:
            other.transport.abortConnection()


class _Near(_End):
    """The connection of the client."""

    def connectionMade(self) -> None:
        super().connectionMade()
        proxy = self.proxy
        if proxy.refusing:
            self.transport.abortConnection()
            return
        proxy.accepted += 1
        proxy.reactor.connectTCP("127.0.0.1", proxy.target, _FarFactory(proxy, self), timeout=5)


class _Far(_End):
    """The connection to the server."""

    factory: _FarFactory

    def connectionMade(self) -> None:
        super().connectionMade()
        near = self.factory.near
        if near not in self.proxy.connections:
            self.transport.abortConnection()
            return
        near.other, self.other = self, near
        near.lane.lead_to(self)
        self.lane.lead_to(near)


class _FarFactory(ClientFactory):
    protocol: Any = _Far
    noisy = False

    def __init__(self, proxy: Proxy, near: _Near) -> None:
        self.proxy = proxy
        self.near = near

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.near.transport.abortConnection()

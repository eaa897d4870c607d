"""TCP in memory on virtual time: a clock that connects clients to servers.

Each write arrives as one piece, in order, in the next turn of the clock; a paused receiver gets
nothing until it resumes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IResolutionReceiver,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from xiaozhi.testing.clocks import WallClock


@implementer(ITCPTransport)
class Socket:
    """One end of a connection.

    :ivar aborted: this end has cut the connection.
    :ivar disconnecting: this end has closed the connection.
    :ivar paused: nothing is delivered for now.
    """

    def __init__(self, clock: Clock, here: IPv4Address, there: IPv4Address) -> None:
        self._clock = clock
        self._here, self._there = here, there
        self._arriving: deque[bytes | Failure] = deque()
        self._pumping = False
        self.far: Socket | None = None
        self.protocol: Any = None
        self.aborted = False
        self.disconnecting = False
        self.disconnected = False
        self.paused = False

    def write(self, data: bytes) -> None:
        if self.far is not None and data and not self.disconnecting:
            self.far._deliver(bytes(data))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self, *_: Any) -> None:
        """Close after the delivery of all written data."""
        if self.disconnecting:
            return
        self.disconnecting = True
        if self.far is not None:
            self.far._deliver(Failure(ConnectionDone()))
        self._deliver(Failure(ConnectionDone()))

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def abortConnection(self) -> None:
        """Cut the connection; undelivered data is lost, on both sides."""
        if self.aborted or self.disconnected:
            return
        self.aborted = self.disconnecting = True
        if self.far is not None:
            self.far._deliver(Failure(ConnectionLost()))
        self._arriving.clear()
        self._deliver(Failure(ConnectionAborted()))

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._pump_later()

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Do nothing: all written data is accepted at once."""

    def unregisterProducer(self) -> None:
        """As :meth:`registerProducer`."""

    def getHost(self) -> IPv4Address:
        return self._here

    def getPeer(self) -> IPv4Address:
        return self._there

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: there is no delay."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing: only its ends close a connection."""

    def _deliver(self, item: bytes | Failure) -> None:
        self._arriving.append(item)
        self._pump_later()

    def _pump_later(self) -> None:
        if self._arriving and not self._pumping:
            self._pumping = True
            self._clock.callLater(0, self._pump)

    def _pump(self) -> None:
        self._pumping = False
        # One item per turn; a paused receiver gets the end of the connection only after the data
        # before it.
        if self.disconnected or not self._arriving or (self.paused and not self.aborted):
            return
        item = self._arriving.popleft()
        if isinstance(item, Failure):
            self.disconnected = self.disconnecting = True
            self._arriving.clear()
            self.protocol.connectionLost(item)
            return
        self.protocol.dataReceived(item)
        self._pump_later()


@implementer(IReactorTCP, IReactorPluggableNameResolver)
class Network(WallClock):
    """A clock with the parts of a reactor that HTTP and WebSocket clients need.

    Every name resolves to this machine, except those in :attr:`unknown_names`.

    :ivar sockets: the clients' ends, in the order they connected.
    :ivar unknown_names: names that cannot be resolved.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listening: dict[int, Any] = {}
        self.sockets: list[Socket] = []
        self.unknown_names: set[str] = set()
        self.nameResolver = _Names(self.unknown_names)

    def listen(self, port: int, factory: Any) -> None:
        """Serve a port of this machine."""
        self._listening[port] = factory

    def refuse(self, port: int) -> None:
        """Stop listening on a port."""
        self._listening.pop(port, None)

    def settle(self) -> None:
        """Deliver everything in flight, without advancing time."""
        self.advance(0)

    # IReactorTCP

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        factory.doStart()
        self.callLater(0, self._connect, host, port, factory)
        return _Connector(host, port)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:  # pragma: no cover
        self.listen(port, factory)

    # IReactorPluggableNameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        old, self.nameResolver = self.nameResolver, resolver  # type: ignore[assignment]
        return old

    def _connect(self, host: str, port: int, factory: Any) -> None:
        server_factory = self._listening.get(port)
        if server_factory is None:
            connector = _Connector(host, port)
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
            factory.doStop()
            return
        near = IPv4Address("TCP", "127.0.0.1", 40000 + len(self.sockets))
        far = IPv4Address("TCP", host, port)
        client, server = Socket(self, near, far), Socket(self, far, near)
        client.far, server.far = server, client
        self.sockets.append(client)
        server.protocol = server_factory.buildProtocol(near)
        client.protocol = factory.buildProtocol(far)
        server.protocol.makeConnection(server)
        client.protocol.makeConnection(client)


class _Connector:
    """The part of a connector that client endpoints need."""

    def __init__(self, host: str, port: int) -> None:
        self._there = IPv4Address("TCP", host, port)

    def getDestination(self) -> IPv4Address:
        return self._there

    def stopConnecting(self) -> None:
        """Do nothing: it is connected or refused in this turn of the clock."""


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: it is complete at once."""


@implementer(IHostnameResolver)
class _Names:
    def __init__(self, unknown: set[str]) -> None:
        self._unknown = unknown

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        if hostName not in self._unknown:
            address = IPv4Address("TCP", "127.0.0.1", portNumber)
            resolutionReceiver.addressResolved(address)
        resolutionReceiver.resolutionComplete()
        return resolution

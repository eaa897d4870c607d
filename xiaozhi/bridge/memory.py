"""Both ends of the bridge in one process, without sockets or threads.

Items pass through protobuf bytes and batches, as over gRPC. Everything happens in delayed
calls of the clock: with ``twisted.internet.task.Clock`` a test controls time and may cut,
stall, delay or refuse streams; with the reactor it joins two services in one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xiaozhi.bridge.items import DOWN, UP, AnyDirection, batched, unbatched
from xiaozhi.bridge.streams import (
    IDialer,
    IStream,
    IStreamAcceptor,
    IStreamListener,
    IStreamPort,
)


@implementer(IStream)
class MemoryStream:
    """One end of a stream."""

    def __init__(self, network: MemoryNetwork, direction: AnyDirection) -> None:
        self.batching = False
        self.remote = "memory"
        self.listener: IStreamListener | None = None  # None once closed
        self.peer: MemoryStream
        self._network = network
        self._direction = direction
        self._sent: deque[bytes] = deque()  # in flight to the peer
        self._stalled = False
        self._full = False

    # --- IStream

    @property
    def pending(self) -> int:
        return len(self._sent)

    def write(self, items: Sequence[bytes]) -> bool:
        if self.listener is None:
            return True
        network = self._network
        for message, _ in batched(self._direction, items, self.batching, network.max_message_bytes):
            self._sent.append(message)
            if not self._stalled:
                network.clock.callLater(network.delay, self._arrive)
        self._full = len(self._sent) >= network.window
        return not self._full

    def close(self) -> None:
        if self.listener is not None:
            self.listener = None
            self._network.clock.callLater(self._network.delay, self._hung_up)

    # --- for the network

    def stall(self) -> None:
        """Delay everything written from now on."""
        self._stalled = True

    def unstall(self) -> None:
        """Deliver the delayed messages, and later ones without delay."""
        self._stalled = False
        for _ in self._sent:
            self._network.clock.callLater(self._network.delay, self._arrive)

    def lose(self) -> None:
        """Lose the last message in flight, a fault that real streams do not have."""
        if self._sent:
            self._sent.pop()

    def double(self) -> None:
        """Deliver the last message in flight twice."""
        if self._sent:
            self._sent.append(self._sent[-1])
            if not self._stalled:
                self._network.clock.callLater(self._network.delay, self._arrive)

    def swap(self) -> None:
        """Swap the last two messages in flight."""
        if len(self._sent) > 1:
            self._sent[-1], self._sent[-2] = self._sent[-2], self._sent[-1]

    def cut(self, reason: str) -> None:
        """Lose everything in flight."""
        self._sent.clear()
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.stream_closed(reason)

    # --- inside

    def _arrive(self) -> None:
        if self._stalled or not self._sent:
            return
        item = self._direction.item.FromString(self._sent.popleft())
        if self.peer.listener is not None:
            self.peer.listener.stream_received(unbatched(self._direction, item))
        if self._full and len(self._sent) < self._network.window:
            self._full = False
            if self.listener is not None:
                self.listener.stream_writable()

    def _hung_up(self) -> None:
        while self._sent and not self._stalled:
            self._arrive()
        self.peer.cut("the other side hung up")
        self._network.forget(self)


@implementer(IStreamPort)
class MemoryPort:
    """Accepts streams at one address of a :class:`MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self.address = address
        self.acceptor: IStreamAcceptor | None = None
        self._network = network

    def start(self, acceptor: IStreamAcceptor) -> Deferred[None]:
        self.acceptor = acceptor
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.acceptor = None
        self._network.cut(self.address, "the other side stopped")
        return succeed(None)


@implementer(IDialer)
class MemoryNetwork:
    """Joins dialled streams to ports by address.

    :ivar delay: seconds each message takes, from now on; order is kept.
    :ivar window: messages in flight that fill a stream.
    :ivar dialled: every address that was dialled, in order.
    """

    def __init__(self, clock: IReactorTime, max_message_bytes: int = 16 << 20) -> None:
        self.clock = clock
        self.max_message_bytes = max_message_bytes
        self.delay = 0.0
        self.window = 64
        self.dialled: list[str] = []
        self._ports: dict[str, MemoryPort] = {}
        self._streams: list[tuple[str, MemoryStream]] = []  # the edge's ends

    def port(self, address: str) -> MemoryPort:
        """Return the port at this address; the first call makes it."""
        return self._ports.setdefault(address, MemoryPort(self, address))

    # --- IDialer

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def dial(self, target: str, listener: IStreamListener) -> IStream:
        self.dialled.append(target)
        near, far = MemoryStream(self, UP), MemoryStream(self, DOWN)
        near.peer, far.peer = far, near
        near.listener = listener
        near.stall()  # until connected
        self._streams.append((target, near))
        self.clock.callLater(self.delay, self._connect, target, near, far)
        return near

    # --- faults

    def cut(self, address: str, reason: str = "cut", count: int | None = None) -> None:
        """Break the streams to ``address``, or the oldest ``count`` of them."""
        for stream in self.streams(address)[:count]:
            self.forget(stream)
            stream.cut(reason)
            stream.peer.cut(reason)

    def streams(self, address: str) -> list[MemoryStream]:
        """Return the edge's ends of the streams to ``address``, oldest first."""
        return [stream for target, stream in self._streams if target == address]

    def forget(self, stream: MemoryStream) -> None:
        """Remove a closed stream."""
        self._streams = [s for s in self._streams if s[1] not in (stream, stream.peer)]

    def _connect(self, target: str, near: MemoryStream, far: MemoryStream) -> None:
        port = self._ports.get(target)
        if near.listener is None:
            return
        if port is None or port.acceptor is None:
            self.forget(near)
            near.cut(f"connection to {target} refused")
            return
        far.listener = port.acceptor.stream_opened(far)
        near.unstall()

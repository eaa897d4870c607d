"""The proxy injects exactly the configured faults."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.faults.proxy import Proxy
from xiaozhi.runtime.listening import free_port

clock: Any = reactor


class Echo(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Caller(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[None] = Deferred()
        self._wanted = 0
        self._came: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self._wanted and not self._came.called:
            self._came.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)

    def wait_for(self, size: int) -> Deferred[None]:
        self._wanted, self._came = size, Deferred()
        self.dataReceived(b"")
        return self._came.addTimeout(20, clock)


class ProxyTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        factory = Factory.forProtocol(Echo)
        factory.noisy = False
        port = clock.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.proxy = Proxy(clock, port.getHost().port)
        self.proxy.start()
        self.addCleanup(self.end)

    async def end(self) -> None:
        await self.proxy.stop()
        while self.proxy.connections:
            await deferLater(clock, 0.01)

    async def call(self) -> Caller:
        caller: Caller = await connectProtocol(
            TCP4ClientEndpoint(clock, "127.0.0.1", self.proxy.port), Caller()
        )
        self.addCleanup(caller.transport.abortConnection)
        return caller

    async def exchanged(self, caller: Caller, data: bytes) -> float:
        """Send data. :return: seconds until it is returned."""
        began, before = clock.seconds(), len(caller.data)
        caller.transport.write(data)
        await caller.wait_for(before + len(data))
        self.assertEqual(caller.data[before:], data)
        return float(clock.seconds() - began)

    async def test_forwards_all_of_it_in_order(self) -> None:
        await self.exchanged(await self.call(), bytes(range(256)) * 8192)

    async def test_ends_with_its_ends(self) -> None:
        caller = await self.call()
        await self.exchanged(caller, b"hi")
        self.assertEqual(len(self.proxy.connections), 2)
        caller.transport.loseConnection()
        await caller.lost
        while self.proxy.connections:
            await deferLater(clock, 0.01)

    async def test_cut(self) -> None:
        caller = await self.call()
        await self.exchanged(caller, b"hi")
        self.proxy.cut()
        await caller.lost
        await self.exchanged(await self.call(), b"hi")
        self.assertEqual(self.proxy.accepted, 2)

    async def test_refuse(self) -> None:
        caller = await self.call()
        self.proxy.refuse()
        await caller.lost
        refused = await self.call()
        await refused.lost
        self.assertEqual(refused.data, b"")
        self.proxy.heal()
        await self.exchanged(await self.call(), b"hi")

    async def test_no_server(self) -> None:
        self.proxy.target = free_port()
        await (await self.call()).lost

    async def test_delay(self) -> None:
        caller = await self.call()
        self.proxy.delay = 0.1
        self.assertGreaterEqual(await self.exchanged(caller, b"hi"), 0.2)

    async def test_throttle(self) -> None:
        caller = await self.call()
        self.proxy.rate = 50_000
        self.assertGreaterEqual(await self.exchanged(caller, bytes(15_000)), 0.25)

    async def test_stall(self) -> None:
        caller = await self.call()
        await self.exchanged(caller, b"hi")
        self.proxy.stalled = True
        # More than the kernel buffers, so that the sender is blocked.
        caller.transport.write(bytes(1 << 24))
        await deferLater(clock, 0.3)
        self.assertEqual(caller.data, b"hi")
        self.proxy.heal()
        await caller.wait_for(2 + (1 << 24))
        self.assertEqual(len(caller.data), 2 + (1 << 24))

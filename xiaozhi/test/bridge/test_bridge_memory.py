"""The bridge's contract on virtual time, and faults that only memory streams have."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.bridge.streams import IDialer, IStream, IStreamPort
from xiaozhi.testing.contracts.bridge import BridgeContract, Heard, Sessions, opening
from xiaozhi.wire import messages as m

HERE = "ai:1"


class MemoryContract(BridgeContract, SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.sessions = Sessions()
        self.boots = 0
        self.client = BridgeClient(
            self.network, ClientSettings(targets=(HERE,)), self.clock, lambda: 0.5, "im", "boot"
        )
        self.start_server()
        self.successResultOf(self.client.start())
        self.successResultOf(Deferred.fromCoroutine(self.connected()))

    def start_server(self) -> None:
        self.boots += 1
        port, boot = self.network.port(HERE), f"ai-{self.boots}"
        self.server = BridgeServer(port, self.sessions, ServerSettings(), self.clock, "ai", boot)
        self.successResultOf(self.server.start())

    def story(self, tell: Coroutine[Any, Any, None]) -> None:
        self.successResultOf(Deferred.fromCoroutine(tell))
        # Nothing is left behind once both ends have stopped.
        self.successResultOf(self.client.stop())
        self.successResultOf(self.server.stop())
        self.clock.advance(0.01)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(20_000):
            if true():
                return
            self.clock.advance(0.001)
        raise AssertionError("it never came about")

    async def let_pass(self, seconds: float) -> None:
        self.clock.pump([0.001] * int(seconds * 1000))

    async def cut(self) -> None:
        self.network.cut(HERE)

    async def lose_server(self) -> None:
        await self.server.stop()

    async def regain_server(self) -> None:
        self.start_server()

    # --- beyond the contract

    def test_memory_interfaces(self) -> None:
        verifyObject(IDialer, self.network)
        verifyObject(IStreamPort, self.network.port(HERE))
        verifyObject(IStream, self.network.streams(HERE)[0])

    def test_one_stream_breaks(self) -> None:
        """The session resumes on the target's other stream at once."""
        heard = Heard()
        link = self.client.open(opening(), heard)
        self.clock.pump([0.001] * 5)
        self.network.cut(HERE, count=1)
        link.send(m.Chat("hello"))
        self.clock.pump([0.001] * 5)
        self.assertEqual(heard.all, [m.Stt("hello")])
        self.assertEqual(self.client.status().streams, 1)

    def test_messages_lost_with_a_stream_are_resent(self) -> None:
        heard = Heard()
        link = self.client.open(opening(), heard)
        self.clock.pump([0.001] * 5)
        self.network.delay = 0.05
        link.send(m.Chat("swallowed"))
        self.network.cut(HERE)
        self.clock.pump([0.01] * 100)
        self.assertEqual(heard.all, [m.Stt("swallowed")])

    def test_a_close_survives_its_stream(self) -> None:
        heard = Heard()
        self.client.open(opening(), heard)
        self.clock.pump([0.001] * 5)
        self.network.delay = 0.05
        (echo,) = self.sessions.accepted
        echo.link.close("farewell", "")
        self.network.cut(HERE)
        self.clock.pump([0.01] * 100)
        self.assertEqual(heard.all, [("closed", "farewell")])
        self.assertEqual(self.client.status().sessions, 0)


del BridgeContract  # not to be run by itself

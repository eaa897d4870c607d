"""Both ends of the bridge joined, in situations a test sets up by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge.client import BridgeClient
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.testing.bridge_contract import Heard, Sessions, opening
from xiaozhi.wire import messages as m

AI = "ai:1"


class PairCase(SynchronousTestCase):
    """An edge and an AI process with one stream between them, unless a test says otherwise."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.sessions = Sessions()
        self.servers: list[BridgeServer] = []

    def begin(self, *, server: dict[str, Any] | None = None, **client: Any) -> None:
        self.serve(AI, **server or {})
        values = {"streams_per_target": 1, "targets": (AI,), **client}
        self.client = BridgeClient(
            self.network, ClientSettings(**values), self.clock, lambda: 0.5, "im", "im-boot"
        )
        self.client.start()
        self.addCleanup(self.check_nothing_left)
        self.passes()

    def serve(self, address: str, **settings: Any) -> BridgeServer:
        boot = f"boot-{len(self.servers)}"
        self.server = BridgeServer(
            self.network.port(address),
            self.sessions,
            ServerSettings(**settings),
            self.clock,
            boot,
            boot,
        )
        self.server.start()
        self.servers.append(self.server)
        return self.server

    def check_nothing_left(self) -> None:
        self.client.stop()
        for server in self.servers:
            server.stop()
        self.clock.advance(0.01)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def passes(self, seconds: float = 0.05) -> None:
        self.clock.pump([0.001] * round(seconds * 1000))

    def open(self, session_id: str = "s1") -> tuple[Any, Heard, Any]:
        heard = Heard()
        link = self.client.open(opening(session_id), heard)
        self.passes()
        return link, heard, self.sessions.accepted[-1] if self.sessions.accepted else None


class ClosingTests(PairCase):
    def test_the_edge_closes_what_has_no_credit(self) -> None:
        self.begin(server={"credit": 8})
        link, _, echo = self.open()
        echo.link.pause()
        for number in range(20):
            link.send(m.Audio(b"%d" % number))
        self.passes()
        self.assertEqual(len(echo.messages), 8)
        link.close("device_gone", "")
        self.passes()
        self.assertEqual(echo.all[-1], ("closed", "device_gone"))
        self.assertEqual(self.server.status().sessions, 0)

    def test_the_ai_closes_what_has_no_credit(self) -> None:
        self.begin(credit=8)
        link, heard, echo = self.open()
        link.pause()
        for number in range(20):
            echo.link.send(m.Audio(b"%d" % number, turn=1))
        self.passes()
        self.assertEqual(len(heard.messages), 8)
        echo.link.close("farewell", "")
        self.passes()
        self.assertEqual(heard.all[-1], ("closed", "farewell"))
        self.assertEqual(len(heard.messages), 20)
        self.assertEqual(self.client.status().sessions, 0)

"""Both ends of the bridge, in situations that a test sets up by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.testing.contracts.bridge import Heard, Sessions, opening
from xiaozhi.wire import messages as m

AI = "ai:1"


class PairCase(SynchronousTestCase):
    """An edge and an AI process with one stream between them, unless a test changes that."""

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
    def test_the_edge_closes_with_messages_waiting_for_credit(self) -> None:
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

    def test_the_ai_closes_with_messages_waiting_for_credit(self) -> None:
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


class DrainingTests(PairCase):
    def test_two_processes_at_one_address(self) -> None:
        """One drains while the other already listens: sessions move to the other."""
        self.begin(streams_per_target=2)
        old = self.server
        self.network.cut(AI, count=1)
        self.serve(AI)
        self.passes(0.5)
        self.assertEqual([old.status().streams, self.server.status().streams], [1, 1])
        old.drain(10)
        self.passes()
        for number in range(4):
            self.open(f"s{number}")
        self.assertEqual(self.server.status().sessions, 4)
        self.assertEqual(old.status().sessions, 0)

    def test_no_other_process(self) -> None:
        """A device that speaks meanwhile can get an alert."""
        self.begin()
        _, heard, echo = self.open()
        self.server.drain(10)
        echo.link.close("moving", "")
        self.passes()
        self.assertEqual(heard.all, [("interrupted",)])
        self.assertNotEqual(self.client.status().state, "connected")


class TargetTests(PairCase):
    def test_an_address_comes_back_into_use(self) -> None:
        """Sessions without another target stop waiting."""
        self.begin()
        self.open("keeps-it")
        self.client.retarget(["ai:2"])
        self.open("waits")
        self.assertEqual(self.server.status().sessions, 1)
        self.client.retarget([AI])
        self.passes()
        self.assertEqual(self.server.status().sessions, 2)


class ReorderedTests(PairCase):
    def test_an_opening_comes_late(self) -> None:
        """On a stream that the edge gave up long ago: the session stays where it is."""
        self.begin(streams_per_target=2)
        first, _second = self.network.streams(AI)
        first.stall()
        heard = Heard()
        link = self.client.open(opening(), heard)
        late = [first._sent.popleft() for _ in range(len(first._sent))]
        first.cut("cut")  # seen at the edge only
        self.passes()
        batch = first._direction.item.FromString(late[-1]).batch
        assert first.peer.listener is not None
        first.peer.listener.stream_received(batch.items)
        self.passes()
        self.sessions.accepted[-1].link.send(m.Stt("hello"))
        self.passes()
        self.assertEqual(heard.messages, [m.Stt("hello")])
        link.close("", "")

    def test_one_way_partition(self) -> None:
        """The AI service received messages, the acknowledgement is lost, and the edge reopens the
        session there.
        """
        self.begin(resume_timeout=0.5)
        link, heard, echo = self.open()
        (stream,) = self.network.streams(AI)
        stream.peer.stall()
        link.send(m.Chat("is it heard"))
        self.passes()
        self.assertEqual(echo.messages, [m.Chat("is it heard")])
        port = self.network.port(AI)
        acceptor, port.acceptor = port.acceptor, None
        self.network.cut(AI)
        self.passes(1)
        port.acceptor = acceptor
        self.passes(12)
        self.assertEqual(heard.messages, [m.Stt("is it heard")])


class BlockedTests(PairCase):
    def test_opened_on_a_full_stream(self) -> None:
        """A session that answers at once is asked to hold its sound back."""
        self.begin()
        self.open("other")
        self.network.window = 1
        (stream,) = self.network.streams(AI)
        stream.peer.stall()
        self.sessions.accepted[0].link.send(m.Stt("fills it"))
        _, _heard, echo = self.open()
        self.assertEqual(echo.events, [("pause",)])
        self.network.window = 64
        stream.peer.unstall()
        self.passes()
        self.assertEqual(echo.events, [("pause",), ("resume",)])

    def test_an_opening_that_cannot_be_carried(self) -> None:
        self.begin()
        heard = Heard()
        hello = m.Hello(transport="\ud800")
        bad = m.SessionOpen("bad", m.Device("d", "c", "u"), hello, m.AudioParams())
        self.client.open(bad, heard)
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 1)
        self.assertEqual(heard.all, [("closed", "bad_message")])
        link, other, _ = self.open()
        link.send(m.Chat("hello"))
        self.passes()
        self.assertEqual(other.messages, [m.Stt("hello")])


class Silent:
    """Receives an echo and sends nothing, so that acknowledgements travel alone."""

    def send(self, message: Any) -> None:
        pass


class CreditTests(PairCase):
    def test_stale_audio_counts_as_sent(self) -> None:
        """However often streams break, no more packets are in flight than were granted."""
        self.begin(streams_per_target=2, server={"credit": 64})
        link, _, echo = self.open()
        ai, echo.link = echo.link, Silent()
        for _ in range(5):
            link.send(m.Audio(b"early"))
        self.passes(3)
        self.network.cut(AI, count=1)
        self.passes(3)
        ai.pause()
        for _ in range(200):
            link.send(m.Audio(b"late"))
        self.passes()
        self.assertEqual(len(echo.messages), 5 + 64)
        link.close("", "")

"""The AI service's end, against streams a test holds in its hands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.bridge.items import DOWN, UP, batched, heartbeat, stream_open, unbatched
from xiaozhi.bridge.server import BridgeServer
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.bridge.streams import IStream, IStreamPort
from xiaozhi.interfaces import ISessionAcceptor, ISessionEvents, ISessionLink
from xiaozhi.testing.bridge_contract import Heard, Sessions, opening
from xiaozhi.wire import messages as m


@implementer(IStream)
class EdgeHand:
    """The test plays the edge."""

    def __init__(self, server: BridgeServer, node: str = "im") -> None:
        self.batching = False
        self.full = self.closed = False
        self.written: list[Any] = []
        self._sequence = 0
        self.listener: Any = server.stream_opened(self)
        if node:
            self.listener.stream_received([stream_open(UP, node, "boot")])

    def write(self, items: Sequence[Any]) -> bool:
        self.written.extend(items)
        return not self.full

    def close(self) -> None:
        self.closed = True

    def say(self, *messages: Any, session_id: str = "s1") -> None:
        items = []
        for message in messages:
            self._sequence += 1
            to = message.session_id if isinstance(message, m.SessionOpen) else session_id
            items.append(UP.make(message, to, self._sequence))
        self.listener.stream_received(items)

    @property
    def messages(self) -> list[Any]:
        return [DOWN.read(item) for item in self.written if item.session_id]


@implementer(IStreamPort)
class NoPort:
    address = "here:1"

    def start(self, acceptor: Any) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = Sessions()
        self.server = self.make(self.sessions)

    def make(self, acceptor: Any) -> BridgeServer:
        settings = ServerSettings(idle_timeout=60, queue_audio=3, queue_messages=2)
        server = BridgeServer(NoPort(), acceptor, settings, self.clock, "ai", "ai-boot")
        self.successResultOf(server.start())
        self.addCleanup(self.check_nothing_left, server)
        return server

    def check_nothing_left(self, server: BridgeServer) -> None:
        self.successResultOf(server.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((server.status().sessions, server.status().streams), (0, 0))

    @property
    def echo(self) -> Any:
        return self.sessions.accepted[-1]

    def test_announces_itself(self) -> None:
        edge = EdgeHand(self.server)
        (item,) = edge.written
        self.assertEqual((item.stream.node, item.stream.boot_id), ("ai", "ai-boot"))
        self.assertEqual(list(item.stream.features), ["batch"])
        self.assertTrue(edge.batching)
        self.assertEqual(self.server.status().detail["edges"], {"im": 1})

    def test_another_protocol_version(self) -> None:
        edge = EdgeHand(self.server, node="")
        item = stream_open(UP, "im", "boot")
        item.stream.protocol_version = 9
        edge.listener.stream_received([item])
        self.assertTrue(edge.closed)
        self.assertEqual(self.server.status().streams, 0)

    def test_heartbeats_return_as_they_came(self) -> None:
        edge = EdgeHand(self.server)
        edge.listener.stream_received([heartbeat(UP, 17)])
        self.assertEqual(edge.written[-1].heartbeat.number, 17)

    def test_a_silent_edge_is_given_up(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.clock.advance(60)
        edge.listener.stream_received([heartbeat(UP, 1)])
        self.clock.advance(60)
        self.assertFalse(edge.closed)
        self.clock.advance(60)
        self.assertTrue(edge.closed)
        self.assertEqual(self.echo.events, [("closed", "edge_lost")])

    def test_stream_lost(self) -> None:
        edge = EdgeHand(self.server)
        for number in range(3):
            edge.say(opening(f"s{number}"))
        edge.listener.stream_closed("cut")
        for echo in self.sessions.accepted:
            self.assertEqual(echo.all, [("closed", "edge_lost")])
            echo.link.send(m.Stt("too late"))
            echo.link.close("farewell", "")
        self.assertEqual(edge.messages, [])

    def test_unknown_session_is_answered_once(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(m.Abort(), m.Abort(), m.Audio(b"x"), session_id="never")
        (answer,) = edge.messages
        self.assertEqual((type(answer), answer.code), (m.SessionClose, "unknown_session"))

    def test_late_messages_to_a_closed_session_are_not_answered(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.echo.link.close("farewell", "")
        edge.say(m.Abort(), m.Audio(b"x"))
        self.assertEqual(edge.messages, [m.SessionClose("farewell", "")])
        self.assertEqual(self.echo.all, [])

    def test_reopened_on_another_stream(self) -> None:
        one, two = EdgeHand(self.server), EdgeHand(self.server)
        one.say(opening())
        first = self.echo
        two.say(opening())
        self.assertEqual(first.all, [("closed", "replaced")])
        one.say(m.Chat("to nobody"))
        one.listener.stream_closed("cut")
        two.say(m.Chat("hello"))
        self.assertEqual(self.echo.all, [m.Chat("hello")])
        self.assertEqual(two.messages, [m.Stt("hello")])
        self.assertEqual(one.messages, [])

    def test_reopened_on_the_same_stream(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        first = self.echo
        edge.say(opening(), m.Chat("hello"))
        self.assertEqual(first.all, [("closed", "replaced")])
        self.assertEqual(self.echo.all, [m.Chat("hello")])

    def test_sequences_count_from_one(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.echo.link.send(m.Audio(b"x", turn=1))
        self.echo.link.send(m.Tts(m.TtsState.STOP, turn=1))
        self.assertEqual([item.sequence for item in edge.written[1:]], [1, 2])

    def test_audio_is_gathered(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.echo.link.send(m.Audio(b"x"))
        self.assertEqual(edge.messages, [])
        self.clock.advance(0.002)
        self.assertEqual(edge.messages, [m.Audio(b"x")])

    def test_a_full_stream_holds_audio_back(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        link = self.echo.link
        edge.full = True
        link.send(m.Stt("fills it"))
        for number in range(5):
            link.send(m.Audio(b"%d" % number))
            link.send(m.Stt(str(number)))
        self.assertEqual(self.echo.all, [("pause",)])
        edge.say(m.Flow(True))
        edge.full = False
        edge.listener.stream_writable()
        kept = [m.Stt("0"), m.Stt("1"), m.Audio(b"2"), m.Audio(b"3"), m.Audio(b"4")]
        self.assertEqual(edge.messages[1:], kept)
        dropped = {"audio_overflow": 2, "control_overflow": 3}
        self.assertEqual(self.server.status().detail["dropped"], dropped)
        self.assertEqual(self.echo.all, [("pause",)])  # the edge still asks for it
        edge.say(m.Flow(False))
        self.assertEqual(self.echo.all, [("pause",), ("resume",)])

    def test_closed_while_the_stream_is_full(self) -> None:
        """The close is not lost with the session."""
        edge = EdgeHand(self.server)
        edge.say(opening())
        edge.full = True
        self.echo.link.send(m.Stt("fills it"))
        edge.say(m.Chat("fail"))
        self.assertEqual(self.echo.events[-1], ("closed", "internal_error"))
        edge.full = False
        edge.listener.stream_writable()
        self.assertEqual(edge.messages[-1].code, "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_closed_from_within_accept(self) -> None:
        @implementer(ISessionAcceptor)
        class Closing:
            def accept(self, opening: m.SessionOpen, link: ISessionLink) -> ISessionEvents:
                link.send(m.Goodbye("no"))
                link.close("farewell", "")
                return Heard()

        server = self.make(Closing())
        edge = EdgeHand(server)
        edge.say(opening())
        self.assertEqual(edge.messages, [m.Goodbye("no"), m.SessionClose("farewell", "")])
        self.assertEqual(server.status().sessions, 0)

    def test_unreadable_items_are_skipped(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        edge.listener.stream_received(
            [UP.item(session_id="s1", type=99), UP.item(session_id="s2", type=99), UP.item()]
        )
        edge.say(m.Chat("hello"))
        self.assertEqual(self.echo.all, [m.Chat("hello")])

    def test_stop_tells_sessions_and_hangs_up(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.successResultOf(self.server.stop())
        self.assertEqual(self.echo.all, [("closed", "bridge_stopped")])
        self.assertTrue(edge.closed)


class BatchTests(SynchronousTestCase):
    def items(self, count: int, size: int) -> list[Any]:
        return [UP.make(m.Audio(b"x" * size), "s1", number) for number in range(count)]

    def test_together_and_apart(self) -> None:
        items = self.items(600, 10)
        messages = list(batched(UP, items, True, 1 << 20))
        self.assertEqual([len(message.batch.items) for message in messages], [256, 256, 88])
        back = [item for message in messages for item in unbatched(UP, message)]
        self.assertEqual(back, items)

    def test_bounded_in_bytes(self) -> None:
        messages = list(batched(UP, self.items(10, 1000), True, 3000))
        self.assertTrue(all(message.ByteSize() <= 3000 for message in messages))
        self.assertEqual(sum(len(message.batch.items) for message in messages), 10)

    def test_singly(self) -> None:
        items = self.items(3, 10)
        self.assertEqual(list(batched(UP, items, False, 1 << 20)), items)
        self.assertEqual(list(unbatched(UP, items[0])), items[:1])

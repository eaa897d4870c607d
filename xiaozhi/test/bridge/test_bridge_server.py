"""The AI service's end, with streams that a test controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.bridge.items import (
    DOWN,
    DRAIN,
    OPENED,
    UP,
    acknowledgement,
    batched,
    heartbeat,
    resume,
    stream_open,
    unbatched,
)
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.bridge.streams import IStream, IStreamPort
from xiaozhi.interfaces import IServiceEvents, IServiceLink, ISessionAcceptor
from xiaozhi.testing.contracts.bridge import Heard, Sessions, came, opening
from xiaozhi.wire import messages as m
from xiaozhi.wire.convert import request


@implementer(IStream)
class EdgeHand:
    """The edge, played by the test."""

    def __init__(self, server: BridgeServer, node: str = "im", remote: str = "192.0.2.1") -> None:
        self.batching = False
        self.remote = remote
        self.full = self.closed = False
        self.pending = 0
        self.written: list[Any] = []
        self.sequences: Counter[str] = Counter()
        self.listener: Any = server.stream_opened(self)
        if node:
            self.listener.stream_received([came(UP, stream_open(UP, node, "boot", 128))])

    def write(self, items: Sequence[bytes]) -> bool:
        self.written.extend(came(DOWN, item) for item in items)
        return not self.full

    def close(self) -> None:
        self.closed = True

    def say(self, *messages: Any, session_id: str = "s1") -> None:
        self.send(*(self.item(message, session_id) for message in messages))

    def item(self, message: Any, session_id: str = "s1") -> Any:
        """Return the next item of its session; an opening restarts a session."""
        if isinstance(message, m.SessionOpen):
            self.sequences[message.session_id] = 0
            return request(message, message.session_id, 0)
        self.sequences[session_id] += 1
        return UP.make(message, session_id, self.sequences[session_id])

    def send(self, *items: Any) -> None:
        self.listener.stream_received(items)

    def resume(self, ack: int = 0, session_id: str = "s1", incarnation: int = 1) -> None:
        item = came(UP, resume(session_id, "d", incarnation))
        item.ack = ack
        self.send(item)

    def acknowledge(self, ack: int, credit: int = 0, session_id: str = "s1") -> None:
        item = came(UP, acknowledgement(UP, session_id))
        item.ack, item.credit = ack, credit
        self.send(item)

    @property
    def raw(self) -> list[Any]:
        """Return everything written for sessions."""
        return [item for item in self.written if item.session_id]

    @property
    def messages(self) -> list[Any]:
        """Return the decoded messages."""
        return [DOWN.read(i) for i in self.raw if i.type not in (OPENED, DOWN.ack, DOWN.skip)]


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
        item = came(UP, stream_open(UP, "im", "boot", 128))
        item.stream.protocol_version = 9
        edge.listener.stream_received([item])
        self.assertTrue(edge.closed)
        self.assertEqual(self.server.status().streams, 0)

    def test_heartbeats_are_returned_unchanged(self) -> None:
        edge = EdgeHand(self.server)
        edge.listener.stream_received([came(UP, heartbeat(UP, 17))])
        self.assertEqual(edge.written[-1].heartbeat.number, 17)

    def test_a_silent_edge_is_given_up(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.clock.advance(60)
        edge.listener.stream_received([came(UP, heartbeat(UP, 1))])
        self.clock.advance(60)
        self.assertFalse(edge.closed)
        self.clock.advance(60)
        self.assertTrue(edge.closed)
        self.clock.advance(10)
        self.assertEqual(self.echo.events[-1], ("closed", "edge_lost"))

    def test_an_edge_that_does_not_come_back(self) -> None:
        edge = EdgeHand(self.server)
        for number in range(3):
            edge.say(opening(f"s{number}"))
        edge.listener.stream_closed("cut")
        self.clock.advance(9.9)
        self.assertEqual([echo.all for echo in self.sessions.accepted], [[("pause",)]] * 3)
        self.clock.advance(0.1)
        for echo in self.sessions.accepted:
            self.assertEqual(echo.all, [("pause",), ("closed", "edge_lost")])
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

    def test_resumed_on_another_stream(self) -> None:
        one, two = EdgeHand(self.server), EdgeHand(self.server)
        one.say(opening(), m.Chat("1"))
        self.echo.link.send(m.Stt("also"))
        one.listener.stream_closed("cut")
        self.echo.link.send(m.Stt("meanwhile"))
        two.resume(ack=1)
        self.assertEqual(self.echo.all, [m.Chat("1"), ("pause",), ("resume",)])
        back = [(i.type == OPENED, i.sequence, i.ack) for i in two.raw]
        self.assertEqual(back, [(True, 0, 1), (False, 2, 0), (False, 3, 0)])
        self.assertEqual(two.messages, [m.Stt("also"), m.Stt("meanwhile")])
        two.sequences["s1"] = 0
        two.say(m.Chat("1"), m.Chat("2"))  # the messages that did not arrive, again
        self.assertEqual(self.echo.messages, [m.Chat("1"), m.Chat("2")])

    def test_resumed_while_the_old_stream_stands(self) -> None:
        one, two = EdgeHand(self.server), EdgeHand(self.server)
        one.say(opening())
        two.resume()
        one.say(m.Chat("late"))
        two.say(m.Chat("now"))
        self.assertEqual(self.echo.messages, [m.Chat("now")])
        one.listener.stream_closed("cut")
        self.clock.advance(20)
        self.assertEqual(self.server.status().sessions, 1)

    def test_an_unknown_session_cannot_be_resumed(self) -> None:
        edge = EdgeHand(self.server)
        edge.resume(session_id="never")
        edge.say(opening())
        edge.resume(incarnation=3)
        other = EdgeHand(self.server)
        other.resume(incarnation=2)
        for hand, count in ((edge, 1), (other, 1)):
            codes = [answer.code for answer in hand.messages]
            self.assertEqual(codes, ["unknown_session"] * count)

    def test_a_lost_close_is_sent_again(self) -> None:
        one, two = EdgeHand(self.server), EdgeHand(self.server)
        one.say(opening())
        self.echo.link.close("farewell", "Bye.")
        one.listener.stream_closed("cut")
        two.resume()
        self.assertEqual(two.messages, [m.SessionClose("farewell", "Bye.")])

    def test_opened_again(self) -> None:
        """Messages that the edge does not know to have arrived are sent again: the former session's
        state is gone.
        """
        one, two = EdgeHand(self.server), EdgeHand(self.server)
        one.say(opening(), m.Chat("1"), m.Chat("2"))
        former = self.echo
        again = request(replace(opening(), incarnation=2), "s1", 1)
        two.send(again, *(UP.make(m.Chat(str(n)), "s1", n) for n in (2, 3)))
        self.assertEqual(former.all, [m.Chat("1"), m.Chat("2"), ("closed", "replaced")])
        self.assertEqual(self.echo.all, [m.Chat("2"), m.Chat("3")])
        one.say(m.Chat("to nobody"))
        self.assertEqual(two.messages, [m.Stt("2"), m.Stt("3")])
        two.send(again)  # the stream doubled it
        self.assertEqual(len(self.sessions.accepted), 2)

    def test_restored_first(self) -> None:
        edge = EdgeHand(self.server)
        listen = m.Listen(m.ListenState.START)
        edge.say(replace(opening(), incarnation=2, restored=(listen,)), m.Chat("1"))
        self.assertEqual(self.echo.all, [listen, m.Chat("1")])

    def test_a_gap_breaks_the_stream(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening(), m.Chat("1"))
        edge.send(UP.make(m.Chat("3"), "s1", 3))
        self.assertTrue(edge.closed)
        self.assertEqual(self.echo.messages, [m.Chat("1")])
        self.assertEqual(self.server.status().streams, 0)
        again = EdgeHand(self.server)
        again.resume(ack=1)
        again.send(UP.make(m.Chat("2"), "s1", 2), UP.make(m.Chat("3"), "s1", 3))
        self.assertEqual(self.echo.messages, [m.Chat(text) for text in "123"])

    def test_a_lost_resumption_breaks_the_stream(self) -> None:
        """It does not lose the session."""
        one, two, three = (EdgeHand(self.server) for _ in range(3))
        one.say(opening())
        one.listener.stream_closed("cut")
        two.send(UP.make(m.Chat("1"), "s1", 1))
        self.assertTrue(two.closed)
        self.assertEqual(two.messages, [])
        three.resume()
        three.send(UP.make(m.Chat("1"), "s1", 1))
        self.assertEqual(self.echo.messages, [m.Chat("1")])

    def test_draining(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening("s1"), opening("s2"), opening("s3"))
        s1, s2, s3 = self.sessions.accepted
        drained = self.server.drain(5)
        self.assertEqual(edge.written[-1].type, DRAIN)
        self.assertEqual(s1.all, [("draining",)])
        s1.link.close("moving", "")
        s2.link.close("farewell", "")
        edge.say(opening("new"))
        codes = [message.code for message in edge.messages]
        self.assertEqual(codes, ["moving", "farewell", "moving"])
        late = EdgeHand(self.server)
        self.assertTrue(late.written[0].stream.draining)
        self.clock.advance(4.9)
        self.assertNoResult(drained)
        self.clock.advance(0.1)
        self.assertEqual(s3.all, [("draining",), ("closed", "draining")])
        self.assertEqual(edge.messages[-1], m.SessionClose("moving", ""))
        self.clock.advance(0)
        self.successResultOf(drained)

    def test_draining_without_sessions(self) -> None:
        self.successResultOf(self.server.drain(5))

    def test_sequences_count_from_one(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.echo.link.send(m.Audio(b"x", turn=1))
        self.echo.link.send(m.Tts(m.TtsState.STOP, turn=1))
        self.assertEqual([item.sequence for item in edge.raw[1:]], [1, 2])

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
        edge.full = False
        edge.listener.stream_writable()
        kept = [m.Stt("0"), m.Stt("1"), m.Audio(b"2"), m.Audio(b"3"), m.Audio(b"4")]
        self.assertEqual(edge.messages[1:], kept)
        dropped = {"audio_overflow": 2, "control_overflow": 3}
        self.assertEqual(self.server.status().detail["dropped"], dropped)
        self.assertEqual(self.echo.all, [("pause",), ("resume",)])

    def test_closed_while_the_stream_is_full(self) -> None:
        """The close is delivered."""
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
            def accept(self, opening: m.SessionOpen, link: IServiceLink) -> IServiceEvents:
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
            [
                UP.item(session_id="s1", type=99, sequence=1),
                UP.item(session_id="s2", type=99, sequence=1),
                UP.item(),
            ]
        )
        edge.sequences["s1"] = 1
        edge.say(m.Chat("hello"))
        self.assertEqual(self.echo.all, [m.Chat("hello")])

    def test_stop_notifies_sessions_and_hangs_up(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening())
        self.successResultOf(self.server.stop())
        self.assertEqual(self.echo.all, [("closed", "bridge_stopped")])
        self.assertTrue(edge.closed)


class BatchTests(SynchronousTestCase):
    def items(self, count: int, size: int) -> list[bytes]:
        made = (UP.make(m.Audio(b"x" * size), "s1", number) for number in range(count))
        return [item.SerializeToString() for item in made]

    def read(self, message: bytes) -> list[bytes]:
        items = unbatched(UP, UP.item.FromString(message))
        return [item.SerializeToString() for item in items]

    def test_together_and_apart(self) -> None:
        items = self.items(600, 10)
        messages = list(batched(UP, items, True, 1 << 20))
        self.assertEqual([count for _, count in messages], [64] * 9 + [24])
        self.assertEqual([len(self.read(message)) for message, _ in messages], [64] * 9 + [24])
        self.assertEqual([item for message, _ in messages for item in self.read(message)], items)

    def test_as_protobuf_would(self) -> None:
        items = self.items(3, 200)
        ((message, _),) = batched(UP, items, True, 1 << 20)
        expected = UP.item(type=UP.batch)
        expected.batch.items.extend(UP.item.FromString(item) for item in items)
        self.assertEqual(UP.item.FromString(message), expected)
        self.assertEqual(message, expected.SerializeToString())

    def test_bounded_in_bytes(self) -> None:
        messages = list(batched(UP, self.items(10, 1000), True, 3000))
        self.assertTrue(all(len(message) <= 3020 for message, _ in messages))
        self.assertEqual([count for _, count in messages], [2] * 5)

    def test_a_long_one_goes_by_itself(self) -> None:
        items = [*self.items(1, 10), *self.items(1, 9000), *self.items(1, 10)]
        messages = list(batched(UP, items, True, 3000))
        self.assertEqual([count for _, count in messages], [1, 1, 1])

    def test_singly(self) -> None:
        items = self.items(3, 10)
        self.assertEqual(list(batched(UP, items, False, 1 << 20)), [(item, 1) for item in items])
        self.assertEqual(self.read(items[0]), items[:1])

"""Peers that violate the contract: their items are refused for that session, without effect on
others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.bridge.grpc.port import address_of
from xiaozhi.bridge.items import UP
from xiaozhi.bridge.items import skip as skip_to
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.test.bridge.test_bridge_server import EdgeHand, NoPort
from xiaozhi.testing.contracts.bridge import Sessions, came, opening
from xiaozhi.testing.house import House
from xiaozhi.wire import messages as m
from xiaozhi.wire.convert import request

GOOD = opening()
UPLINK, DOWNLINK, HELLO_ = GOOD.hello.audio, GOOD.downlink, GOOD.hello


def uplink(**changes: Any) -> m.SessionOpen:
    return replace(GOOD, hello=replace(HELLO_, audio=replace(UPLINK, **changes)))


def downlink(**changes: Any) -> m.SessionOpen:
    return replace(GOOD, downlink=replace(DOWNLINK, **changes))


def device(**changes: Any) -> m.SessionOpen:
    return replace(GOOD, device=replace(GOOD.device, **changes))


#: Refused openings, and the error for the edge.
REFUSED: tuple[tuple[m.SessionOpen, str], ...] = (
    (uplink(sample_rate=7), "hello.audio.sample_rate is 7 Hz"),
    (uplink(sample_rate=0), "hello.audio.sample_rate"),
    (uplink(sample_rate=2**31), "hello.audio.sample_rate"),
    (uplink(frame_duration=0), "hello.audio.frame_duration"),
    (uplink(frame_duration=121), "hello.audio.frame_duration"),
    (uplink(frame_duration=2**32 - 1), "hello.audio.frame_duration"),
    (uplink(channels=0), "hello.audio.channels"),
    (uplink(channels=255), "hello.audio.channels"),
    (uplink(format="flac"), "hello.audio.format"),
    (uplink(format="x" * 1000), "hello.audio.format"),
    (downlink(sample_rate=7), "hello.downlink.sample_rate is 7 Hz"),
    (downlink(sample_rate=44100), "hello.downlink.sample_rate"),
    (downlink(frame_duration=1), "hello.downlink.frame_duration"),
    (downlink(frame_duration=10**9), "hello.downlink.frame_duration"),
    (downlink(channels=2), "hello.downlink.channels"),
    (downlink(format=""), "hello.downlink.format"),
    (device(device_id=""), "device_id is missing"),
    (device(device_id="a\nb"), "device_id"),
    (device(device_id="é"), "device_id"),
    (device(device_id="x" * 256), "device_id"),
    (device(client_id="\x00"), "client_id"),
    (device(client_id="x" * 10_000), "client_id"),
    (device(user_id="a\u202eb"), "user_id"),
    (device(user_id="x" * 256), "user_id"),
    (replace(GOOD, session_id="a b"), "session id"),
    (replace(GOOD, session_id='","x":"'), "session id"),
    (replace(GOOD, session_id="s\n1"), "session id"),
    (replace(GOOD, session_id="会话"), "session id"),
    (replace(GOOD, session_id="x" * 200), "session id"),
    (replace(GOOD, host="evil/../"), "hello.host"),
    (replace(GOOD, host="a b"), "hello.host"),
    (replace(GOOD, hello=replace(HELLO_, transport="\x1b[2J")), "hello.transport"),
    (replace(GOOD, restored=(m.Ping(),) * 65), "hello.restored"),
    (replace(GOOD, restored=(m.Chat("x" * 70_000),)), "chat.text"),
    (replace(GOOD, restored=(m.Mcp(b"[]"),)), "mcp.payload"),
)

#: Unusual openings that are accepted.
TAKEN = (
    uplink(sample_rate=8000, frame_duration=20),
    uplink(sample_rate=48000, channels=2, frame_duration=120),
    uplink(sample_rate=44100),
    uplink(format="OPUS"),
    downlink(sample_rate=8000, frame_duration=20),
    device(client_id=""),
    device(user_id="用户"),
    replace(GOOD, host="fe80::1"),
    replace(GOOD, host=""),
    replace(GOOD, incarnation=0),
)

DEEP = b'{"a":' * 70 + b"1" + b"}" * 70


def unknown(kind: Any, **content: Any) -> pb.ChatRequest:
    """Make an item of an unknown type."""
    return pb.ChatRequest(type=kind, **content)


#: Messages that are skipped.
SKIPPED: tuple[Any, ...] = (
    m.Audio(bytes(65_537)),
    m.Audio(bytes(2_000_000)),
    m.Chat("x" * 65_537),
    m.Say("x" * 65_537),
    m.Abort("x" * 65_537),
    m.Goodbye("x" * 65_537),
    m.Listen(m.ListenState.DETECT, text="x" * 65_537),
    m.Mcp(b""),
    m.Mcp(b"[1]"),
    m.Mcp(b"null"),
    m.Mcp(DEEP),
    m.Mcp(b'{"a":"' + b"x" * (1 << 20) + b'"}'),
    m.Iot(b"[]"),
    m.Iot(DEEP),
    m.Iot(b"\xff"),
    m.Vision("x" * 300, b"{}"),
    m.Vision("x", b"1"),
    m.Unknown("a\nb", b"{}"),
    m.Unknown("x", DEEP),
    m.Image("x" * 70_000, "jpeg", b"x"),
    m.Image("", "j" * 300, b"x"),
    unknown(99),
    unknown(-1),
    pb.ChatRequest(listen=pb.Listen(state="dance")),
    pb.ChatRequest(listen=pb.Listen(state="start", mode="loud")),
    pb.ChatRequest(playback=pb.Playback(state="dreamt")),
    unknown(1000, chat=pb.Chat(text="x" * 70_000)),
    # An opening inside a session, under the type of another message.
    unknown(pb.MESSAGE_TYPE_CHAT, hello=request(GOOD, "s1", 1).hello, device_id="d"),
)

#: Items that end their session, and only that one.
ENDING: tuple[tuple[str, Callable[[EdgeHand], None]], ...] = (
    ("an acknowledgement of what was never sent", lambda edge: edge.acknowledge(5)),
    ("of the last there can be", lambda edge: edge.acknowledge(2**64 - 1)),
    ("a gap no credit allows", lambda edge: edge.send(came(UP, skip_to(UP, "s1", 2**64 - 1)))),
    ("a gap of a million", lambda edge: edge.send(came(UP, skip_to(UP, "s1", 1_000_000)))),
)


class HostileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = Sessions()
        self.server = self.make()

    def make(self, **limits: Any) -> BridgeServer:
        settings = ServerSettings(**limits)
        server = BridgeServer(NoPort(), self.sessions, settings, self.clock, "ai", "boot")
        self.successResultOf(server.start())
        self.addCleanup(server.stop)
        return server

    def assert_well(self, edge: EdgeHand, session_id: str = "well") -> None:
        """Check that the stream is up and serves a session."""
        self.assertFalse(edge.closed)
        edge.say(m.Chat("well?"), session_id=session_id)
        self.assertEqual(edge.messages[-1], m.Stt("well?"))
        self.assertEqual(self.flushLoggedErrors(), [])


class OpeningTests(HostileCase):
    def test_refused(self) -> None:
        for bad, told in REFUSED:
            edge = EdgeHand(self.server)
            edge.say(opening("well"))
            count = len(self.sessions.accepted)
            edge.send(request(bad, bad.session_id, 0))
            self.assertEqual(len(self.sessions.accepted), count, told)
            answer = edge.messages[-1]
            self.assertEqual((type(answer), answer.code), (m.SessionClose, "bad_request"), told)
            self.assertIn(told, answer.message)
            self.assertEqual(edge.raw[-1].session_id, bad.session_id)
            self.assert_well(edge)
            edge.listener.stream_closed("done")
            self.clock.advance(60)

    def test_taken(self) -> None:
        for unusual in TAKEN:
            edge = EdgeHand(self.server)
            edge.say(unusual)
            self.assert_well(edge, "s1")
            edge.listener.stream_closed("done")
            self.clock.advance(60)

    def test_an_overlong_id_is_neither_kept_nor_returned(self) -> None:
        edge = EdgeHand(self.server)
        edge.say(opening("well"))
        written = len(edge.written)
        for number in range(2000):
            name = f"{number}" + "x" * 10_000
            edge.send(request(replace(GOOD, session_id=name), name, 0))
            edge.send(UP.make(m.Chat("x"), name, 1))
        self.assertEqual(len(edge.written), written)
        self.assert_well(edge)

    def test_a_node_with_control_characters(self) -> None:
        edge = EdgeHand(self.server, node="im\n\x1b[2J" + "x" * 1000)
        (node,) = self.server.status().detail["edges"]
        self.assertTrue(node.isprintable())
        self.assertLess(len(node), 100)
        edge.say(opening("well"))
        self.assert_well(edge)


class MessageTests(HostileCase):
    def test_skipped(self) -> None:
        for bad in SKIPPED:
            edge = EdgeHand(self.server)
            edge.say(opening("s1"), opening("well"))
            echo = self.sessions.accepted[-2]
            edge.sequences["s1"] = 1
            item = bad if isinstance(bad, pb.ChatRequest) else UP.make(bad, "s1", 1)
            item.session_id, item.sequence = "s1", 1
            edge.send(item)
            self.assertEqual(echo.all, [], str(bad)[:80])
            # The session itself continues.
            edge.say(m.Chat("next"))
            self.assertEqual(echo.messages, [m.Chat("next")])
            self.assert_well(edge)
            edge.listener.stream_closed("done")
            self.clock.advance(60)
        self.assertEqual(self.server.status().dropped["unreadable"], len(SKIPPED))

    def test_ending(self) -> None:
        for what, does in ENDING:
            edge = EdgeHand(self.server)
            edge.say(opening("s1"), opening("well"))
            echo = self.sessions.accepted[-2]
            does(edge)
            self.assertEqual(echo.events[-1], ("closed", "bad_message"), what)
            self.assertEqual(edge.messages[-1].code, "bad_message", what)
            self.assert_well(edge)
            edge.listener.stream_closed("done")
            self.clock.advance(60)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=6), st.integers(0, 40))
    def test_any_protobuf(self, junk: list[bytes], kind: int) -> None:
        """Any valid protobuf, as messages of a session."""
        edge = EdgeHand(self.server)
        edge.say(opening("s1"), opening("well"))
        for sequence, data in enumerate(junk, 1):
            item = unknown(kind)
            try:
                item.MergeFromString(data)
            except Exception:  # not protobuf: gRPC ends such a stream
                item = unknown(kind)
            item.session_id, item.sequence, item.ack = "s1", sequence, 0
            edge.send(item)
        self.assert_well(edge)
        edge.listener.stream_closed("done")
        self.clock.advance(60)


class RealSessionTests(SynchronousTestCase):
    """Input that passes the checks is harmless to real sessions."""

    def test_unusual_openings(self) -> None:
        for unusual in TAKEN:
            house = House()
            self.addCleanup(house.close)
            edge = EdgeHand(house.ai)
            edge.say(unusual, m.Chat("hello"), m.Audio(b"\xff" * 60_000), m.Audio(b""))
            house.run(5)
            self.assertFalse(edge.closed)
            self.assertEqual(self.flushLoggedErrors(), [])


class QuotaTests(HostileCase):
    def opened(self, edge: EdgeHand, *names: str) -> list[str]:
        edge.say(*(opening(name) for name in names))
        refused = [
            item.session_id
            for item in edge.raw
            if item.HasField("close") and item.close.code == "too_many_sessions"
        ]
        return [name for name in names if name not in refused]

    def test_of_one_stream(self) -> None:
        self.server = self.make(max_sessions_per_stream=2)
        edge, other = EdgeHand(self.server), EdgeHand(self.server)
        self.assertEqual(self.opened(edge, "a", "b", "c", "d"), ["a", "b"])
        self.assertIn("grpc.max_sessions_per_stream", edge.messages[-1].message)
        self.assertEqual(self.opened(other, "e", "f", "g"), ["e", "f"])
        self.sessions.accepted[0].link.close("farewell", "")
        self.assertEqual(self.opened(edge, "h", "i"), ["h"])
        self.assert_well(edge, "b")
        self.assertEqual(self.server.status().dropped["too_many_sessions"], 4)

    def test_of_one_address(self) -> None:
        self.server = self.make(max_sessions_per_peer=3)
        one, two = (EdgeHand(self.server, remote="192.0.2.1") for _ in range(2))
        other = EdgeHand(self.server, remote="192.0.2.2")
        self.assertEqual(self.opened(one, "a", "b"), ["a", "b"])
        self.assertEqual(self.opened(two, "c", "d"), ["c"])
        self.assertIn("grpc.max_sessions_per_peer", two.messages[-1].message)
        self.assertEqual(self.opened(other, "e", "f"), ["e", "f"])
        # Sessions that wait for their edge still count.
        one.listener.stream_closed("cut")
        self.assertEqual(self.opened(two, "g"), [])
        self.clock.advance(60)
        self.assertEqual(self.opened(two, "h", "i", "j"), ["h", "i"])

    def test_resuming_from_another_address(self) -> None:
        self.server = self.make(max_sessions_per_peer=1)
        one = EdgeHand(self.server, remote="192.0.2.1")
        two = EdgeHand(self.server, remote="192.0.2.2")
        one.say(opening("a"))
        two.resume(session_id="a")
        self.assertEqual(self.opened(two, "b"), [])
        self.assertEqual(self.opened(one, "c"), ["c"])

    def test_reopening_does_not_count_twice(self) -> None:
        self.server = self.make(max_sessions_per_peer=1)
        edge = EdgeHand(self.server)
        edge.say(opening("a"), replace(opening("a"), incarnation=2))
        self.assertEqual(self.sessions.accepted[-1].opening.incarnation, 2)
        self.assertEqual(self.server.status().sessions, 1)


class AddressTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        for peer, address in (
            ("ipv4:192.0.2.1:4711", "192.0.2.1"),
            ("ipv6:%5B::1%5D:4711", "::1"),
            ("ipv6:[2001:db8::1]:4711", "2001:db8::1"),
            ("unix:", "unix"),
            ("unix:/run/x.sock", "unix"),
            ("", ""),
        ):
            self.assertEqual(address_of(peer), address)

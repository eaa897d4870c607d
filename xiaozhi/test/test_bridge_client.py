"""The edge's end, against streams a test holds in its hands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import ValidationError, convert
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.bridge.client import BridgeClient
from xiaozhi.bridge.items import DOWN, UP, heartbeat, stream_open
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.bridge.streams import IDialer, IStream
from xiaozhi.testing.bridge_contract import Heard, Sessions, opening
from xiaozhi.wire import messages as m


@implementer(IStream)
class HandStream:
    """Keeps what is written; the test plays the other side."""

    def __init__(self, target: str, listener: Any) -> None:
        self.target, self.listener = target, listener
        self.batching = False
        self.writes: list[list[Any]] = []
        self.full = False
        self.closed = False

    def write(self, items: Sequence[Any]) -> bool:
        self.writes.append(list(items))
        return not self.full

    def close(self) -> None:
        self.closed = True

    def announce(self, boot_id: str = "b", version: int = 1) -> None:
        item = stream_open(DOWN, "ai", boot_id)
        item.stream.protocol_version = version
        self.listener.stream_received([item])

    def answer(self, message: Any, session_id: str = "s1") -> None:
        self.listener.stream_received([DOWN.make(message, session_id, 1)])

    @property
    def items(self) -> list[Any]:
        """Everything written for sessions, decoded."""
        return [UP.read(i) for write in self.writes for i in write if i.session_id]


@implementer(IDialer)
class HandDialer:
    def __init__(self) -> None:
        self.streams: list[HandStream] = []

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def dial(self, target: str, listener: Any) -> HandStream:
        self.streams.append(HandStream(target, listener))
        return self.streams[-1]


class ClientTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.dialer = HandDialer()

    def start(self, **changed: Any) -> BridgeClient:
        values = {"streams_per_target": 1, "targets": ("ai:1",), **changed}
        self.client = BridgeClient(
            self.dialer, ClientSettings(**values), self.clock, lambda: 0.5, "im", "boot"
        )
        self.successResultOf(self.client.start())
        self.addCleanup(self.check_nothing_left)
        return self.client

    def check_nothing_left(self) -> None:
        self.successResultOf(self.client.stop())
        self.clock.advance(0.01)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @property
    def stream(self) -> HandStream:
        """The newest."""
        return self.dialer.streams[-1]

    def open(self, session_id: str = "s1") -> tuple[Any, Heard]:
        heard = Heard()
        return self.client.open(opening(session_id), heard), heard


class ClientTests(ClientTestCase):
    # --- opening a stream

    def test_announces_itself(self) -> None:
        self.start()
        ((item,),) = self.stream.writes
        self.assertEqual(item.stream.boot_id, "boot")
        self.assertEqual(item.stream.node, "im")
        self.assertEqual(list(item.stream.features), ["batch"])
        self.assertEqual(self.client.status().state, "connecting")
        self.stream.announce()
        self.assertEqual(self.client.status().state, "connected")
        self.assertTrue(self.stream.batching)

    def test_no_announcement(self) -> None:
        self.start(connect_timeout=5)
        self.clock.advance(5)
        self.assertTrue(self.stream.closed)
        self.assertEqual(self.client.status().state, "disconnected")
        detail = self.client.status().detail["targets"]["ai:1"]
        self.assertEqual(detail["last_error"], "no answer within 5 s")

    def test_another_protocol_version(self) -> None:
        self.start()
        self.stream.announce(version=2)
        self.assertTrue(self.stream.closed)
        self.assertIn("version 2", self.client.status().detail["targets"]["ai:1"]["last_error"])

    def test_redials_with_backoff_and_resets_when_stable(self) -> None:
        self.start(backoff_base=0.25, backoff_cap=10, backoff_reset=30, heartbeat_interval=100)
        waits = []

        def redialled() -> float:
            begun, count = self.clock.seconds(), len(self.dialer.streams)
            while len(self.dialer.streams) == count:
                self.clock.advance(1 / 64)  # exact in binary
            return self.clock.seconds() - begun

        for _ in range(3):
            self.stream.listener.stream_closed("refused")
            waits.append(redialled())
        self.assertEqual(waits, [0.125, 0.25, 0.5])
        self.stream.announce()
        self.stream.listener.stream_received([heartbeat(DOWN, 1)])
        self.clock.advance(31)
        self.stream.listener.stream_closed("lost")
        self.assertEqual(redialled(), 0.125)

    def test_a_silent_stream_is_given_up(self) -> None:
        self.start(heartbeat_interval=10, heartbeat_timeout=5, heartbeat_misses=2)
        stream = self.stream
        stream.announce()
        stream.listener.stream_received([heartbeat(DOWN, 1)])
        self.assertEqual(self.client.status().detail["targets"]["ai:1"]["rtt_ms"], 0)
        self.clock.pump([10, 5])
        self.assertFalse(stream.closed)
        self.clock.advance(5)
        self.assertTrue(stream.closed)

    # --- sending

    def test_audio_waits_for_company(self) -> None:
        self.start(coalesce=0.002)
        self.stream.announce()
        link, _ = self.open()
        before = len(self.stream.writes)
        for _ in range(5):
            link.send(m.Audio(b"x"))
        self.clock.advance(0.001)
        self.assertEqual(len(self.stream.writes), before)
        self.clock.advance(0.0011)
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [5])

    def test_audio_with_company_enough_does_not_wait(self) -> None:
        self.start(coalesce=0.002)
        self.stream.announce()
        link, _ = self.open()
        before = len(self.stream.writes)
        for _ in range(20):
            link.send(m.Audio(b"x"))
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [16])
        self.clock.advance(0.0021)
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [16, 4])

    def test_control_goes_at_once_and_takes_audio_along(self) -> None:
        self.start()
        self.stream.announce()
        link, _ = self.open()
        link.send(m.Audio(b"x"))
        link.send(m.Abort())
        write = self.stream.writes[-1]
        self.assertEqual([UP.read(item) for item in write], [m.Audio(b"x"), m.Abort()])
        self.assertEqual([item.sequence for item in write], [2, 3])

    def test_addresses(self) -> None:
        """In a batch audio is bare; alone everything is there."""
        self.start()
        self.stream.announce()
        link, _ = self.open()
        link.send(m.Audio(b"x"))
        link.send(m.Abort())
        audio, abort = self.stream.writes[-1]
        self.assertEqual((audio.message_id, audio.device_id, audio.timestamp), ("", "", 0))
        self.assertEqual((abort.message_id, abort.device_id), ("s1-3", ""))
        self.stream.batching = False
        self.clock.advance(1.5)
        link.send(m.Audio(b"x"))
        link.send(m.Abort())
        for item in self.stream.writes[-1]:
            self.assertTrue(item.message_id)
            self.assertEqual(item.device_id, "aa:bb:cc:dd:ee:ff")
            self.assertGreaterEqual(item.timestamp, 1500)

    def test_a_full_stream_fills_no_further(self) -> None:
        self.start(audio_max_age=2)
        self.stream.announce()
        first, _ = self.open("first")
        second, _ = self.open("second")
        self.stream.full = True
        first.send(m.Chat("0"))
        writes = len(self.stream.writes)
        second.send(m.Audio(b"stale"))
        self.clock.advance(2.5)
        for number in range(3):
            second.send(m.Chat(f"b{number}"))
            first.send(m.Audio(b"a%d" % number))
        self.assertEqual(len(self.stream.writes), writes)
        self.stream.full = False
        self.stream.listener.stream_writable()
        sent = [UP.read(i) for write in self.stream.writes[writes:] for i in write]
        chats = [m.Chat(f"b{number}") for number in range(3)]
        self.assertEqual(sent, chats + [m.Audio(b"a%d" % number) for number in range(3)])
        self.assertEqual(self.client.status().detail["dropped"], {"audio_stale": 1})

    # --- without a stream

    def test_what_waits_is_bounded(self) -> None:
        self.start(queue_messages=3, queue_audio=2)
        link, heard = self.open()
        for number in range(5):
            link.send(m.Chat(str(number)))
            link.send(m.Audio(str(number).encode()))
        self.assertEqual(heard.all, [])
        self.clock.advance(0)
        (error,) = heard.all
        self.assertEqual((type(error), error.code), (m.Error, "ai_unavailable"))
        self.stream.announce()
        expected = [m.Chat("0"), m.Chat("1"), m.Chat("2"), m.Audio(b"3"), m.Audio(b"4")]
        self.assertEqual(self.stream.items[1:], expected)
        dropped = self.client.status().detail["dropped"]
        self.assertEqual(dropped, {"control_overflow": 2, "audio_overflow": 3})

    def test_audio_grows_stale(self) -> None:
        self.start(audio_max_age=2.0)
        link, _ = self.open()
        link.send(m.Audio(b"old"))
        link.send(m.Chat("kept"))
        self.clock.advance(1.5)
        link.send(m.Audio(b"new"))
        self.clock.advance(1.0)
        self.stream.announce()
        self.assertEqual(self.stream.items[1:], [m.Chat("kept"), m.Audio(b"new")])

    def test_closed_before_any_stream(self) -> None:
        self.start()
        link, _ = self.open()
        link.close("device_gone", "")
        self.stream.announce()
        self.assertEqual(self.stream.items, [])
        self.assertEqual(self.client.status().sessions, 0)

    def test_the_close_gets_through_a_full_queue(self) -> None:
        self.start(queue_messages=1)
        self.stream.announce()
        link, _ = self.open()
        self.stream.full = True
        for number in range(3):
            link.send(m.Chat(str(number)))
        link.close("device_gone", "")
        self.stream.full = False
        self.stream.listener.stream_writable()
        self.assertEqual(
            self.stream.items[1:], [m.Chat("0"), m.Chat("1"), m.SessionClose("device_gone", "")]
        )

    def test_a_message_no_stream_can_carry(self) -> None:
        """Text that is not Unicode stops neither its session nor those behind it."""
        self.start()
        link, heard = self.open("bad")
        other, _ = self.open("other")
        link.send(m.Chat("\ud800"))
        link.send(m.Chat("1"))
        other.send(m.Chat("2"))
        self.stream.announce()
        link.send(m.Chat("\udfff"))
        link.send(m.Chat("3"))
        chats = [i for i in self.stream.items if isinstance(i, m.Chat)]
        self.assertEqual(chats, [m.Chat("1"), m.Chat("2"), m.Chat("3")])
        self.clock.advance(0)
        self.assertEqual([error.code for error in heard.messages], ["bad_message"] * 2)
        self.assertEqual(self.client.status().detail["dropped"], {"unsendable": 2})

    # --- when streams break

    def test_reopens_in_order(self) -> None:
        self.start()
        self.stream.announce()
        link, heard = self.open()
        link.send(m.Chat("1"))
        self.stream.answer(m.Flow(True))
        link.pause()
        self.stream.listener.stream_closed("cut")
        link.send(m.Chat("2"))
        self.clock.advance(1)
        self.stream.announce()
        link.send(m.Chat("3"))
        reopened, *rest = self.stream.items
        self.assertTrue(reopened.resumed)
        self.assertEqual(rest, [m.Chat("2"), m.Flow(True), m.Chat("3")])
        sequences = [i.sequence for write in self.stream.writes for i in write if i.session_id]
        self.assertEqual(sequences, [1, 4, 5, 6])
        self.assertEqual(heard.all, [("pause",), ("resume",), ("interrupted",)])

    def test_interrupted_is_told_once_while_nothing_is_said(self) -> None:
        self.start()
        self.stream.announce()
        link, heard = self.open()
        for _ in range(3):
            self.stream.listener.stream_closed("cut")
            self.clock.advance(10)
            self.stream.announce()
        self.assertEqual(heard.all, [("interrupted",)])
        link.send(m.Chat("1"))
        self.stream.listener.stream_closed("cut")
        self.assertEqual(heard.all, [("interrupted",)] * 2)

    def test_least_loaded_target_then_lane(self) -> None:
        self.start(targets=("ai:1", "ai:2"), streams_per_target=2)
        for stream in self.dialer.streams:
            stream.announce()
        for number in range(8):
            self.open(f"s{number}")
        self.assertEqual([len(stream.items) for stream in self.dialer.streams], [2, 2, 2, 2])

    def test_the_same_target_is_preferred_then_any(self) -> None:
        self.start(targets=("ai:1", "ai:2"), streams_per_target=2)
        for stream in self.dialer.streams:
            stream.announce()
        a, b, c, d = self.dialer.streams
        self.open()
        self.assertEqual([len(s.items) for s in (a, b, c, d)], [1, 0, 0, 0])
        a.listener.stream_closed("cut")
        self.assertEqual([len(s.items) for s in (b, c, d)], [1, 0, 0])
        b.listener.stream_closed("cut")
        self.assertEqual([len(s.items) for s in (c, d)], [1, 0])

    def test_an_error_in_interrupted_ends_the_session(self) -> None:
        class Bad(Heard):
            def interrupted(self) -> None:
                raise ValueError("as asked")

        self.start()
        self.stream.announce()
        bad = Bad()
        self.client.open(opening(), bad)
        self.stream.listener.stream_closed("cut")
        self.assertEqual(bad.all, [("closed", "internal_error")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.client.status().sessions, 0)

    def test_stop_tells_sessions(self) -> None:
        self.start()
        _, heard = self.open()
        self.successResultOf(self.client.stop())
        self.assertEqual(heard.all, [("closed", "bridge_stopped")])

    def test_an_unreadable_message_is_skipped(self) -> None:
        self.start()
        self.stream.announce()
        _, heard = self.open()
        self.stream.listener.stream_received([DOWN.item(session_id="s1", type=99)])
        self.stream.answer(m.Stt("next"))
        self.assertEqual(heard.all, [m.Stt("next")])


class LogTests(ClientTestCase):
    """The log speaks of changes, not of tries."""

    def test_once_per_change(self) -> None:
        with capturedLogs() as events:
            self.start(streams_per_target=2)
            for _ in range(5):
                for stream in self.dialer.streams[-2:]:
                    stream.listener.stream_closed("refused")
                self.clock.advance(10)
            for _ in range(2):
                for stream in self.dialer.streams[-2:]:
                    stream.announce()
                for stream in self.dialer.streams[-2:]:
                    stream.listener.stream_closed("cut")
                self.clock.advance(10)
        lines = [
            formatEvent(event) for event in events if event["log_namespace"].endswith("Target")
        ]
        expected = ["cannot reach", *["connected to", "lost"] * 2]
        self.assertEqual(len(lines), len(expected), lines)
        for line, start in zip(lines, expected, strict=True):
            self.assertTrue(line.startswith(start), line)
        self.assertIn("ai:1: refused; start it there or set bridge.targets; next", lines[0])


class SettingsTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        refused: tuple[dict[str, Any], ...] = (
            {"targets": []},
            {"targets": ["nowhere"]},
            {"coalesce": -1},
            {"streams_per_target": 0},
            {"heartbeat_interval": 0},
            {"surprise": 1},
        )
        for bad in refused:
            with self.assertRaises(ValidationError):
                convert(bad, ClientSettings)
        self.assertEqual(convert({}, ClientSettings), ClientSettings())


# Each step: send a message, cut all or one stream, or let time pass.
_STEPS = st.lists(
    st.sampled_from(["chat", "audio", "cut", "cut one", "tick", "wait", "stall", "unstall"]),
    max_size=60,
)


class OrderTests(SynchronousTestCase):
    @settings(max_examples=60)
    @given(_STEPS)
    def test_cuts_never_reorder_or_double(self, steps: list[str]) -> None:
        clock, sessions = Clock(), Sessions()
        network = MemoryNetwork(clock)
        network.window = 3
        network.delay = 0.0005
        server = BridgeServer(network.port("ai:1"), sessions, ServerSettings(), clock, "ai", "b")
        self.successResultOf(server.start())
        client = BridgeClient(
            network, ClientSettings(targets=("ai:1",)), clock, lambda: 0.5, "im", "b"
        )
        self.successResultOf(client.start())
        clock.pump([0.001] * 5)
        link, sent = client.open(opening(), Heard()), 0
        for step in steps:
            if step in ("chat", "audio"):
                sent += 1
                link.send(m.Chat(str(sent)) if step == "chat" else m.Audio(b"%d" % sent))
            elif step.startswith("cut"):
                network.cut("ai:1", count=1 if step == "cut one" else None)
            elif step.endswith("stall"):
                for stream in network.streams("ai:1"):
                    getattr(stream, step)()
            else:
                clock.pump([0.001] * (1 if step == "tick" else 300))
        for stream in network.streams("ai:1"):
            stream.unstall()
        clock.pump([0.001] * 1000)
        link.send(m.Chat("last"))
        clock.pump([0.001] * 1000)
        got = [
            int(message.text if isinstance(message, m.Chat) else message.payload)
            for echo in sessions.accepted
            for message in echo.messages
            if message != m.Chat("last")
        ]
        self.assertEqual(got, sorted(set(got)))
        self.assertEqual(sessions.accepted[-1].messages[-1], m.Chat("last"))
        if not any(step.startswith("cut") for step in steps):
            self.assertEqual(got, list(range(1, sent + 1)))

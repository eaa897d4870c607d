"""The edge's end, with streams that a test controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import ValidationError, convert
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.items import (
    DOWN,
    HELLO,
    RESUME,
    UP,
    acknowledgement,
    closed,
    drain,
    heartbeat,
    opened,
    stream_open,
)
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.bridge.streams import IDialer, IStream
from xiaozhi.testing.contracts.bridge import Heard, came, opening
from xiaozhi.wire import messages as m
from xiaozhi.wire.convert import accept_request


@implementer(IStream)
class HandStream:
    """Records written items; the test plays the other side.

    :ivar answers: whether openings are answered automatically.
    """

    answers = True

    def __init__(self, target: str, listener: Any) -> None:
        self.target, self.listener = target, listener
        self.batching = False
        self.remote = ""
        self.pending = 0
        self.writes: list[list[Any]] = []
        self.full = False
        self.closed = False
        self.pending = 0
        self._sequences: Counter[str] = Counter()

    def write(self, written: Sequence[bytes]) -> bool:
        items = [came(UP, item) for item in written]
        self.writes.append(items)
        opened = [i for i in items if i.type in (HELLO, RESUME)]
        if self.answers and opened:
            self.listener.stream_received([self.take(i) for i in opened])
        return not self.full

    def take(self, item: Any) -> Any:
        """Answer an item that opens or resumes a session."""
        if item.type == HELLO:
            self._sequences.pop(item.session_id, None)
        incarnation = item.hello.incarnation or item.resume.incarnation
        return came(DOWN, opened(item.session_id, incarnation))

    def close(self) -> None:
        self.closed = True

    def announce(self, boot_id: str = "b", version: int = 2, credit: int = 128) -> None:
        item = came(DOWN, stream_open(DOWN, "ai", boot_id, credit))
        item.stream.protocol_version = version
        self.listener.stream_received([item])

    def answer(self, message: Any, session_id: str = "s1", ack: int = 0, credit: int = 0) -> None:
        self._sequences[session_id] += 1
        item = DOWN.make(message, session_id, self._sequences[session_id])
        item.ack, item.credit = ack, credit
        self.listener.stream_received([item])

    def acknowledge(self, ack: int, credit: int = 0, session_id: str = "s1") -> None:
        item = came(DOWN, acknowledgement(DOWN, session_id))
        item.ack, item.credit = ack, credit
        self.listener.stream_received([item])

    @property
    def raw(self) -> list[Any]:
        """Return everything written for sessions."""
        return [i for write in self.writes for i in write if i.session_id]

    @property
    def items(self) -> list[Any]:
        """Return the decoded items, except acknowledgements, skips and resumptions."""
        return [accept_request(i) for i in self.raw if i.type not in (UP.ack, UP.skip, RESUME)]

    @property
    def sequences(self) -> list[tuple[int, Any]]:
        return [
            (i.sequence, accept_request(i)) for i in self.raw if i.sequence and i.type != UP.skip
        ]


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
        values = {
            "streams_per_target": 1,
            "sessions_per_stream": 1,
            "targets": ("ai:1",),
            **changed,
        }
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
        """The newest stream."""
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
        self.stream.announce(version=1)
        self.assertTrue(self.stream.closed)
        self.assertIn("version 1", self.client.status().detail["targets"]["ai:1"]["last_error"])

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
        self.stream.listener.stream_received([came(DOWN, heartbeat(DOWN, 1))])
        self.clock.advance(31)
        self.stream.listener.stream_closed("lost")
        self.assertEqual(redialled(), 0.125)

    def test_a_silent_stream_is_given_up(self) -> None:
        self.start(heartbeat_interval=10, heartbeat_timeout=5, heartbeat_misses=2)
        stream = self.stream
        stream.announce()
        stream.listener.stream_received([came(DOWN, heartbeat(DOWN, 1))])
        self.assertEqual(self.client.status().detail["targets"]["ai:1"]["rtt_ms"], 0)
        self.clock.pump([10, 5])
        self.assertFalse(stream.closed)
        self.clock.advance(5)
        self.assertTrue(stream.closed)

    # --- sending

    def test_audio_waits_for_a_batch(self) -> None:
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

    def test_audio_of_a_full_batch_does_not_wait(self) -> None:
        self.start(coalesce=0.002)
        self.stream.announce()
        link, _ = self.open()
        before = len(self.stream.writes)
        for _ in range(20):
            link.send(m.Audio(b"x"))
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [16])
        self.clock.advance(0.0021)
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [16, 4])

    def test_frequent_audio_waits_longer(self) -> None:
        self.start(coalesce=0.001, coalesce_busy=0.004)
        self.stream.announce()
        link, _ = self.open()
        before = len(self.stream.writes)

        def one(wait: float) -> None:
            link.send(m.Audio(b"x"))
            self.clock.advance(wait)

        one(0.0011)
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [1])
        one(0.0021)  # soon after the first: more may come
        one(0.0016)
        one(0.0004)
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [1, 3])
        for _ in range(7):
            one(0.0004)
        one(0.0011)  # eight are enough; simultaneous ones still join the batch
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [1, 3, 8])
        self.clock.advance(0.06)
        one(0.0011)  # alone again
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [1, 3, 8, 1])

    def test_audio_ahead_of_its_time_waits_for_the_next_write(self) -> None:
        self.start(coalesce=0.002)
        self.stream.announce()
        link, _ = self.open()
        before = len(self.stream.writes)
        for _ in range(3):
            link.send(m.Audio(b"x", ahead=True))
        self.clock.advance(0.03)
        self.assertEqual(len(self.stream.writes), before)
        self.clock.advance(0.03)
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [3])
        link.send(m.Audio(b"x", ahead=True))
        link.send(m.Audio(b"x"))
        self.clock.advance(0.0021)
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [3, 2])
        for _ in range(64):
            link.send(m.Audio(b"x", ahead=True))
        self.assertEqual([len(write) for write in self.stream.writes[before:]], [3, 2, 64])

    def test_control_is_sent_at_once_with_waiting_audio(self) -> None:
        self.start()
        self.stream.announce()
        link, _ = self.open()
        link.send(m.Audio(b"x"))
        link.send(m.Abort())
        write = self.stream.writes[-1]
        self.assertEqual([accept_request(item) for item in write], [m.Audio(b"x"), m.Abort()])
        self.assertEqual([item.sequence for item in write], [1, 2])

    def test_addresses(self) -> None:
        """In a batch, audio has no address; alone, an item has its full address."""
        self.start()
        self.stream.announce()
        link, _ = self.open()
        link.send(m.Audio(b"x"))
        link.send(m.Abort())
        audio, abort = self.stream.writes[-1]
        self.assertEqual((audio.message_id, audio.device_id, audio.timestamp), ("", "", 0))
        self.assertEqual((abort.message_id, abort.device_id), ("s1-2", ""))
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
        sent = [accept_request(i) for write in self.stream.writes[writes:] for i in write]
        chats = [m.Chat(f"b{number}") for number in range(3)]
        self.assertEqual(sent, chats + [m.Audio(b"a%d" % number) for number in range(3)])
        self.assertEqual(self.client.status().detail["dropped"], {"audio_stale": 1})

    # --- without a stream

    def test_the_queue_is_bounded(self) -> None:
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

    def test_audio_becomes_stale(self) -> None:
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
        """Text that is not Unicode delays neither its session nor later messages."""
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

    # --- acknowledgement and credit

    def test_unacknowledged_messages_are_resent(self) -> None:
        self.start(streams_per_target=2)
        first, second = self.dialer.streams
        for stream in (first, second):
            stream.announce()
        link, heard = self.open()
        for number in range(4):
            link.send(m.Chat(str(number)))
        first.acknowledge(2)
        first.answer(m.Stt("heard"))
        first.listener.stream_closed("cut")
        resumed = second.raw[0]
        self.assertEqual((resumed.type, resumed.ack, resumed.resume.incarnation), (RESUME, 1, 1))
        self.assertEqual(second.sequences, [(3, m.Chat("2")), (4, m.Chat("3"))])
        link.send(m.Chat("4"))
        self.assertEqual(second.sequences[-1], (5, m.Chat("4")))
        self.assertEqual(heard.all, [m.Stt("heard")])

    def test_stale_audio_is_skipped_when_sent_again(self) -> None:
        self.start(streams_per_target=2, audio_max_age=2)
        first, second = self.dialer.streams
        for stream in (first, second):
            stream.announce()
        link, _ = self.open()
        for message in (m.Audio(b"old"), m.Chat("kept"), m.Audio(b"old"), m.Audio(b"old")):
            link.send(message)
        self.clock.advance(2.5)
        link.send(m.Audio(b"new"))
        first.listener.stream_closed("cut")
        told = [(i.sequence, i.type == UP.skip) for i in second.raw[1:]]
        self.assertEqual(told, [(1, True), (2, False), (4, True), (5, False)])
        self.assertEqual(
            [message for _, message in second.sequences], [m.Chat("kept"), m.Audio(b"new")]
        )
        self.assertEqual(self.client.status().detail["dropped"], {"audio_stale": 3})
        self.assertEqual(dict(link.dropped), {"audio_stale": 3})

    def test_credit(self) -> None:
        self.start(queue_audio=4)
        self.stream.announce(credit=8)
        link, heard = self.open()
        for number in range(6):
            self.assertEqual(heard.all, [])
            link.send(m.Audio(b"%d" % number))
        self.assertEqual(heard.all, [("pause",)])  # the rest is for packets in flight
        for number in range(6, 12):
            link.send(m.Audio(b"%d" % number))
        link.send(m.Chat("behind it"))
        self.clock.advance(0.01)
        self.assertEqual(len(self.stream.items), 1 + 8)
        self.stream.acknowledge(8, credit=11)
        self.assertEqual(len(self.stream.items), 1 + 11)
        self.assertEqual(heard.all, [("pause",)])
        self.stream.acknowledge(11, credit=30)
        self.assertEqual(self.stream.items[-2:], [m.Audio(b"11"), m.Chat("behind it")])
        self.assertEqual(heard.all, [("pause",), ("resume",)])

    def test_without_credit_the_oldest_audio_is_dropped(self) -> None:
        self.start(queue_audio=2, audio_max_age=2)
        self.stream.announce(credit=8)
        link, _ = self.open()
        for number in range(12):
            link.send(m.Audio(b"%d" % number))
        self.stream.acknowledge(8, credit=16)
        self.assertEqual(self.stream.items[-2:], [m.Audio(b"10"), m.Audio(b"11")])
        self.assertEqual(dict(link.dropped), {"audio_overflow": 2})
        self.assertEqual([n for n, _ in self.stream.sequences], list(range(1, 11)))

    def test_retracted(self) -> None:
        """Pending messages are not sent, and sent ones that may be lost are not resent."""
        self.start(streams_per_target=2)
        first, second = self.dialer.streams
        first.announce()
        link, _ = self.open()
        old, other, waits, new = m.Chat("old"), m.Chat("old"), m.Chat("waits"), m.Chat("new")
        for message in (old, m.Abort()):
            link.send(message)
        first.listener.stream_closed("cut")
        for later in (waits, other, m.Audio(b"said"), new):
            link.send(later)
        link.retract(lambda each: each is old or each is waits or type(each) is m.Audio)
        self.assertEqual(dict(link.dropped), {"retracted": 3})
        second.announce()
        self.clock.advance(0.1)
        sent = [message for _, message in second.sequences]
        self.assertEqual(sent, [m.Abort(), other, new])
        link.retract(lambda _: True)
        self.assertEqual(dict(link.dropped), {"retracted": 6})

    def test_retained_data_is_bounded(self) -> None:
        """Without acknowledgements, sending stops, and the queue is bounded as ever."""
        self.start(queue_messages=3)
        self.stream.announce(credit=8)
        link, heard = self.open()
        for number in range(16):
            link.send(m.Chat(str(number)))
        self.assertEqual(len(self.stream.items), 1 + 3 + 8)
        self.clock.advance(0)
        self.assertEqual([error.code for error in heard.messages], ["ai_unavailable"])
        self.stream.acknowledge(11)
        self.assertEqual(self.stream.items[-1], m.Chat("13"))

    def test_acknowledges_control_soon_and_audio_in_batches(self) -> None:
        self.start(credit=64, coalesce=0.002, heartbeat_interval=10)
        self.stream.announce()
        self.stream.listener.stream_received([came(DOWN, heartbeat(DOWN, 1))])
        link, _ = self.open()

        def acks() -> list[tuple[int, int]]:
            return [(i.ack, i.credit) for i in self.stream.raw if i.type == UP.ack]

        self.stream.answer(m.Stt("words"))
        self.assertEqual(acks(), [])
        self.clock.advance(0.0021)
        self.assertEqual(acks(), [(1, 64)])
        for _ in range(7):
            self.stream.answer(m.Audio(b"x", turn=1))
        self.clock.advance(0.0021)
        self.assertEqual(len(acks()), 1)
        self.stream.answer(m.Audio(b"x", turn=1))
        self.clock.advance(0.0021)
        self.assertEqual(len(acks()), 1)
        self.clock.advance(0.05)
        self.assertEqual(acks()[1:], [(9, 64 + 8)])
        self.stream.answer(m.Audio(b"x", turn=1))
        link.send(m.Abort())  # carries it
        self.assertEqual((self.stream.raw[-1].ack, self.stream.raw[-1].credit), (10, 64 + 9))
        self.stream.answer(m.Audio(b"x", turn=1))
        self.clock.advance(10)  # or the next heartbeat does
        self.assertEqual(acks()[2:], [(11, 64 + 10)])

    def test_a_paused_side_grants_nothing(self) -> None:
        self.start(credit=8)
        self.stream.announce()
        link, _ = self.open()
        link.pause()
        for _ in range(8):
            self.stream.answer(m.Audio(b"x", turn=1))
        self.clock.advance(0.06)
        self.assertEqual((self.stream.raw[-1].ack, self.stream.raw[-1].credit), (8, 0))
        link.resume()
        self.clock.advance(0.01)
        self.assertEqual((self.stream.raw[-1].ack, self.stream.raw[-1].credit), (8, 16))

    def test_duplicates_are_dropped_and_gaps_break_the_stream(self) -> None:
        self.start()
        self.stream.announce()
        _, heard = self.open()
        self.stream.answer(m.Stt("1"))
        again = DOWN.make(m.Stt("1"), "s1", 1)
        self.stream.listener.stream_received([again])
        self.assertEqual(heard.all, [m.Stt("1")])
        self.assertEqual(self.client.status().detail["dropped"], {"duplicate": 1})
        stream = self.stream
        stream.listener.stream_received([DOWN.make(m.Stt("3"), "s1", 3), again])
        self.assertTrue(stream.closed)
        self.assertEqual(heard.all, [m.Stt("1")])
        detail = self.client.status().detail["targets"]["ai:1"]
        self.assertIn("message 3 came after 1", detail["last_error"])

    # --- when streams break

    def test_reopens_with_the_state_for_the_new_process(self) -> None:
        self.start()
        self.stream.announce("one")
        link, heard = self.open()
        link.send(m.Chat("1"))
        link.send(m.Chat("2"))
        self.stream.acknowledge(1)
        heard.memory = (m.Listen(m.ListenState.START),)
        self.stream.listener.stream_closed("cut")
        link.send(m.Chat("3"))
        self.clock.advance(1)
        self.assertEqual(heard.all, [])
        self.stream.announce("two")
        self.clock.advance(0)
        link.send(m.Chat("4"))
        reopened = self.stream.items[0]
        self.assertTrue(reopened.resumed)
        self.assertEqual(reopened.restored, heard.memory)
        self.assertEqual([i.sequence for i in self.stream.raw], [1, 2, 3, 4])
        self.assertEqual(self.stream.items[1:], [m.Chat("2"), m.Chat("3"), m.Chat("4")])
        self.assertEqual(heard.all, [("interrupted",), ("restored",)])

    def test_messages_before_the_reopening_belong_to_the_old_session(self) -> None:
        self.start()
        self.stream.announce("one")
        _, heard = self.open()
        self.stream.listener.stream_closed("cut")
        self.clock.advance(1)
        self.stream.answers = False
        self.stream.announce("two")
        self.clock.advance(0)
        self.stream.answer(m.Stt("late"))
        self.stream.listener.stream_received([came(DOWN, opened("s1", 1))])
        self.stream.answer(m.Stt("late"))
        self.stream.listener.stream_received(
            [came(DOWN, opened("s1", 2)), DOWN.make(m.Stt("new"), "s1", 1)]
        )
        self.assertEqual(heard.messages, [m.Stt("new")])

    def test_a_silent_process_is_given_up_after_the_timeout(self) -> None:
        """Without another target, its session waits ``resume_timeout`` before the process is given
        up, and gets one interruption.
        """
        self.start(resume_timeout=2, backoff_base=0.1)
        self.stream.announce()
        _, heard = self.open()
        self.stream.listener.stream_closed("cut")
        self.clock.pump([0.1] * 19)
        self.assertEqual(heard.all, [])
        self.clock.pump([0.1] * 2)
        self.assertEqual(heard.all, [("interrupted",)])
        self.stream.announce()
        self.clock.advance(0)
        self.assertEqual(self.stream.items[0].incarnation, 2)

    def test_a_dead_process_is_given_up_at_once_if_another_is_available(self) -> None:
        self.start(targets=("ai:1", "ai:2"), backoff_base=0.1)
        one, two = self.dialer.streams
        one.announce("one")
        _, heard = self.open()
        two.announce("two")
        one.listener.stream_closed("cut")
        self.clock.advance(0.1)
        self.assertEqual(heard.all, [])
        self.assertEqual(self.stream.target, "ai:1")
        self.stream.listener.stream_closed("refused")
        self.assertEqual(heard.all, [("interrupted",), ("restored",)])
        self.assertTrue(two.items[0].resumed)

    def test_a_process_that_forgot_the_session(self) -> None:
        self.start(streams_per_target=2)
        first, second = self.dialer.streams
        second.answers = False
        first.announce()
        second.announce()
        _, heard = self.open()
        first.listener.stream_closed("cut")
        second.listener.stream_received([came(DOWN, closed("s1", "d", "unknown_session", ""))])
        self.clock.advance(0)
        self.assertEqual(heard.all, [("interrupted",), ("restored",)])
        self.assertEqual(second.items[-1].incarnation, 2)

    def test_an_interruption_is_reported_once_without_traffic(self) -> None:
        self.start(resume_timeout=60)
        self.stream.announce("0")
        link, heard = self.open()
        for boot in "123":
            self.stream.listener.stream_closed("cut")
            self.clock.advance(10)
            self.stream.announce(boot)
            self.clock.advance(0)
        self.assertEqual(heard.events.count(("interrupted",)), 1)
        link.send(m.Chat("1"))
        self.stream.listener.stream_closed("cut")
        self.clock.advance(10)
        self.stream.announce("4")
        self.clock.advance(0)
        self.assertEqual(heard.events.count(("interrupted",)), 2)

    # --- where sessions go

    def test_least_loaded_target_then_slot(self) -> None:
        self.start(targets=("ai:1", "ai:2"), streams_per_target=2)
        for stream in self.dialer.streams:
            stream.announce(stream.target)
        for number in range(8):
            self.open(f"s{number}")
        self.assertEqual([len(stream.items) for stream in self.dialer.streams], [2, 2, 2, 2])

    def test_one_stream_is_filled_before_the_next(self) -> None:
        self.start(streams_per_target=2, sessions_per_stream=3)
        first, second = self.dialer.streams
        for stream in (first, second):
            stream.announce()
        filled = []
        for number in range(8):
            self.open(f"s{number}")
            filled.append((len(first.items), len(second.items)))
        self.assertEqual(filled[2], (3, 0))
        self.assertEqual(filled[5], (3, 3))
        self.assertEqual(filled[7], (5, 3))

    def test_a_target_that_misses_heartbeats_comes_last(self) -> None:
        self.start(targets=("ai:1", "ai:2"), heartbeat_timeout=5, heartbeat_interval=100)
        one, two = self.dialer.streams
        one.announce("one")
        two.announce("two")
        two.listener.stream_received([came(DOWN, heartbeat(DOWN, 1))])
        self.clock.advance(5)
        for number in range(3):
            self.open(f"s{number}")
        self.assertEqual((len(one.items), len(two.items)), (0, 3))

    def test_waiting_sessions_are_shared_among_the_slots(self) -> None:
        self.start(streams_per_target=2)
        for number in range(8):
            self.open(f"s{number}")
        first, second = self.dialer.streams
        first.announce()
        self.assertEqual(first.items, [])
        self.clock.advance(0.01)
        second.announce()
        self.clock.advance(0)
        self.assertEqual((len(first.items), len(second.items)), (4, 4))

    def test_waiting_sessions_do_not_wait_for_every_slot(self) -> None:
        self.start(streams_per_target=2)
        self.open()
        self.dialer.streams[0].announce()
        self.clock.advance(0.06)
        self.assertEqual(len(self.dialer.streams[0].items), 1)

    def test_a_draining_target_gets_no_new_sessions(self) -> None:
        self.start(targets=("ai:1", "ai:2"))
        one, two = self.dialer.streams
        one.announce("one")
        link, heard = self.open("s1")
        two.announce("two")
        one.listener.stream_received([came(DOWN, drain())])
        for number in range(3):
            self.open(f"new{number}")
        self.assertEqual((len(one.items), len(two.items)), (1, 3))
        link.send(m.Chat("still here"))
        self.assertEqual(one.items[-1], m.Chat("still here"))
        one.answer(m.SessionClose("moving"), ack=1)
        link.send(m.Chat("on the way"))
        self.clock.advance(0)
        self.assertEqual(two.items[-2].incarnation, 2)
        self.assertEqual(two.items[-1], m.Chat("on the way"))
        self.assertEqual(heard.all, [("restored",)])

    def test_retargeted(self) -> None:
        self.start(targets=("ai:1",))
        one = self.stream
        one.announce("one")
        link, _ = self.open()
        self.client.retarget(["ai:2"])
        two = self.stream
        two.announce("two")
        self.open("new")
        self.assertEqual((len(one.items), len(two.items)), (1, 1))
        self.assertFalse(one.closed)
        link.close("device_gone", "")
        self.assertTrue(one.closed)
        self.assertEqual(list(self.client.status().detail["targets"]), ["ai:2"])

    def test_an_error_in_interrupted_ends_the_session(self) -> None:
        class Bad(Heard):
            def interrupted(self) -> None:
                raise ValueError("as asked")

        self.start()
        self.stream.announce()
        bad = Bad()
        self.client.open(opening(), bad)
        self.stream.listener.stream_closed("cut")
        self.clock.advance(5)
        self.assertEqual(bad.all, [("closed", "internal_error")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.client.status().sessions, 0)

    def test_stop_notifies_sessions(self) -> None:
        self.start()
        _, heard = self.open()
        self.successResultOf(self.client.stop())
        self.assertEqual(heard.all, [("closed", "bridge_stopped")])

    def test_an_unreadable_message_is_skipped(self) -> None:
        self.start()
        self.stream.announce()
        _, heard = self.open()
        unreadable = DOWN.item(session_id="s1", type=99, sequence=1)
        self.stream.listener.stream_received([unreadable, DOWN.make(m.Stt("next"), "s1", 2)])
        self.assertEqual(heard.all, [m.Stt("next")])


class LogTests(ClientTestCase):
    """The log has changes, not attempts."""

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
        self.assertIn("ai:1: refused; next", lines[0])


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

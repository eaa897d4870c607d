"""Send side of a session: credit, queue, and its owner's events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge.delivery.incoming import Incoming
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.outgoing import Outgoing
from xiaozhi.bridge.delivery.pending import Bounds
from xiaozhi.bridge.delivery.shared import SharedState
from xiaozhi.bridge.items import DOWN, UP
from xiaozhi.wire import messages as m
from xiaozhi.wire.convert import accept_request

COALESCE = 0.01
# Limits of pending control messages and packets.
MESSAGES, AUDIO = 3, 4
CLOSE = m.SessionClose("done", "")


class Stream:
    """Accepts everything; reports that it is full while ``full`` is set."""

    remote = ""
    pending = 0

    def __init__(self, *, batching: bool = True) -> None:
        self.batching = batching
        self.full = False
        self.written: list[bytes] = []

    def write(self, items: Sequence[bytes]) -> bool:
        self.written += items
        return not self.full

    def close(self) -> None:
        pass


class Owner:
    """Records events; ``known``: the other side knows the session."""

    def __init__(self) -> None:
        self.known = True
        self.introduced: list[Outbox] = []
        self.holds: list[bool] = []
        self.backlogs: list[bool] = []
        self.refusals: list[str] = []

    def introduce(self, outbox: Outbox) -> bool:
        self.introduced.append(outbox)
        return self.known

    def hold(self, reason: str, on: bool) -> None:
        self.holds.append(on)

    def backlog(self, waiting: bool) -> None:
        self.backlogs.append(waiting)

    def refused(self, code: str, message: str) -> None:
        self.refusals.append(code)


class OutgoingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bounds = Bounds(MESSAGES, AUDIO, 1.0)
        self.shared = SharedState(UP, DOWN, self.bounds, 16, self.clock, Counter())
        self.owner = Owner()
        self.out = Outgoing(self.shared, "s1", "d1", self.owner, Incoming(16))

    def stream(self, *, batching: bool = True) -> tuple[Stream, Outbox]:
        stream: Any = Stream(batching=batching)
        return stream, Outbox(stream, self.clock, COALESCE, 10_000)

    def board(self, credit: int | None = 8, *, batching: bool = True) -> Stream:
        """Attach to a new stream, with the other side's credit, if any."""
        stream, self.outbox = self.stream(batching=batching)
        if credit is not None:
            self.out.take_credit(credit)
        self.out.board(self.outbox)
        self.outbox.release()
        return stream

    def audio(self, count: int) -> None:
        for _ in range(count):
            self.out.send(m.Audio(b"opus"))

    def texts(self, count: int) -> None:
        for _ in range(count):
            self.out.send(m.Chat("hello"))

    def story(self, stream: Stream) -> str:
        """Return items written since the last call: ``a1`` a packet, ``t2`` a message, ``s3`` a
        gap; the number is the sequence.
        """
        self.clock.advance(COALESCE)
        items = [UP.item.FromString(item) for item in stream.written]
        stream.written.clear()
        kinds = {UP.skip: "s", UP.ack: "r"}
        told = [
            kinds.get(item.type) or ("a" if type(accept_request(item)) is m.Audio else "t")
            for item in items
        ]
        return " ".join(f"{k}{item.sequence}" for k, item in zip(told, items, strict=True))


class CreditTests(OutgoingCase):
    def test_nothing_is_sent_before_there_is_credit(self) -> None:
        self.texts(1)
        stream = self.board(credit=None)
        self.assertFalse(self.out.has_credit)
        self.assertEqual(self.story(stream), "")
        self.out.take_credit(1)
        self.assertTrue(self.out.has_credit)
        self.out.acknowledged(0, 0)
        self.assertEqual((self.story(stream), self.owner.holds), ("t1", []))

    def test_hold_and_resume(self) -> None:
        """Steps: packets to send, or acknowledgements and grants; then the holds."""
        stream = self.board(credit=8)
        for step, holds in (
            (5, []),
            (1, [True]),  # a quarter is left
            ((6, 8), [True]),
            (3, [True]),  # one of them waits
            ((8, 11), [True]),
            ((9, 12), [True, False]),
        ):
            if isinstance(step, int):
                self.audio(step)
            else:
                self.out.acknowledged(*step)
            self.assertEqual(self.owner.holds, holds, step)
        self.assertEqual(self.story(stream), "a1 a2 a3 a4 a5 a6 a7 a8 a9")

    def test_pending_audio_triggers_the_hold(self) -> None:
        for waited, holds in ((2, []), (3, [True])):
            self.setUp()
            self.audio(waited)
            self.board(credit=4)
            self.assertEqual(self.owner.holds, holds)

    def test_a_new_window_counts_unacknowledged_packets(self) -> None:
        for sent, acknowledged, holds in ((2, 0, []), (3, 0, [True]), (7, 5, []), (7, 4, [True])):
            self.setUp()
            self.story(self.board(credit=16))
            self.audio(sent)
            self.out.acknowledged(acknowledged, 0)
            again = self.board(credit=4)
            self.assertEqual(self.owner.holds, holds)
            # The unacknowledged packets again, and the rest of the window.
            self.audio(4)
            numbers = range(acknowledged + 1, acknowledged + 5)
            self.assertEqual(self.story(again), " ".join(f"a{number}" for number in numbers))

    def test_no_limit(self) -> None:
        self.board(credit=4)
        self.audio(3)
        self.out.free()
        self.assertEqual(self.owner.holds, [True, False])


class WaitingTests(OutgoingCase):
    def test_sequence_of_the_last(self) -> None:
        self.texts(2)
        self.assertEqual((self.out.sequence, self.out.last), (0, 2))
        self.board()
        self.assertEqual((self.out.sequence, self.out.last), (2, 2))
        self.texts(1)
        self.assertEqual(self.out.last, 3)

    def test_the_owner_is_notified_of_a_backlog(self) -> None:
        stream = self.board()
        self.assertEqual(self.owner.backlogs, [False])
        stream.full = True
        for count, told in ((1, [False]), (1, [False, True]), (2, [False, True])):
            self.texts(count)
            self.assertEqual(self.owner.backlogs, told)
        stream.full = False
        self.outbox.writable()
        self.assertEqual(self.owner.backlogs, [False, True, False])
        self.assertEqual(self.story(stream), "t1 t2 t3 t4")

    def test_overflow_is_reported_once_per_outage(self) -> None:
        for outage in (1, 2):
            self.texts(MESSAGES + 2)
            self.assertEqual(self.owner.refusals, ["ai_unavailable"] * outage)
            self.assertEqual(self.out.drops, {"control_overflow": 2 * outage})
            self.story(self.board())
            self.out.acknowledged(self.out.sequence, 0)
            self.out.unboard()

    def test_playback_waits_for_a_batch(self) -> None:
        stream = self.board()
        self.out.send(m.Playback(1, m.PlaybackState.STARTED))
        self.assertEqual(stream.written, [])
        self.assertEqual(self.story(stream), "t1")

    def test_a_sentence_waits_for_its_first_sound(self) -> None:
        shared = SharedState(DOWN, UP, self.bounds, 16, self.clock, Counter())
        out = Outgoing(shared, "s1", "d1", self.owner, Incoming(16))
        stream, outbox = self.stream()
        out.take_credit(8)
        out.board(outbox)
        outbox.release()
        out.send(m.Tts(m.TtsState.SENTENCE_START, "Yes.", 1))
        out.send(m.Audio(b"opus", turn=1))
        self.assertEqual(stream.written, [])
        out.send(m.Tts(m.TtsState.STOP, turn=1))
        sequences = [DOWN.item.FromString(each).sequence for each in stream.written]
        self.assertEqual(sequences, [1, 2, 3])
        out.send(m.Tts(m.TtsState.SENTENCE_START, "No.", 2))
        self.clock.advance(COALESCE)
        self.assertEqual(len(stream.written), 4)

    def test_a_message_that_is_too_large(self) -> None:
        stream = self.board()
        item = UP.make(m.Chat("hello"), "s1", 1)
        size = len(self.out.control_item(self.outbox, item, 1))
        for room, story, refusals in ((size, "t1", []), (size - 1, "", ["too_large"])):
            self.outbox.max_item_bytes = room
            self.texts(1)
            self.assertEqual((self.story(stream), self.owner.refusals), (story, refusals))
        self.assertEqual(self.out.drops, {"too_large": 1})

    def test_a_single_item_has_its_full_address(self) -> None:
        stream = self.board(batching=False)
        self.clock.advance(12.5)
        self.assertEqual(self.shared.wall_ms, 12500)
        self.texts(1)
        (item,) = (UP.item.FromString(item) for item in stream.written)
        self.assertEqual((item.message_id, item.device_id), ("s1-1", "d1"))
        self.assertEqual(item.timestamp, 12500)


class StreamTests(OutgoingCase):
    def test_without_a_stream(self) -> None:
        self.texts(1)
        self.out.send_waiting()
        self.assertEqual((self.owner.introduced, self.out.last), ([], 1))

    def test_not_before_the_session_is_known(self) -> None:
        self.owner.known = False
        self.texts(1)
        stream = self.board()
        self.assertEqual((self.story(stream), self.out.last, self.out.sequence), ("", 1, 0))

    def test_a_new_stream_begins_with_the_session(self) -> None:
        old = self.board()
        self.texts(1)
        self.story(old)
        new, outbox = self.stream()
        self.out.board(outbox)
        self.texts(1)
        self.assertEqual((self.story(new), len(self.owner.introduced)), ("", 1))
        outbox.release()
        self.assertEqual((self.story(new), len(self.owner.introduced)), ("t1 t2", 2))
        self.assertEqual(self.story(old), "")

    def test_a_lost_stream(self) -> None:
        stream = self.board()
        self.out.unboard()
        self.texts(1)
        self.out.acknowledged(0, 100)
        self.assertEqual(self.story(stream), "")


class EndTests(OutgoingCase):
    """The owner gets no event of a session that has ended."""

    def test_closed_at_once(self) -> None:
        stream = self.board(credit=4)
        self.audio(3)
        self.out.close(CLOSE)
        self.out.free()
        self.assertEqual((self.owner.holds, self.story(stream)), ([True], "a1 a2 a3 t4"))

    def test_closed_after_pending_messages(self) -> None:
        self.audio(3)
        self.out.close(CLOSE)
        stream = self.board(credit=4)
        self.out.free()
        self.assertEqual((self.owner.holds, self.story(stream)), ([True], "a1 a2 a3 t4"))

    def test_forgotten(self) -> None:
        self.board(credit=4)
        self.audio(3)
        self.out.unboard()
        self.texts(2)
        self.assertGreater(self.bounds.budget.used, 0)
        self.out.forget()
        self.assertEqual((self.bounds.budget.used, self.out.last), (0, 3))
        self.out.free()
        self.assertEqual(self.owner.holds, [True])
        self.assertEqual(self.story(self.board()), "")

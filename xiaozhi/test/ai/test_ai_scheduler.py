"""The scheduler of sessions' messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.session.scheduler import SLICE, Scheduler, SessionInbox
from xiaozhi.base import trace
from xiaozhi.wire.messages import Abort, Audio, Uplink


def sound(number: int) -> Audio:
    return Audio(bytes([number]), 0)


class Turns(Clock):
    """A clock on which ``advance(0)`` is one turn of a reactor: calls scheduled in it run in the
    next one.
    """

    def advance(self, amount: float) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call.called = 1
            call.func(*call.args, **call.kw)


class Handler:
    """Records messages; each takes some time."""

    def __init__(self, case: SchedulerTests, name: str) -> None:
        self._case = case
        self._name = name

    def hear(self, audio: Audio, request: trace.TracedMessage | None) -> None:
        self._note(audio.payload[0])

    def handle(self, message: Uplink, request: trace.TracedMessage | None) -> None:
        self._note(-1)

    def _note(self, number: int) -> None:
        self._case.worked += self._case.cost
        self._case.done.append((self._name, number))


class SchedulerTests(SynchronousTestCase):
    """Only work advances the clock."""

    cost = SLICE / 4 + 1e-9

    def setUp(self) -> None:
        self.clock = Turns()
        self.worked = 0.0
        self.done: list[tuple[str, int]] = []
        self.overflows: list[str] = []
        self.scheduler = Scheduler(self.clock, lambda: self.worked)

    def inbox(self, name: str) -> SessionInbox:
        inbox = self.scheduler.inbox(lambda: self.overflows.append(name))
        inbox.open(Handler(self, name))
        return inbox

    def turn(self) -> int:
        """Run one turn of the reactor. :return: the number of processed messages."""
        before = len(self.done)
        self.clock.advance(0)
        return len(self.done) - before

    def test_at_once_where_there_is_time(self) -> None:
        inbox = self.inbox("a")
        inbox.put(sound(1))
        self.assertEqual(self.done, [("a", 1)])

    def test_a_batch_is_cut_into_slices(self) -> None:
        inbox = self.inbox("a")
        for number in range(16):
            inbox.put(sound(number))
        self.assertEqual(len(self.done), 4)
        self.assertEqual([self.turn() for _ in range(4)], [4, 4, 4, 0])
        self.assertEqual([number for _, number in self.done], list(range(16)))
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_turns(self) -> None:
        """A session with many messages does not delay one with few."""
        many, one = self.inbox("many"), self.inbox("one")
        for number in range(100):
            many.put(sound(number))
        one.put(sound(1))
        self.turn()
        self.assertIn(("one", 1), self.done)

    def test_words_stay_behind_sound(self) -> None:
        inbox = self.inbox("a")
        for number in range(6):
            inbox.put(sound(number))
        inbox.put(Abort())
        self.turn()
        self.assertEqual([number for _, number in self.done], [0, 1, 2, 3, 4, 5, -1])

    def test_words_alone_do_not_wait(self) -> None:
        many, other = self.inbox("many"), self.inbox("other")
        for number in range(100):
            many.put(sound(number))
        other.put(Abort())
        self.assertEqual(self.done[-1], ("other", -1))

    def test_bounded(self) -> None:
        inbox = self.inbox("a")
        for number in range(4 + 300):
            inbox.put(sound(number % 256))
        self.assertEqual((inbox.waiting, inbox.dropped), (256, 44))
        while self.turn():
            pass
        # The oldest are missing.
        self.assertEqual([number for _, number in self.done[:5]], [0, 1, 2, 3, 48])

    def test_session_that_is_over(self) -> None:
        inbox, other = self.inbox("a"), self.inbox("b")
        for number in range(10):
            inbox.put(sound(number))
        other.put(sound(1))
        inbox.clear()
        self.turn()
        self.assertEqual(self.done[4:], [("b", 1)])

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
    def test_order(self, steps: list[tuple[str, bool, bool]]) -> None:
        """Each session's messages stay in order, independent of the others."""
        self.setUp()
        inboxes = {name: self.inbox(name) for name in "abc"}
        sent: dict[str, list[int]] = {name: [] for name in "abc"}
        for number, (name, word, turn) in enumerate(steps):
            sent[name].append(-1 if word else number % 256)
            inboxes[name].put(Abort() if word else sound(number % 256))
            if turn:
                self.turn()
        while self.turn():
            pass
        for name, numbers in sent.items():
            self.assertEqual([number for who, number in self.done if who == name], numbers)

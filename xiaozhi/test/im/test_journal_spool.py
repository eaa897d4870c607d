"""The journal with its spool: nothing is lost or doubled while the store is away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import LogDirection, LogRecord, SessionStatus
from xiaozhi.im.sessionlog.journal import Journal, JournalSettings
from xiaozhi.storage.spool import Spool
from xiaozhi.storage.store import SessionStore
from xiaozhi.testing.database import inline_spool, memory_store
from xiaozhi.testing.logs import LogLines
from xiaozhi.wire.messages import Device

EPOCH = 1_790_000_000
DEVICE = Device("d1", "c1", "u1")
AWAY = StoreError("store_unavailable", "away")
FULL = StoreError("store_unavailable", "database or disk is full")


class FaultyStore:
    """A real store that can be away, hang, or lose its answers.

    :ivar mood: ``well``, ``away``, ``hangs``, or ``mute``: writes and reports failure.
    """

    def __init__(self) -> None:
        self.real: SessionStore = memory_store()
        self.mood = "well"
        self.hanging: list[Deferred[None]] = []
        self.appended = 0

    def start(self) -> Deferred[None]:
        return self.real.start()

    def append(self, records: Sequence[LogRecord]) -> Deferred[None]:
        self.appended += len(records)
        if self.mood == "away":
            return fail(AWAY)
        if self.mood == "hangs":
            hanging: Deferred[None] = Deferred()
            self.hanging.append(hanging)
            return hanging
        writing = self.real.append(records)
        if self.mood == "mute":
            return writing.addCallback(lambda _: fail(AWAY))
        return writing

    def give_up(self) -> None:
        """Let hanging calls time out."""
        hanging, self.hanging = self.hanging, []
        for each in hanging:
            if not each.called:
                each.errback(AWAY)


class DelayedSpool:
    """A spool with delays, like threads: no effect until it answers."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._spool, name)
        if name in ("put", "take", "discard"):
            return lambda *args: deferLater(self._clock, 0.03, found, *args)
        return found


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.store = FaultyStore()
        self.successResultOf(self.store.real.start())
        self.addCleanup(self.store.real.stop)
        self.directory = Path(self.mktemp())
        self.log = LogLines(self)

    def journal(self, *, slow: bool = False, **settings: Any) -> Journal:
        self.spool: Spool = inline_spool(self.directory)
        spool: Any = DelayedSpool(self.spool, self.clock) if slow else self.spool
        journal = Journal(
            self.store,  # type: ignore[arg-type]
            self.clock,
            JournalSettings(**settings),
            spool,
            "n1",
        )
        self.successResultOf(journal.start())
        return journal

    def note(self, journal: Journal, *words: str, session_id: str = "s1") -> None:
        for word in words:
            journal.message(session_id, "stt", LogDirection.INBOUND, word)

    def pass_time(self, seconds: float) -> None:
        """Advance in steps that are shorter the sooner something is due."""
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 1e-9:
            due = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
            self.clock.advance(max(1e-6, min([left, *due])))
        self.clock.advance(0)

    def stop(self, journal: Journal) -> None:
        stopping = journal.stop()
        self.pass_time(7)
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [], "a call was left behind")

    def crash(self) -> None:
        """Kill the process: nothing is flushed, and the file is free for the next one."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.spool.stop()

    def written(self, session_id: str = "s1") -> list[str | None]:
        found = self.successResultOf(self.store.real.messages(session_id, 100_000))
        return [message.content for message in found]


class AwayTests(JournalCase):
    def test_waiting_records_are_spooled_after_a_moment(self) -> None:
        self.store.mood = "away"
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.note(journal, "a")
        self.clock.pump([0.2, 0.9])
        self.assertEqual((journal.pending, journal.spooled), (2, 0))
        self.clock.advance(0.1)
        self.assertEqual((journal.pending, journal.spooled), (0, 2))
        self.note(journal, "b")
        self.clock.advance(0.2)
        self.assertEqual((journal.pending, journal.spooled), (0, 3))
        self.assertEqual(journal.trouble(), "away")
        self.assertGreater(journal.lag, 1)
        self.store.mood = "well"
        self.note(journal, "c")
        self.clock.advance(10)
        self.assertEqual(self.written(), ["a", "b", "c"])
        self.assertEqual((journal.pending, journal.spooled, journal.dropped), (0, 0, 0))
        self.assertEqual((journal.trouble(), journal.lag), ("", 0))
        self.stop(journal)

    def test_a_store_that_hangs_is_away_too(self) -> None:
        self.store.mood = "hangs"
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.clock.advance(0.2)
        self.note(journal, "a", "b")
        self.clock.advance(1)
        self.assertEqual((journal.pending, journal.spooled), (0, 3))
        self.store.mood = "well"
        self.store.give_up()
        self.clock.pump([0.5, 0.5])
        self.assertEqual(self.written(), ["a", "b"])
        self.stop(journal)

    def test_a_late_answer(self) -> None:
        self.store.mood = "hangs"
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.clock.advance(0.2)
        self.note(journal, "a")
        self.clock.advance(1)
        self.store.mood = "well"
        for each in self.store.hanging:
            each.callback(None)
        self.clock.advance(1)
        self.assertEqual((self.written(), journal.spooled, journal.pending), (["a"], 0, 0))
        self.stop(journal)

    def test_more_than_memory_should_hold_is_spooled_at_once(self) -> None:
        self.store.mood = "hangs"
        journal = self.journal(capacity=100, batch_size=10)
        journal.session_started("s1", DEVICE)
        self.clock.advance(0.2)
        for n in range(500):
            self.note(journal, str(n))
            self.clock.advance(0)
        self.assertEqual(journal.dropped, 0)
        self.assertLess(journal.pending, 60)
        self.store.mood = "well"
        self.store.give_up()
        self.clock.advance(1)
        self.assertEqual(self.written(), [str(n) for n in range(500)])
        self.stop(journal)

    def test_a_replay_is_read_once(self) -> None:
        self.store.mood = "away"
        journal = self.journal(batch_size=10)
        journal.session_started("s1", DEVICE)
        self.note(journal, *(str(n) for n in range(99)))
        self.clock.pump([0.2, 1])
        self.store.mood, self.store.appended = "well", 0
        self.clock.advance(10)
        self.assertEqual((len(self.written()), self.store.appended), (99, 100))
        self.stop(journal)

    def test_a_refused_record_delays_no_other(self) -> None:
        self.store.mood = "away"
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.note(journal, "a")
        self.note(journal, "of nobody", session_id="ghost")
        self.note(journal, "b")
        self.clock.pump([0.2, 1])
        self.assertEqual(journal.spooled, 4)
        self.store.mood = "well"
        self.clock.advance(10)
        self.assertEqual((self.written(), journal.spooled), (["a", "b"], 0))
        self.assertEqual(journal.status()["dropped"], {"refused": 1})
        self.stop(journal)

    def test_health(self) -> None:
        self.store.mood = "away"
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.clock.pump([0.2, 1])
        status = journal.status()
        self.assertGreater(status.pop("spooled_bytes"), 100)
        self.assertEqual(status, {"pending": 0, "spooled": 1, "lag": 1.2, "dropped": {}})
        self.stop(journal)


class MeanwhileTests(JournalCase):
    """Events during a write to a slow disk."""

    def test_nothing_newer_is_written(self) -> None:
        self.store.mood = "away"
        journal = self.journal(slow=True, retry_delays=(0.01, 0.01))
        journal.session_started("s1", DEVICE)
        self.pass_time(0.5)
        journal.session_started("s2", DEVICE)
        self.pass_time(0.701)
        self.assertEqual(self.spool.count, 0, "on its way")
        self.note(journal, "a", session_id="s2")
        self.store.mood = "well"
        self.pass_time(1)
        self.assertEqual((self.written("s2"), journal.dropped), (["a"], 0))
        self.stop(journal)

    def test_records_written_late_are_settled_once(self) -> None:
        self.store.mood = "hangs"
        journal = self.journal(slow=True)
        journal.session_started("s1", DEVICE)
        self.note(journal, "a")
        self.pass_time(1.201)
        self.store.mood = "well"
        for each in self.store.hanging:
            each.callback(None)
        self.pass_time(0.01)
        self.assertEqual(journal.pending, 0)
        self.pass_time(1)
        self.assertEqual((journal.pending, journal.spooled, self.written()), (0, 0, ["a"]))
        self.stop(journal)

    def test_records_being_written_are_not_dropped_when_full(self) -> None:
        self.store.mood = "away"
        journal = self.journal(batch_size=3)
        journal.session_started("s1", DEVICE)
        self.note(journal, *"abcde")
        self.pass_time(1.3)
        self.store.mood = "hangs"
        self.pass_time(0.5)
        put, kept = self.spool.put, []

        def watched(records: Sequence[LogRecord], after: int = 0) -> Deferred[int]:
            kept.append(after)
            return put(records, after)

        self.spool.put = watched  # type: ignore[method-assign]
        self.note(journal, "f")
        self.pass_time(0.3)
        self.assertEqual(kept, [3])
        self.store.mood = "well"
        self.store.give_up()
        self.pass_time(10)
        self.assertEqual(self.written(), list("abcdef"))
        self.stop(journal)


class EndTests(JournalCase):
    def test_unwritten_records_are_kept_for_the_next_process(self) -> None:
        for mood in ("away", "hangs"):
            self.store.mood = mood
            journal = self.journal()
            journal.session_started(mood, DEVICE)
            self.note(journal, "a", "b", session_id=mood)
            self.stop(journal)
            self.assertEqual((journal.dropped, journal.pending), (0, 0))
            self.store.mood = "well"
            journal = self.journal()
            self.note(journal, "c", session_id=mood)
            self.clock.advance(0.2)
            self.assertEqual(self.written(mood), ["a", "b", "c"])
            self.stop(journal)

    def test_records_being_replayed_at_the_end_are_left_for_the_next_process(self) -> None:
        self.store.mood = "away"
        journal = self.journal(batch_size=2)
        journal.session_started("s1", DEVICE)
        self.note(journal, *"abcdef")
        self.clock.pump([0.2, 1])
        self.store.mood = "hangs"
        self.clock.advance(0.5)
        self.note(journal, "g")
        self.stop(journal)
        self.store.mood = "well"
        journal = self.journal()
        self.clock.advance(0)
        self.assertEqual(self.written(), list("abcdefg"))
        self.stop(journal)

    def test_killed_while_the_store_is_away(self) -> None:
        self.store.mood = "away"
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.note(journal, "a")
        self.clock.pump([0.2, 1])
        self.crash()
        self.store.mood = "well"
        journal = self.journal()
        self.clock.advance(0)
        self.assertEqual(self.written(), ["a"])
        self.assertEqual(self.log.count("2 records in the spool"), 1)
        self.stop(journal)

    def test_a_store_that_was_away_at_the_start_is_opened_later(self) -> None:
        self.successResultOf(self.store.real.stop())
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.note(journal, "a")
        self.clock.pump([0.2, 0.5, 1])
        self.assertEqual((self.written(), journal.spooled, journal.trouble()), (["a"], 0, ""))
        self.stop(journal)


class NoSpoolTests(JournalCase):
    """The disk is full, or the file is damaged."""

    def test_a_full_disk_is_logged_once_and_memory_is_used(self) -> None:
        self.store.mood = "away"
        journal = self.journal(capacity=100)
        self.patch(self.spool, "put", lambda *_: fail(FULL))
        journal.session_started("s1", DEVICE)
        for n in range(300):
            self.note(journal, str(n))
            self.clock.advance(0.1)
        self.assertEqual((journal.pending, journal.spooled), (100, 0))
        self.assertEqual(journal.status()["dropped"], {"full": 201})
        self.assertEqual(self.log.count("the spool failed"), 1)
        self.store.mood = "well"
        self.clock.advance(10)
        written = self.written()
        self.assertEqual((len(written), written[-90:]), (99, [str(n) for n in range(210, 300)]))
        self.stop(journal)

    def test_room_on_the_disk_again(self) -> None:
        self.store.mood = "away"
        journal = self.journal()
        put = self.spool.put
        self.spool.put = lambda *_: fail(FULL)  # type: ignore[method-assign]
        journal.session_started("s1", DEVICE)
        self.clock.pump([0.2, 1])
        self.spool.put = put  # type: ignore[method-assign]
        self.clock.advance(10)
        self.note(journal, "a")
        self.clock.advance(0.2)
        self.assertEqual((journal.pending, journal.spooled), (0, 2))
        self.stop(journal)

    def test_no_spool_to_be_had_at_the_start(self) -> None:
        self.directory.write_text("a file where a directory should be")
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.note(journal, "a")
        self.clock.advance(0.2)
        self.assertEqual(self.written(), ["a"])
        self.stop(journal)

    def test_a_broken_spool_is_put_aside_and_its_records_counted(self) -> None:
        self.store.mood = "away"
        journal = self.journal()
        journal.session_started("s1", DEVICE)
        self.note(journal, *"abc")
        self.clock.pump([0.2, 1])
        self.assertEqual(journal.spooled, 4)
        self.store.mood = "well"
        broken = StoreError("spool_broken", "malformed")
        self.spool.take = lambda _: fail(broken)  # type: ignore[method-assign,assignment]
        self.clock.advance(10)
        self.assertEqual(journal.status()["dropped"], {"spool_broken": 4})
        journal.session_started("s2", DEVICE)
        self.note(journal, "d", session_id="s2")
        self.clock.advance(0.2)
        self.assertEqual(self.written("s2"), ["d"])
        self.stop(journal)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 3)),
        st.tuples(st.just("note"), st.integers(0, 3), st.integers(1, 30)),
        st.tuples(st.just("close"), st.integers(0, 3)),
        st.tuples(st.just("mood"), st.sampled_from(["well", "away", "hangs", "mute"])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.2, 0.6, 1.1, 5.0, 20.0])),
        st.tuples(st.just("late"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=40,
)


class Model:
    """Starting and ending sessions while store and process misbehave.

    :ivar noted: the messages of each session, in order, except those lost in a crash.
    """

    def __init__(self, case: JournalCase, directory: Path, slow: bool) -> None:
        self.case = case
        self.slow = slow
        case.directory = directory
        self.noted: dict[str, list[str]] = {}
        self.over: set[str] = set()
        self.times: dict[str, float] = {}
        self.current: dict[int, str] = {}
        self.words = 0
        self.journal = self.begin()

    def begin(self) -> Journal:
        self.current.clear()
        return self.case.journal(slow=self.slow, batch_size=5, capacity=1000)

    def open(self, slot: int) -> None:
        self.close(slot)
        session_id = f"s{len(self.noted)}"
        self.current[slot] = session_id
        self.noted[session_id] = []
        self.journal.session_started(session_id, DEVICE)

    def note(self, slot: int, count: int) -> None:
        if slot in self.current:
            for _ in range(count):
                self.words += 1
                word = str(self.words)
                self.times[word] = self.case.clock.seconds()
                self.noted[self.current[slot]].append(word)
                self.case.note(self.journal, word, session_id=self.current[slot])

    def close(self, slot: int) -> None:
        session_id = self.current.pop(slot, None)
        if session_id is not None:
            self.over.add(session_id)
            self.journal.session_changed(session_id, SessionStatus.DISCONNECTED)

    def mood(self, mood: str) -> None:
        self.case.store.mood = mood

    def wait(self, seconds: float) -> None:
        self.case.pass_time(seconds)
        if seconds > 15:
            self.case.store.give_up()
            self.case.clock.advance(0)

    def late(self, _: int) -> None:
        """Answer a hanging call after all, with success or failure."""
        self.case.store.give_up()

    def restart(self, _: int) -> None:
        for slot in list(self.current):
            self.close(slot)
        self.case.stop(self.journal)
        self.case.store.hanging.clear()
        self.case.assertEqual((self.journal.pending, self.journal.dropped), (0, 0))
        self.journal = self.begin()

    def crash(self, _: int) -> None:
        """Crash; only the last moment's messages may be lost."""
        case = self.case
        spooled = case.successResultOf(case.spool.take(100_000))
        safe = {getattr(record, "content", None) for _, record in spooled}
        now = case.clock.seconds()
        for session_id, said in self.noted.items():
            kept = [word for word in said if word in safe.union(case.written(session_id))]
            for word in set(said).difference(kept):
                case.assertLess(now - self.times[word], 1.0 + 2 * 0.2 + 2 * 0.03)
            self.noted[session_id] = kept
        self.case.crash()
        self.case.store.hanging.clear()
        self.over.clear()
        self.journal = self.begin()

    def check(self) -> None:
        """Check that everything is written in the end."""
        self.mood("well")
        self.restart(0)
        self.wait(20.0)
        self.case.assertEqual((self.journal.pending, self.journal.spooled), (0, 0))
        self.case.assertEqual(self.journal.dropped, 0)
        for session_id, said in self.noted.items():
            written = self.case.written(session_id)
            self.case.assertEqual(len(written), len(set(written)))
            # Messages lost in a crash may have been written just before.
            self.case.assertEqual([word for word in written if word in said], said)
            row = self.case.successResultOf(self.case.store.real.session(session_id))
            if session_id in self.over:
                assert row is not None
                self.case.assertIs(row.status, SessionStatus.DISCONNECTED)
        self.case.stop(self.journal)


class ModelTests(JournalCase):
    """With random events, no message is lost, doubled or reordered within its session."""

    @settings(max_examples=50)
    @given(_steps, st.booleans())
    def test_random_events(self, steps: list[tuple[Any, ...]], slow: bool) -> None:
        self.store = FaultyStore()
        self.successResultOf(self.store.real.start())
        with TemporaryDirectory() as directory:
            model = Model(self, Path(directory) / "state", slow)
            for name, *arguments in steps:
                getattr(model, name)(*arguments)
            model.check()
        self.store.real.stop()

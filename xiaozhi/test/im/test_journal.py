"""The journal and log writer, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.base.ids import new_id
from xiaozhi.base.values import (
    EventLogged,
    LogDirection,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionStarted,
    SessionStatus,
)
from xiaozhi.im.sessionlog.journal import Journal, JournalSettings
from xiaozhi.testing.database import memory_store
from xiaozhi.wire.messages import Device

DEVICE = Device("d1", "c1", "u1")
AWAY = StoreError("store_unavailable", "away")


class ScriptedStore:
    """A store that keeps batches, and fails or waits on command.

    :ivar answers: for the next calls: a Deferred, an error, or None for success.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[LogRecord, ...]] = []
        self.answers: list[Deferred[None] | Exception | None] = []
        self.refuses: set[str] = set()
        self.calls = 0

    def append(self, records: Sequence[LogRecord]) -> Deferred[None]:
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            return fail(answer)
        if self.refuses & {record.session_id for record in records}:
            return fail(StoreError("store_rejected", "no such session"))
        self.batches.append(tuple(records))
        return succeed(None) if answer is None else answer

    @property
    def records(self) -> list[LogRecord]:
        return [record for batch in self.batches for record in batch]


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.shelf = ScriptedStore()
        self.events: list[dict[str, Any]] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def journal(self, new_id: Callable[[], UUID] = new_id, **settings: Any) -> Journal:
        shelf: Any = self.shelf
        journal = Journal(shelf, self.clock, JournalSettings(**settings), new_id=new_id)
        journal.start()
        return journal

    def message(self, journal: Journal, content: str, session_id: str = "s1") -> None:
        journal.message(session_id, "stt", LogDirection.INBOUND, content)

    def contents(self) -> list[str | None]:
        return [r.content for r in self.shelf.records if isinstance(r, MessageLogged)]

    def lines(self, word: str) -> int:
        return sum(word in (event.get("log_format") or "") for event in self.events)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [], "a call was left behind")


class NotingTests(JournalCase):
    def test_records_fit_the_store(self) -> None:
        ids = iter([UUID(int=1), UUID(int=2)])
        journal = self.journal(new_id=lambda: next(ids))
        journal.session_started("s1", DEVICE, {"version": 3})
        journal.message("s1", "stt", LogDirection.INBOUND, "hello")
        journal.event("s1", "connected", {"ip": "127.0.0.1"})
        journal.session_changed("s1", SessionStatus.DISCONNECTED)
        self.clock.advance(0.2)
        now = datetime.fromtimestamp(1_800_000_000, UTC)
        tick = timedelta(microseconds=1)
        self.assertEqual(
            self.shelf.batches,
            [
                (
                    SessionStarted("s1", "d1", "c1", "u1", now, {"version": 3}),
                    SessionChanged("s1", SessionStatus.DISCONNECTED, now + 3 * tick),
                    MessageLogged(
                        UUID(int=1), "s1", "stt", LogDirection.INBOUND, "hello", now + tick
                    ),
                    EventLogged(
                        UUID(int=2), "s1", "connected", now + 2 * tick, {"ip": "127.0.0.1"}
                    ),
                )
            ],
        )

    def test_content_is_kept_only_when_wanted(self) -> None:
        journal = self.journal(keep_content=False)
        self.message(journal, "private")
        journal.message("s1", "audio", LogDirection.INBOUND, "50 frames")
        self.clock.advance(0.2)
        self.assertEqual(self.contents(), [None, "50 frames"])

    def test_ids_differ(self) -> None:
        journal = self.journal()
        self.message(journal, "a")
        self.message(journal, "b")
        self.clock.advance(0.2)
        one, two = self.shelf.records
        assert isinstance(one, MessageLogged)
        assert isinstance(two, MessageLogged)
        self.assertNotEqual(one.id, two.id)

    def test_a_clock_set_back_far_is_believed(self) -> None:
        journal = self.journal()
        self.message(journal, "a")
        self.clock.rightNow -= 3600
        self.message(journal, "b")
        self.clock.rightNow += 3600
        self.clock.advance(0.2)
        one, two = self.shelf.records
        self.assertEqual(one.at - two.at, timedelta(hours=1))

    def test_into_a_real_store(self) -> None:
        store = memory_store()
        self.successResultOf(store.start())
        journal = Journal(store, self.clock, JournalSettings())
        journal.start()
        for word in ["one", "two", "three"]:
            self.message(journal, word)
        journal.session_started("s1", DEVICE)
        self.clock.advance(0.2)
        found = self.successResultOf(store.messages("s1", 9))
        self.assertEqual([m.content for m in found], ["one", "two", "three"])
        self.successResultOf(journal.stop())
        self.successResultOf(store.stop())


class WritingTests(JournalCase):
    def test_waits_for_a_batch(self) -> None:
        journal = self.journal(flush_interval=0.5)
        self.message(journal, "a")
        self.clock.advance(0.4)
        self.message(journal, "b")
        self.assertEqual(self.shelf.calls, 0)
        self.clock.advance(0.1)
        self.assertEqual([len(batch) for batch in self.shelf.batches], [2])

    def test_a_full_batch_does_not_wait(self) -> None:
        journal = self.journal(batch_size=3)
        for word in "abcd":
            self.message(journal, word)
        self.assertEqual(self.shelf.calls, 0, "not while the message is being handled")
        self.clock.advance(0)
        self.assertEqual([len(batch) for batch in self.shelf.batches], [3, 1])

    def test_one_transaction_at_a_time_in_order(self) -> None:
        first: Deferred[None] = Deferred()
        self.shelf.answers = [first]
        journal = self.journal()
        self.message(journal, "a")
        self.clock.advance(0.2)
        self.message(journal, "b")
        self.clock.advance(60)
        self.assertEqual(self.shelf.calls, 1)
        first.callback(None)
        self.assertEqual(self.contents(), ["a", "b"])

    def test_nothing_is_written_before_the_start(self) -> None:
        journal = Journal(self.shelf, self.clock, JournalSettings())  # type: ignore[arg-type]
        self.message(journal, "a")
        self.clock.advance(60)
        self.assertEqual(self.shelf.calls, 0)
        journal.start()
        self.clock.advance(0.2)
        self.assertEqual(self.contents(), ["a"])

    def test_a_session_is_written_before_its_records(self) -> None:
        journal = self.journal(batch_size=2)
        for word in "abc":
            self.message(journal, word)
        for number in range(3):
            journal.session_started(f"s{number}", DEVICE)
        self.clock.advance(0.2)
        kinds = [type(record) for record in self.shelf.records]
        self.assertEqual(kinds, [SessionStarted] * 3 + [MessageLogged] * 3)


class FailureTests(JournalCase):
    def test_retries_with_backoff(self) -> None:
        self.shelf.answers = [AWAY] * 7
        journal = self.journal()
        self.message(journal, "a")
        self.clock.advance(0.2)
        for number, delay in enumerate((0.5, 1, 2, 4, 8, 10, 10), 1):
            self.assertEqual(self.shelf.calls, number)
            self.clock.advance(delay - 0.01)
            self.assertEqual(self.shelf.calls, number, f"before {delay} s")
            self.clock.advance(0.01)
        self.assertEqual(self.contents(), ["a"])
        self.assertEqual(journal.dropped, 0)
        self.assertEqual((self.lines("retrying"), self.lines("accepts records again")), (1, 1))

    def test_a_refused_record_does_not_delay_the_others(self) -> None:
        self.shelf.refuses = {"ghost"}
        journal = self.journal()
        for number in range(20):
            self.message(journal, str(number), "ghost" if number in (7, 13) else "s1")
        self.clock.advance(0.2)
        expected = [str(number) for number in range(20) if number not in (7, 13)]
        self.assertEqual(self.contents(), expected)
        self.assertEqual((journal.dropped, journal.pending), (2, 0))
        self.assertEqual(self.lines("the store rejected"), 2)

    def test_a_store_that_breaks_its_contract_delays_nothing(self) -> None:
        self.shelf.answers = [RuntimeError("a bug")]
        journal = self.journal()
        self.message(journal, "a")
        self.message(journal, "b")
        self.clock.advance(0.2)
        self.assertEqual(self.contents(), ["a", "b"])

    def test_the_oldest_messages_are_dropped_when_full(self) -> None:
        self.shelf.answers = [AWAY]
        journal = self.journal(capacity=4, batch_size=1)
        journal.session_started("s1", DEVICE)
        self.clock.advance(0.2)
        for word in "abcdef":
            self.message(journal, word)
        self.assertEqual((journal.pending, journal.dropped), (4, 3))
        self.assertEqual(self.lines("full, dropping"), 1)
        self.clock.advance(0.5)
        self.assertEqual(self.contents(), ["d", "e", "f"])
        self.assertIsInstance(self.shelf.records[0], SessionStarted)
        self.assertEqual(self.lines("were dropped while"), 1)

    def test_a_queue_full_of_sessions_is_bounded(self) -> None:
        self.shelf.answers = [AWAY]
        journal = self.journal(capacity=3, batch_size=1)
        for number in range(6):
            journal.session_started(f"s{number}", DEVICE)
        self.message(journal, "a")
        self.assertEqual((journal.pending, journal.dropped), (3, 4))
        self.clock.advance(0.2)
        self.clock.advance(0.5)
        self.assertEqual([r.session_id for r in self.shelf.records], ["s3", "s4", "s5"])


class StopTests(JournalCase):
    def test_writes_everything(self) -> None:
        journal = self.journal()
        self.message(journal, "a")
        self.successResultOf(journal.stop())
        self.assertEqual(self.contents(), ["a"])
        self.message(journal, "late")
        self.assertEqual(journal.dropped, 1)

    def test_waits_for_the_transaction_that_runs(self) -> None:
        first: Deferred[None] = Deferred()
        self.shelf.answers = [first]
        journal = self.journal()
        self.message(journal, "a")
        self.clock.advance(0.2)
        self.message(journal, "b")
        stopping = journal.stop()
        self.assertNoResult(stopping)
        first.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.contents(), ["a", "b"])

    def test_stop_skips_the_backoff(self) -> None:
        self.shelf.answers = [AWAY] * 5
        journal = self.journal()
        self.message(journal, "a")
        self.clock.pump([0.2, 0.5, 1, 2, 4])
        stopping = journal.stop()
        self.clock.advance(0)
        self.successResultOf(stopping)
        self.assertEqual(self.contents(), ["a"])

    def test_gives_up_in_time(self) -> None:
        self.shelf.answers = [AWAY] * 99
        journal = self.journal()
        self.message(journal, "a")
        stopping = journal.stop(timeout=3)
        self.clock.pump([0.1] * 29)
        self.assertNoResult(stopping)
        self.clock.advance(0.2)
        self.successResultOf(stopping)
        self.assertEqual((journal.dropped, journal.pending), (1, 0))
        self.assertEqual(self.lines("were not written"), 1)

    def test_gives_up_on_a_store_that_hangs(self) -> None:
        self.shelf.answers = [Deferred()]
        journal = self.journal()
        self.message(journal, "a")
        stopping = journal.stop(timeout=3)
        self.clock.advance(3)
        self.successResultOf(stopping)
        self.assertEqual(journal.dropped, 1)

    def test_stopping_twice(self) -> None:
        journal = self.journal()
        self.successResultOf(journal.stop())
        self.successResultOf(journal.stop())

    def test_stopping_before_the_start(self) -> None:
        journal = Journal(self.shelf, self.clock, JournalSettings())  # type: ignore[arg-type]
        self.message(journal, "a")
        self.successResultOf(journal.stop())
        self.assertEqual(journal.dropped, 1)

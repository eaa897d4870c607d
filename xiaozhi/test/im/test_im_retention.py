"""Correct rows of ended sessions, and logs that do not grow for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import LogDirection, SessionStatus
from xiaozhi.im.sessionlog.journal import Journal, JournalSettings
from xiaozhi.im.sessionlog.retention import retention_jobs
from xiaozhi.testing.database import memory_store
from xiaozhi.testing.edge import EdgeBench, wire_of
from xiaozhi.wire.messages import Device

DEVICE = Device("d1", "c1", "u1")
DAY = 86_400.0


class ActivityTests(SynchronousTestCase):
    """``last_active_at`` moves while a session lives, about once a minute."""

    def setUp(self) -> None:
        self.bench = EdgeBench()
        self.link, self.transport = self.bench.link()
        self.link.text_received('{"type": "hello"}')

    def changes(self) -> int:
        return sum(status is SessionStatus.ACTIVE for _, status in self.bench.log.changed)

    def test_packets_count(self) -> None:
        for _ in range(600):
            self.bench.pass_time(0.5)
            wire_of(self.link).binary_received(b"sound")
        self.assertIn(self.changes(), (3, 4, 5))

    def test_pongs_do_not(self) -> None:
        self.bench.pass_time(70)
        before = self.changes()
        self.link.alive(0)
        self.bench.pass_time(30)
        self.assertEqual((before, self.changes()), (0, 0))


class RetentionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.store = memory_store()
        self.successResultOf(self.store.start())
        self.addCleanup(self.store.stop)

    def process(self, node: str, **settings: Any) -> Journal:
        """Make an edge process. It ends with the test, or by ``self.crash()``."""
        journal = Journal(self.store, self.clock, JournalSettings(), node=node)
        journal.start()
        defaults = {"retention_days": 90, "purge_interval": 3600, "stale_after": 600}
        for each in retention_jobs(
            self.store, journal, node=node, clock=self.clock, **{**defaults, **settings}
        ):
            each.start()
        return journal

    def crash(self) -> None:
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def status(self, session_id: str) -> SessionStatus:
        row = self.successResultOf(self.store.session(session_id))
        assert row is not None
        return row.status

    def test_sessions_left_by_an_earlier_process_of_this_name_end(self) -> None:
        self.process("n1").session_started("s1", DEVICE)
        self.clock.advance(1)
        self.crash()
        self.assertIs(self.status("s1"), SessionStatus.ACTIVE)
        journal = self.process("n1")
        journal.session_started("s2", DEVICE)
        self.clock.advance(6)
        self.assertIs(self.status("s1"), SessionStatus.DISCONNECTED)
        self.assertIs(self.status("s2"), SessionStatus.ACTIVE)

    def test_sessions_left_by_any_process_end_in_time(self) -> None:
        self.process("n1").session_started("s1", DEVICE)
        self.clock.advance(1)
        self.crash()
        journal = self.process("n2")
        journal.session_started("s2", DEVICE)
        for _ in range(9):
            self.clock.advance(60)
            journal.session_changed("s2", SessionStatus.ACTIVE)
        self.assertIs(self.status("s1"), SessionStatus.ACTIVE)
        self.clock.pump([60] * 2)
        self.assertIs(self.status("s1"), SessionStatus.DISCONNECTED)
        self.assertIs(self.status("s2"), SessionStatus.ACTIVE)

    def test_nothing_is_judged_while_the_store_is_behind(self) -> None:
        journal = self.process("n1")
        journal.session_started("s1", DEVICE)
        self.clock.advance(1)
        append, away = self.store.append, StoreError("store_unavailable", "away")
        self.patch(self.store, "append", lambda _: fail(away))
        for _ in range(20):
            self.clock.advance(60)
            journal.session_changed("s1", SessionStatus.ACTIVE)
        self.assertIs(self.status("s1"), SessionStatus.ACTIVE)
        self.patch(self.store, "append", append)
        self.clock.pump([60] * 3)
        self.assertIs(self.status("s1"), SessionStatus.ACTIVE)

    def test_old_rows_are_purged_and_others_stay(self) -> None:
        journal = self.process("n1")
        for number in range(3):
            session_id = f"s{number}"
            journal.session_started(session_id, DEVICE)
            journal.message(session_id, "stt", LogDirection.INBOUND, "hello")
            journal.event(session_id, "closed")
            journal.session_changed(session_id, SessionStatus.DISCONNECTED)
            self.clock.advance(1)
            self.clock.advance(45 * DAY)
        for hours in range(3):
            self.clock.advance(3600 * hours)
        found = self.successResultOf(self.store.sessions_of("d1", 9))
        self.assertEqual([row.session_id for row in found], ["s2"])
        self.assertEqual(len(self.successResultOf(self.store.messages("s2", 9))), 1)
        self.assertEqual(self.successResultOf(self.store.messages("s1", 9)), [])

    def test_rows_can_be_kept_for_ever(self) -> None:
        journal = self.process("n1", retention_days=0)
        journal.session_started("s1", DEVICE)
        journal.session_changed("s1", SessionStatus.DISCONNECTED)
        self.clock.advance(1)
        self.clock.pump([DAY] * 400)
        row = self.successResultOf(self.store.session("s1"))
        assert row is not None
        self.assertLess(row.connected_at, datetime.fromtimestamp(self.clock.seconds(), UTC))

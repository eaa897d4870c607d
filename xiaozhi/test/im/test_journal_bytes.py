"""The session log in memory: bounded by bytes, with a share for each device."""

from __future__ import annotations

from collections import Counter
from typing import Any

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import LogDirection, MessageLogged, SessionStatus
from xiaozhi.im.sessionlog.journal import Journal
from xiaozhi.test.im.test_journal import AWAY, JournalCase
from xiaozhi.wire.messages import Device


class BytesTests(JournalCase):
    # Content, the bound in bytes, the kept part.
    TABLE = (
        ("tea", 100, "tea"),
        ("x" * 100, 100, "x" * 100),
        ("x" * 101, 100, "x" * 97 + "…"),
        ("你" * 33, 100, "你" * 33),
        ("你" * 34, 100, "你" * 32 + "…"),
        ("x" * 1_048_576, 4096, "x" * 4093 + "…"),
    )

    def test_contents_are_cut_by_bytes(self) -> None:
        for said, most, kept in self.TABLE:
            self.setUp()
            journal = self.journal(max_content_bytes=most)
            self.message(journal, said)
            self.clock.advance(1)
            self.assertEqual(self.contents(), [kept])

    def away(self, **settings: Any) -> Journal:
        self.shelf.answers = [AWAY] * 1000
        journal = self.journal(**settings)
        self.clock.advance(1)
        return journal

    def written(self) -> Counter[str]:
        """Return how many messages of each session the store finally received."""
        self.shelf.answers = []
        self.clock.pump([1] * 40)
        return Counter(r.session_id for r in self.shelf.records if isinstance(r, MessageLogged))

    def test_memory_is_bounded(self) -> None:
        journal = self.away(capacity=100_000, capacity_bytes=1_048_576)
        for number in range(2000):
            self.message(journal, "x" * 4000, f"s{number % 7}")
        self.assertLess(journal.pending, 300)
        self.assertEqual(journal.drops["full"], 2000 - journal.pending)
        self.written()

    def test_no_device_pushes_out_the_others(self) -> None:
        """Neither with long texts, nor many short ones, nor ever new sessions."""
        for words, times in (("x" * 4000, 2000), ("x", 8000)):
            for renewed in (False, True):
                self.setUp()
                journal = self.away(capacity=5000, capacity_bytes=1_048_576)
                for number in range(20):
                    journal.session_started(f"good{number}", Device(f"g{number}", "c", "u"))
                    self.message(journal, "tea", f"good{number}")
                for number in range(times):
                    session_id = f"evil{number // 1000 if renewed else 0}"
                    if number % 1000 == 0:
                        journal.session_started(session_id, Device("evil", "c", "u"))
                    self.message(journal, words, session_id)
                    if renewed and number % 1000 == 999:
                        journal.session_changed(session_id, SessionStatus.DISCONNECTED)
                self.assertGreater(journal.drops["full"], 100)
                found = self.written()
                for number in range(20):
                    self.assertEqual(found[f"good{number}"], 1)

    def test_records_being_written_count(self) -> None:
        journal = self.away(capacity=100_000, capacity_bytes=1_048_576, batch_size=200)
        for _ in range(5):
            for number in range(300):
                self.message(journal, "x" * 4000, f"s{number}")
            self.clock.advance(0.3)
            self.assertLess(journal.pending, 300)
        self.written()
        self.assertEqual((journal.pending, journal._backlog.octets), (0, 0))
        self.assertEqual(journal._backlog._away_octets, 0)


class HealthTests(JournalCase):
    def test_degraded_while_records_are_lost(self) -> None:
        self.shelf.answers = [AWAY] * 1000
        journal = self.journal(capacity=100)
        self.clock.advance(1)
        for _ in range(100):
            self.message(journal, "x")
        self.assertEqual(journal.loss(), "")
        self.message(journal, "x")
        self.assertIn("records are being lost, 1 since", journal.loss())
        self.clock.advance(59)
        self.assertNotEqual(journal.loss(), "")
        self.clock.advance(2)
        self.assertEqual(journal.loss(), "")
        self.message(journal, "x")
        self.assertIn("2 since", journal.loss())
        self.shelf.answers = []
        self.clock.pump([1] * 40)

    def test_any_reason(self) -> None:
        journal = self.journal()
        self.shelf.answers = [StoreError("store_rejected", "no")]
        journal.message("s1", "stt", LogDirection.INBOUND, "x")
        self.clock.advance(1)
        self.assertEqual(journal.drops["refused"], 1)
        self.assertNotEqual(journal.loss(), "")

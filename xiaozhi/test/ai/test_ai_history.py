"""Stored dialogues that outlive their sessions, on virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.settings import HistorySettings
from xiaozhi.ai.memory.exchanges import whole
from xiaozhi.ai.memory.history import History
from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import DeviceNote, DialogueEntry, NoteKind, Role, ToolCall, Utterance
from xiaozhi.storage.memory import MemoryDialogueStore
from xiaozhi.testing.logs import LogLines

EPOCH = 1_790_000_000.0
AWAY = StoreError("store_unavailable", "away")
CALL = ToolCall("c1", "get_time", "{}")


class ScriptedStore(MemoryDialogueStore):
    """A store with scripted answers: a Deferred to wait for, or an error."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[Exception] = []
        self.appends: list[Deferred[None] | Exception] = []
        self.loads: list[Deferred[None] | Exception] = []
        self.batches: list[list[str]] = []
        self.refused = ""

    def start(self) -> Deferred[None]:
        return fail(self.starts.pop(0)) if self.starts else super().start()

    def append(self, entries: Sequence[DialogueEntry | DeviceNote]) -> Deferred[None]:
        words = [e.said.text if isinstance(e, DialogueEntry) else e.text for e in entries]
        self.batches.append(words)
        if self.refused and any(self.refused in each for each in words):
            return fail(StoreError("store_rejected", "no"))
        answer = self.appends.pop(0) if self.appends else succeed(None)
        if isinstance(answer, Exception):
            return fail(answer)
        return answer.addCallback(lambda _: MemoryDialogueStore.append(self, entries))

    def latest(self, device_id: str, limit: int, since: datetime) -> Deferred[list[DialogueEntry]]:
        answer = self.loads.pop(0) if self.loads else succeed(None)
        if isinstance(answer, Exception):
            return fail(answer)
        return answer.addCallback(
            lambda _: MemoryDialogueStore.latest(self, device_id, limit, since)
        )


class HistoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = ScriptedStore()
        self.log = LogLines(self)

    def seconds(self) -> float:
        return EPOCH + self.clock.seconds()

    def history(self, **settings: Any) -> History:
        history = History(self.store, self.clock, self.seconds, HistorySettings(**settings))
        self.successResultOf(Deferred.fromCoroutine(history.start()))
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), [], "left behind"))
        self.addCleanup(self.stop, history)
        return history

    def stop(self, history: History) -> None:
        stopping = Deferred.fromCoroutine(history.stop())
        self.clock.pump([1.0] * 6)
        self.successResultOf(stopping)

    def heard(self, history: History, *words: str, device_id: str = "d") -> None:
        for word in words:
            history.note(device_id, Utterance(Role.USER, word))

    def recalled(self, history: History, limit: int = 40) -> list[str]:
        found = self.successResultOf(Deferred.fromCoroutine(history.recall("d", limit)))
        return [entry.said.text for entry in found]

    def kept(self) -> list[str]:
        return [entry.said.text for entry in self.store._entries.values()]


class WritingTests(HistoryCase):
    def test_written_at_once(self) -> None:
        history = self.history()
        self.heard(history, "a")
        self.assertEqual((self.store.batches, history.pending), ([["a"]], 0))

    def test_entries_during_a_write_are_written_together_in_order(self) -> None:
        first: Deferred[None] = Deferred()
        self.store.appends = [first]
        history = self.history()
        self.heard(history, *"abc")
        self.assertEqual((self.store.batches, history.pending), ([["a"]], 3))
        first.callback(None)
        self.assertEqual((self.store.batches, history.pending), ([["a"], ["b", "c"]], 0))

    def test_an_unreachable_store_is_retried_with_backoff_and_logged_once(self) -> None:
        self.store.appends = [AWAY] * 7
        history = self.history()
        self.heard(history, "a")
        self.heard(history, "b")
        for number, delay in enumerate((0.5, 1, 2, 4, 8, 10, 10), 1):
            self.assertEqual((len(self.store.batches), history.trouble()), (number, "away"))
            self.clock.advance(delay - 0.01)
            self.assertEqual(len(self.store.batches), number, f"before {delay} s")
            self.clock.advance(0.01)
        self.assertEqual((self.kept(), history.trouble(), history.dropped), (["a", "b"], "", 0))
        self.assertEqual(self.log.count("retrying"), 1)
        self.assertEqual(self.log.count("accepts entries again"), 1)

    def test_bounded_by_bytes_and_no_device_pushes_out_the_others(self) -> None:
        for words, times in (("x" * 20_000, 300), ("x", 2000)):
            self.setUp()
            self.store.appends = [AWAY] * 3
            history = self.history(capacity=500, capacity_bytes=1_048_576)
            self.assertEqual(history.loss(), "")
            for number in range(20):
                history.note(f"good{number}", Utterance(Role.USER, "tea"))
            for _ in range(times):
                history.note("evil", Utterance(Role.USER, words))
                self.assertLess(history._waiting.octets, 1_048_577)
            self.assertIn("entries are being lost", history.loss())
            for number in range(20):
                (kept,) = self.successResultOf(
                    Deferred.fromCoroutine(history.recall(f"good{number}", 5))
                )
                self.assertEqual(kept.said.text, "tea")
            self.clock.pump([1] * 100)
            self.assertEqual((history.pending, history._waiting.octets), (0, 0))
            self.assertEqual(history.loss(), "")

    def test_a_very_long_entry_is_cut(self) -> None:
        history = self.history(max_entry_bytes=1024)
        for said, kept in (("x" * 1024, "x" * 1024), ("你" * 400, "你" * 340 + "…")):
            self.assertEqual(history.note("d", Utterance(Role.USER, said)).said.text, kept)

    def test_beyond_its_capacity_the_oldest_is_dropped(self) -> None:
        self.store.appends = [AWAY]
        history = self.history(capacity=100)
        self.heard(history, *(str(n) for n in range(150)))
        self.assertEqual((history.pending, history.dropped), (100, 50))
        self.clock.advance(0.5)
        self.assertEqual(self.kept(), ["0", *(str(n) for n in range(51, 150))])

    def test_a_rejected_entry_delays_no_other(self) -> None:
        first: Deferred[None] = Deferred()
        self.store.appends, self.store.refused = [first], "bad"
        history = self.history()
        self.heard(history, "a", "b", "bad", "c", "d")
        first.callback(None)
        self.assertEqual((self.kept(), history.dropped), (["a", "b", "c", "d"], 1))
        self.assertEqual(self.log.count("rejected an entry"), 1)
        self.assertEqual(self.log.count("bad"), 0, "nothing said is in a log")


class LifeTests(HistoryCase):
    def test_a_store_that_is_away_at_the_start_is_opened_later(self) -> None:
        self.store.starts = [AWAY] * 3
        history = self.history()
        self.heard(history, "a")
        self.assertEqual((history.trouble(), self.recalled(history)), ("away", ["a"]))
        self.clock.pump([0.5, 1.0])
        self.assertEqual((self.kept(), history.trouble()), (["a"], ""))

    def test_a_store_that_cannot_be_used_is_refused(self) -> None:
        self.store.starts = [StoreError("schema_too_new", "newer")]
        history = History(self.store, self.clock, self.seconds, HistorySettings())
        self.failureResultOf(Deferred.fromCoroutine(history.start()), StoreError)

    def test_the_end_waits_for_running_writes(self) -> None:
        first: Deferred[None] = Deferred()
        self.store.appends = [first]
        history = self.history()
        self.heard(history, "a", "b")
        stopping = Deferred.fromCoroutine(history.stop())
        self.assertNoResult(stopping)
        first.callback(None)
        self.successResultOf(stopping)
        self.assertEqual((self.kept(), history.dropped), (["a", "b"], 0))

    def test_the_end_skips_the_backoff(self) -> None:
        self.store.appends = [AWAY] * 5
        history = self.history()
        self.heard(history, "a")
        self.clock.pump([0.5, 1, 2, 4])
        self.successResultOf(Deferred.fromCoroutine(history.stop()))
        self.assertEqual(self.kept(), ["a"])

    def test_the_end_gives_up_in_time(self) -> None:
        for answer in (AWAY, Deferred[None]()):
            self.store.appends = [answer] * 99
            history = self.history()
            self.heard(history, "a")
            stopping = Deferred.fromCoroutine(history.stop(timeout=3))
            self.clock.pump([0.1] * 29)
            self.assertNoResult(stopping)
            self.clock.advance(0.2)
            self.successResultOf(stopping)
            self.assertEqual((history.dropped, history.pending), (1, 0))
        self.heard(history, "late")
        self.assertEqual(history.dropped, 2)

    def test_old_entries_are_purged(self) -> None:
        history = self.history(retention=3600, purge_interval=60)
        self.heard(history, "a")
        self.clock.advance(60)
        self.heard(history, "b")
        self.clock.pump([60] * 59)
        self.assertEqual(self.kept(), ["a", "b"])
        self.clock.advance(60)
        self.assertEqual(self.kept(), ["b"])

    def test_entries_can_be_kept_for_ever(self) -> None:
        history = self.history(retention=0)
        self.heard(history, "a")
        self.clock.pump([86_400.0] * 9)
        self.assertEqual(self.kept(), ["a"])


class RecallTests(HistoryCase):
    def test_newest_not_too_old(self) -> None:
        history = self.history(ttl=100)
        self.heard(history, "a")
        self.clock.advance(101)
        self.heard(history, *"bcd")
        self.heard(history, "x", device_id="other")
        self.assertEqual(self.recalled(history), ["b", "c", "d"])
        self.assertEqual(self.recalled(history, limit=2), ["c", "d"])

    def test_unwritten_entries_are_recalled(self) -> None:
        """A device reconnects before its entries reach the database."""
        self.store.appends = [succeed(None), AWAY]
        history = self.history()
        self.heard(history, "a", "b", "c")
        self.assertEqual(self.recalled(history), ["a", "b", "c"])

    def test_nothing_is_doubled_that_is_written_meanwhile(self) -> None:
        first: Deferred[None] = Deferred()
        load: Deferred[None] = Deferred()
        self.store.appends, self.store.loads = [first], [load]
        history = self.history()
        self.heard(history, "a", "b")
        recalling = Deferred.fromCoroutine(history.recall("d", 40))
        first.callback(None)
        load.callback(None)
        found = self.successResultOf(recalling)
        self.assertEqual([entry.said.text for entry in found], ["a", "b"])

    def test_a_store_that_fails_is_logged_once(self) -> None:
        self.store.loads = [AWAY, RuntimeError("a bug")]
        history = self.history()
        self.heard(history, "a")
        self.assertEqual([self.recalled(history) for _ in range(3)], [[], [], ["a"]])
        self.assertEqual(self.log.count("not loaded"), 1)

    def test_switched_off(self) -> None:
        history = self.history(ttl=0)
        self.heard(history, "a")
        self.assertEqual(self.recalled(history), [])


class NoteTests(HistoryCase):
    def notes(self, history: History) -> dict[NoteKind, str]:
        found = self.successResultOf(Deferred.fromCoroutine(history.notes("d")))
        return {kind: note.text for kind, note in found.items()}

    def test_written_with_the_rest_in_order(self) -> None:
        first: Deferred[None] = Deferred()
        self.store.appends = [first]
        history = self.history()
        self.heard(history, "a")
        history.note_device("d", NoteKind.ROLE, "pirate")
        self.heard(history, "b")
        self.assertEqual(self.notes(history), {NoteKind.ROLE: "pirate"})
        first.callback(None)
        self.assertEqual(self.store.batches, [["a"], ["pirate", "b"]])
        self.assertEqual(self.notes(history), {NoteKind.ROLE: "pirate"})
        self.assertEqual(self.recalled(history), ["a", "b"])

    def test_a_summary_is_used_as_long_as_a_dialogue(self) -> None:
        history = self.history(ttl=100)
        history.note_device("d", NoteKind.SUMMARY, "They talked.")
        history.note_device("d", NoteKind.ROLE, "pirate")
        self.clock.advance(100)
        self.assertEqual(len(self.notes(history)), 2)
        self.clock.advance(1)
        self.assertEqual(self.notes(history), {NoteKind.ROLE: "pirate"})

    def test_where_every_session_begins_anew_the_role_stays(self) -> None:
        history = self.history(ttl=0)
        history.note_device("d", NoteKind.SUMMARY, "They talked.")
        history.note_device("d", NoteKind.ROLE, "pirate")
        self.assertEqual(self.notes(history), {NoteKind.ROLE: "pirate"})


_texts = st.sampled_from(["", "a", "b"])
_ids = st.sampled_from(["c1", "c2", "c3"])
_utterances = st.one_of(
    st.builds(Utterance, st.just(Role.USER), _texts),
    st.builds(
        Utterance,
        st.just(Role.ASSISTANT),
        _texts,
        st.lists(_ids.map(lambda i: ToolCall(i, "f", "{}")), max_size=2, unique=True).map(tuple),
    ),
    st.builds(Utterance, st.just(Role.TOOL), _texts, st.just(()), _ids),
)


class WholeTests(SynchronousTestCase):
    """A strict model requires results directly after their calls, all of them, and no others."""

    @given(st.lists(_utterances, max_size=8))
    def test_any_stored_dialogue_is_valid_for_a_model(self, entries: list[Utterance]) -> None:
        waiting: list[str] = []
        for entry in whole(entries):
            if entry.role is Role.TOOL:
                waiting.remove(entry.call_id)
                continue
            self.assertEqual(waiting, [])
            waiting = [call.call_id for call in entry.calls]
        self.assertEqual(waiting, [])

    @given(st.lists(_utterances, max_size=8))
    def test_spoken_entries_stay(self, entries: list[Utterance]) -> None:
        def words(found: list[Utterance]) -> list[tuple[Role, str]]:
            return [(e.role, e.text) for e in found if e.text and e.role is not Role.TOOL]

        self.assertEqual(words(whole(entries)), words(entries))
        self.assertEqual(whole(whole(entries)), whole(entries))

    def test_a_whole_exchange_stays_as_it_is(self) -> None:
        calls = (CALL, ToolCall("c2", "f", "{}"))
        entries = [
            Utterance(Role.USER, "both"),
            Utterance(Role.ASSISTANT, "", calls),
            Utterance(Role.TOOL, "2", call_id="c2"),
            Utterance(Role.TOOL, "1", call_id="c1"),
            Utterance(Role.ASSISTANT, "done"),
        ]
        self.assertEqual(whole(entries), entries)

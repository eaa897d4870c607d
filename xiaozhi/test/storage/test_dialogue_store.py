"""Dialogue stores in memory and in SQLite. PostgreSQL is in ``tests/``."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.trial.unittest import SynchronousTestCase, TestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.storage import dialogues_from_url
from xiaozhi.storage.memory import MemoryDialogueStore
from xiaozhi.testing.contracts.dialogues import AT, DialogueStoreContract, entry
from xiaozhi.testing.database import memory_dialogues


class MemoryTests(DialogueStoreContract, TestCase):
    def setUp(self) -> None:
        self.store = dialogues_from_url("memory:", reactor)
        self.successResultOf(self.store.start())


class SqliteTests(DialogueStoreContract, TestCase):
    def setUp(self) -> None:
        self.store = memory_dialogues(self.mktemp())
        self.successResultOf(self.store.start())
        self.addCleanup(self.store.stop)


class BoundTests(SynchronousTestCase):
    def test_beyond_its_capacity_memory_forgets_the_oldest(self) -> None:
        store = MemoryDialogueStore(capacity=3)
        self.successResultOf(store.start())
        self.successResultOf(store.append([entry(n) for n in range(5)]))
        found = self.successResultOf(store.latest("d1", 10, AT))
        self.assertEqual(found, [entry(2), entry(3), entry(4)])

    def test_a_session_that_opens_does_not_look_at_everybodys(self) -> None:
        """In memory that runs on the reactor."""
        compared: list[object] = []

        class Device(str):
            def __eq__(self, other: object) -> bool:
                compared.append(other)
                return str.__eq__(self, other)

            __hash__ = str.__hash__

        store = MemoryDialogueStore()
        self.successResultOf(store.start())
        others = [replace(entry(n), device_id=Device(f"d{n}")) for n in range(500)]
        self.successResultOf(store.append(others))
        compared.clear()
        self.assertEqual(self.successResultOf(store.latest("d1", 10, AT)), [others[1]])
        self.assertEqual(self.successResultOf(store.purge(AT, 10)), 0)
        self.assertLess(len(compared), 10)

    def test_an_address_of_nothing_we_know(self) -> None:
        error = self.assertRaises(StoreError, dialogues_from_url, "mysql://geheim@h/d", reactor)
        self.assertEqual(error.code, "bad_store_url")
        self.assertNotIn("geheim", error.message)


class SharedFileTests(TestCase):
    async def test_two_processes_with_one_file(self) -> None:
        """Two AI services on one machine: started together, writing together."""
        url = f"sqlite:///{self.mktemp()}"
        one, two = (dialogues_from_url(url, reactor) for _ in range(2))
        await DeferredList([one.start(), two.start()], fireOnOneErrback=True)
        writing = [
            store.append([entry(2 * n + offset)])
            for n in range(50)
            for offset, store in enumerate((one, two))
        ]
        await DeferredList(writing, fireOnOneErrback=True)
        found = await one.latest("d1", 1000, AT)
        self.assertEqual(found, await two.latest("d1", 1000, AT))
        numbers = [round((each.at - AT) / timedelta(seconds=1)) for each in found]
        self.assertEqual(sorted(numbers), list(range(100)))
        evens = [number for number in numbers if number % 2 == 0]
        self.assertEqual(evens, sorted(evens), "each in its order")
        await one.stop()
        await two.stop()

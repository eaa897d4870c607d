"""Tool values in memory and in SQLite. PostgreSQL is in ``tests/``."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IToolStore
from xiaozhi.storage import dialogues_from_url, tool_values_from_url
from xiaozhi.storage.toolvalues import MemoryToolStore, SqlToolStore
from xiaozhi.testing.contracts.toolvalues import ToolStoreContract
from xiaozhi.testing.database import memory_tool_values


class MemoryTests(ToolStoreContract, TestCase):
    def setUp(self) -> None:
        self.store = tool_values_from_url("memory:", reactor)

    async def test_owners_are_bounded(self) -> None:
        store = MemoryToolStore(owners=2)
        for owner in ("d1", "d2", "d1", "d3"):
            await store.put("a", owner, "k", "x")
        self.assertEqual(await store.of("a", "d2"), {})
        self.assertEqual(await store.of("a", "d1"), {"k": "x"})


class SqliteTests(ToolStoreContract, TestCase):
    def setUp(self) -> None:
        self.store = memory_tool_values()
        self.successResultOf(self.store.start())
        self.addCleanup(self.store.stop)


class OpeningTests(TestCase):
    async def refused(self, store: IToolStore, code: str) -> None:
        try:
            await store.get("a", "d1", "k")
        except StoreError as error:
            self.assertEqual(error.code, code)
        else:
            self.fail("it is open")

    async def test_opened_at_first_use_and_kept(self) -> None:
        """Beside the dialogues, in one file."""
        path = Path(self.mktemp())
        url = f"sqlite:///{path}"
        store = tool_values_from_url(url, reactor)
        await store.start()
        self.assertFalse(path.exists())
        dialogues = dialogues_from_url(url, reactor)
        await dialogues.start()
        await store.put("a", "d1", "k", "1")
        await dialogues.stop()
        await store.stop()
        await self.refused(store, "store_closed")
        again = tool_values_from_url(url, reactor)
        self.addCleanup(again.stop)
        self.assertEqual(await again.get("a", "d1", "k"), "1")

    async def test_one_that_cannot_be_opened_is_tried_again(self) -> None:
        directory = Path(self.mktemp())
        directory.write_text("a file in the place of the directory")
        store = tool_values_from_url(f"sqlite:///{directory}/values.sqlite3", reactor)
        self.assertIsInstance(store, SqlToolStore)
        self.addCleanup(store.stop)
        await self.refused(store, "store_unavailable")
        directory.unlink()
        self.assertIsNone(await store.get("a", "d1", "k"))

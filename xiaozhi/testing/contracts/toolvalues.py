"""The contract of every :class:`~xiaozhi.interfaces.IToolStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface.verify import verifyObject

from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IToolStore
from xiaozhi.storage.toolvalues import VALUES_LIMIT

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object


class ToolStoreContract(TestCase):
    """Mix into a ``twisted.trial.unittest.TestCase`` that sets ``store`` in ``setUp``
    to a started, empty store."""

    store: IToolStore

    def test_provides_the_interface(self) -> None:
        verifyObject(IToolStore, self.store)

    async def test_values_are_kept_by_source_owner_and_key(self) -> None:
        await self.store.put("a", "d1", "k", "1")
        await self.store.put("a", "d2", "k", "2")
        await self.store.put("b", "d1", "k", "3")
        await self.store.put("a", "d1", "j", "4")
        await self.store.put("a", "d1", "k", "5")
        self.assertEqual(await self.store.get("a", "d1", "k"), "5")
        self.assertEqual(await self.store.of("a", "d1"), {"j": "4", "k": "5"})
        self.assertEqual(await self.store.of("b", "d1"), {"k": "3"})
        self.assertIsNone(await self.store.get("b", "d2", "k"))

    async def test_removing(self) -> None:
        await self.store.put("a", "d1", "k", "1")
        await self.store.put("a", "d1", "j", "2")
        await self.store.remove("a", "d1", "k")
        await self.store.remove("a", "d1", "k")
        self.assertEqual(await self.store.of("a", "d1"), {"j": "2"})

    async def test_forgetting_an_owner(self) -> None:
        for source, owner in (("a", "d1"), ("b", "d1"), ("a", "d2")):
            await self.store.put(source, owner, "k", "1")
        await self.store.forget("d1")
        self.assertEqual(await self.store.of("a", "d1"), {})
        self.assertEqual(await self.store.of("b", "d1"), {})
        self.assertEqual(await self.store.of("a", "d2"), {"k": "1"})

    async def test_texts_no_database_takes(self) -> None:
        await self.store.put("a", "d1", "k", "x\0y\ud800")
        self.assertEqual(await self.store.get("a", "d1", "k"), "x\ufffdy\ufffd")

    async def test_an_owner_has_only_so_many(self) -> None:
        for number in range(VALUES_LIMIT):
            await self.store.put("a", "d1", str(number), "x")
        try:
            await self.store.put("a", "d1", "more", "x")
        except StoreError as error:
            self.assertEqual(error.code, "too_many_values")
        else:
            self.fail("it took one more")
        await self.store.put("a", "d1", "7", "new")
        await self.store.put("a", "d2", "more", "x")
        self.assertEqual(await self.store.get("a", "d1", "7"), "new")

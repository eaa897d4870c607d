"""What every :class:`~xiaozhi.interfaces.IDialogueStore` must do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from zope.interface.verify import verifyObject

from xiaozhi.errors import StoreError
from xiaozhi.interfaces import IDialogueStore
from xiaozhi.values import DialogueEntry, Role, ToolCall, Utterance

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

AT = datetime(2026, 11, 26, 10, 0, 0, 123456, tzinfo=UTC)


def entry(number: int, text: str = "", device_id: str = "d1") -> DialogueEntry:
    """The ``number``-th: so many seconds after :data:`AT`; ids go down as numbers go up."""
    said = Utterance(Role.USER, text or f"number {number}")
    at = AT + timedelta(seconds=number)
    return DialogueEntry(UUID(int=10_000 - number), device_id, at, said)


class DialogueStoreContract(TestCase):
    """Mix into a ``twisted.trial.unittest.TestCase`` that sets ``store`` in ``setUp``
    to a started, empty store."""

    store: IDialogueStore

    async def found(self, device_id: str = "d1", limit: int = 100) -> list[DialogueEntry]:
        return await self.store.latest(device_id, limit, AT - timedelta(days=1))

    def test_provides_the_interface(self) -> None:
        verifyObject(IDialogueStore, self.store)

    async def test_reads_back_as_written(self) -> None:
        calls = (ToolCall("c1", "light", '{"on": true}'), ToolCall("c2", "音量", "{}"))
        said = (
            Utterance(Role.USER, "开灯"),
            Utterance(Role.ASSISTANT, "", calls),
            Utterance(Role.TOOL, "on", call_id="c1"),
            Utterance(Role.TOOL, "", call_id="c2"),
            Utterance(Role.ASSISTANT, "It's on."),
        )
        entries = [replace(entry(n), said=each) for n, each in enumerate(said)]
        await self.store.append(entries[:2])
        await self.store.append(entries[2:])
        self.assertEqual(await self.found(), entries)

    async def test_a_device_has_its_own(self) -> None:
        await self.store.append([entry(1), entry(2, device_id="d2")])
        self.assertEqual(await self.found("d2"), [entry(2, device_id="d2")])
        self.assertEqual(await self.found("d3"), [])

    async def test_a_limit_keeps_the_newest(self) -> None:
        await self.store.append([entry(n) for n in range(9)])
        self.assertEqual(await self.found(limit=2), [entry(7), entry(8)])

    async def test_none_older_than_asked_for(self) -> None:
        await self.store.append([entry(n) for n in range(5)])
        self.assertEqual(await self.store.latest("d1", 100, entry(3).at), [entry(3), entry(4)])

    async def test_order_is_that_of_adding_not_of_clocks(self) -> None:
        """Two processes write, and the second one's clock is behind."""
        await self.store.append([entry(5)])
        await self.store.append([entry(4)])
        self.assertEqual(await self.found(), [entry(5), entry(4)])

    async def test_a_batch_written_again_is_the_same_batch(self) -> None:
        await self.store.append([entry(1), entry(2)])
        await self.store.append([entry(1), entry(2), entry(3)])
        self.assertEqual(await self.found(), [entry(1), entry(2), entry(3)])

    async def test_an_entry_is_never_changed(self) -> None:
        await self.store.append([entry(1)])
        await self.store.append([entry(1, "something else")])
        self.assertEqual(await self.found(), [entry(1)])

    async def test_all_or_nothing(self) -> None:
        error = await self._refused([entry(1), entry(2, device_id="d" * 256)])
        self.assertEqual(error.code, "store_rejected")
        self.assertEqual(await self.found(), [])
        await self.store.append([entry(3, device_id="d" * 255)])  # and the store goes on

    async def test_a_prompt_is_not_said(self) -> None:
        error = await self._refused([replace(entry(1), said=Utterance(Role.SYSTEM, "be kind"))])
        self.assertEqual(error.code, "store_rejected")

    async def test_a_time_without_zone_is_refused(self) -> None:
        error = await self._refused([replace(entry(1), at=AT.replace(tzinfo=None))])
        self.assertEqual(error.code, "store_rejected")

    async def test_text_no_database_takes_does_no_harm(self) -> None:
        call = ToolCall("c\0", "n", '"\ud800"')
        said = Utterance(Role.ASSISTANT, "a\0b\udfff", (call,))
        await self.store.append([replace(entry(1), said=said)])
        [found] = await self.found()
        self.assertIn(found.said.text, ("a\ufffdb\ufffd", said.text))

    async def test_forgetting_a_device(self) -> None:
        await self.store.append([entry(1), entry(2), entry(3, device_id="d2")])
        await self.store.forget("d1")
        await self.store.forget("nobody")
        self.assertEqual((await self.found(), len(await self.found("d2"))), ([], 1))
        await self.store.append([entry(4)])
        self.assertEqual(await self.found(), [entry(4)])

    async def test_purging_takes_the_oldest_some_at_a_time(self) -> None:
        await self.store.append([entry(n, device_id=f"d{n % 2}") for n in range(10)])
        self.assertEqual(await self.store.purge(entry(7).at, 5), 5)
        left = [*await self.found("d0"), *await self.found("d1")]
        self.assertEqual(sorted(e.at for e in left), [entry(n).at for n in range(5, 10)])
        self.assertEqual(await self.store.purge(entry(7).at, 5), 2)
        self.assertEqual(await self.store.purge(entry(7).at, 5), 0)

    async def test_nothing_to_write(self) -> None:
        await self.store.append([])

    async def test_a_stopped_store_says_so_and_can_be_started_again(self) -> None:
        await self.store.stop()
        error = await self._refused([entry(1)])
        self.assertEqual(error.code, "store_closed")
        await self.store.stop()
        await self.store.start()
        await self.store.append([entry(1)])

    async def _refused(self, entries: Sequence[DialogueEntry]) -> StoreError:
        try:
            await self.store.append(entries)
        except StoreError as error:
            return error
        raise AssertionError("not refused")

"""Contract of every :class:`~xiaozhi.interfaces.IDialogueStore`, as tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from zope.interface.verify import verifyObject

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import DeviceNote, DialogueEntry, NoteKind, Role, ToolCall, Utterance
from xiaozhi.interfaces import IDialogueStore

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

AT = datetime(2026, 11, 26, 10, 0, 0, 123456, tzinfo=UTC)


def entry(number: int, text: str = "", device_id: str = "d1") -> DialogueEntry:
    """Make entry ``number``: so many seconds after :data:`AT`; ids descend as numbers ascend."""
    said = Utterance(Role.USER, text or f"number {number}")
    at = AT + timedelta(seconds=number)
    return DialogueEntry(UUID(int=10_000 - number), device_id, at, said)


def note(
    number: int,
    text: str,
    kind: NoteKind = NoteKind.SUMMARY,
    device_id: str = "d1",
) -> DeviceNote:
    """Make a note like :func:`entry`; it reaches to the entry of the same number."""
    at = AT + timedelta(seconds=number)
    upto = entry(number).id if kind is NoteKind.SUMMARY else None
    return DeviceNote(UUID(int=20_000 - number), device_id, at, kind, text, upto)


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
        await self.store.append([entry(3, device_id="d" * 255)])  # and the store continues

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

    async def notes(self, device_id: str = "d1") -> list[DeviceNote]:
        found = await self.store.notes(device_id)
        return sorted(found, key=lambda each: each.kind.value)

    async def test_notes_read_back_as_written(self) -> None:
        role, summary = note(1, "海盗", NoteKind.ROLE), note(2, "They talked.")
        await self.store.append([entry(1), role, entry(2), summary])
        self.assertEqual(await self.notes(), [role, summary])
        self.assertEqual(await self.found(), [entry(1), entry(2)])
        self.assertEqual(await self.notes("d2"), [])

    async def test_the_newest_note_of_a_kind_counts(self) -> None:
        """The last one written, regardless of the writer's clock, and per device."""
        role, other = note(1, "pirate", NoteKind.ROLE), note(2, "theirs", device_id="d2")
        await self.store.append([role, other, note(5, "first"), note(4, "second")])
        await self.store.append([note(3, "third")])
        self.assertEqual(await self.notes(), [role, note(3, "third")])
        self.assertEqual(await self.notes("d2"), [other])

    async def test_a_note_written_again_is_the_same_note(self) -> None:
        for _ in range(2):
            await self.store.append([note(1, "pirate", NoteKind.ROLE), note(2, "They talked.")])
        self.assertEqual(len(await self.notes()), 2)

    async def test_a_note_that_cannot_be_kept_is_refused_with_all_the_rest(self) -> None:
        too_long = note(2, "x", device_id="d" * 256)
        self.assertEqual((await self._refused([entry(1), too_long])).code, "store_rejected")
        self.assertEqual(await self.found(), [])

    async def test_old_summaries_are_purged_and_roles_stay(self) -> None:
        role = note(1, "pirate", NoteKind.ROLE)
        await self.store.append([entry(1), role, note(2, "old"), note(9, "new", device_id="d2")])
        self.assertEqual(await self.store.purge(entry(5).at, 1), 1)
        self.assertEqual(await self.store.purge(entry(5).at, 5), 1)
        self.assertEqual(await self.store.purge(entry(5).at, 5), 0)
        self.assertEqual((await self.found(), await self.notes()), ([], [role]))
        self.assertEqual(len(await self.notes("d2")), 1)

    async def test_forgetting_a_device_takes_its_notes(self) -> None:
        await self.store.append([note(1, "pirate", NoteKind.ROLE), note(2, "x", device_id="d2")])
        await self.store.forget("d1")
        self.assertEqual((await self.notes(), len(await self.notes("d2"))), ([], 1))

    async def test_nothing_to_write(self) -> None:
        await self.store.append([])

    async def test_a_stopped_store_says_so_and_can_be_started_again(self) -> None:
        await self.store.stop()
        error = await self._refused([entry(1)])
        self.assertEqual(error.code, "store_closed")
        await self.store.stop()
        await self.store.start()
        await self.store.append([entry(1)])

    async def _refused(self, entries: Sequence[DialogueEntry | DeviceNote]) -> StoreError:
        try:
            await self.store.append(entries)
        except StoreError as error:
            return error
        raise AssertionError("not refused")

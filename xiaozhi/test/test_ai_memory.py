"""What of a talk a model is told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.exchanges import cost
from xiaozhi.ai.memory import NoMemory, WindowMemory, make_memory
from xiaozhi.ai.settings import DialogueSettings
from xiaozhi.interfaces import IMemory
from xiaozhi.testing.memory_contract import (
    MemoryContract,
    answered,
    asked,
    entries,
    exchange,
)


class NoMemoryTests(MemoryContract, SynchronousTestCase):
    def memory(self, settings: DialogueSettings) -> IMemory:
        return NoMemory()

    def test_each_question_by_itself(self) -> None:
        memory = make_memory(DialogueSettings(memory="none"))
        memory.note(entries(asked("I am Ann."), answered("Hello Ann.")), "en")
        self.assertEqual(memory.before([asked("Who am I?")]).said, ())


class WindowTests(MemoryContract, SynchronousTestCase):
    def memory(self, settings: DialogueSettings) -> IMemory:
        return WindowMemory(settings)

    def test_as_much_as_fits(self) -> None:
        memory = make_memory(DialogueSettings(window=100))
        turn = [asked("x" * 40), answered("y" * 40)]
        self.assertEqual(sum(map(cost, turn)), 28)
        for _ in range(9):
            memory.note(entries(*turn), "en")
        self.assertEqual(memory.before([asked("z" * 40)]).said, (*turn, *turn, *turn))
        self.assertEqual(memory.before([asked("z" * 100)]).said, (*turn, *turn))
        self.assertEqual(memory.before([asked("z" * 1000)]).said, ())

    def test_no_more_entries_than_told(self) -> None:
        memory = make_memory(DialogueSettings(entries=9))
        for _ in range(9):
            memory.note(entries(*exchange("time?")), "en")
        self.assertEqual(memory.before([asked("?")]).said, (*exchange("time?"),) * 2)
        self.assertEqual(memory.before([asked("?")] * 2).said, (*exchange("time?"),))

    def test_what_is_recalled_is_before_what_was_noted(self) -> None:
        memory = make_memory(DialogueSettings())
        memory.note(entries(asked("2"), answered("two")), "en")
        memory.recall(entries(asked("1"), answered("one")), None)
        told = [each.text for each in memory.before([asked("3")]).said]
        self.assertEqual(told, ["1", "one", "2", "two"])
